//! Addresses, names, ports, and who reaches whom.

use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, eventually, shared, unique};
use naru_tests::neighbour::Neighbour;

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

fn address(cli: &Client, name: &str) -> Result<Ipv4Addr> {
    let text = cli.inspect(name, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
    text.parse().with_context(|| format!("{name} has address {text:?}"))
}

#[test]
fn the_bridge_gives_an_address_and_a_route() -> Result<()> {
    let (cli, name) = (cli()?, unique("net"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let address = address(&cli, &name)?;
    let gateway = cli.inspect(&name, "{{.NetworkSettings.Networks.bridge.Gateway}}")?;
    let prefix = cli.inspect(&name, "{{.NetworkSettings.Networks.bridge.IPPrefixLen}}")?;
    let links = cli.ok(["exec", &name, "ip", "-o", "addr"])?;
    assert!(links.contains(&format!("inet {address}/{prefix} ")) && links.contains("eth0"), "{links}");
    assert!(links.contains("inet 127.0.0.1/8"), "{links}");
    let routes = cli.ok(["exec", &name, "ip", "route"])?;
    assert!(routes.contains(&format!("default via {gateway} dev eth0")), "{routes}");
    let mac = cli.inspect(&name, "{{.NetworkSettings.Networks.bridge.MacAddress}}")?;
    assert_eq!(cli.ok(["exec", &name, "cat", "/sys/class/net/eth0/address"])?, mac);
    cli.ok(["exec", &name, "ping", "-c", "1", "-W", "5", &gateway])?;
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn etc_files() -> Result<()> {
    let (cli, name) = (cli()?, unique("etc"));
    let id = cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let hosts = cli.ok(["exec", &name, "cat", "/etc/hosts"])?;
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"), "{hosts}");
    let own = format!("{}\t{}", address(&cli, &name)?, &id[..12]);
    assert!(hosts.lines().any(|line| line == own), "{own} is not in {hosts}");
    assert_eq!(cli.ok(["exec", &name, "cat", "/etc/hostname"])?, id[..12]);
    assert!(cli.ok(["exec", &name, "cat", "/etc/resolv.conf"])?.contains("nameserver "));
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn containers_reach_each_other() -> Result<()> {
    let (cli, server, client) = (cli()?, unique("server"), unique("client"));
    cli.ok(["run", "-d", "--name", &server, "busybox", "sh", "-c", "while :; do echo served | nc -l -p 7000; done"])?;
    let at = address(&cli, &server)?.to_string();
    cli.ok(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", &at])?;
    cli.ok(["run", "-d", "--name", &client, "busybox", "sleep", "1000"])?;
    assert_ne!(address(&cli, &client)?.to_string(), at);
    eventually("an answer from the other container", || {
        let said = cli.run(["exec", &client, "nc", "-w", "5", &at, "7000"])?.stdout;
        ensure!(said == "served\n", "{said:?}");
        Ok(())
    })?;
    cli.ok(["rm", "-f", &server, &client])?;
    Ok(())
}

#[test]
fn none_has_loopback_only() -> Result<()> {
    let said = cli()?.ok([
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; ip route; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo lo",
    ])?;
    assert_eq!(said, "lo\nlo");
    Ok(())
}

#[test]
fn host_shares_the_engines() -> Result<()> {
    let engine = shared()?;
    let said = engine.cli().ok([
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "sh",
        "-c",
        "readlink /proc/self/ns/net; hostname",
    ])?;
    let own = std::fs::read_link(format!("/proc/{}/ns/net", engine.pid()?))?;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(said, format!("{}\n{}", own.display(), name.trim()));
    Ok(())
}

#[test]
fn anothers_network_is_shared() -> Result<()> {
    let (cli, name) = (cli()?, unique("donor"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let link = "readlink /proc/self/ns/net; hostname; cat /etc/hosts";
    let other = cli.ok(["run", "--rm", "--network", &format!("container:{name}"), "busybox", "sh", "-c", link])?;
    assert_eq!(other, cli.ok(["exec", &name, "sh", "-c", link])?);
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn an_address_is_free_again() -> Result<()> {
    let (cli, name) = (cli()?, unique("lease"));
    for _ in 0..5 {
        cli.ok(["run", "--rm", "busybox", "true"])?;
    }
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    let mut others: Vec<String> = Vec::new();
    for other in cli.ok(["ps", "-q"])?.lines().map(str::to_owned) {
        if let Ok(done) = cli.inspect(&other, "{{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}") {
            others.push(done);
        }
    }
    let mine = address(&cli, &name)?.to_string();
    assert_eq!(others.iter().filter(|line| line.ends_with(&format!(" {mine}"))).count(), 1, "{others:?}");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}

#[test]
fn user_defined_networks_have_names() -> Result<()> {
    let (cli, network, server) = (cli()?, unique("harbour"), unique("srv"));
    cli.ok(["network", "create", &network])?;
    assert!(cli.ok(["network", "ls", "--format", "{{.Name}} {{.Driver}}"])?.contains(&format!("{network} bridge")));
    let args = ["run", "-d", "--name", &server, "--network", &network, "--network-alias", "alias", "busybox"];
    cli.ok([&args[..], &["sh", "-c", "while :; do echo by name | nc -l -p 7000; done"]].concat())?;
    for name in [server.as_str(), "alias"] {
        let said = eventually("an answer by name", || {
            let done = cli.run(["run", "--rm", "--network", &network, "busybox", "nc", "-w", "5", name, "7000"])?;
            ensure!(done.stdout == "by name\n", "{done:?}");
            Ok(done.stdout)
        })?;
        assert_eq!(said, "by name\n");
    }
    // Another network does not reach it.
    let at = address(&cli, &server)?.to_string();
    let done = cli.run(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", &at])?;
    assert_ne!(done.code, 0, "the default network reaches it");
    assert!(cli.fails(1, ["network", "rm", &network])?.contains("has active endpoints"));
    cli.ok(["rm", "-f", &server])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

#[test]
fn networks_are_joined_and_left() -> Result<()> {
    let (cli, network, name) = (cli()?, unique("pier"), unique("ship"));
    cli.ok(["network", "create", "--subnet", "10.77.0.0/24", &network])?;
    cli.ok(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    cli.ok(["network", "connect", "--ip", "10.77.0.9", &network, &name])?;
    let links = cli.ok(["exec", &name, "ip", "-o", "addr"])?;
    assert!(links.contains("10.77.0.9/24") && links.contains("eth1"), "{links}");
    cli.ok(["network", "disconnect", &network, &name])?;
    let links = cli.ok(["exec", &name, "ip", "-o", "addr"])?;
    assert!(!links.contains("10.77.0.9") && links.contains("eth0"), "{links}");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

#[test]
fn unknown_networks_are_refused() -> Result<()> {
    let said = cli()?.fails(125, ["run", "--rm", "--network", "no-such-network", "busybox", "true"])?;
    assert!(said.contains("network no-such-network not found"), "{said}");
    Ok(())
}

/// Asks `host:port` from the engine's own network namespace.
fn ask(engine: &Engine, host: &str, port: &str) -> Result<String> {
    let mut command = engine.world().command("busybox");
    let output = command.args(["nc", "-w", "5", host, port]).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn published_ports() -> Result<()> {
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("port"));
    let args = ["run", "-d", "--name", &name, "-p", "8080:7000", "-p", "127.0.0.1:8081:7000", "-p", "7000", "busybox"];
    cli.ok([&args[..], &["sh", "-c", "while :; do echo published | nc -l -p 7000; done"]].concat())?;
    let shown = cli.ok(["port", &name, "7000"])?;
    assert!(shown.contains("0.0.0.0:8080") && shown.contains("127.0.0.1:8081"), "{shown}");
    let random =
        shown.lines().find(|line| !line.ends_with(":8080") && !line.ends_with(":8081")).context("a random port")?;
    let random = random.rsplit(':').next().unwrap_or_default().to_owned();
    for port in ["8080", "8081", &random] {
        eventually(&format!("an answer on port {port}"), || {
            let said = ask(engine, "127.0.0.1", port)?;
            ensure!(said == "published\n", "{said:?}");
            Ok(())
        })?;
    }
    let listed = cli.ok(["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"])?;
    assert!(listed.contains("0.0.0.0:8080->7000/tcp") && listed.contains("127.0.0.1:8081->7000/tcp"), "{listed}");
    // Taken is taken.
    let other = unique("port");
    let done = cli.run(["run", "-d", "--name", &other, "-p", "8080:7000", "busybox", "sleep", "1000"])?;
    assert_eq!(done.code, 125);
    assert!(
        done.stderr.contains("port is already allocated") || done.stderr.contains("address already in use"),
        "{}",
        done.stderr
    );
    cli.ok(["rm", "-f", &name, &other])?;
    // And free again.
    eventually("the port to be free", || {
        cli.run(["rm", "-f", &other])?;
        let done = cli.run(["run", "-d", "--name", &other, "-p", "8080:7000", "busybox", "sleep", "1000"])?;
        ensure!(done.code == 0, "{}", done.stderr);
        Ok(())
    })?;
    cli.ok(["rm", "-f", &other])?;
    Ok(())
}

#[test]
fn the_world_outside() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let world = engine.world();
    let outside = Neighbour::beside(world)?;
    let cli = engine.cli();
    // Out: the other side knows no way back to the container, so the address has to be the engine's.
    cli.ok(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", "192.0.2.2"])?;
    // In: by a published port only.
    cli.ok([
        "run",
        "-d",
        "--name",
        "in",
        "-p",
        "8080:7000",
        "busybox",
        "sh",
        "-c",
        "while :; do echo from outside | nc -l -p 7000; done",
    ])?;
    eventually("an answer on the published port", || {
        let said = outside.ask(world, 8080)?;
        ensure!(said == "from outside\n", "{said:?}");
        Ok(())
    })?;
    assert_eq!(outside.ask(world, 7000)?, "");
    drop(outside);
    engine.finish()
}
