//! Published ports of datagrams: who reaches them on both families, from which address they are answered, and what comes in fragments.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, World, eventually};
use naru_tests::inside::inside;
use naru_tests::neighbour::Neighbour;

const HOST6: &str = "2001:db8:9::1";
const NEIGHBOUR6: &str = "2001:db8:9::2";
/// Of every datagram of the other machine's, well above what its link carries at once.
const LARGE: usize = 5000;

/// Answers every datagram in a container with the address that it came from, and its length.
struct Echo {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn in_container(world: &World, cli: &Client, name: &str, port: u16) -> Result<Self> {
        let socket = inside(world, &cli.inspect(name, "{{.State.Pid}}")?, move || {
            // One without IPv6 binds on IPv4.
            UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port)))
        })??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while !told.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let answer = format!("{} {length}", from.ip().to_canonical());
                    // One that is lost is asked for again.
                    let _ = socket.send_to(answer.as_bytes(), from);
                }
            }
        });
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // A panic of its own is shown already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket in the network namespace of a process, connected to `host:port`.
fn client(world: &World, pid: &str, host: &str, port: u16) -> Result<UdpSocket> {
    let to = SocketAddr::new(host.parse()?, port);
    let socket = inside(world, pid, move || -> std::io::Result<UdpSocket> {
        let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(socket)
    })??;
    Ok(socket)
}

/// What is answered from the asked address to a datagram of so many bytes.
fn ask(socket: &UdpSocket, bytes: usize) -> Result<String> {
    socket.send(&vec![b'x'; bytes])?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer).context("no answer")?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Waits until somebody is answered, each time with a flow of its own.
fn reaches(world: &World, pid: &str, host: &str, port: u16) -> Result<String> {
    let mut said = String::new();
    eventually(&format!("an answer from {host}:{port}"), || {
        said = ask(&client(world, pid, host, port)?, 10)?;
        ensure!(said.ends_with(" 10"), "{said:?}");
        Ok(())
    })?;
    Ok(said)
}

#[test]
fn everybody_reaches_a_port_of_datagrams_on_both_families() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        // An older daemon translates IPv6 as an experiment only.
        return engine.finish();
    }
    engine.load_busybox()?;
    let (world, cli) = (engine.world(), engine.cli());
    let neighbour = Neighbour::beside_on_ipv6(world)?;
    cli.ok(["network", "create", "--ipv6", "six"])?;
    cli.ok(["run", "-d", "--name", "new", "--network", "six", "-p", "8080:7000/udp", "busybox", "sleep", "1000"])?;
    // This one has IPv4 alone.
    cli.ok(["run", "-d", "--name", "old", "-p", "8081:7000/udp", "busybox", "sleep", "1000"])?;
    let servers = [Echo::in_container(world, &cli, "new", 7000)?, Echo::in_container(world, &cli, "old", 7000)?];
    let (host, inner) = ("1".to_owned(), cli.inspect("new", "{{.State.Pid}}")?);
    for port in [8080, 8081] {
        for address in ["127.0.0.1", "::1", HOST6] {
            reaches(world, &host, address, port)?;
        }
        // From a container, for 8080 the same one.
        reaches(world, &inner, HOST6, port)?;
        let seen = reaches(world, neighbour.pid(), HOST6, port)?;
        // Where the kernel leads it, the client's own address is kept.
        assert!(port != 8080 || seen.starts_with(NEIGHBOUR6), "{seen}");
    }
    // A whole flow, small and large, with its first datagram in fragments.
    for port in [8080, 8081] {
        let socket = client(world, neighbour.pid(), HOST6, port)?;
        for bytes in [LARGE, 10, LARGE] {
            let said = ask(&socket, bytes).with_context(|| format!("{bytes} bytes to port {port}"))?;
            ensure!(said.ends_with(&format!(" {bytes}")), "{said:?}");
        }
    }
    drop(servers);
    cli.ok(["rm", "-f", "new", "old"])?;
    cli.ok(["network", "rm", "six"])?;
    drop(neighbour);
    engine.finish()
}
