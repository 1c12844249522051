//! What gets through, and what does not.

use crate::world::*;
use naru_net::{Protocol, Published};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn containers_of_a_network_reach_each_other_and_the_host() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let (a, b) = (Container::on(&host, &spec), Container::on(&host, &spec));
        assert_eq!([a.ip(), b.ip()], [Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::new(172, 17, 0, 3)]);
        assert!(reaches(&a, &b) && reaches(&b, &a));
        let (listener, port) = listen();
        let seen = talk(&a.netns, &listener, Ipv4Addr::new(172, 17, 0, 1), port);
        assert_eq!(seen, Some(IpAddr::V4(a.ip())));
        let stats = a.netns.stats().unwrap();
        assert_eq!(stats[0].0, "eth0");
        assert!(stats[0].1.rx_packets > 0 && stats[0].1.tx_bytes > 0);
    });
}

#[test]
fn another_machine_sees_the_hosts_address_and_cant_come_in() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let container = Container::on(&host, &spec);
        let (listener, port) = inside(&outside, listen);
        assert_eq!(talk(&container.netns, &listener, OUTSIDE, port), Some(IpAddr::V4(HOST_OUTSIDE)));
        // The other machine's default route leads over the host, and the host forwards: only the rules keep it out.
        let (listener, port) = inside(&container.netns, listen);
        assert_eq!(talk(&outside, &listener, container.ip(), port), None);
    });
}

#[test]
fn networks_are_isolated_from_each_other() {
    on_private_host(|| {
        let host = open();
        let (one, two) = (network(1, "naru0", "172.17.0.0/16"), network(2, "br-two", "172.18.0.0/16"));
        host.ensure(&one).unwrap();
        host.ensure(&two).unwrap();
        let (a, b, c) = (Container::on(&host, &one), Container::on(&host, &two), Container::on(&host, &two));
        assert!(!reaches(&a, &b) && !reaches(&b, &a));
        assert!(reaches(&b, &c));
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    on_private_host(|| {
        let host = open();
        let mut spec = network(1, "naru0", "172.17.0.0/16");
        spec.internal = true;
        host.ensure(&spec).unwrap();
        let normal = network(2, "br-two", "172.18.0.0/16");
        host.ensure(&normal).unwrap();
        let outside = another_machine();
        let (a, b) = (Container::on(&host, &spec), Container::on(&host, &spec));
        assert_eq!(a.endpoint.gateway, None);
        assert!(reaches(&a, &b));
        let (listener, port) = inside(&outside, listen);
        assert_eq!(talk(&a.netns, &listener, OUTSIDE, port), None, "no route");
        // Also for a container that makes itself a route.
        let mut rtnl = b.netns.rtnl().unwrap();
        let index = rtnl.link("eth0").unwrap().unwrap().index;
        rtnl.set_default_routes(index, &[IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1))]).unwrap();
        drop(rtnl);
        assert_eq!(talk(&b.netns, &listener, OUTSIDE, port), None, "the rules");
        let c = Container::on(&host, &normal);
        assert!(talk(&c.netns, &listener, OUTSIDE, port).is_some(), "the control");
    });
}

#[test]
fn without_icc_containers_of_a_network_dont_reach_each_other() {
    on_private_host(|| {
        let host = open();
        let mut spec = network(1, "naru0", "172.17.0.0/16");
        spec.icc = false;
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let (a, b) = (Container::on(&host, &spec), Container::on(&host, &spec));
        assert!(!reaches(&a, &b));
        let (listener, port) = inside(&outside, listen);
        assert!(talk(&a.netns, &listener, OUTSIDE, port).is_some());
    });
}

fn published(host_ip: Ipv4Addr, host_port: u16, container_ip: Ipv4Addr, container_port: u16) -> Published {
    Published {
        protocol: Protocol::Tcp,
        host_ip: host_ip.into(),
        host_port,
        container_ip: container_ip.into(),
        container_port,
    }
}

#[test]
fn a_published_port_is_open_to_the_host_other_machines_and_containers() {
    on_private_host(|| {
        let host = open();
        let (one, two) = (network(1, "naru0", "172.17.0.0/16"), network(2, "br-two", "172.18.0.0/16"));
        host.ensure(&one).unwrap();
        host.ensure(&two).unwrap();
        let outside = another_machine();
        let server = Container::on(&host, &one);
        let (neighbour, stranger) = (Container::on(&host, &one), Container::on(&host, &two));
        let (listener, port) = inside(&server.netns, listen);
        let here = naru_net::Netns::current().unwrap();
        let entry = published(Ipv4Addr::UNSPECIFIED, 8080, server.ip(), port);
        assert_eq!(talk(&outside, &listener, HOST_OUTSIDE, 8080), None, "not yet published");
        host.publish(std::slice::from_ref(&entry)).unwrap();
        assert_eq!(talk(&outside, &listener, HOST_OUTSIDE, 8080), Some(IpAddr::V4(OUTSIDE)), "the true source is seen");
        assert!(talk(&here, &listener, HOST_OUTSIDE, 8080).is_some(), "the host by its own address");
        assert!(talk(&here, &listener, Ipv4Addr::LOCALHOST, 8080).is_some(), "the host by 127.0.0.1");
        assert!(talk(&neighbour.netns, &listener, HOST_OUTSIDE, 8080).is_some(), "a container of the same network");
        assert!(talk(&stranger.netns, &listener, HOST_OUTSIDE, 8080).is_some(), "a container of another network");
        host.unpublish(&[entry]).unwrap();
        assert_eq!(talk(&outside, &listener, HOST_OUTSIDE, 8080), None, "withdrawn");
    });
}

