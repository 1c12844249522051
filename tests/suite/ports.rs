//! Published ports: forms, who has them, who reaches them, and how long they stay.

use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, World, eventually, shared, unique};
use naru_tests::neighbour::Neighbour;
use naru_tests::transfer::Transfer;

/// What a server says, asked from the engine's own network namespace.
pub fn ask(world: &World, host: &str, port: u16) -> Result<String> {
    let mut command = world.command("busybox");
    let output = command.args(["nc", "-w", "3", host, &port.to_string()]).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the server at `host:port` says `text`.
pub fn expect(world: &World, host: &str, port: u16, text: &str) -> Result<()> {
    eventually(&format!("{text:?} from {host}:{port}"), || {
        let said = ask(world, host, port)?;
        ensure!(said.trim_end() == text, "{said:?}");
        Ok(())
    })
}

/// A script that says `text` to everybody who connects to `port`.
pub fn server(port: u16, text: &str) -> String {
    format!("while :; do echo {text} | nc -l -p {port}; done")
}

/// The host's port of one of the container's.
pub fn host_port(cli: &Client, name: &str, port: &str) -> Result<u16> {
    let shown = cli.ok(["port", name, port])?;
    let line = shown.lines().find(|l| !l.starts_with('[')).context("a port on an IPv4 address")?;
    line.rsplit(':').next().unwrap_or_default().parse().with_context(|| shown.clone())
}

#[test]
fn all_forms() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("forms"));
    let mut forms = vec![
        "21001:80",
        "127.0.0.1:21002:81",
        "127.0.0.1::82",
        "21010-21012:90-92",
        "21020-21030:93/udp",
        "published=21050,target=95,protocol=tcp",
    ];
    // dockerd needs a kernel that speaks SCTP itself.
    let naru = engine.target() == Target::Naru;
    if naru {
        forms.push("21040:94/sctp");
    }
    let args: Vec<&str> = forms.iter().flat_map(|form| ["-p", form]).collect();
    cli.ok([&["run", "-d", "--name", &name], &args[..], &["busybox", "sleep", "1000"]].concat())?;
    let shown = cli.ok(["port", &name])?;
    for line in [
        "80/tcp -> 0.0.0.0:21001",
        "81/tcp -> 127.0.0.1:21002",
        "90/tcp -> 0.0.0.0:21010",
        "91/tcp -> 0.0.0.0:21011",
        "92/tcp -> 0.0.0.0:21012",
        "95/tcp -> 0.0.0.0:21050",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} is not in\n{shown}");
    }
    assert_eq!(shown.contains("94/sctp -> 0.0.0.0:21040"), naru, "{shown}");
    assert!(shown.lines().any(|l| l.starts_with("82/tcp -> 127.0.0.1:")), "{shown}");
    let free = host_port(&cli, &name, "93/udp")?;
    assert!((21020..=21030).contains(&free), "{shown}");
    let bound = cli.inspect(&name, "{{(index (index .NetworkSettings.Ports \"81/tcp\") 0).HostIp}}")?;
    assert_eq!(bound, "127.0.0.1");
    cli.ok(["stop", "-t", "0", &name])?;
    assert_eq!(cli.ok(["port", &name])?, "");
    assert_eq!(cli.inspect(&name, "{{len .NetworkSettings.Ports}}")?, "0");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn all_exposed_ports() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("exposed"));
    let script = server(80, "exposed");
    let args = ["run", "-d", "--name", &name, "-P", "--expose", "80", "--expose", "53/udp", "busybox", "sh", "-c"];
    cli.ok([&args[..], &[&script]].concat())?;
    let (tcp, udp) = (host_port(&cli, &name, "80")?, host_port(&cli, &name, "53/udp")?);
    assert!(tcp > 1023 && udp > 1023, "{tcp} {udp}");
    expect(engine.world(), "127.0.0.1", tcp, "exposed")?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn a_taken_port_has_an_owner() -> Result<()> {
    let engine = shared()?;
    let (cli, first, second) = (engine.cli(), unique("first"), unique("second"));
    cli.ok(["run", "-d", "--name", &first, "-p", "21101:80", "busybox", "sleep", "1000"])?;
    let publish = |port: &str| {
        cli.run(["rm", "-f", &second])?;
        cli.run(["run", "-d", "--name", &second, "-p", port, "busybox", "sleep", "1000"])
    };
    for port in ["21101:80", "127.0.0.1:21101:80"] {
        let done = publish(port)?;
        assert_eq!(done.code, 125, "{port}: {done:?}");
        // An older dockerd finds the second form out from the kernel.
        let dockerds = engine.target() == Target::Dockerd && done.stderr.contains("address already in use");
        assert!(done.stderr.contains("port is already allocated") || dockerds, "{port}: {}", done.stderr);
        assert!(done.stderr.contains("driver failed programming external connectivity on endpoint"), "{}", done.stderr);
        if engine.target() == Target::Naru {
            assert!(done.stderr.contains(&first), "the owner is not named: {}", done.stderr);
        }
        assert!(!done.stderr.contains("Error waiting"), "told twice: {}", done.stderr);
        assert_eq!(cli.inspect(&second, "{{.State.Status}}")?, "created");
    }
    // Other protocols have ports of their own, and a failed start leaves nothing taken.
    let done = publish("21101:80/udp")?;
    assert_eq!(done.code, 0, "{}", done.stderr);
    // A program of the host has one.
    let listener = engine.world().in_network(|| TcpListener::bind("0.0.0.0:21102"))?;
    let listener = listener.join().map_err(|_| anyhow::anyhow!("panicked"))???;
    let done = publish("21102:80")?;
    assert_eq!(done.code, 125, "{done:?}");
    assert!(done.stderr.contains("address already in use"), "{}", done.stderr);
    drop(listener);
    let done = publish("21102:80")?;
    assert_eq!(done.code, 0, "{}", done.stderr);
    // And nobody of the host gets one that a container has, as long as it has it.
    let bind = || -> Result<bool> {
        let tried =
            engine.world().in_network(|| (TcpListener::bind("0.0.0.0:21102"), UdpSocket::bind("0.0.0.0:21102")))?;
        let (tcp, udp) = tried.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        assert!(udp.is_ok(), "{udp:?}");
        Ok(tcp.is_ok())
    };
    assert!(!bind()?, "the port of a container could be bound");
    cli.ok(["rm", "-f", &second])?;
    assert!(bind()?, "the port of a removed container could not be bound");
    cli.ok(["rm", "-f", &first])?;
    Ok(())
}

