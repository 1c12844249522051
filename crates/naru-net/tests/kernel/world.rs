//! A private "host": a thread in a new network namespace, with containers and another machine around it.

use naru_base::Id;
use naru_net::rtnl::{BridgeOptions, Configuration, Rtnl, VethPair};
use naru_net::{Endpoint, EndpointRequest, HostNet, Instance, Mac, Netns, NetnsSetup, NetworkSpec, Subnet};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Addresses between the host and another machine.
pub const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// A connection that goes through needs well under this; one that is dropped takes all of it.
const PATIENCE: Duration = Duration::from_millis(700);

/// Runs `test` on a thread in a network namespace of its own, with `lo` up.
pub fn on_private_host(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        naru_sys::namespace::unshare(naru_sys::namespace::NewNamespace::Net).expect("a network namespace needs root");
        Rtnl::open().unwrap().set_up(1, true).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn id(n: u8) -> Id {
    Id::parse(&format!("{n:02x}").repeat(32)).unwrap()
}

pub fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

pub fn open() -> HostNet {
    HostNet::open(Instance::main()).unwrap()
}

pub fn network(n: u8, bridge: &str, cidr: &str) -> NetworkSpec {
    NetworkSpec::bridge(id(n), &format!("net{n}"), bridge.to_owned(), subnet(cidr))
}

/// A container: its namespace and its endpoint.
pub struct Container {
    pub netns: Netns,
    pub endpoint: Endpoint,
}

impl Container {
    pub fn on(host: &HostNet, spec: &NetworkSpec) -> Self {
        let netns = Netns::create(&NetnsSetup::container()).unwrap();
        let endpoint = host.attach(spec, &netns, &EndpointRequest::default()).unwrap();
        Self { netns, endpoint }
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.endpoint.ip.unwrap()
    }
}

/// Another machine on the host's network `lan0`; it knows no route to any container.
pub fn another_machine() -> Netns {
    let netns = Netns::create(&NetnsSetup::default()).unwrap();
    let lan = subnet("198.51.100.0/24");
    let mut rtnl = Rtnl::open().unwrap();
    let mac = |n| Mac::from_octets([2, 0, 0, 0, 0, n]);
    let options = BridgeOptions { name: "lan0", mac: mac(1), mtu: 1500, alias: "lan", no_ipv6_address: true };
    let master = rtnl.create_bridge(&options).unwrap();
    rtnl.add_address(master, HOST_OUTSIDE, lan).unwrap();
    let pair = VethPair {
        name: "lanport",
        master,
        peer_netns: netns.as_fd(),
        peer_name: "eth0",
        peer_mac: mac(2),
        mtu: 1500,
        isolated: false,
        no_ipv6_address: true,
    };
    rtnl.create_veth(&pair).unwrap();
    let index = netns.rtnl().unwrap().link("eth0").unwrap().unwrap().index;
    let wanted =
        Configuration { v4: Some((OUTSIDE, lan)), gateways: &[IpAddr::V4(HOST_OUTSIDE)], ..Configuration::default() };
    netns.rtnl().unwrap().configure(index, &wanted).unwrap();
    netns
}

/// Runs `work` on a thread inside `netns`.
pub fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A server in the calling thread's namespace, on a port of its own.
pub fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Connects from inside `from` and exchanges a byte with `listener`; the address that the server saw, or none when nothing
/// came through.
pub fn talk(from: &Netns, listener: &TcpListener, ip: Ipv4Addr, port: u16) -> Option<IpAddr> {
    let mut client = inside(from, || TcpStream::connect_timeout(&SocketAddr::from((ip, port)), PATIENCE)).ok()?;
    let (mut server, peer) = listener.accept().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.write_all(b"x").unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
    Some(peer.ip())
}

/// Whether a container reaches a server in another.
pub fn reaches(from: &Container, to: &Container) -> bool {
    let (listener, port) = inside(&to.netns, listen);
    talk(&from.netns, &listener, to.ip(), port).is_some()
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What nft prints of the calling thread's namespace.
pub fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn nft(script: &str) {
    let status = Command::new("nft").arg(script).status().unwrap();
    assert!(status.success(), "nft {script}");
}

/// Names of the calling thread's interfaces but `lo`.
pub fn interfaces() -> Vec<String> {
    let links = Rtnl::open().unwrap().links().unwrap();
    let mut names: Vec<String> = links.into_iter().filter(|l| l.index != 1).map(|l| l.name).collect();
    names.sort();
    names
}
