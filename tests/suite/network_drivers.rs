//! Networks on the host's own links (macvlan, ipvlan) and networks that are templates for others. What the kernel of the test machine may
//! lack (ipvlan, VLANs, dummies) is tested in the virtual machine, too (`tests/guest/checks`).

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, Target, World, eventually, shared, unique};
use naru_tests::only_naru;

fn sleeper<'a>(name: &'a str, network: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-d", "--name", name, "--network", network], more, &["busybox", "sleep", "1000"]].concat()
}

/// Gives the host an interface `far<n>`, behind which a switch is with a router at `address`.
fn give_a_link(world: &World, n: u8, address: &str) -> Result<()> {
    let script = format!(
        "ip link add lan{n} type bridge; ip link add port{n} type veth peer name far{n}; ip link set port{n} master lan{n}; \
         ip addr add {address} dev lan{n}; for l in lan{n} port{n} far{n}; do ip link set $l up; done"
    );
    ensure!(world.command("sh").args(["-ec", &script]).status()?.success(), "give the host a link");
    Ok(())
}

fn take_the_link(world: &World, n: u8) -> Result<()> {
    let status = world.command("ip").args(["link", "del", &format!("port{n}")]).status()?;
    ensure!(status.success(), "take the link away");
    Ok(())
}

/// Whether the kernel can make an interface with these arguments of `ip link add`, on the interface `far<n>`.
fn has_kind(world: &World, arguments: &str) -> Result<bool> {
    let script = format!("ip link add probe0 {arguments} 2>/dev/null && ip link del probe0");
    Ok(world.command("sh").args(["-c", &script]).status()?.success())
}

/// What the client says when a network can't be made.
fn refused(cli: &Client, arguments: &[&str]) -> Result<String> {
    cli.fails(1, [&["network", "create"], arguments].concat())
}

#[test]
fn macvlan_modes() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    give_a_link(engine.world(), 8, "10.97.0.250/24")?;
    let cli = engine.cli();
    let create = |mode: &str| {
        let (parent, mode) = ("parent=far8", format!("macvlan_mode={mode}"));
        let args = ["network", "create", "-d", "macvlan", "--subnet", "10.97.0.0/24", "--gateway", "10.97.0.250"];
        cli.run([&args[..], &["-o", parent, "-o", &mode, "street"]].concat())
    };
    for mode in ["private", "vepa"] {
        ensure!(create(mode)?.code == 0, "{mode}");
        cli.ok(sleeper("one", "street", &["--ip", "10.97.0.11"]))?;
        cli.ok(sleeper("two", "street", &[]))?;
        eventually("the street's router", || cli.ok(["exec", "two", "ping", "-c", "1", "-W", "2", "10.97.0.250"]))?;
        // The switch doesn't send back what it gets.
        let done = cli.run(["exec", "two", "ping", "-c", "1", "-W", "1", "10.97.0.11"])?;
        ensure!(done.code != 0, "{mode}: one reaches the other");
        cli.ok(["rm", "-f", "one", "two"])?;
        cli.ok(["network", "rm", "street"])?;
    }
    let done = create("sideways")?;
    ensure!(
        done.code == 1 && done.stderr.contains("requested macvlan mode 'sideways' is not valid"),
        "{}",
        done.stderr
    );
    take_the_link(engine.world(), 8)?;
    engine.finish()
}

