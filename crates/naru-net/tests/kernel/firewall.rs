//! The rules as nft sees them.

use crate::world::*;
use naru_base::Class;
use naru_net::{Protocol, Published};
use std::net::Ipv4Addr;

fn port(host_ip: Ipv4Addr, host_port: u16) -> Published {
    Published {
        protocol: Protocol::Tcp,
        host_ip: host_ip.into(),
        host_port,
        container_ip: Ipv4Addr::new(172, 17, 0, 2).into(),
        container_port: 80,
    }
}

#[test]
fn nft_reads_the_table_as_it_is_meant() {
    on_private_host(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let host = open();
        host.ensure(&network(1, "naru0", "172.17.0.0/16")).unwrap();
        host.ensure(&network(2, "br-two", "172.18.0.0/16")).unwrap();
        let mut internal = network(3, "br-three", "172.19.0.0/16");
        internal.internal = true;
        internal.icc = false;
        host.ensure(&internal).unwrap();
        host.publish(&[port(Ipv4Addr::UNSPECIFIED, 8080), port(Ipv4Addr::LOCALHOST, 8081)]).unwrap();
        let text = ruleset();
        println!("{text}");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for line in [
            "table inet naru {",
            "elements = { 172.17.0.0/16, 172.18.0.0/16 }",
            "elements = { 127.0.0.1 . tcp . 8081 : 172.17.0.2 . 80 }",
            "elements = { tcp . 8080 : 172.17.0.2 . 80 }",
            "elements = { \"br-three\" }",
            "type filter hook forward priority filter + 1; policy accept;",
            "type nat hook prerouting priority dstnat + 1; policy accept;",
            "type nat hook output priority -99; policy accept;",
            "type nat hook postrouting priority srcnat + 1; policy accept;",
            "type filter hook prerouting priority raw - 10; policy accept;",
            "iifname \"naru-gate\" meta mark 0x00000000 meta mark set 0x6e617275",
            "iifname \"naru-gate\" meta mark 0x6e617275 meta mark set 0x00000000",
            "ip daddr 127.0.0.0/8 iifname @bridges drop",
            "ip saddr @subnets oifname != @bridges masquerade",
            "iifname @bridges jump from-bridge",
            "oifname @bridges jump to-bridge",
            "iifname @internal drop",
            "type filter hook input priority filter + 1; policy accept;",
            "iifname @internal fib daddr type local fib daddr . iif type != local drop",
            "iifname @bridges jump sources",
            "fib saddr . iif oif 0 drop",
            "ip saddr . ip daddr . meta l4proto . th dport @links accept",
            "ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept",
            "iifname . oifname @talking accept",
        ] {
            assert!(lines.contains(&line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("strangers"), "the host forwarded before");
    });
}

#[test]
fn a_host_that_forwarded_nothing_does_not_become_a_router() {
    on_private_host(|| {
        // A new namespace forwards when the machine does.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let host = open();
        host.ensure(&network(1, "naru0", "172.17.0.0/16")).unwrap();
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
        assert!(ruleset().contains("jump strangers"));
        // A new engine finds forwarding on, and keeps the host closed.
        let host = open();
        host.reconcile(&[network(1, "naru0", "172.17.0.0/16")], &[]).unwrap();
        assert!(ruleset().contains("jump strangers"));
    });
}

#[test]
fn other_tables_are_left_alone() {
    on_private_host(|| {
        nft(
            "add table ip mine; add chain ip mine c { type filter hook forward priority 0; }; add rule ip mine c counter accept",
        );
        let before = ruleset();
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        host.remove(&spec).unwrap();
        host.remove_all().unwrap();
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn a_flushed_table_comes_back_whole() {
    on_private_host(|| {
        let host = open();
        host.ensure(&network(1, "naru0", "172.17.0.0/16")).unwrap();
        host.publish(&[port(Ipv4Addr::UNSPECIFIED, 8080)]).unwrap();
        nft("flush ruleset");
        host.publish(&[port(Ipv4Addr::UNSPECIFIED, 9090)]).unwrap();
        let text = ruleset();
        assert!(
            text.contains("tcp . 8080 :") && text.contains("tcp . 9090 :") && text.contains("172.17.0.0/16"),
            "{text}"
        );
    });
}

#[test]
fn ports_are_published_once() {
    on_private_host(|| {
        let host = open();
        host.ensure(&network(1, "naru0", "172.17.0.0/16")).unwrap();
        host.publish(&[port(Ipv4Addr::UNSPECIFIED, 8080)]).unwrap();
        let error = host.publish(&[port(Ipv4Addr::LOCALHOST, 7000), port(Ipv4Addr::LOCALHOST, 8080)]).unwrap_err();
        assert_eq!(error.class(), Class::Conflict);
        assert_eq!(error.message(), "Bind for 127.0.0.1:8080 failed: port is already allocated");
        assert!(!ruleset().contains("7000"), "all or none");
        host.unpublish(&[port(Ipv4Addr::UNSPECIFIED, 8080), port(Ipv4Addr::LOCALHOST, 7000)]).unwrap();
        host.unpublish(&[port(Ipv4Addr::UNSPECIFIED, 8080)]).unwrap();
        assert!(!ruleset().contains("8080"));
        host.publish(&[port(Ipv4Addr::LOCALHOST, 8080)]).unwrap();
    });
}

#[test]
fn many_ports_in_one_transaction() {
    on_private_host(|| {
        let host = open();
        host.ensure(&network(1, "naru0", "172.17.0.0/16")).unwrap();
        let ports: Vec<Published> = (10_000..16_000).map(|p| port(Ipv4Addr::UNSPECIFIED, p)).collect();
        host.publish(&ports).unwrap();
        assert_eq!(ruleset().matches("172.17.0.2 . 80").count(), 6000);
        host.unpublish(&ports).unwrap();
        assert_eq!(ruleset().matches("172.17.0.2 . 80").count(), 0);
    });
}

#[test]
fn a_forward_policy_that_drops_is_told() {
    on_private_host(|| {
        let host = open();
        assert!(!host.forward_policy_blocks());
        nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        assert!(host.forward_policy_blocks());
    });
}
