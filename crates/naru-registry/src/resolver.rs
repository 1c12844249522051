//! A stub resolver: `/etc/hosts`, then the servers of `/etc/resolv.conf` (hosts(5), resolv.conf(5), RFC 1035).
//!
//! The C library's `getaddrinfo` loads NSS modules, which a static binary can't; and it blocks a thread. Both files are read
//! for each look-up, so that a change of network counts at once. Invariants: an answer counts only from the asked server, with
//! our id and our question; nothing is cached.

use crate::dns_message::{Answer, Kind, decode_answer, encode_query};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Servers that are asked, as in resolv.conf(5).
const SERVER_LIMIT: usize = 3;
/// Bytes read of a UDP answer: no server sends more without EDNS, which we don't offer.
const UDP_LIMIT: usize = 4096;
/// How much longer the second family may take once the first has answered.
const GRACE: Duration = Duration::from_millis(250);
/// A file larger than this is cut.
const FILE_LIMIT: usize = 4 << 20;

/// Where a [`Resolver`] looks.
#[derive(Debug, Clone)]
pub struct ResolverConfig {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// The port of name servers.
    pub port: u16,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), port: 53 }
    }
}

/// Finds the addresses of host names.
#[derive(Debug, Clone)]
pub struct Resolver {
    config: ResolverConfig,
}

/// Why a name has no address; reads as Go's `net.DNSError` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupError {
    name: String,
    server: Option<SocketAddr>,
    reason: &'static str,
    /// Whether asking again may help.
    pub temporary: bool,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup {}", self.name)?;
        if let Some(server) = self.server {
            write!(f, " on {server}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for LookupError {}

impl Resolver {
    /// A resolver that reads these files.
    pub fn new(config: ResolverConfig) -> Self {
        Self { config }
    }

    /// The addresses of `host`, at least one, IPv6 and IPv4 in turn.
    ///
    /// # Errors
    /// When the name has none, or no server answers.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let listed = hosts_addresses(&read(&self.config.hosts).await, host);
        if !listed.is_empty() {
            return Ok(interleave(listed));
        }
        let lower = host.to_ascii_lowercase();
        if lower == "localhost" || lower.ends_with(".localhost") {
            // RFC 6761 section 6.3: never asked of a server.
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let conf = ResolvConf::parse(&read(&self.config.resolv_conf).await, self.config.port);
        let mut last = LookupError { name: host.to_owned(), server: None, reason: "no such host", temporary: false };
        for name in conf.candidates(host) {
            match conf.ask(&name).await {
                Ok(found) if !found.is_empty() => return Ok(interleave(found)),
                Ok(_) => last.server = conf.servers.first().copied(),
                Err((server, reason)) => {
                    last = LookupError { name: host.to_owned(), server, reason, temporary: true };
                    break;
                }
            }
        }
        Err(last)
    }
}

async fn read(path: &std::path::Path) -> String {
    // A missing file is an empty one, as for the C library.
    let mut bytes = tokio::fs::read(path).await.unwrap_or_default();
    bytes.truncate(FILE_LIMIT);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The addresses that hosts(5) gives to `host`.
fn hosts_addresses(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut out = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|w| w.parse().ok()) else { continue };
        if words.any(|w| w.eq_ignore_ascii_case(host)) && !out.contains(&address) {
            out.push(address);
        }
    }
    out
}

/// One family after the other, IPv6 first, so that a dead family costs one attempt only.
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut out = Vec::new();
    loop {
        match (v6.next(), v4.next()) {
            (None, None) => return out,
            (a, b) => out.extend(a.into_iter().chain(b)),
        }
    }
}

/// resolv.conf(5).
#[derive(Debug, PartialEq, Eq)]
struct ResolvConf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl ResolvConf {
    fn parse(text: &str, port: u16) -> Self {
        let mut conf =
            Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < SERVER_LIMIT => {
                    // A zone (`fe80::1%eth0`) names an interface: the kernel picks one for us, or the next server serves.
                    let word = words.next().and_then(|w| w.split('%').next());
                    conf.servers.extend(word.and_then(|w| w.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, port)));
                }
                Some("search" | "domain") => conf.search = words.take(32).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let Some((key, Ok(value))) = word.split_once(':').map(|(k, v)| (k, v.parse::<u32>())) else { return };
        match key {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to ask for, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut out: Vec<String> = self.search.iter().map(|d| format!("{host}.{}", d.trim_matches('.'))).collect();
        let at = if host.matches('.').count() >= self.ndots { 0 } else { out.len() };
        out.insert(at, host.to_owned());
        out
    }