#[test]
fn containers_on_the_hosts_link() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    give_a_link(engine.world(), 9, "10.94.0.250/24")?;
    let cli = engine.cli();
    let args = ["network", "create", "-d", "macvlan", "--subnet", "10.94.0.0/24", "--gateway", "10.94.0.250"];
    cli.ok([&args[..], &["-o", "parent=far9", "street"]].concat())?;
    cli.ok(sleeper("one", "street", &["--ip", "10.94.0.11"]))?;
    cli.ok(sleeper("two", "street", &[]))?;
    assert_eq!(cli.ok(["network", "inspect", "-f", "{{.Driver}}", "street"])?, "macvlan");
    let inside = cli.ok(["exec", "one", "ip", "route"])?;
    assert!(inside.contains("default via 10.94.0.250 dev eth0"), "{inside}");
    eventually("the other container and the street's own router", || {
        cli.ok(["exec", "two", "ping", "-c", "1", "-W", "2", "10.94.0.11"])?;
        cli.ok(["exec", "two", "ping", "-c", "1", "-W", "2", "one"])?;
        cli.ok(["exec", "two", "ping", "-c", "1", "-W", "2", "10.94.0.250"])
    })?;
    if engine.target() == Target::Naru {
        engine.kill()?;
        engine.launch()?;
        let cli = engine.cli();
        cli.ok(["exec", "two", "ping", "-c", "1", "-W", "5", "one"])?;
        let said = cli.fails(1, ["network", "create", "-d", "macvlan", "-o", "parent=none9", "nowhere"])?;
        assert!(said.contains("none9"), "{said}");
        let through =
            ["network", "create", "-d", "macvlan", "-o", "parent=far9", "-o", "macvlan_mode=passthru", "nowhere"];
        assert!(cli.fails(1, through)?.contains("passthru"));
    }
    let cli = engine.cli();
    cli.ok(["rm", "-f", "one", "two"])?;
    cli.ok(["network", "rm", "street"])?;
    take_the_link(engine.world(), 9)?;
    engine.finish()
}

#[test]
fn a_link_for_one_container_alone() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    give_a_link(engine.world(), 7, "10.95.0.250/24")?;
    let cli = engine.cli();
    let street = ["-d", "macvlan", "--subnet", "10.95.0.0/24", "--gateway", "10.95.0.250", "-o", "parent=far7"];
    cli.ok([&["network", "create"], &street[..], &["-o", "macvlan_mode=passthru", "street"]].concat())?;
    cli.ok(sleeper("one", "street", &[]))?;
    eventually("the street's router", || cli.ok(["exec", "one", "ping", "-c", "1", "-W", "2", "10.95.0.250"]))?;
    let done = cli.run(sleeper("two", "street", &[]))?;
    ensure!(done.code == 125, "a second one got the link: {done:?}");
    if engine.target() == Target::Naru {
        // The interface has the parent's own address.
        let own = engine.world().command("ip").args(["-br", "link", "show", "far7"]).output()?;
        let own = String::from_utf8_lossy(&own.stdout).split_whitespace().nth(2).unwrap_or_default().to_owned();
        assert_eq!(cli.ok(["exec", "one", "cat", "/sys/class/net/eth0/address"])?, own);
        assert_eq!(cli.inspect("one", "{{.NetworkSettings.Networks.street.MacAddress}}")?, own);
        ensure!(done.stderr.contains("passthru is for one alone"), "{}", done.stderr);
        for mode in ["passthru", "bridge"] {
            let mode = format!("macvlan_mode={mode}");
            let said =
                refused(&cli, &["-d", "macvlan", "--subnet", "10.95.1.0/24", "-o", "parent=far7", "-o", &mode, "x"])?;
            assert!(said.contains("is already using parent interface far7"), "{said}");
        }
    }
    cli.ok(["rm", "-f", "one", "two"])?;
    // The link is free when the kernel has taken the old interface away.
    eventually("the link to be free", || cli.ok(["run", "--rm", "--network", "street", "busybox", "true"]))?;
    cli.ok(["network", "rm", "street"])?;
    take_the_link(engine.world(), 7)?;
    engine.finish()
}

