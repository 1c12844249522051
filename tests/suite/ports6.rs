//! Ports published on IPv6: which addresses they are bound to, who reaches them, and what the host's firewall says about it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, World, eventually, shared, unique};
use naru_tests::firewalld;
use naru_tests::neighbour::Neighbour;

use crate::ports::{ask, expect, host_port, server};

/// This machine as the other one sees it.
const HOST: &str = "2001:db8:9::1";

fn serve(cli: &Client, name: &str, options: &[&str], text: &str) -> Result<()> {
    let script = server(7000, text);
    cli.ok([&["run", "-d", "--name", name], options, &["busybox", "sh", "-c", &script]].concat())?;
    Ok(())
}

/// The addresses of a port, as inspect tells them, in an order of our own: dockerd's changes.
fn bound(cli: &Client, name: &str, port: &str) -> Result<String> {
    let format =
        format!("{{{{range (index .NetworkSettings.Ports {port:?})}}}}{{{{.HostIp}}}}@{{{{.HostPort}}}} {{{{end}}}}");
    let shown = cli.inspect(name, &format)?;
    let mut all: Vec<&str> = shown.split_whitespace().collect();
    all.sort_unstable();
    Ok(all.join(" "))
}

#[test]
fn a_port_is_bound_on_both_families() -> Result<()> {
    let engine = shared()?;
    let (cli, world, name) = (engine.cli(), engine.world(), unique("dual"));
    let forms = [
        "22001:7000",
        "7001",
        "[::]:22003:7003",
        "[::1]:22004:7000",
        "0.0.0.0:22005:7005",
        "127.0.0.1:22006:7006",
        "[::1]:22010-22012:7010-7012",
        "22020-22021:7020-7021/udp",
    ];
    let options: Vec<&str> = forms.iter().flat_map(|form| ["-p", form]).collect();
    serve(&cli, &name, &options, "dual")?;
    assert_eq!(bound(&cli, &name, "7000/tcp")?.trim(), "0.0.0.0@22001 ::1@22004 ::@22001");
    assert_eq!(bound(&cli, &name, "7003/tcp")?.trim(), "::@22003");
    assert_eq!(bound(&cli, &name, "7005/tcp")?.trim(), "0.0.0.0@22005");
    assert_eq!(bound(&cli, &name, "7006/tcp")?.trim(), "127.0.0.1@22006");
    assert_eq!(bound(&cli, &name, "7012/tcp")?.trim(), "::1@22012");
    assert_eq!(bound(&cli, &name, "7021/udp")?.trim(), "0.0.0.0@22021 ::@22021");
    // One port for both.
    let free = host_port(&cli, &name, "7001/tcp")?;
    if engine.target() == Target::Naru {
        assert_eq!(bound(&cli, &name, "7001/tcp")?.trim(), format!("0.0.0.0@{free} ::@{free}"));
    }
    let shown = cli.ok(["port", &name])?;
    // An older client writes `:::22001`.
    let has = |line: &str| shown.lines().any(|l| l == line || l == line.replace("[::]", "::").replace("[::1]", "::1"));
    for line in
        ["7000/tcp -> 0.0.0.0:22001", "7000/tcp -> [::]:22001", "7000/tcp -> [::1]:22004", "7021/udp -> [::]:22021"]
    {
        assert!(has(line), "{line} is not in\n{shown}");
    }
    for (host, port) in [("127.0.0.1", 22001), ("::1", 22001), ("::1", 22004)] {
        expect(world, host, port, "dual")?;
    }
    assert_eq!(ask(world, "127.0.0.1", 22004)?, "", "a port on ::1 alone");
    cli.ok(["rm", "-f", &name])?;
    assert_eq!(ask(world, "::1", 22001)?, "");
    Ok(())
}

