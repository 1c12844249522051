//! Who must not reach whom: networks beside each other, networks without a way out, containers that must not talk, sources that are not
//! theirs.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, eventually, shared, unique};

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

fn sleeper<'a>(name: &'a str, network: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-d", "--name", name, "--network", network], more, &["busybox", "sleep", "1000"]].concat()
}

fn address(cli: &Client, container: &str, network: &str) -> Result<String> {
    cli.inspect(container, &format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}"))
}

fn reaches(cli: &Client, container: &str, address: &str) -> Result<bool> {
    Ok(cli.run(["exec", container, "ping", "-c", "1", "-W", "1", address])?.code == 0)
}

/// For what is open: on a busy machine the first packet by a new interface may take longer than the second that `reaches` waits.
fn comes_to_reach(cli: &Client, container: &str, address: &str) -> Result<()> {
    eventually(&format!("{container} to reach {address}"), || {
        cli.ok(["exec", container, "ping", "-c", "1", "-W", "2", address]).map(drop)
    })
}

#[test]
fn networks_do_not_reach_each_other() -> Result<()> {
    let (cli, one, two, a, b) = (cli()?, unique("one"), unique("two"), unique("a"), unique("b"));
    cli.ok(["network", "create", "--subnet", "10.93.1.0/24", &one])?;
    cli.ok(["network", "create", "--subnet", "10.93.2.0/24", &two])?;
    cli.ok(sleeper(&a, &one, &[]))?;
    cli.ok(sleeper(&b, &two, &[]))?;
    let (at_a, at_b) = (address(&cli, &a, &one)?, address(&cli, &b, &two)?);
    assert!(!reaches(&cli, &a, &at_b)? && !reaches(&cli, &b, &at_a)?);
    // A container on both is no router between them, and reaches both.
    cli.ok(["network", "connect", &two, &a])?;
    comes_to_reach(&cli, &a, &at_b)?;
    assert!(!reaches(&cli, &b, &at_a)?);
    cli.ok(["rm", "-f", &a, &b])?;
    cli.ok(["network", "rm", &one, &two])?;
    Ok(())
}

#[test]
fn without_icc_only_the_way_out_is_open() -> Result<()> {
    let (cli, network, a, b) = (cli()?, unique("cells"), unique("a"), unique("b"));
    let option = "com.docker.network.bridge.enable_icc=false";
    cli.ok(["network", "create", "--subnet", "10.93.3.0/24", "-o", option, &network])?;
    cli.ok(sleeper(&a, &network, &[]))?;
    cli.ok(sleeper(&b, &network, &[]))?;
    let at_b = address(&cli, &b, &network)?;
    // An older daemon needs a module of the kernel for it.
    assert!(!reaches(&cli, &a, &at_b)? || shared()?.target() == Target::Dockerd);
    comes_to_reach(&cli, &a, "10.93.3.1")?;
    cli.ok(["rm", "-f", &a, &b])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

#[test]
fn an_internal_network_has_no_way_out_or_in() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    // An address of the host that is on none of its networks with containers.
    let script = "ip link add lan9 type bridge; ip addr add 198.51.100.1/24 dev lan9; ip link set lan9 up";
    ensure!(engine.world().command("sh").args(["-ec", script]).status()?.success(), "give the host a network");
    let cli = engine.cli();
    cli.ok(["network", "create", "--internal", "--subnet", "10.93.4.0/24", "shut"])?;
    cli.ok(["network", "create", "--subnet", "10.93.5.0/24", "open"])?;
    cli.ok(sleeper("kept", "shut", &["--cap-add", "NET_ADMIN"]))?;
    cli.ok(sleeper("free", "open", &[]))?;
    let routes = cli.ok(["exec", "kept", "ip", "route"])?;
    // An older daemon gives it a route that leads nowhere.
    assert!(!routes.contains("default") || engine.target() == Target::Dockerd, "{routes}");
    // Not by a route of its own either.
    cli.ok(["exec", "kept", "ip", "route", "replace", "default", "via", "10.93.4.1"])?;
    let free = address(&cli, "free", "open")?;
    assert!(!reaches(&cli, "kept", &free)?);
    let kept = address(&cli, "kept", "shut")?;
    assert!(!reaches(&cli, "free", &kept)?);
    if engine.target() == Target::Naru {
        assert_eq!(cli.inspect("kept", "{{.NetworkSettings.Networks.shut.Gateway}}")?, "");
    }
    cli.ok(["rm", "-f", "kept", "free"])?;
    cli.ok(["network", "rm", "shut", "open"])?;
    engine.finish()
}

#[test]
fn a_foreign_source_does_not_get_out() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        // It leaves this to the host's settings.
        return engine.finish();
    }
    engine.load_busybox()?;
    let cli = engine.cli();
    cli.ok(["network", "create", "--subnet", "10.93.6.0/24", "pier"])?;
    cli.ok(sleeper("liar", "pier", &["--cap-add", "NET_ADMIN"]))?;
    // Whoever asks the host's own server, by name and source.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    let (sender, ready) = std::sync::mpsc::channel();
    drop(engine.world().in_network(move || {
        let Ok(socket) = UdpSocket::bind("10.93.6.1:53") else { return };
        let _ = sender.send(());
        let mut buffer = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            if let Ok(mut seen) = heard.lock() {
                seen.push(format!("{} {}", from.ip(), String::from_utf8_lossy(&buffer[13..read.max(13)])));
            }
        }
    })?);
    ready.recv().context("the host's server did not come up")?;
    let ask = |name: &str| cli.run(["exec", "liar", "timeout", "1", "nslookup", name, "10.93.6.1"]).map(drop);
    let has = |what: &str| seen.lock().is_ok_and(|s| s.iter().any(|line| line.contains(what)));
    ask("first")?;
    eventually("the first question", || if has("first") { Ok(()) } else { Err("not yet") })?;
    let script = "ip addr add 203.0.113.7/32 dev eth0; ip route replace 10.93.6.0/24 dev eth0 src 203.0.113.7";
    cli.ok(["exec", "liar", "sh", "-ec", script])?;
    ask("second")?;
    cli.ok(["exec", "liar", "ip", "route", "replace", "10.93.6.0/24", "dev", "eth0", "src", "10.93.6.2"])?;
    ask("third")?;
    eventually("the third question", || if has("third") { Ok(()) } else { Err("not yet") })?;
    assert!(!has("second") && !has("203.0.113.7"), "{seen:?}");
    cli.ok(["rm", "-f", "liar"])?;
    cli.ok(["network", "rm", "pier"])?;
    engine.finish()
}