    /// The addresses of `name`: empty if it has none, an error if no server could say.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, (Option<SocketAddr>, &'static str)> {
        let mut last = (None, "no such host");
        for _ in 0..self.attempts {
            for &server in &self.servers {
                match self.ask_both(server, name).await {
                    Ok(addresses) => return Ok(addresses),
                    Err(reason) => last = (Some(server), reason),
                }
            }
        }
        Err(last)
    }

    /// Both families at once; one that answers with addresses waits only shortly for the other.
    async fn ask_both(&self, server: SocketAddr, name: &str) -> Result<Vec<IpAddr>, &'static str> {
        let mut v4 = std::pin::pin!(self.ask_one(server, name, Kind::A));
        let mut v6 = std::pin::pin!(self.ask_one(server, name, Kind::Aaaa));
        let (first, second) = tokio::select! {
            a = &mut v4 => { let late = a.as_ref().is_ok_and(|a| !a.is_empty()); (a, wait(late, v6).await) }
            a = &mut v6 => { let late = a.as_ref().is_ok_and(|a| !a.is_empty()); (a, wait(late, v4).await) }
        };
        match (first, second) {
            (Ok(mut a), Some(Ok(b))) => {
                a.extend(b);
                Ok(a)
            }
            (Ok(a), _) if !a.is_empty() => Ok(a),
            (_, Some(Ok(b))) if !b.is_empty() => Ok(b),
            (Err(e), _) | (_, Some(Err(e))) => Err(e),
            (Ok(a), None) => Ok(a),
        }
    }

    async fn ask_one(&self, server: SocketAddr, name: &str, kind: Kind) -> Result<Vec<IpAddr>, &'static str> {
        let mut id = [0; 2];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).map_err(|_| "no random bytes")?;
        // A name that can't be asked for has no address.
        let Some(query) = encode_query(u16::from_ne_bytes(id), name, kind) else { return Ok(Vec::new()) };
        let mut answer = self.patient(ask_udp(server, &query)).await?;
        if answer.truncated {
            answer = self.patient(ask_tcp(server, &query)).await?;
        }
        match answer.code {
            0 | 3 => Ok(answer.addresses),
            _ => Err("server misbehaving"),
        }
    }

    async fn patient(&self, asking: impl Future<Output = io::Result<Answer>>) -> Result<Answer, &'static str> {
        match timeout(self.timeout, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Err("connection refused"),
            Ok(Err(e)) if e.kind() == io::ErrorKind::NetworkUnreachable => Err("network is unreachable"),
            Ok(Err(_)) => Err("server misbehaving"),
            Err(_) => Err("i/o timeout"),
        }
    }
}

