//! Rules of legacy iptables are seen when a port's reach is judged.

use crate::world::*;
use naru_net::{ExposedPort, HostNet, Protocol};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}

/// What is said of port 8080 on IPv6.
fn said(host: &HostNet) -> (String, String) {
    let port = ExposedPort {
        protocol: Protocol::Tcp,
        host_ip: Ipv6Addr::UNSPECIFIED.into(),
        host_port: 8080,
        // Passed on by a monitor, so nothing is forwarded.
        container_ip: Ipv4Addr::new(172, 17, 0, 2).into(),
        container_port: 80,
    };
    let all = host.outlook().unwrap().of(&port);
    let [one] = all.as_slice() else { panic!("{all:?}") };
    (one.judgement.reach.as_str().to_owned(), one.judgement.rules.join("; "))
}

#[test]
fn rules_of_ipv6_are_read_to_the_last_bit() {
    on_private_host(|| {
        run("ip", "link add out0 up type veth peer name out1");
        run("ip", "addr add 2001:db8:9::1/64 dev out0 nodad");
        let host = open();
        let program = "ip6tables-legacy";
        assert_eq!(said(&host), ("open".into(), String::new()));
        for (rule, reach, by) in [
            ("-P INPUT DROP", "closed", "the policy of ip6 filter (legacy) INPUT drops"),
            ("-A INPUT -i lo -j ACCEPT", "closed", "the policy of ip6 filter (legacy) INPUT drops"),
            ("-A INPUT -i eth+ -p tcp --dport 8080 -j ACCEPT", "closed", "the policy"),
            ("-A INPUT -d 2001:db8:8::/64 -j ACCEPT", "closed", "the policy"),
            ("-A INPUT -p udp -j ACCEPT", "closed", "the policy"),
            ("-A INPUT -s 2001:db8:1::/48 -j ACCEPT", "limited", "rule 5 of ip6 filter (legacy) INPUT accepts some"),
            ("-N mine", "limited", "rule 5"),
            ("-A mine ! -i out0 -j ACCEPT", "limited", "rule 5"),
            ("-A mine -p tcp -m tcp --dport 8000:8080 -j RETURN", "limited", "rule 5"),
            ("-A mine -j ACCEPT", "limited", "rule 5"),
            ("-A INPUT -j mine", "limited", "rule 5"),
            ("-A INPUT -i out+ -d 2001:db8:9::/64 -p tcp --dport 8080 -j ACCEPT", "open", "rule 7"),
            (
                "-t raw -A PREROUTING -p tcp --dport 8080 -j DROP",
                "closed",
                "rule 1 of ip6 raw (legacy) PREROUTING drops",
            ),
        ] {
            run(program, rule);
            let (is, why) = said(&host);
            assert!(is == reach && why.contains(by), "{rule}: {is} by {why}");
        }
        run("iptables-legacy", "-P FORWARD DROP");
        assert!(host.forward_policy_blocks());
    });
}