#[test]
fn a_port_on_loopback_is_open_to_the_host_alone() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let (server, other) = (Container::on(&host, &spec), Container::on(&host, &spec));
        let (listener, port) = inside(&server.netns, listen);
        host.publish(&[published(Ipv4Addr::LOCALHOST, 8080, server.ip(), port)]).unwrap();
        let here = naru_net::Netns::current().unwrap();
        assert!(talk(&here, &listener, Ipv4Addr::LOCALHOST, 8080).is_some());
        assert_eq!(talk(&outside, &listener, HOST_OUTSIDE, 8080), None);
        // The host's loopback stays closed to a container that routes 127.0.0.0/8 to the bridge.
        let (secret, secret_port) = listen();
        inside(&other.netns, || {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            let run = |args: &str| {
                let status = std::process::Command::new("ip").args(args.split(' ')).status().unwrap();
                assert!(status.success(), "ip {args}");
            };
            run("addr del 127.0.0.1/8 dev lo");
            run("route add 127.0.0.1/32 via 172.17.0.1 dev eth0 src 172.17.0.3");
        });
        assert_eq!(talk(&other.netns, &secret, Ipv4Addr::LOCALHOST, secret_port), None);
        assert_eq!(talk(&other.netns, &listener, Ipv4Addr::LOCALHOST, 8080), None);
    });
}

#[test]
fn udp_is_published_too() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let server = Container::on(&host, &spec);
        let bind = || std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let socket = inside(&server.netns, bind);
        let container_port = socket.local_addr().unwrap().port();
        let entry = Published { protocol: Protocol::Udp, ..published(HOST_OUTSIDE, 53, server.ip(), container_port) };
        host.publish(&[entry]).unwrap();
        let client = inside(&outside, bind);
        for socket in [&client, &socket] {
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        }
        client.send_to(b"question", (HOST_OUTSIDE, 53)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"question"[..], IpAddr::V4(OUTSIDE)));
        socket.send_to(b"answer", from).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], SocketAddr::from((HOST_OUTSIDE, 53))));
    });
}

#[test]
fn an_address_is_usable_at_once_by_its_next_owner() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let neighbour = Container::on(&host, &spec);
        let here = naru_net::Netns::current().unwrap();
        for round in 0..5 {
            let container = Container::on(&host, &spec);
            assert_eq!(container.ip(), Ipv4Addr::new(172, 17, 0, 3), "round {round}");
            // The new owner says nothing first: what the others remember of the old one must serve.
            let (listener, port) = inside(&container.netns, listen);
            assert!(talk(&here, &listener, container.ip(), port).is_some(), "host, round {round}");
            assert!(reaches(&neighbour, &container), "neighbour, round {round}");
            host.detach(&container.endpoint);
        }
    });
}

#[test]
fn an_open_connection_outlives_a_new_engine() {
    on_private_host(|| {
        let spec = network(1, "naru0", "172.17.0.0/16");
        let host = open();
        host.ensure(&spec).unwrap();
        let outside = another_machine();
        let server = Container::on(&host, &spec);
        let (listener, port) = inside(&server.netns, listen);
        let entry = published(Ipv4Addr::UNSPECIFIED, 8080, server.ip(), port);
        host.publish(std::slice::from_ref(&entry)).unwrap();
        let mut client = inside(&outside, || TcpStream::connect((HOST_OUTSIDE, 8080))).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        drop(host);
        let host = open();
        let live = naru_net::LiveEndpoint { endpoint: server.endpoint.clone(), ports: vec![entry] };
        let removed = host.reconcile(std::slice::from_ref(&spec), &[live]).unwrap();
        assert!(removed.failures.is_empty() && removed.veths.is_empty() && removed.bridges.is_empty(), "{removed:?}");
        client.write_all(b"still").unwrap();
        let mut buffer = [0; 5];
        peer.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"still");
        assert!(talk(&outside, &listener, HOST_OUTSIDE, 8080).is_some(), "and new ones are let in");
        assert_eq!(Container::on(&host, &spec).ip(), Ipv4Addr::new(172, 17, 0, 3), "the address is still taken");
    });
}

#[test]
fn the_first_packet_gets_through_while_namespaces_are_torn_down() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let (listener, port) = listen();
        for round in 0..25 {
            let container = Container::on(&host, &spec);
            // A lost first packet is sent again after a second, which `talk` does not wait for.
            let seen = talk(&container.netns, &listener, Ipv4Addr::new(172, 17, 0, 1), port);
            assert_eq!(seen, Some(IpAddr::V4(container.ip())), "round {round}");
            host.detach(&container.endpoint);
        }
    });
}
