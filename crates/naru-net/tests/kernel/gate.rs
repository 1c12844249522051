//! The host's own rules for incoming packets hold for published ports.

use crate::world::*;
use naru_net::{HostNet, Netns, Protocol, Published};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

/// A host with a published port 8080, and another machine.
struct Scene {
    host: HostNet,
    outside: Netns,
    _server: Container,
    listener: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let server = Container::on(&host, &spec);
        let (listener, port) = inside(&server.netns, listen);
        let entry = Published {
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            host_port: 8080,
            container_ip: server.ip().into(),
            container_port: port,
        };
        host.publish(&[entry]).unwrap();
        Self { host, outside, _server: server, listener }
    }

    fn from_outside(&self) -> Option<IpAddr> {
        talk(&self.outside, &self.listener, HOST_OUTSIDE, 8080)
    }

    fn from_host(&self) -> bool {
        talk(&Netns::current().unwrap(), &self.listener, Ipv4Addr::LOCALHOST, 8080).is_some()
    }
}

#[test]
fn a_policy_that_drops_keeps_a_published_port_closed() {
    on_private_host(|| {
        nft("add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }; \
             add rule inet filter input ct state established,related accept; add rule inet filter input iifname lo accept");
        let scene = Scene::new();
        assert_eq!(scene.from_outside(), None);
        assert!(scene.from_host(), "the host itself is not outside");
        nft("add rule inet filter input tcp dport 8080 accept");
        assert_eq!(scene.from_outside(), Some(IpAddr::V4(OUTSIDE)), "let in, with its true address");
        nft("flush chain inet filter input");
        assert_eq!(scene.from_outside(), None, "closed again");
    });
}

#[test]
fn a_rule_against_one_address_or_one_port_holds() {
    on_private_host(|| {
        let scene = Scene::new();
        assert!(scene.from_outside().is_some());
        nft("add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy accept; }; \
             add rule ip filter INPUT ip saddr 198.51.100.2 tcp dport 8080 counter reject");
        assert_eq!(scene.from_outside(), None);
        nft("flush chain ip filter INPUT; add rule ip filter INPUT ip saddr 198.51.100.3 tcp dport 8080 counter drop");
        assert!(scene.from_outside().is_some());
    });
}

#[test]
fn strict_reverse_path_filters_are_no_hindrance() {
    on_private_host(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "1").unwrap();
        let scene = Scene::new();
        assert_eq!(scene.from_outside(), Some(IpAddr::V4(OUTSIDE)));
    });
}

#[test]
fn filters_of_sources_in_rules_are_no_hindrance() {
    on_private_host(|| {
        nft("add table inet rp; add chain inet rp pre { type filter hook prerouting priority -300; }; \
             add rule inet rp pre fib saddr . mark . iif oif missing counter drop");
        let scene = Scene::new();
        assert_eq!(scene.from_outside(), Some(IpAddr::V4(OUTSIDE)));
        // As NixOS has it, as iptables has it, and one who only asks whether there is a way back at all.
        for (priority, rule) in [
            (-140, "fib saddr . mark . iif oif exists accept; add rule inet rp pre meta iifname != lo drop"),
            (-150, "fib saddr . mark oif missing drop"),
            (10, "fib saddr . mark . iif oif missing drop"),
        ] {
            nft(&format!(
                "delete table inet rp; add table inet rp; add chain inet rp pre {{ type filter hook prerouting priority {priority}; }}; \
                 add rule inet rp pre {rule}"
            ));
            assert_eq!(scene.from_outside(), Some(IpAddr::V4(OUTSIDE)), "{rule}");
        }
        nft("delete table inet rp");
        for program in ["iptables-nft", "iptables-legacy"] {
            let rule = "-t raw -A PREROUTING -m rpfilter --validmark --invert -j DROP";
            let run =
                |rule: &str| std::process::Command::new(program).args(rule.split(' ')).status().unwrap().success();
            assert!(run(rule), "{program}");
            assert_eq!(scene.from_outside(), Some(IpAddr::V4(OUTSIDE)), "{program}");
            assert!(run("-t raw -F"), "{program}");
        }
        // The mark is on the way between the two only.
        let marks = ruleset();
        assert!(marks.contains("meta mark set 0x6e617275") && marks.contains("meta mark set 0x00000000"), "{marks}");
    });
}

#[test]
fn a_filter_of_sources_is_heard_of() {
    on_private_host(|| {
        let scene = Scene::new();
        let watch = scene.host.watch_rules().unwrap();
        let rules = || {
            let output = std::process::Command::new("ip").arg("rule").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        // It makes every look-up of a route longer.
        assert!(!rules().contains("110:"), "{}", rules());
        nft("add table ip rp; add chain ip rp pre { type filter hook prerouting priority 10; }; \
             add rule ip rp pre fib saddr . mark . iif oif missing drop");
        assert_eq!(scene.from_outside(), None);
        assert!(!scene.host.restore_rules(&watch).unwrap(), "nothing was lost");
        assert!(rules().contains("110:"), "{}", rules());
        assert_eq!(scene.from_outside(), Some(IpAddr::V4(OUTSIDE)));
        scene.host.remove_all().unwrap();
        assert!(!rules().contains("110:"), "{}", rules());
    });
}

#[test]
fn a_datagram_in_fragments_comes_through_whole() {
    on_private_host(|| {
        // The other machine is behind a bridge here, and br_netfilter puts fragments together without remembering their size:
        // the kernel then loses such a first datagram.
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let server = Container::on(&host, &spec);
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let socket = inside(&server.netns, bind);
        let container_port = socket.local_addr().unwrap().port();
        let entry = Published {
            protocol: Protocol::Udp,
            host_ip: HOST_OUTSIDE.into(),
            host_port: 5353,
            container_ip: server.ip().into(),
            container_port,
        };
        host.publish(&[entry]).unwrap();
        let client = inside(&outside, bind);
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let datagram = vec![7; 5000];
        client.send_to(&datagram, (HOST_OUTSIDE, 5353)).unwrap();
        let mut buffer = vec![0; 8000];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&datagram[..], IpAddr::V4(OUTSIDE)));
    });
}

#[test]
fn a_gate_that_somebody_deletes_is_made_again() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let server = Container::on(&host, &spec);
        let (listener, port) = inside(&server.netns, listen);
        let entry = |host_port| Published {
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            host_port,
            container_ip: server.ip().into(),
            container_port: port,
        };
        host.publish(&[entry(8080)]).unwrap();
        assert!(std::process::Command::new("ip").args(["link", "del", "naru-gate"]).status().unwrap().success());
        assert_eq!(talk(&outside, &listener, HOST_OUTSIDE, 8080), None);
        host.publish(&[entry(8081)]).unwrap();
        for published in [8080, 8081] {
            assert!(talk(&outside, &listener, HOST_OUTSIDE, published).is_some(), "{published}");
        }
        host.remove_all().unwrap();
        assert!(!interfaces().iter().any(|name| name.contains("gate")), "{:?}", interfaces());
    });
}