#[test]
fn networks_share_a_link_and_have_a_router_only_when_told() -> Result<()> {
    if only_naru("an older daemon lets one network have a link, and gives each a router") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    give_a_link(engine.world(), 7, "10.96.0.250/24")?;
    let cli = engine.cli();
    for (name, subnet) in [("even", "10.96.0.0/24"), ("odd", "10.96.1.0/24")] {
        cli.ok(["network", "create", "-d", "macvlan", "--subnet", subnet, "-o", "parent=far7", name])?;
        cli.ok(sleeper(name, name, &[]))?;
        // Nobody has said which machine of the link is the router.
        let pool = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}";
        assert_eq!(cli.ok(["network", "inspect", "-f", pool, name])?.trim_end(), subnet);
        let routes = cli.ok(["exec", name, "ip", "route"])?;
        assert!(!routes.contains("default"), "{routes}");
        let shown = format!("{{{{.NetworkSettings.Networks.{name}.Gateway}}}}");
        assert_eq!(cli.inspect(name, &shown)?, "");
        // The host is not that router.
        assert!(!cli.ok(["exec", name, "cat", "/etc/hosts"])?.contains("host.docker.internal"));
    }
    eventually("the machine on the link", || cli.ok(["exec", "even", "ping", "-c", "1", "-W", "2", "10.96.0.250"]))?;
    cli.ok(["rm", "-f", "even", "odd"])?;
    cli.ok(["network", "rm", "even", "odd"])?;
    take_the_link(engine.world(), 7)?;
    engine.finish()
}

#[test]
fn links_that_can_not_be_one() -> Result<()> {
    if only_naru("an older daemon finds some of it out later") {
        return Ok(());
    }
    let engine = shared()?;
    let (cli, name) = (engine.cli(), unique("nowhere"));
    for (options, text) in [
        (vec!["parent=lo"], "loopback interface is not a valid macvlan parent link"),
        (vec!["parent=none9"], "invalid subinterface vlan name none9, example formatting is eth0.10"),
        (vec!["parent=none9.50"], "failed to find master interface none9 on the Docker host"),
        (vec!["parent=lo.5000"], "vlan id must be between 1-4094, received: 5000"),
        (vec!["parent=lo.x"], "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
        (vec!["macvlan_mode=sideways"], "requested macvlan mode 'sideways' is not valid"),
    ] {
        let options: Vec<&str> = options.iter().flat_map(|o| ["-o", o]).collect();
        let said = refused(&cli, &[&["-d", "macvlan"], &options[..], &[&name]].concat())?;
        assert!(said.contains(text), "{options:?}: {said}");
    }
    for (option, text) in [
        ("ipvlan_mode=l4", "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default"),
        (
            "ipvlan_flag=sideways",
            "requested ipvlan flag 'sideways' is not valid, 'bridge' is the ipvlan driver default",
        ),
    ] {
        let said = refused(&cli, &["-d", "ipvlan", "-o", option, &name])?;
        assert!(said.contains(text), "{option}: {said}");
    }
    // A kernel that lacks something says so in one sentence, before there is anything.
    let world = engine.world();
    if !has_kind(world, "type dummy")? {
        let said = refused(&cli, &["-d", "macvlan", &name])?;
        assert!(said.contains("this kernel has no dummy interfaces (modprobe dummy)"), "{said}");
        let said = refused(&cli, &["-d", "macvlan", "--internal", "-o", "parent=lo9", &name])?;
        assert!(said.contains("this kernel has no dummy interfaces (modprobe dummy)"), "{said}");
    }
    let said = refused(&cli, &["-d", "ipvlan", "-o", "parent=lo9", &name])?;
    let lacks = "this kernel has no ipvlan interfaces (modprobe ipvlan)";
    assert!(said.contains(lacks) || said.contains("invalid subinterface vlan name lo9"), "{said}");
    cli.fails(1, ["network", "inspect", &name])?;
    Ok(())
}

#[test]
fn templates_of_networks() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let settings = ["--subnet", "10.98.0.0/24", "--gateway", "10.98.0.7", "--ip-range", "10.98.0.64/26"];
    let more = ["--label", "sea=calm", "-o", "com.docker.network.driver.mtu=1400", "chart"];
    cli.ok([&["network", "create", "--config-only"], &settings[..], &more].concat())?;
    let shown = "{{.ConfigOnly}} {{.ConfigFrom.Network}}|{{.Driver}} {{.Scope}} {{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} \
                 {{.Gateway}}{{end}} {{.Labels}} {{.Options}}";
    let settings = "10.98.0.0/24 10.98.0.64/26 10.98.0.7 map[sea:calm] map[com.docker.network.driver.mtu:1400]";
    assert_eq!(cli.ok(["network", "inspect", "-f", shown, "chart"])?, format!("true |null local {settings}"));
    cli.ok(["network", "create", "--config-from", "chart", "--scope", "local", "--attachable", "harbour"])?;
    assert_eq!(cli.ok(["network", "inspect", "-f", shown, "harbour"])?, format!("false chart|bridge local {settings}"));
    assert_eq!(cli.ok(["network", "inspect", "-f", "{{.Attachable}} {{.Internal}}", "harbour"])?, "true false");
    cli.ok(sleeper("boat", "harbour", &[]))?;
    let inside = cli.ok(["exec", "boat", "sh", "-c", "ip -4 addr show eth0; ip route; cat /sys/class/net/eth0/mtu"])?;
    for part in ["inet 10.98.0.64/24", "default via 10.98.0.7", "\n1400"] {
        assert!(inside.contains(part), "{part} is not in {inside}");
    }
    // Two of one template overlap, as two without one would.
    let said = refused(&cli, &["--config-from", "chart", "again"])?;
    assert!(said.contains("Pool overlaps with other one on this address space"), "{said}");
    // Nobody is on a template.
    let done = cli.run(["run", "--rm", "--network", "chart", "busybox", "true"])?;
    ensure!(
        done.code == 125 && done.stderr.contains("cannot create endpoint on configuration-only network"),
        "{done:?}"
    );
    let said = cli.fails(1, ["network", "connect", "chart", "boat"])?;
    assert!(said.contains("cannot create endpoint on configuration-only network"), "{said}");
    let said = cli.fails(1, ["network", "rm", "chart"])?;
    assert!(said.contains("configuration network \"chart\" is in use"), "{said}");
    // It is listed, and never pruned.
    let listed = cli.ok(["network", "ls", "--filter", "type=custom", "--format", "{{.Name}} {{.Driver}}"])?;
    assert_eq!(listed, "chart null\nharbour bridge");
    cli.ok(["rm", "-f", "boat"])?;
    assert!(cli.ok(["network", "prune", "-f"])?.contains("harbour"));
    assert_eq!(cli.ok(["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"])?, "chart");
    if engine.target() == Target::Naru {
        // It is there after an engine's death.
        engine.kill()?;
        engine.launch()?;
    }
    let cli = engine.cli();
    cli.ok(["network", "create", "--config-from", "chart", "harbour"])?;
    cli.ok(["network", "rm", "harbour"])?;
    assert_eq!(cli.ok(["network", "rm", "chart"])?, "chart");
    engine.finish()
}