#[test]
fn each_port_of_a_range_is_served() -> Result<()> {
    let engine = shared()?;
    let (cli, world, name) = (engine.cli(), engine.world(), unique("range"));
    let script = server(7063, "the last");
    let port = ["-p", "22300-22363:7000-7063"];
    cli.ok([&["run", "-d", "--name", &name], &port[..], &["busybox", "sh", "-c", &script]].concat())?;
    for host in ["127.0.0.1", "::1"] {
        expect(world, host, 22363, "the last")?;
    }
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn an_ipv6_port_has_an_owner() -> Result<()> {
    let engine = shared()?;
    let (cli, first, second) = (engine.cli(), unique("first"), unique("second"));
    cli.ok(["run", "-d", "--name", &first, "-p", "[::1]:22101:80", "busybox", "sleep", "1000"])?;
    let done = cli.run(["run", "-d", "--name", &second, "-p", "22101:80", "busybox", "sleep", "1000"])?;
    assert_eq!(done.code, 125, "{done:?}");
    if engine.target() == Target::Naru {
        assert!(done.stderr.contains("[::]:22101 failed: port is already allocated"), "{}", done.stderr);
        assert!(done.stderr.contains(&first), "the owner is not named: {}", done.stderr);
    }
    cli.ok(["rm", "-f", &second])?;
    // The other family is free.
    cli.ok(["run", "-d", "--name", &second, "-p", "0.0.0.0:22101:80", "busybox", "sleep", "1000"])?;
    cli.ok(["rm", "-f", &second])?;
    let done = cli.run(["run", "-d", "--name", &second, "-p", "[2001:db8:77::9]:22102:80", "busybox", "true"])?;
    assert_eq!(done.code, 125, "{done:?}");
    assert!(done.stderr.contains("cannot assign requested address"), "{}", done.stderr);
    cli.ok(["rm", "-f", &first, &second])?;
    Ok(())
}

/// An engine with another machine on IPv6, and a network with it.
fn scene() -> Result<Option<(Engine, Neighbour)>> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        // An older daemon translates IPv6 as an experiment only.
        engine.finish()?;
        return Ok(None);
    }
    engine.load_busybox()?;
    let neighbour = Neighbour::beside_on_ipv6(engine.world())?;
    engine.cli().ok(["network", "create", "--ipv6", "six"])?;
    Ok(Some((engine, neighbour)))
}

fn open(world: &World, neighbour: &Neighbour, port: u16, text: &str) -> Result<()> {
    eventually("an answer to another machine", || {
        let said = neighbour.ask(world, port)?;
        ensure!(said.trim_end() == text, "{said:?}");
        Ok(())
    })
}

