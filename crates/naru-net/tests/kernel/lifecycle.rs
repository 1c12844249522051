//! Making, failing, removing.

use crate::world::*;
use naru_base::Class;
use naru_net::rtnl::{BridgeOptions, Rtnl};
use naru_net::{EndpointRequest, HostNet, Instance, LiveEndpoint, Mac, Netns, NetnsSetup};
use std::net::Ipv4Addr;
use std::path::Path;

#[test]
fn an_endpoint_is_what_it_says() {
    on_private_host(|| {
        let host = open();
        let mut spec = network(1, "naru0", "172.17.0.0/16");
        spec.mtu = 1400;
        host.ensure(&spec).unwrap();
        let container = Container::on(&host, &spec);
        let endpoint = &container.endpoint;
        assert_eq!((endpoint.prefix, endpoint.gateway), (16, Some(Ipv4Addr::new(172, 17, 0, 1))));
        let inside = container.netns.rtnl().unwrap().link("eth0").unwrap().unwrap();
        assert_eq!((inside.up, inside.mtu, inside.kind.as_str()), (true, 1400, "veth"));
        assert_eq!(inside.mac.unwrap().to_string(), endpoint.mac);
        let routes = container.netns.rtnl().unwrap().routes().unwrap();
        assert!(routes.iter().any(|r| r.destination.prefix() == 0 && r.gateway == endpoint.gateway));
        assert!(endpoint.host_ifname.starts_with("veth") && endpoint.host_ifname.len() == 11);
        let mut rtnl = Rtnl::open().unwrap();
        let outside = rtnl.link(&endpoint.host_ifname).unwrap().unwrap();
        assert_eq!((outside.up, outside.master), (true, rtnl.link("naru0").unwrap().unwrap().index));
        let loopback = container.netns.rtnl().unwrap().link("lo").unwrap().unwrap();
        assert!(loopback.up);
    });
}

#[test]
fn a_private_namespace_has_dockers_settings() {
    on_private_host(|| {
        let netns = Netns::create(&NetnsSetup::container()).unwrap();
        let read = |path: &str| std::fs::read_to_string(Path::new("/proc/sys/net").join(path)).unwrap();
        inside(&netns, || {
            assert_eq!(read("ipv4/ip_unprivileged_port_start").trim(), "0");
            assert_eq!(read("ipv4/ping_group_range").split_whitespace().collect::<Vec<_>>(), ["0", "2147483647"]);
            assert_eq!(read("ipv6/conf/default/disable_ipv6").trim(), "1");
            assert_eq!(read("ipv6/conf/lo/disable_ipv6").trim(), "0");
        });
        let again = Netns::from_fd(netns.try_clone_fd().unwrap());
        assert_eq!(again.rtnl().unwrap().links().unwrap(), netns.rtnl().unwrap().links().unwrap());
        let file = std::fs::File::open("/proc/self/ns/uts").unwrap();
        assert!(Netns::from_fd(file.into()).rtnl().is_err());
    });
}

#[test]
fn a_full_network_refuses_and_recovers() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "10.9.0.0/29");
        host.ensure(&spec).unwrap();
        let mut containers: Vec<Container> = (0..5).map(|_| Container::on(&host, &spec)).collect();
        let netns = Netns::create(&NetnsSetup::container()).unwrap();
        let error = host.attach(&spec, &netns, &EndpointRequest::default()).unwrap_err();
        assert!(error.to_string().contains("no available IPv4 addresses"), "{error}");
        let gone = containers.remove(1);
        host.detach(&gone.endpoint);
        let next = host.attach(&spec, &netns, &EndpointRequest::default()).unwrap();
        assert_eq!(next.ip, Some(gone.ip()));
    });
}