#[test]
fn what_templates_can_not_have() -> Result<()> {
    let (cli, chart, name) = (shared()?.cli(), unique("chart"), unique("harbour"));
    cli.ok(["network", "create", "--config-only", &chart])?;
    let operator = "configuration network can only contain network specific fields";
    let own = "user specified configurations are not supported if the network depends on a configuration network";
    for (arguments, text) in [
        (vec!["--config-only", "--internal", &name], operator),
        (vec!["--config-only", "--attachable", &name], operator),
        (vec!["--config-only", "--scope", "local", &name], operator),
        (
            vec!["--config-only", "--config-from", &chart, &name],
            "a configuration network cannot depend on another configuration network",
        ),
        (vec!["--config-from", &chart, "--subnet", "10.99.0.0/24", &name], own),
        (vec!["--config-from", &chart, "--label", "a=b", &name], own),
        (
            vec!["--config-from", &chart, "-o", "com.docker.network.driver.mtu=1400", &name],
            "network driver options are not supported if the network depends on a configuration network",
        ),
        (vec!["--config-from", "no-such-chart", &name], "configuration network \"no-such-chart\" does not exist"),
        // Only a template is one.
        (vec!["--config-from", "bridge", &name], "configuration network \"bridge\" does not exist"),
        (vec!["--scope", "swarm", &name], "swarm"),
    ] {
        let said = refused(&cli, &arguments)?;
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    cli.fails(1, ["network", "inspect", &name])?;
    cli.ok(["network", "rm", &chart])?;
    Ok(())
}