#[test]
fn everybody_reaches_it_over_ipv6() -> Result<()> {
    let Some((mut engine, neighbour)) = scene()? else { return Ok(()) };
    let (world, cli) = (engine.world(), engine.cli());
    serve(&cli, "web", &["--network", "six", "-p", "8080:7000"], "six")?;
    // This one has IPv4 alone.
    serve(&cli, "old", &["-p", "8081:7000"], "four")?;
    for (port, text) in [(8080, "six"), (8081, "four")] {
        for host in ["::1", HOST, "127.0.0.1"] {
            expect(world, host, port, text)?;
        }
        open(world, &neighbour, port, text)?;
        let port = port.to_string();
        eventually("an answer to a container", || {
            let said = cli.run(["run", "--rm", "--network", "six", "busybox", "nc", "-w", "3", HOST, &port])?.stdout;
            ensure!(said.trim_end() == text, "{said:?}");
            // One of the same network, or the container itself.
            let said = cli.run(["exec", "web", "nc", "-w", "3", HOST, &port])?.stdout;
            ensure!(said.trim_end() == text, "from web: {said:?}");
            Ok(())
        })?;
    }
    // The client's own address is what the container sees.
    let script = "nc -l -p 7001 >/dev/null; sleep 1000";
    cli.ok(["run", "-d", "--name", "who", "--network", "six", "-p", "8082:7001", "busybox", "sh", "-c", script])?;
    let mut held = neighbour.command(world, "busybox");
    held.args(["nc", HOST, "8082"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut held = held.spawn()?;
    eventually("the other machine's address in the container", || {
        let seen = cli.ok(["exec", "who", "netstat", "-tn"])?;
        ensure!(seen.contains("2001:db8:9::2:"), "{seen}");
        Ok(())
    })?;
    held.kill()?;
    held.wait()?;
    // They stay open while there is no engine, and afterwards.
    engine.kill()?;
    for (port, text) in [(8080, "six"), (8081, "four")] {
        open(world, &neighbour, port, text)?;
    }
    engine.launch()?;
    let (world, cli) = (engine.world(), engine.cli());
    for (port, text) in [(8080, "six"), (8081, "four")] {
        open(world, &neighbour, port, text)?;
        expect(world, "::1", port, text)?;
    }
    cli.ok(["rm", "-f", "web", "old", "who"])?;
    for port in [8080, 8081] {
        assert_eq!(neighbour.ask(world, port)?, "", "{port}");
        assert_eq!(ask(world, "::1", port)?, "", "{port}");
    }
    cli.ok(["network", "rm", "six"])?;
    drop(neighbour);
    engine.finish()
}

#[test]
fn ports_move_between_the_families_of_networks() -> Result<()> {
    let Some((mut engine, neighbour)) = scene()? else { return Ok(()) };
    let (world, cli) = (engine.world(), engine.cli());
    cli.ok(["network", "create", "four"])?;
    serve(&cli, "web", &["--network", "four", "-p", "8080:7000"], "here")?;
    open(world, &neighbour, 8080, "here")?;
    cli.ok(["network", "connect", "six", "web"])?;
    cli.ok(["network", "disconnect", "four", "web"])?;
    open(world, &neighbour, 8080, "here")?;
    expect(world, "::1", 8080, "here")?;
    cli.ok(["network", "connect", "four", "web"])?;
    cli.ok(["network", "disconnect", "six", "web"])?;
    open(world, &neighbour, 8080, "here")?;
    expect(world, "::1", 8080, "here")?;
    expect(world, "127.0.0.1", 8080, "here")?;
    cli.ok(["network", "disconnect", "four", "web"])?;
    assert_eq!(ask(world, "::1", 8080)?, "");
    cli.ok(["rm", "-f", "web"])?;
    drop(neighbour);
    engine.finish()
}

/// Closes and opens the firewall for both kinds of container.
fn holds(prepare: &[(&str, &[&str])], allow: (&str, &[&str])) -> Result<()> {
    let Some((mut engine, neighbour)) = scene()? else { return Ok(()) };
    let (world, cli) = (engine.world(), engine.cli());
    serve(&cli, "web", &["--network", "six", "-p", "8080:7000"], "six")?;
    serve(&cli, "old", &["-p", "8081:7000"], "four")?;
    let all = [(8080, "six"), (8081, "four")];
    for (port, text) in all {
        open(world, &neighbour, port, text)?;
    }
    let run = |(program, arguments): (&str, &[&str])| -> Result<()> {
        let output = world.command(program).args(arguments).output().context("the firewall's program")?;
        ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    prepare.iter().try_for_each(|step| run(*step))?;
    for (port, text) in all {
        expect(world, "::1", port, text)?;
        assert_eq!(neighbour.ask(world, port)?, "", "{port} is open to another machine");
        expect(world, "::1", port, text)?;
    }
    run(allow)?;
    for (port, text) in all {
        open(world, &neighbour, port, text)?;
    }
    drop(neighbour);
    engine.finish()
}

#[test]
fn a_plain_nft_firewall_holds_for_ipv6() -> Result<()> {
    let rules = "table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            ct state established,related accept
            iifname lo accept
            meta l4proto ipv6-icmp accept
            tcp dport 22 accept
        }
    }";
    holds(
        &[("nft", &[rules])],
        ("nft", &["add rule inet filter input ip6 saddr 2001:db8:9::2 tcp dport 8080-8081 accept"]),
    )
}

#[test]
fn ufws_rules_hold_for_ipv6() -> Result<()> {
    let program = "ip6tables-nft";
    let rules: &[&[&str]] = &[
        &["-N", "ufw6-before-input"],
        &["-N", "ufw6-user-input"],
        &["-A", "ufw6-before-input", "-i", "lo", "-j", "ACCEPT"],
        &["-A", "ufw6-before-input", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        &["-A", "ufw6-before-input", "-p", "ipv6-icmp", "-j", "ACCEPT"],
        &["-A", "ufw6-before-input", "-j", "ufw6-user-input"],
        &["-A", "INPUT", "-j", "ufw6-before-input"],
        &["-P", "INPUT", "DROP"],
    ];
    let rules: Vec<(&str, &[&str])> = rules.iter().map(|rule| (program, *rule)).collect();
    let allow: &[&str] = &["-A", "ufw6-user-input", "-p", "tcp", "--dport", "8080:8081", "-j", "ACCEPT"];
    holds(&rules, (program, allow))
}

#[test]
fn firewallds_rules_hold_for_ipv6() -> Result<()> {
    let rules = firewalld::table("", "meta l4proto ipv6-icmp accept");
    holds(
        &[("nft", &[&rules]), ("nft", &[firewalld::REVERSE_PATH])],
        ("nft", &["add rule inet firewalld filter_IN_public_allow tcp dport 8080-8081 accept"]),
    )
}