#[test]
fn wishes_are_met_or_refused_and_a_refusal_leaves_nothing() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let netns = Netns::create(&NetnsSetup::container()).unwrap();
        let wish = EndpointRequest {
            ip: Some(Ipv4Addr::new(172, 17, 9, 9)),
            mac: Some("02:42:00:00:00:07".into()),
            interface: Some("lan7".into()),
            no_default_route: true,
            ..EndpointRequest::default()
        };
        let endpoint = host.attach(&spec, &netns, &wish).unwrap();
        assert_eq!((endpoint.ip, endpoint.mac.as_str()), (Some(Ipv4Addr::new(172, 17, 9, 9)), "02:42:00:00:00:07"));
        assert!(netns.rtnl().unwrap().routes().unwrap().iter().all(|r| r.destination.prefix() > 0));
        let before = interfaces();
        let refused = |wish: EndpointRequest| host.attach(&spec, &netns, &wish).unwrap_err().class();
        assert_eq!(refused(wish.clone()), Class::Forbidden, "the address is taken");
        let outside = EndpointRequest { ip: Some(Ipv4Addr::new(10, 0, 0, 1)), ..EndpointRequest::default() };
        assert_eq!(refused(outside), Class::InvalidParameter);
        let bad_mac = EndpointRequest { mac: Some("hello".into()), ..EndpointRequest::default() };
        assert_eq!(refused(bad_mac), Class::InvalidParameter);
        let name_taken = EndpointRequest { interface: Some("lan7".into()), ..EndpointRequest::default() };
        assert_eq!(refused(name_taken), Class::System);
        assert_eq!(interfaces(), before, "nothing is left of what was refused");
        let next = host.attach(&spec, &netns, &EndpointRequest::default()).unwrap();
        assert_eq!(next.ip, Some(Ipv4Addr::new(172, 17, 0, 2)), "nor an address");
        let unknown = network(7, "br-seven", "172.30.0.0/16");
        let error = host.attach(&unknown, &netns, &EndpointRequest::default()).unwrap_err();
        assert_eq!(error.class(), Class::NotFound);
    });
}

#[test]
fn a_second_default_route_undoes_the_endpoint() {
    on_private_host(|| {
        let host = open();
        let (one, two) = (network(1, "naru0", "172.17.0.0/16"), network(2, "br-two", "172.18.0.0/16"));
        host.ensure(&one).unwrap();
        host.ensure(&two).unwrap();
        let container = Container::on(&host, &one);
        let wish = EndpointRequest { interface: Some("eth1".into()), ..EndpointRequest::default() };
        let before = interfaces();
        assert!(host.attach(&two, &container.netns, &wish).is_err());
        assert_eq!(interfaces(), before);
        assert_eq!(container.netns.rtnl().unwrap().link("eth1").unwrap(), None);
        let wish = EndpointRequest { no_default_route: true, ..wish };
        let second = host.attach(&two, &container.netns, &wish).unwrap();
        assert_eq!(second.ip, Some(Ipv4Addr::new(172, 18, 0, 2)));
        host.disconnect(&container.netns, &second).unwrap();
        assert_eq!(interfaces(), before);
    });
}

#[test]
fn teardown_leaves_nothing() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let containers: Vec<Container> = (0..4).map(|_| Container::on(&host, &spec)).collect();
        assert_eq!(interfaces().len(), 5);
        for container in containers {
            host.detach(&container.endpoint);
        }
        wait_until("the veths are gone", || interfaces() == ["naru0"]);
        host.remove(&spec).unwrap();
        host.remove(&spec).unwrap();
        assert_eq!(interfaces(), Vec::<String>::new());
        host.remove_all().unwrap();
        host.remove_all().unwrap();
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn ensure_takes_up_what_is_there() {
    on_private_host(|| {
        let spec = network(1, "naru0", "172.17.0.0/16");
        let host = open();
        host.ensure(&spec).unwrap();
        let (before, rules) = (Rtnl::open().unwrap().link("naru0").unwrap().unwrap(), ruleset());
        host.ensure(&spec).unwrap();
        let host = open();
        host.ensure(&spec).unwrap();
        let after = Rtnl::open().unwrap().link("naru0").unwrap().unwrap();
        assert_eq!((after.index, after.mac), (before.index, before.mac));
        assert_eq!(ruleset(), rules);
        let default = host.default_network(id(3), &[], &[]).unwrap();
        assert_eq!((default.subnet, default.bridge_name.as_str()), (spec.subnet, "naru0"));
        // Another subnet: the old address goes.
        let other = network(1, "naru0", "172.29.0.0/16");
        host.ensure(&other).unwrap();
        let addresses = Rtnl::open().unwrap().addresses().unwrap();
        let on_bridge: Vec<_> = addresses.iter().filter(|a| a.index == after.index).map(|a| a.address).collect();
        assert_eq!(on_bridge, [Ipv4Addr::new(172, 29, 0, 1)]);
        assert!(!ruleset().contains("172.17.0.0"), "{}", ruleset());
    });
}

