//! Networks with IPv6: addresses, names, the way out, and who reaches whom.

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, shared, unique};
use naru_tests::neighbour::Neighbour;

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

fn sleeper<'a>(name: &'a str, network: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-d", "--name", name, "--network", network], more, &["busybox", "sleep", "1000"]].concat()
}

fn address6(cli: &Client, container: &str, network: &str) -> Result<String> {
    cli.inspect(container, &format!("{{{{(index .NetworkSettings.Networks {network:?}).GlobalIPv6Address}}}}"))
}

#[test]
fn both_families() -> Result<()> {
    let (cli, network, one, two) = (cli()?, unique("six"), unique("one"), unique("two"));
    let subnets = ["--ipv6", "--subnet", "10.91.0.0/24", "--subnet", "fd91:1::/64"];
    cli.ok([&["network", "create"], &subnets[..], &[&network]].concat())?;
    assert_eq!(cli.ok(["network", "inspect", "-f", "{{.EnableIPv6}}", &network])?, "true");
    cli.ok(sleeper(&one, &network, &[]))?;
    cli.ok(sleeper(&two, &network, &["--ip6", "fd91:1::99"]))?;
    let (first, second) = (address6(&cli, &one, &network)?, address6(&cli, &two, &network)?);
    assert!(first.starts_with("fd91:1::") && second == "fd91:1::99", "{first} {second}");
    let inside = cli.ok(["exec", &two, "sh", "-c", "ip -6 addr; ip -6 route; cat /etc/hosts"])?;
    assert!(inside.contains("fd91:1::99/64") && inside.contains("default via fd91:1::1 "), "{inside}");
    assert!(inside.contains("fd91:1::99\t") && inside.contains("ip6-loopback"), "{inside}");
    cli.ok(["exec", &one, "ping", "-6", "-c", "1", "-W", "5", "fd91:1::99"])?;
    // By name, in both directions of the look-up.
    let said = cli.ok(["exec", &one, "nslookup", "-type=aaaa", &two, "127.0.0.11"])?;
    assert!(said.contains("fd91:1::99"), "{said}");
    if shared()?.target() == Target::Naru {
        let said = cli.ok(["exec", &one, "nslookup", "fd91:1::99", "127.0.0.11"])?;
        assert!(said.contains(&format!("{two}.{network}")), "{said}");
    }
    // A network beside it doesn't reach it.
    let (other, stranger) = (unique("other"), unique("stranger"));
    cli.ok(["network", "create", "--ipv6", "--subnet", "fd91:2::/64", &other])?;
    cli.ok(sleeper(&stranger, &other, &[]))?;
    let done = cli.run(["exec", &stranger, "ping", "-6", "-c", "1", "-W", "1", &first])?;
    ensure!(done.code != 0, "another network reaches {first}");
    cli.ok(["exec", &stranger, "ping", "-6", "-c", "1", "-W", "5", "fd91:2::1"])?;
    cli.ok(["rm", "-f", &one, &two, &stranger])?;
    cli.ok(["network", "rm", &network, &other])?;
    Ok(())
}

#[test]
fn a_network_without_ipv6_has_none() -> Result<()> {
    let (cli, network, name) = (cli()?, unique("four"), unique("plain"));
    cli.ok(["network", "create", &network])?;
    cli.ok(sleeper(&name, &network, &[]))?;
    let inside = cli.ok(["exec", &name, "cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"])?;
    assert_eq!(inside, "1");
    assert_eq!(address6(&cli, &name, &network)?, "");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

#[test]
fn the_engine_chooses_unique_local_addresses() -> Result<()> {
    let engine = shared()?;
    if engine.target() == Target::Dockerd {
        // An older daemon has no default pool for IPv6, and no network without IPv4.
        return Ok(());
    }
    let (cli, network, only, name) = (engine.cli(), unique("own"), unique("only"), unique("alone"));
    cli.ok(["network", "create", "--ipv6", &network])?;
    cli.ok(["network", "create", "--ipv6", "--ipv4=false", &only])?;
    let subnets =
        |network: &str| cli.ok(["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", network]);
    let (both, one) = (subnets(&network)?, subnets(&only)?);
    assert!(both.split_whitespace().count() == 2 && both.contains("/16 fd"), "{both}");
    assert!(one.starts_with("fd") && one.trim_end().ends_with("::/64") && !both.contains(one.trim_end()), "{one}");
    cli.ok(sleeper(&name, &only, &[]))?;
    let inside = cli.ok(["exec", &name, "sh", "-c", "ip -4 addr show eth0; ip -6 route"])?;
    assert!(!inside.contains("inet ") && inside.contains("default via fd"), "{inside}");
    let gateway = cli.inspect(&name, &format!("{{{{(index .NetworkSettings.Networks {only:?}).IPv6Gateway}}}}"))?;
    cli.ok(["exec", &name, "ping", "-6", "-c", "1", "-W", "5", &gateway])?;
    let said = cli.fails(1, ["network", "create", "--ipv4=false", &unique("nothing")])?;
    assert!(said.contains("IPv4 or IPv6 must be enabled"), "{said}");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["network", "rm", &network, &only])?;
    Ok(())
}

