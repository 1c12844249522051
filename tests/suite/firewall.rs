//! The host's own firewall holds for published ports, and the engine's rules come back. dockerd opens what it publishes.

use crate::ports::{expect, server};
use anyhow::{Result, ensure};
use naru_testkit::{Engine, Target, World, eventually};
use naru_tests::firewalld;
use naru_tests::neighbour::Neighbour;

/// An engine with a server on port 8080, another machine, and what the host's firewall is to be.
fn scene(text: &str) -> Result<Option<(Engine, Neighbour)>> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        eprintln!("skipped: dockerd opens what it publishes, whatever the host's rules say");
        engine.finish()?;
        return Ok(None);
    }
    engine.load_busybox()?;
    let neighbour = Neighbour::beside(engine.world())?;
    let script = server(7000, text);
    engine.cli().ok(["run", "-d", "--name", "web", "-p", "8080:7000", "busybox", "sh", "-c", &script])?;
    expect(engine.world(), "127.0.0.1", 8080, text)?;
    Ok(Some((engine, neighbour)))
}

fn run(world: &World, program: &str, arguments: &str) -> Result<()> {
    let output = world.command(program).args(arguments.split(' ')).output()?;
    ensure!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn nft(world: &World, script: &str) -> Result<()> {
    let output = world.command("nft").arg(script).output()?;
    ensure!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The other machine gets an answer in the end.
fn open(world: &World, neighbour: &Neighbour, text: &str) -> Result<()> {
    eventually("an answer to another machine", || {
        let said = neighbour.ask(world, 8080)?;
        ensure!(said.trim_end() == text, "{said:?}");
        Ok(())
    })
}

/// It gets none, while the host itself does.
fn closed(world: &World, neighbour: &Neighbour, text: &str) -> Result<()> {
    expect(world, "127.0.0.1", 8080, text)?;
    assert_eq!(neighbour.ask(world, 8080)?, "", "open to another machine");
    expect(world, "127.0.0.1", 8080, text)
}

#[test]
fn a_plain_nft_firewall_holds() -> Result<()> {
    let Some((mut engine, neighbour)) = scene("plain")? else { return Ok(()) };
    let world = engine.world();
    open(world, &neighbour, "plain")?;
    nft(
        world,
        "table inet filter {
            chain input {
                type filter hook input priority filter; policy drop;
                ct state established,related accept
                iifname lo accept
                tcp dport 22 accept
            }
        }",
    )?;
    closed(world, &neighbour, "plain")?;
    nft(world, "add rule inet filter input ip saddr 192.0.2.2 tcp dport 8080 accept")?;
    open(world, &neighbour, "plain")?;
    drop(neighbour);
    engine.finish()
}

#[test]
fn ufws_rules_hold() -> Result<()> {
    let Some((mut engine, neighbour)) = scene("ufw")? else { return Ok(()) };
    let world = engine.world();
    let bridge = engine.cli().ok([
        "network",
        "inspect",
        "bridge",
        "--format",
        "{{index .Options \"com.docker.network.bridge.name\"}}",
    ])?;
    let (in_bridge, out_bridge) =
        (format!("-A ufw-user-forward -i {bridge} -j ACCEPT"), format!("-A ufw-user-forward -o {bridge} -j ACCEPT"));
    for rule in [
        "-N ufw-before-input",
        "-N ufw-user-input",
        "-N ufw-before-forward",
        "-N ufw-user-forward",
        "-A ufw-before-input -i lo -j ACCEPT",
        "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A ufw-before-input -m conntrack --ctstate INVALID -j DROP",
        "-A ufw-before-input -j ufw-user-input",
        "-A ufw-user-input -p tcp --dport 22 -j ACCEPT",
        "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A ufw-before-forward -j ufw-user-forward",
        // `ufw route allow in on` and `out on` the bridge.
        &in_bridge,
        &out_bridge,
        "-A INPUT -j ufw-before-input",
        "-A FORWARD -j ufw-before-forward",
        "-P INPUT DROP",
        "-P FORWARD DROP",
    ] {
        run(world, "iptables-nft", rule)?;
    }
    closed(world, &neighbour, "ufw")?;
    // `ufw allow 8080/tcp`
    run(world, "iptables-nft", "-A ufw-user-input -p tcp --dport 8080 -j ACCEPT")?;
    open(world, &neighbour, "ufw")?;
    // `ufw deny from 192.0.2.2`
    run(world, "iptables-nft", "-I ufw-user-input 1 -s 192.0.2.2 -j DROP")?;
    closed(world, &neighbour, "ufw")?;
    drop(neighbour);
    engine.finish()
}

/// What takes the place of docker's DOCKER-USER chain.
#[test]
fn rules_about_what_is_forwarded_to_a_network_hold() -> Result<()> {
    let Some((mut engine, neighbour)) = scene("mine")? else { return Ok(()) };
    let world = engine.world();
    let format = "{{index .Options \"com.docker.network.bridge.name\"}}";
    let bridge = engine.cli().ok(["network", "inspect", "bridge", "--format", format])?;
    open(world, &neighbour, "mine")?;
    nft(world, "add table inet mine; add chain inet mine forward { type filter hook forward priority 0; }")?;
    nft(world, &format!("add rule inet mine forward oifname {bridge} ip saddr 192.0.2.0/24 drop"))?;
    closed(world, &neighbour, "mine")?;
    nft(world, "delete table inet mine")?;
    open(world, &neighbour, "mine")?;
    for program in ["iptables-nft", "iptables-legacy"] {
        run(world, program, &format!("-I FORWARD -o {bridge} -s 192.0.2.2 -j DROP"))?;
        closed(world, &neighbour, "mine")?;
        run(world, program, "-F FORWARD")?;
        open(world, &neighbour, "mine")?;
    }
    drop(neighbour);
    engine.finish()
}

#[test]
fn firewallds_rules_hold() -> Result<()> {
    let Some((mut engine, neighbour)) = scene("firewalld")? else { return Ok(()) };
    let world = engine.world();
    nft(world, &firewalld::table("", ""))?;
    nft(world, firewalld::REVERSE_PATH)?;
    closed(world, &neighbour, "firewalld")?;
    // `firewall-cmd --add-port 8080/tcp`
    nft(world, "add rule inet firewalld filter_IN_public_allow tcp dport 8080 accept")?;
    open(world, &neighbour, "firewalld")?;
    drop(neighbour);
    engine.finish()
}

#[test]
fn cve_2025_54388_and_54410_rules_that_a_reload_flushes_come_back() -> Result<()> {
    let Some((mut engine, neighbour)) = scene("back")? else { return Ok(()) };
    let (world, cli) = (engine.world(), engine.cli());
    // A port for the host alone, and two networks.
    let only_here = ["run", "-d", "--name", "local", "-p", "127.0.0.1:8081:7000", "busybox", "sh", "-c"];
    cli.ok([&only_here[..], &[&server(7000, "local")]].concat())?;
    for (network, name) in [("one", "in-one"), ("two", "in-two")] {
        cli.ok(["network", "create", network])?;
        cli.ok(["run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000"])?;
    }
    let other = cli.inspect("in-two", "{{.NetworkSettings.Networks.two.IPAddress}}")?;
    let still_closed = || -> Result<()> {
        expect(world, "127.0.0.1", 8081, "local")?;
        assert_eq!(neighbour.ask(world, 8081)?, "", "a port of the host's own is open to another machine");
        let done = cli.run(["exec", "in-one", "ping", "-c", "1", "-W", "1", &other])?;
        ensure!(done.code != 0, "networks reach each other");
        Ok(())
    };
    still_closed()?;
    let rules = || -> Result<String> {
        let output = world.command("nft").args(["list", "ruleset"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let restored = || {
        eventually("the rules to be back", || {
            let rules = rules()?;
            ensure!(rules.contains("tcp . 8080 :") && rules.contains("dup to"), "{rules}");
            Ok(())
        })
    };
    for _ in 0..3 {
        nft(world, "flush ruleset")?;
        restored()?;
        open(world, &neighbour, "back")?;
        expect(world, "127.0.0.1", 8080, "back")?;
        still_closed()?;
    }
    // One chain of it, emptied.
    let listed = rules()?;
    let table = listed.lines().find_map(|l| l.strip_prefix("table inet ")).unwrap_or_default();
    let table = table.trim_end_matches(" {").to_owned();
    nft(world, &format!("flush chain inet {table} to-container"))?;
    open(world, &neighbour, "back")?;
    expect(world, "127.0.0.1", 8080, "back")?;
    drop(neighbour);
    engine.finish()
}