#[test]
fn an_address_must_be_the_hosts() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("strange"));
    let done = cli.run(["run", "-d", "--name", &name, "-p", "198.51.100.77:21201:80", "busybox", "sleep", "1000"])?;
    assert_eq!(done.code, 125, "{done:?}");
    assert!(done.stderr.contains("cannot assign requested address"), "{}", done.stderr);
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn everybody_reaches_it_and_is_seen() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (world, cli) = (engine.world(), engine.cli());
    let neighbour = Neighbour::beside(world)?;
    cli.ok(["run", "-d", "--name", "web", "-p", "8080:7000", "busybox", "sh", "-c", &server(7000, "open")])?;
    expect(world, "127.0.0.1", 8080, "open")?;
    expect(world, "192.0.2.1", 8080, "open")?;
    eventually("an answer to another machine", || {
        let said = neighbour.ask(world, 8080)?;
        ensure!(said == "open\n", "{said:?}");
        Ok(())
    })?;
    eventually("an answer to another container", || {
        let said = cli.run(["run", "--rm", "busybox", "nc", "-w", "3", "192.0.2.1", "8080"])?.stdout;
        ensure!(said == "open\n", "{said:?}");
        Ok(())
    })?;
    // To itself.
    eventually("an answer to itself", || {
        let said = cli.run(["exec", "web", "nc", "-w", "3", "192.0.2.1", "8080"])?.stdout;
        ensure!(said == "open\n", "{said:?}");
        Ok(())
    })?;
    // The client's own address is what the container sees.
    cli.ok([
        "run",
        "-d",
        "--name",
        "who",
        "-p",
        "8081:7001",
        "busybox",
        "sh",
        "-c",
        "nc -l -p 7001 >/dev/null; sleep 1000",
    ])?;
    let mut held = neighbour.command(world, "busybox");
    held.args(["nc", "192.0.2.1", "8081"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut held = held.spawn()?;
    eventually("the other machine's address in the container", || {
        let seen = cli.ok(["exec", "who", "netstat", "-tn"])?;
        ensure!(seen.contains("192.0.2.2:"), "{seen}");
        Ok(())
    })?;
    held.kill()?;
    held.wait()?;
    cli.ok(["rm", "-f", "web"])?;
    assert_eq!(neighbour.ask(world, 8080)?, "");
    drop(neighbour);
    engine.finish()
}

/// KiB that a container's monitor has for itself.
fn monitor_memory(cli: &Client, name: &str) -> Result<u64> {
    let id = cli.inspect(name, "{{.Id}}")?;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let title = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&title);
        if title.contains("monitor") && title.contains(&id[..12]) {
            let text = std::fs::read_to_string(entry.path().join("smaps_rollup"))?;
            let own = text.lines().filter(|l| l.starts_with("Private_"));
            let numbers = own.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
            return Ok(numbers.sum());
        }
    }
    anyhow::bail!("{name} has no monitor")
}

