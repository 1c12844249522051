//! Two hundred operations in no order that means anything, the engine killed in the middle of them again and again: in the end nothing is
//! left that nobody owns, and a transfer that went on all the while has lost no byte.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, Target, eventually, invariants};
use naru_tests::transfer::Transfer;

const OPERATIONS: u32 = 200;
/// A kill in the middle of every so many operations.
const KILL_EVERY: u32 = 20;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The link that macvlan networks are on.
const PARENT: &str = "parent=far9";

/// The same numbers each time (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn name(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", NAMES[self.below(NAMES.len())])
    }

    fn operation(&mut self) -> Vec<String> {
        let (network, container, volume) = (self.name("net-"), self.name("ctr-"), self.name("vol-"));
        let mount = format!("{volume}:/data");
        // The container's own port for some, another's for others, which is refused while that runs.
        let port = 9100 + self.below(NAMES.len() + 1);
        let (published, local) = (format!("{port}:7000"), format!("[::1]:{port}:7000/udp"));
        let macvlan = ["network", "create", "-d", "macvlan", "-o", PARENT, &network];
        let kept = ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", &volume];
        let run = ["run", "-d", "--name", &container, "-v", &mount];
        let (on, server) = (["--network", &network], ["-p", &published, "-p", &local]);
        let program = ["busybox", "sleep", "1000"];
        let words: Vec<&str> = match self.below(17) {
            0 | 1 => vec!["network", "create", &network],
            2 => vec!["network", "rm", &network],
            3 => vec!["network", "connect", &network, &container],
            4 => vec!["network", "disconnect", &network, &container],
            5 => vec!["volume", "create", &volume],
            6 => vec!["volume", "rm", &volume],
            7 => [&run[..], &program].concat(),
            8 => [&run[..], &on, &program].concat(),
            9 => vec!["rm", "-f", &container],
            10 => vec!["stop", "-t", "0", &container],
            11 => vec!["network", "create", "--ipv6", &network],
            12 => macvlan.to_vec(),
            13 => kept.to_vec(),
            14 => [&run[..], &server, &program].concat(),
            15 => [&run[..], &server, &on, &program].concat(),
            _ => vec!["start", &container],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// What nft shows of the engine's tables, without what changes by itself.
fn rules(engine: &Engine) -> Result<String> {
    let output = engine.world().command("nft").args(["list", "ruleset"]).output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn kills_in_the_middle_leave_nothing() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        // Its containers end with it.
        return engine.finish();
    }
    engine.load_busybox()?;
    let default = engine.cli().ok(["run", "--rm", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"])?;
    let link = engine
        .world()
        .command("ip")
        .args(["link", "add", "far9", "up", "type", "veth", "peer", "name", "far8"])
        .status()?;
    ensure!(link.success(), "a link for macvlan");
    let mut random = Random(0x6e61_7275_0004);
    let mut transfer = Transfer::begin(&engine)?;
    for n in 1..=OPERATIONS {
        let operation = random.operation();
        transfer.send(16 << 10)?;
        if n % KILL_EVERY != 0 {
            // Most of them are refused by what is there or isn't.
            engine.cli().run(&operation)?;
            continue;
        }
        let pause = Duration::from_millis(random.below(60) as u64);
        std::thread::scope(|scope| -> Result<()> {
            let cli = engine.cli();
            let running = scope.spawn(move || cli.run(&operation).map(drop));
            // Not a wait for anything: the kill may come at any time of the operation, or after it.
            std::thread::sleep(pause);
            engine.kill()?;
            // More than all buffers on the way hold: it moves only while the connection works, here without an engine.
            transfer.send(4 << 20)?;
            running.join().map_err(|_| anyhow::anyhow!("the operation panicked"))?
        })?;
        engine.launch()?;
    }
    transfer.end(&engine)?;
    let cli = engine.cli();
    // Who runs has its networks, each with one address, and nobody has it twice.
    let mut taken = Vec::new();
    for container in cli.ok(["ps", "-q"])?.lines() {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        for address in cli.inspect(container, format)?.split_whitespace() {
            cli.ok(["exec", container, "ip", "-o", "-4", "addr"])?
                .contains(&format!("inet {address}/"))
                .then_some(())
                .with_context(|| format!("{container} has no {address}"))?;
            taken.push(address.to_owned());
        }
    }
    let count = taken.len();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), count, "an address was given twice: {taken:?}");
    // Everything is removed, and then nothing is left.
    for name in NAMES {
        cli.run(["rm", "-f", &format!("ctr-{name}")])?;
    }
    assert_eq!(cli.ok(["ps", "-aq"])?, "");
    cli.ok(["network", "prune", "-f"])?;
    cli.ok(["volume", "prune", "-a", "-f"])?;
    // Those with options are not pruned.
    for name in NAMES {
        cli.run(["volume", "rm", &format!("vol-{name}")])?;
    }
    assert_eq!(cli.ok(["network", "ls", "--filter", "type=custom", "-q"])?, "");
    assert_eq!(cli.ok(["volume", "ls", "-q"])?, "");
    let left: Vec<String> = engine.world().links()?.into_iter().filter(|l| l.starts_with("br-")).collect();
    assert!(left.is_empty(), "bridges: {left:?}");
    // Neither veth nor mount, group, monitor or file.
    let http = engine.http();
    eventually("nothing to be left", || invariants::check(&engine, &invariants::see(&http)?, |_| false))?;
    // And every port is free again.
    for n in 0..=NAMES.len() {
        let port = 9100 + n;
        let bound = engine.world().in_network(move || {
            let port = u16::try_from(port).unwrap_or_default();
            (TcpListener::bind(("0.0.0.0", port)), TcpListener::bind(("::1", port)), UdpSocket::bind(("::1", port)))
        })?;
        let bound = bound.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        ensure!(bound.0.is_ok() && bound.1.is_ok() && bound.2.is_ok(), "port {port} is held: {bound:?}");
    }
    let rules = rules(&engine)?;
    assert!(!rules.contains("br-") && !rules.contains(" . 91"), "{rules}");
    let names = engine.exec_root().join("names");
    let files = std::fs::read_dir(&names).map(Iterator::count).unwrap_or(0);
    assert_eq!(files, 0, "files of names");
    // No lease either: the addresses begin where they began. What the pool holds of them is let go with the engine.
    engine.terminate()?;
    engine.launch()?;
    eventually("a low address", || {
        let now = engine.cli().ok(["run", "--rm", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"])?;
        let low = |text: &str| text.split("inet ").nth(1).and_then(|t| t.split('/').next()).map(str::to_owned);
        let last = |text: &str| low(text).and_then(|a| a.rsplit('.').next()?.parse::<u32>().ok());
        let (then, now) = (last(&default).context("an address")?, last(&now).context("an address")?);
        ensure!(now <= then + 8, "{now} is far above {then}");
        Ok(())
    })?;
    engine.finish()
}