async fn wait<T>(shortly: bool, other: impl Future<Output = T>) -> Option<T> {
    if shortly { timeout(GRACE, other).await.ok() } else { Some(other.await) }
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel drops what others send.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = [0; UDP_LIMIT];
    loop {
        let n = socket.recv(&mut buffer).await?;
        if let Some(answer) = decode_answer(query, &buffer[..n]) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await?;
    decode_answer(query, &packet).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns_message::tests::answer;

    #[test]
    fn hosts_file() {
        let text = "127.0.0.1 localhost\n# 9.9.9.9 reg\n10.0.0.1\treg.lan reg # x\nfd00::1 REG\nbad reg\n10.0.0.1 reg";
        assert_eq!(hosts_addresses(text, "reg"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert!(hosts_addresses(text, "x").is_empty());
        assert_eq!(hosts_addresses(text, "Reg.Lan.").len(), 1);
    }

    #[test]
    fn resolv_conf() {
        let text = "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver x\nsearch a.lan b.lan. # c\n\
                    options ndots:2 timeout:0 attempts:99 rotate\nnameserver 1.1.1.1\nnameserver 2.2.2.2";
        let conf = ResolvConf::parse(text, 53);
        let servers: Vec<_> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fe80::1]:53", "1.1.1.1:53"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (2, 1, 5));
        assert_eq!(conf.candidates("reg.x"), ["reg.x.a.lan", "reg.x.b.lan", "reg.x"]);
        assert_eq!(conf.candidates("a.b.c"), ["a.b.c", "a.b.c.a.lan", "a.b.c.b.lan"]);
        assert_eq!(conf.candidates("reg."), ["reg"]);
        assert_eq!(ResolvConf::parse("", 53).servers[0].to_string(), "127.0.0.1:53");
    }

    #[test]
    fn families_alternate() {
        let ips: Vec<IpAddr> = ["1.1.1.1", "2.2.2.2", "::1"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(interleave(ips.clone()), [ips[2], ips[0], ips[1]]);
    }

    /// A name server on loopback that answers `reply(query)`, and a resolver that asks it.
    async fn serve(conf: &str, reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> (Resolver, PathBuf) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let port = udp.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                tokio::select! {
                    Ok((n, from)) = udp.recv_from(&mut buffer) => {
                        if let Some(packet) = reply(&buffer[..n]) {
                            let _ = udp.send_to(&packet, from).await;
                        }
                    }
                    Ok((mut stream, _)) = tcp.accept() => {
                        let n = stream.read_u16().await.unwrap();
                        let mut query = vec![0; n.into()];
                        stream.read_exact(&mut query).await.unwrap();
                        let packet = answer(&query, 0, 0, &[(None, 1, vec![10, 9, 8, 7])]);
                        stream.write_u16(packet.len() as u16).await.unwrap();
                        stream.write_all(&packet).await.unwrap();
                    }
                }
            }
        });
        let dir = std::env::temp_dir();
        let tag =
            format!("naru-resolv-{}-{}", std::process::id(), NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let path = dir.join(tag);
        std::fs::write(&path, format!("nameserver 127.0.0.1\n{conf}")).unwrap();
        let config = ResolverConfig { hosts: "/nonexistent".into(), resolv_conf: path.clone(), port };
        (Resolver::new(config), path)
    }

    fn is_a(query: &[u8]) -> bool {
        query[query.len() - 3] == 1
    }

    #[tokio::test]
    async fn asks_a_server_and_searches() {
        let (resolver, path) = serve("search lan", |q| {
            let known = q[12..].starts_with(b"\x03reg\x03lan\0");
            Some(match (known, is_a(q)) {
                (true, true) => answer(q, 0, 0, &[(None, 1, vec![10, 0, 0, 5])]),
                (true, false) => answer(q, 0, 0, &[]),
                _ => answer(q, 3, 0, &[]),
            })
        })
        .await;
        assert_eq!(resolver.lookup("reg").await.unwrap(), [IpAddr::from([10, 0, 0, 5])]);
        let e = resolver.lookup("nope.lan").await.unwrap_err();
        assert!(!e.temporary);
        assert!(
            e.to_string().starts_with("lookup nope.lan on 127.0.0.1:") && e.to_string().ends_with(": no such host")
        );
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn truncation_goes_to_tcp_and_a_dead_family_is_not_waited_for() {
        let (resolver, path) = serve("options timeout:20", |q| is_a(q).then(|| answer(q, 0, 2, &[]))).await;
        let found = timeout(Duration::from_secs(5), resolver.lookup("big.example")).await.unwrap().unwrap();
        assert_eq!(found, [IpAddr::from([10, 9, 8, 7])]);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn silence_and_failure_are_temporary() {
        let (silent, path) = serve("options timeout:1 attempts:1", |_| None).await;
        let e = silent.lookup("x.example").await.unwrap_err();
        assert!(e.temporary && e.to_string().ends_with("i/o timeout"), "{e}");
        std::fs::remove_file(path).unwrap();
        let (failing, path) = serve("options attempts:1", |q| Some(answer(q, 2, 0, &[]))).await;
        let e = failing.lookup("x.example").await.unwrap_err();
        assert!(e.temporary && e.to_string().ends_with("server misbehaving"), "{e}");
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_server() {
        let config = ResolverConfig { hosts: "/nonexistent".into(), resolv_conf: "/nonexistent".into(), port: 1 };
        let resolver = Resolver::new(config);
        assert_eq!(resolver.lookup("[::1]").await.unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert_eq!(resolver.lookup("10.1.2.3").await.unwrap(), [IpAddr::from([10, 1, 2, 3])]);
        assert_eq!(resolver.lookup("LocalHost").await.unwrap()[0], IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