#[test]
fn a_bridge_that_somebody_deleted_comes_back() {
    on_private_host(|| {
        let spec = network(1, "naru0", "172.17.0.0/16");
        let host = open();
        host.ensure(&spec).unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let index = rtnl.link("naru0").unwrap().unwrap().index;
        rtnl.delete_links(&[index]).unwrap();
        host.ensure(&spec).unwrap();
        let (a, b) = (Container::on(&host, &spec), Container::on(&host, &spec));
        assert!(reaches(&a, &b));
    });
}

#[test]
fn names_of_others_are_refused() {
    on_private_host(|| {
        let host = open();
        let error = host.ensure(&network(1, "lo", "172.17.0.0/16")).unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{error}");
        host.ensure(&network(1, "naru0", "172.17.0.0/16")).unwrap();
        let overlap = host.ensure(&network(2, "br-two", "172.17.128.0/20")).unwrap_err();
        assert_eq!(overlap.class(), Class::Forbidden);
        for bad in ["", "a/b", "sixteen-letters-"] {
            let error = host.ensure(&network(3, bad, "172.19.0.0/16")).unwrap_err();
            assert_eq!(error.class(), Class::InvalidParameter, "{bad:?}");
        }
        assert_eq!(interfaces(), ["naru0"]);
    });
}

#[test]
fn engines_side_by_side_share_nothing() {
    on_private_host(|| {
        let default = Path::new("/var/lib/naru");
        let engine = |root: &str| HostNet::open(Instance::for_root(Path::new(root), default)).unwrap();
        let (one, two) = (engine("/var/lib/naru"), engine("/tmp/other"));
        let first = one.default_network(id(1), &[], &[]).unwrap();
        one.ensure(&first).unwrap();
        let second = two.default_network(id(2), &[], &[]).unwrap();
        two.ensure(&second).unwrap();
        assert_eq!(first.subnet, Some(subnet("172.17.0.0/16")));
        assert_eq!(second.subnet, Some(subnet("172.18.0.0/16")), "a route of the host is kept clear of");
        let (a, b) = (Container::on(&one, &first), Container::on(&two, &second));
        assert!(!reaches(&a, &b));
        let stolen = network(3, &second.bridge_name, "172.20.0.0/16");
        assert_eq!(one.ensure(&stolen).unwrap_err().class(), Class::Conflict);
        one.remove_all().unwrap();
        assert!(ruleset().contains(&two.instance().table()) && !ruleset().contains("table inet naru {"));
        assert!(interfaces().contains(&second.bridge_name) && !interfaces().contains(&first.bridge_name));
        assert!(reaches(&Container::on(&two, &second), &b));
    });
}

#[test]
fn reconcile_removes_what_has_no_owner_and_nothing_else() {
    on_private_host(|| {
        let (kept, lost) = (network(1, "naru0", "172.17.0.0/16"), network(2, "br-two", "172.18.0.0/16"));
        let host = open();
        host.ensure(&kept).unwrap();
        host.ensure(&lost).unwrap();
        let (alive, dead, gone) =
            (Container::on(&host, &kept), Container::on(&host, &kept), Container::on(&host, &lost));
        let foreign = BridgeOptions {
            name: "br-foreign",
            mac: Mac::from_octets([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
            alias: "",
            no_ipv6_address: false,
        };
        Rtnl::open().unwrap().create_bridge(&foreign).unwrap();
        drop(host);
        let host = open();
        let live = LiveEndpoint { endpoint: alive.endpoint.clone(), ports: vec![] };
        let removed = host.reconcile(std::slice::from_ref(&kept), &[live]).unwrap();
        assert_eq!(removed.bridges, ["br-two"]);
        assert_eq!(removed.veths.len(), 2, "{removed:?}");
        assert!(
            removed.veths.contains(&dead.endpoint.host_ifname) && removed.veths.contains(&gone.endpoint.host_ifname)
        );
        assert_eq!(removed.failures, Vec::<String>::new());
        let mut expected = vec!["br-foreign".to_owned(), "naru0".into(), alive.endpoint.host_ifname.clone()];
        expected.sort();
        assert_eq!(interfaces(), expected);
        assert!(!ruleset().contains("br-two"));
    });
}
