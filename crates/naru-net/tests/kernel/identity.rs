//! A container is nobody else on its bridge.

use crate::world::*;
use naru_net::rtnl::Rtnl;
use naru_net::{EndpointRequest, LiveEndpoint, Netns, NetnsSetup};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

fn ip(netns: &Netns, args: &[&str]) -> String {
    inside(netns, || {
        let output = Command::new("ip").args(args).output().unwrap();
        assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    })
}

#[test]
fn another_ethernet_address_gets_nowhere() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let (liar, honest) = (Container::on(&host, &spec), Container::on(&host, &spec));
        let netns = Netns::create(&NetnsSetup::container()).unwrap();
        let wish = EndpointRequest { unlocked: true, ..EndpointRequest::default() };
        let endpoint = host.attach(&spec, &netns, &wish).unwrap();
        let free = Container { netns, endpoint };
        let (listener, port) = listen();
        for container in [&liar, &free] {
            assert!(talk(&container.netns, &listener, GATEWAY, port).is_some());
        }
        // Its neighbour's.
        ip(&liar.netns, &["link", "set", "eth0", "address", &honest.endpoint.mac]);
        assert_eq!(talk(&liar.netns, &listener, GATEWAY, port), None);
        assert!(talk(&honest.netns, &listener, GATEWAY, port).is_some(), "nothing was taken from the neighbour");
        // One that may change its addresses anyway, does.
        ip(&free.netns, &["link", "set", "eth0", "address", "02:00:00:00:00:99"]);
        assert!(talk(&free.netns, &listener, GATEWAY, port).is_some());
        // And one from the pool may be let do so later.
        host.unlock(&liar.endpoint).unwrap();
        ip(&liar.netns, &["link", "set", "eth0", "address", "02:00:00:00:00:98"]);
        assert!(talk(&liar.netns, &listener, GATEWAY, port).is_some());
    });
}

#[test]
fn nobodys_word_changes_who_is_where() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let (one, two) = (Container::on(&host, &spec), Container::on(&host, &spec));
        let neighbours = ip(&one.netns, &["neigh"]);
        assert!(neighbours.contains("172.17.0.1 dev eth0 lladdr ") && neighbours.contains("PERMANENT"), "{neighbours}");
        let pinned = || {
            let mut all: Vec<IpAddr> =
                Rtnl::open().unwrap().pinned_neighbours().unwrap().into_iter().map(|p| p.1).collect();
            all.retain(IpAddr::is_ipv4);
            all.sort();
            all
        };
        assert_eq!(pinned(), [IpAddr::V4(one.ip()), IpAddr::V4(two.ip())]);
        host.detach(&two.endpoint);
        assert_eq!(pinned(), [IpAddr::V4(one.ip())]);
        // What a crashed engine left is forgotten, what is alive is not.
        let three = Container::on(&host, &spec);
        drop(host);
        let host = open();
        let live = [LiveEndpoint { endpoint: one.endpoint.clone(), ports: Vec::new() }];
        host.reconcile(std::slice::from_ref(&spec), &live).unwrap();
        assert_eq!(pinned(), [IpAddr::V4(one.ip())], "{} is left", three.ip());
    });
}