#[test]
fn a_thousand_ports() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        eprintln!("skipped: dockerd starts a process per port");
        return engine.finish();
    }
    engine.load_busybox()?;
    let (world, cli) = (engine.world(), engine.cli());
    cli.ok(["run", "-d", "--name", "one", "-p", "29999:7000", "busybox", "sleep", "1000"])?;
    let before = world.processes()?.len();
    let script = server(7999, "the last");
    cli.ok(["run", "-d", "--name", "many", "-p", "22000-22999:7000-7999", "busybox", "sh", "-c", &script])?;
    expect(world, "127.0.0.1", 22999, "the last")?;
    // The container's own: a shell, what it runs, and the monitor.
    let processes = world.processes()?;
    assert!(processes.len() <= before + 4, "{processes:?}");
    assert_eq!(cli.ok(["port", "many"])?.lines().filter(|l| l.contains("0.0.0.0")).count(), 1000);
    // The container has IPv4 alone, so those on IPv6 are its monitor's: that has a descriptor for each, and no memory to speak of.
    assert_eq!(cli.ok(["port", "many"])?.lines().filter(|l| l.contains("[::]") || l.contains(":::")).count(), 1000);
    expect(world, "::1", 22999, "the last")?;
    let (one, many) = (monitor_memory(&cli, "one")?, monitor_memory(&cli, "many")?);
    assert!(many < one + 256, "a thousand ports take a monitor from {one} to {many} KiB");
    // What is run in it later has its limit of open files all the same.
    let limit = |name: &str| cli.ok(["exec", name, "sh", "-c", "ulimit -n"]);
    assert_eq!(limit("many")?, limit("one")?);
    cli.ok(["rm", "-f", "many"])?;
    let rules = world.command("nft").args(["list", "ruleset"]).output()?;
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    assert!(!rules.contains("22999") && rules.contains("29999"), "{rules}");
    // So many of its own changes are not taken for somebody else's.
    cli.ok(["rm", "-f", "one"])?;
    assert!(!engine.log().contains("somebody deleted"), "{}", engine.log());
    engine.finish()
}

#[test]
fn ports_go_with_the_container() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (world, cli) = (engine.world(), engine.cli());
    let script = server(7000, "here");
    cli.ok(["run", "-d", "--name", "web", "-p", "8080:7000", "-p", "7000", "busybox", "sh", "-c", &script])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    // A kill and a restart give the same fixed port back.
    cli.ok(["kill", "web"])?;
    assert_eq!(ask(world, "127.0.0.1", 8080)?, "");
    cli.ok(["start", "web"])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    cli.ok(["restart", "-t", "0", "web"])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    // Ends by itself.
    cli.ok(["run", "--rm", "-p", "8081:7000", "busybox", "true"])?;
    cli.ok(["run", "--rm", "-p", "8081:7000", "busybox", "true"])?;
    // Removed by force.
    cli.ok(["rm", "-f", "web"])?;
    cli.ok(["run", "-d", "--name", "web", "-p", "8080:7000", "busybox", "sh", "-c", &script])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    engine.finish()
}

#[test]
fn ports_follow_the_way_out() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let (world, cli) = (engine.world(), engine.cli());
    cli.ok(["network", "create", "quay"])?;
    cli.ok([
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "quay",
        "-p",
        "8080:7000",
        "busybox",
        "sh",
        "-c",
        &server(7000, "here"),
    ])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    cli.ok(["network", "connect", "bridge", "web"])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    cli.ok(["network", "disconnect", "quay", "web"])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    assert!(cli.ok(["port", "web"])?.contains("7000/tcp -> 0.0.0.0:8080"));
    cli.ok(["network", "disconnect", "bridge", "web"])?;
    assert_eq!(ask(world, "127.0.0.1", 8080)?, "");
    cli.ok(["network", "connect", "quay", "web"])?;
    expect(world, "127.0.0.1", 8080, "here")?;
    cli.ok(["rm", "-f", "web"])?;
    engine.finish()
}

#[test]
fn a_long_transfer_outlives_the_engine() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        eprintln!("skipped: dockerd takes its containers with it");
        return engine.finish();
    }
    engine.load_busybox()?;
    let mut transfer = Transfer::begin(&engine)?;
    // More than all buffers on the way hold: each part moves only while the connection works.
    transfer.send(4 << 20)?;
    engine.kill()?;
    transfer.send(4 << 20)?;
    engine.launch()?;
    transfer.send(4 << 20)?;
    transfer.end(&engine)?;
    engine.finish()
}