#[test]
fn the_way_out_and_no_way_out() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        // An older daemon translates IPv6 as an experiment only.
        return engine.finish();
    }
    engine.load_busybox()?;
    let world = engine.world();
    let outside = Neighbour::beside_on_ipv6(world)?;
    let cli = engine.cli();
    cli.ok(["network", "create", "--ipv6", "--subnet", "fd92:1::/64", "open"])?;
    cli.ok(["network", "create", "--ipv6", "--internal", "--subnet", "fd92:2::/64", "shut"])?;
    cli.ok(sleeper("free", "open", &[]))?;
    cli.ok(sleeper("kept", "shut", &["--cap-add", "NET_ADMIN"]))?;
    eventually("an answer from outside", || {
        cli.ok(["exec", "free", "ping", "-6", "-c", "1", "-W", "5", "2001:db8:9::2"]).context("ping")
    })?;
    // Not even by a route of its own.
    cli.ok(["exec", "kept", "ip", "-6", "route", "add", "default", "via", "fd92:2::1"])?;
    let done = cli.run(["exec", "kept", "ping", "-6", "-c", "1", "-W", "1", "2001:db8:9::2"])?;
    ensure!(done.code != 0, "an internal network has a way out");
    // And nobody comes in.
    let inside = address6(&cli, "free", "open")?;
    let script = format!("ip -6 route add fd92:1::/64 via 2001:db8:9::1; busybox ping -6 -c 1 -W 1 {inside}");
    let output = outside.command(world, "sh").args(["-c", &script]).output()?;
    ensure!(!output.status.success(), "the outside reaches a container");
    cli.ok(["rm", "-f", "free", "kept"])?;
    cli.ok(["network", "rm", "open", "shut"])?;
    drop(outside);
    engine.finish()
}

#[test]
fn the_default_network_with_ipv6() -> Result<()> {
    let args = ["--ipv6", "--fixed-cidr-v6", "fd93:1::/64"].map(Into::into).to_vec();
    let mut engine = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let shown =
        cli.ok(["network", "inspect", "bridge", "-f", "{{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{end}}"])?;
    ensure!(shown.starts_with("true ") && shown.contains("fd93:1::/64"), "{shown}");
    for name in ["one", "two"] {
        cli.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
    }
    let address = |name: &str| cli.inspect(name, "{{.NetworkSettings.GlobalIPv6Address}}");
    let (one, two) = (address("one")?, address("two")?);
    ensure!(one.starts_with("fd93:1::") && two.starts_with("fd93:1::") && one != two, "{one} {two}");
    cli.ok(["exec", "one", "ping", "-6", "-c", "1", "-W", "5", &two])?;
    let routes = cli.ok(["exec", "one", "ip", "-6", "route"])?;
    ensure!(routes.contains("default via fd93:1::1 "), "{routes}");
    if engine.target() == Target::Naru {
        // A later engine keeps it, and who runs keeps the address.
        engine.kill()?;
        engine.launch()?;
        let cli = engine.cli();
        ensure!(cli.inspect("one", "{{.NetworkSettings.GlobalIPv6Address}}")? == one, "another address");
        cli.ok(["run", "--rm", "busybox", "ping", "-6", "-c", "1", "-W", "5", &two])?;
    }
    let cli = engine.cli();
    cli.ok(["rm", "-f", "one", "two"])?;
    engine.finish()
}

#[test]
fn the_default_network_gets_addresses_of_the_engines_own() -> Result<()> {
    let args = vec!["--ipv6".into()];
    if Target::from_env() == Target::Dockerd {
        // An older daemon wants a subnet.
        return Ok(());
    }
    let mut engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let inside = cli.ok(["run", "--rm", "busybox", "ip", "-6", "addr", "show", "eth0"])?;
    ensure!(inside.contains("inet6 fd"), "{inside}");
    // Another network chooses beside it.
    cli.ok(["network", "create", "--ipv6", "more"])?;
    let subnets = |name: &str| cli.ok(["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", name]);
    ensure!(
        subnets("more")?.split_whitespace().last() != subnets("bridge")?.split_whitespace().last(),
        "the same subnet"
    );
    // A port is published by the kernel alone, for the client's address.
    cli.ok(["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000"])?;
    let rules = engine.world().command("nft").args(["list", "ruleset"]).output()?;
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    ensure!(rules.contains("tcp . 8080 : fd"), "{rules}");
    cli.ok(["rm", "-f", "web"])?;
    cli.ok(["network", "rm", "more"])?;
    engine.finish()
}
