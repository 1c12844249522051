//! Every flag of `network create`, `network connect` and `run` that is about networks, and what docker's client shows of it.

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, eventually, shared, unique};
use naru_tests::neighbour::Neighbour;
use naru_tests::only_naru;
use serde_json::{Value, json};

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

fn sleeper<'a>(name: &'a str, network: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-d", "--name", name, "--network", network], more, &["busybox", "sleep", "1000"]].concat()
}

/// What `inspect` shows of a network.
fn network(cli: &Client, name: &str) -> Result<Value> {
    let text = cli.ok(["network", "inspect", name])?;
    let all: Value = serde_json::from_str(&text)?;
    Ok(all[0].clone())
}

/// A container's place on a network, as `inspect` shows it.
fn place(cli: &Client, container: &str, network: &str) -> Result<Value> {
    let text = cli.inspect(container, &format!("{{{{json (index .NetworkSettings.Networks {network:?})}}}}"))?;
    serde_json::from_str(&text).with_context(|| text)
}

fn expect(shown: &Value, wanted: &Value) {
    for (key, value) in wanted.as_object().into_iter().flatten() {
        assert_eq!(&shown[key], value, "{key} in {shown}");
    }
}

#[test]
fn all_flags_of_a_network_are_shown() -> Result<()> {
    let (cli, name) = (cli()?, unique("charted"));
    let (bridge, other) = (format!("nf{}", std::process::id() % 100_000), unique("boat"));
    let bridge_option = format!("com.docker.network.bridge.name={bridge}");
    let v4 = ["--subnet", "10.88.0.0/24", "--gateway", "10.88.0.250", "--ip-range", "10.88.0.0/28"];
    let v6 = ["--ipv6", "--subnet", "fd88::/64", "--gateway", "fd88::250"];
    let more =
        ["--aux-address", "router=10.88.0.1", "--aux-address", "printer=10.88.0.2", "--attachable", "--internal"];
    let options =
        ["-o", "com.docker.network.driver.mtu=1340", "-o", &bridge_option, "--label", "sea=calm", "--label", "wind"];
    let id = cli.ok([&["network", "create", "-d", "bridge"], &v4[..], &v6, &more, &options, &[&name]].concat())?;
    let shown = network(&cli, &name)?;
    expect(
        &shown,
        &json!({
            "Name": name, "Id": id, "Driver": "bridge", "Scope": "local", "EnableIPv6": true, "Internal": true, "Attachable": true,
            "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {},
            "Labels": {"sea": "calm", "wind": ""},
            "Options": {"com.docker.network.driver.mtu": "1340", "com.docker.network.bridge.name": bridge},
        }),
    );
    let pools = shown["IPAM"]["Config"].as_array().context("pools")?;
    let four = pools.iter().find(|p| p["Subnet"] == "10.88.0.0/24").context("the IPv4 pool")?;
    expect(four, &json!({"IPRange": "10.88.0.0/28", "Gateway": "10.88.0.250"}));
    expect(&four["AuxiliaryAddresses"], &json!({"router": "10.88.0.1", "printer": "10.88.0.2"}));
    let six = pools.iter().find(|p| p["Subnet"] == "fd88::/64").context("the IPv6 pool")?;
    expect(six, &json!({"Gateway": "fd88::250"}));
    assert_eq!(shown["IPAM"]["Driver"], "default");
    // A container gets what is free of it.
    // An older daemon can't be told an Ethernet address by this client.
    let newer = shared()?.target() == Target::Naru;
    let flags = if newer { &["--mac-address", "02:42:0a:58:00:03"][..] } else { &[] };
    cli.ok(sleeper(&other, &name, &[flags, &["--network-alias", "sloop"]].concat()))?;
    let there = place(&cli, &other, &name)?;
    let (container, endpoint, mac) =
        (cli.inspect(&other, "{{.Id}}")?, there["EndpointID"].clone(), there["MacAddress"].clone());
    assert!(mac == "02:42:0a:58:00:03" || !newer, "{there}");
    expect(&there, &json!({"IPAddress": "10.88.0.3", "IPPrefixLen": 24, "GlobalIPv6PrefixLen": 64, "NetworkID": id}));
    assert!(there["Aliases"].as_array().is_some_and(|a| a.contains(&json!("sloop"))), "{there}");
    let listed = &network(&cli, &name)?["Containers"][&container];
    let six = format!("{}/64", there["GlobalIPv6Address"].as_str().unwrap_or_default());
    expect(
        listed,
        &json!({"Name": other, "EndpointID": endpoint, "MacAddress": mac, "IPv4Address": "10.88.0.3/24", "IPv6Address": six}),
    );
    let inside = cli.ok(["exec", &other, "sh", "-c", "cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address"])?;
    assert_eq!(Some(inside.as_str()), mac.as_str().map(|mac| format!("1340\n{mac}")).as_deref());
    let done = cli.run(["run", "--rm", "--network", &name, "--ip", "10.88.0.2", "busybox", "true"])?;
    ensure!(done.code == 125 && done.stderr.contains("Address already in use"), "{done:?}");
    cli.ok(["rm", "-f", &other])?;
    cli.ok(["network", "rm", &name])?;
    Ok(())
}

#[test]
fn all_flags_of_an_endpoint_are_shown() -> Result<()> {
    let (cli, home, away, name, db) = (cli()?, unique("home"), unique("away"), unique("sailor"), unique("db"));
    cli.ok(["network", "create", "--subnet", "10.89.1.0/24", &home])?;
    let six = ["--ipv6", "--subnet", "10.89.2.0/24", "--subnet", "fd89:2::/64"];
    cli.ok([&["network", "create"], &six[..], &[&away]].concat())?;
    cli.ok(sleeper(&db, &away, &[]))?;
    cli.ok(sleeper(&name, &home, &["--ip", "10.89.1.77"]))?;
    let link = format!("{db}:store");
    let flags = [
        "--ip",
        "10.89.2.77",
        "--ip6",
        "fd89:2::77",
        "--alias",
        "mate",
        "--link",
        &link,
        "--link-local-ip",
        "169.254.8.9",
    ];
    let options = ["--driver-opt", "some.option=1"];
    cli.ok([&["network", "connect"], &flags[..], &options, &[&away, &name]].concat())?;
    let there = place(&cli, &name, &away)?;
    expect(
        &there,
        &json!({
            "IPAddress": "10.89.2.77", "IPPrefixLen": 24, "GlobalIPv6Address": "fd89:2::77", "GlobalIPv6PrefixLen": 64,
            "Gateway": "10.89.2.1", "IPv6Gateway": "fd89:2::1", "DriverOpts": {"some.option": "1"}, "Links": [link],
        }),
    );
    expect(
        &there["IPAMConfig"],
        &json!({"IPv4Address": "10.89.2.77", "IPv6Address": "fd89:2::77", "LinkLocalIPs": ["169.254.8.9"]}),
    );
    assert!(there["Aliases"].as_array().is_some_and(|a| a.contains(&json!("mate"))), "{there}");
    let inside = cli.ok(["exec", &name, "sh", "-c", "ip -o addr show eth1; nslookup store 127.0.0.11"])?;
    for part in ["10.89.2.77/24", "fd89:2::77/64", "169.254.8.9/16", "10.89.2.2"] {
        assert!(inside.contains(part), "{part} is not in {inside}");
    }
    if shared()?.target() == Target::Naru {
        let names = there["DNSNames"].as_array().context("names")?;
        for wanted in [name.as_str(), "mate"] {
            assert!(names.contains(&json!(wanted)), "{wanted} is not in {names:?}");
        }
    }
    cli.ok(["rm", "-f", &name, &db])?;
    cli.ok(["network", "rm", &home, &away])?;
    Ok(())
}

#[test]
fn the_way_out_is_a_choice() -> Result<()> {
    if only_naru("an older daemon knows no priorities") {
        return Ok(());
    }
    let (cli, name) = (cli()?, unique("chooser"));
    let networks: Vec<String> = (0..3).map(|n| unique(&format!("way{n}"))).collect();
    for (n, network) in networks.iter().enumerate() {
        cli.ok(["network", "create", "--subnet", &format!("10.90.{n}.0/24"), network])?;
    }
    let way_out = || cli.ok(["exec", &name, "sh", "-c", "ip route | grep default"]);
    cli.ok(sleeper(&name, &networks[0], &[]))?;
    cli.ok(["network", "connect", "--gw-priority", "5", &networks[1], &name])?;
    assert!(way_out()?.contains("via 10.90.1.1 "), "{}", way_out()?);
    cli.ok(["network", "connect", "--gw-priority", "-3", &networks[2], &name])?;
    assert!(way_out()?.contains("via 10.90.1.1 "), "{}", way_out()?);
    let shown = |network: &str| Ok::<_, anyhow::Error>(place(&cli, &name, network)?["GwPriority"].clone());
    assert_eq!([shown(&networks[0])?, shown(&networks[1])?, shown(&networks[2])?], [json!(0), json!(5), json!(-3)]);
    // It holds over a restart, and moves on when the network goes.
    cli.ok(["restart", "-t", "0", &name])?;
    assert!(way_out()?.contains("via 10.90.1.1 "), "{}", way_out()?);
    cli.ok(["network", "disconnect", &networks[1], &name])?;
    assert!(way_out()?.contains("via 10.90.0.1 "), "{}", way_out()?);
    cli.ok(["network", "disconnect", &networks[0], &name])?;
    assert!(way_out()?.contains("via 10.90.2.1 "), "{}", way_out()?);
    cli.ok(["rm", "-f", &name])?;
    cli.ok([&["network", "rm"], &networks.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())?;
    Ok(())
}

#[test]
fn what_does_not_go_with_anothers_network() -> Result<()> {
    let (cli, donor, guest) = (cli()?, unique("donor"), unique("guest"));
    cli.ok(["create", "--name", &donor, "busybox", "sleep", "1000"])?;
    let mode = format!("container:{donor}");
    let mut conflicts = vec![
        (vec!["--hostname", "x"], "hostname and the network mode"),
        (vec!["--dns", "192.0.2.1"], "dns and the network mode"),
        (vec!["--add-host", "a:192.0.2.1"], "custom host-to-IP mapping and the network mode"),
        (vec!["-p", "8099:80"], "port publishing and the container type network mode"),
        (vec!["--link", &donor], "container type network can't be used with links"),
    ];
    if shared()?.target() == Target::Naru {
        conflicts.push((vec!["--mac-address", "02:00:00:00:00:01"], "mac-address and the network mode"));
    }
    for (flags, text) in conflicts {
        let done = cli.run([&["run", "--rm", "--network", &mode], &flags[..], &["busybox", "true"]].concat())?;
        ensure!(done.code == 125 && done.stderr.contains(text), "{flags:?}: {done:?}");
    }
    // One that doesn't run has no network.
    let done = cli.run(["run", "--rm", "--network", &mode, "busybox", "true"])?;
    ensure!(done.code == 125 && done.stderr.contains("non running container"), "{done:?}");
    cli.ok(["start", &donor])?;
    cli.ok(sleeper(&guest, &mode, &[]))?;
    let links = ["exec", &guest, "ip", "-o", "-4", "addr"];
    let own = cli.ok(["exec", &donor, "ip", "-o", "-4", "addr"])?;
    assert_eq!(cli.ok(links)?, own);
    // What the guest serves at the loopback address the donor reaches.
    cli.ok(["exec", "-d", &guest, "sh", "-c", "while :; do echo shared | nc -l -p 7070; done"])?;
    eventually("the guest's server at the donor's loopback", || {
        let said = cli.run(["exec", &donor, "nc", "-w", "2", "127.0.0.1", "7070"])?.stdout;
        ensure!(said == "shared\n", "{said:?}");
        Ok(())
    })?;
    let mode = format!("container:{} 0", cli.inspect(&donor, "{{.Id}}")?);
    assert_eq!(cli.inspect(&guest, "{{.HostConfig.NetworkMode}} {{len .NetworkSettings.Networks}}")?, mode);
    // It is that container's network, also when that has another name.
    let renamed = unique("renamed");
    cli.ok(["rename", &donor, &renamed])?;
    cli.ok(["restart", "-t", "0", &guest])?;
    assert_eq!(cli.ok(links)?, own);
    cli.ok(["rm", "-f", &guest, &renamed])?;
    Ok(())
}

#[test]
fn default_pools_avoid_every_route_of_the_host() -> Result<()> {
    let mut engine = Engine::start()?;
    let cli = engine.cli();
    let run = |script: &str| -> Result<()> {
        let output = engine.world().command("sh").args(["-ec", script]).output()?;
        ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run("ip link add lan9 type bridge; ip link set lan9 up")?;
    let subnet = |name: &str| -> Result<String> {
        cli.ok(["network", "create", name])?;
        cli.ok(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name])
    };
    // All of 172.16.0.0/12 but one subnet, in parts of different sizes.
    run("for net in 172.16.0.0/13 172.24.0.0/15 172.27.9.0/24 172.28.0.0/14; do ip route add $net dev lan9; done")?;
    assert_eq!(subnet("only")?, "172.26.0.0/16");
    let next = subnet("next")?;
    assert!(next.starts_with("192.168."), "{next}");
    // And none at all.
    run("ip route add 192.168.0.0/16 dev lan9")?;
    let said = cli.fails(1, ["network", "create", "none-left"])?;
    assert!(said.contains("fully subnetted") || said.contains("could not find an available"), "{said}");
    // What the user says counts all the same.
    cli.ok(["network", "create", "--subnet", "10.92.0.0/24", "own"])?;
    cli.ok(["network", "rm", "only", "next", "own"])?;
    run("ip link del lan9")?;
    engine.finish()
}

#[test]
fn without_masquerade_the_own_address_is_seen() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let outside = Neighbour::beside(engine.world())?;
    let seen = |source: &str| -> Result<bool> {
        let script = format!("nft list table ip seen | grep 'saddr {source} ' | grep -q 'packets [1-9]'");
        Ok(outside.command(engine.world(), "sh").args(["-c", &script]).status()?.success())
    };
    let count = "nft add table ip seen; nft add chain ip seen in '{ type filter hook input priority 0; }'; \
                 for from in 10.92.1.2 10.92.2.2 192.0.2.1; do nft add rule ip seen in ip saddr $from icmp type echo-request counter; done";
    ensure!(outside.command(engine.world(), "sh").args(["-ec", count]).status()?.success(), "count outside");
    let cli = engine.cli();
    let option = "com.docker.network.bridge.enable_ip_masquerade=false";
    cli.ok(["network", "create", "--subnet", "10.92.1.0/24", "-o", option, "plain"])?;
    cli.ok(["network", "create", "--subnet", "10.92.2.0/24", "masked"])?;
    cli.ok(sleeper("one", "plain", &[]))?;
    cli.ok(sleeper("two", "masked", &[]))?;
    eventually("both to be seen outside", || {
        for name in ["one", "two"] {
            cli.run(["exec", name, "ping", "-c", "1", "-W", "1", "192.0.2.2"])?;
        }
        ensure!(seen("10.92.1.2")? && seen("192.0.2.1")?, "not yet");
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(!seen("10.92.2.2")?, "the masqueraded one's address is seen");
    cli.ok(["rm", "-f", "one", "two"])?;
    cli.ok(["network", "rm", "plain", "masked"])?;
    drop(outside);
    engine.finish()
}

#[test]
fn ports_are_bound_where_the_network_says() -> Result<()> {
    let (cli, network, name) = (cli()?, unique("local"), unique("web"));
    let option = "com.docker.network.bridge.host_binding_ipv4=127.0.0.1";
    cli.ok(["network", "create", "-o", option, &network])?;
    cli.ok(sleeper(&name, &network, &["-p", "80", "-p", "127.0.0.2::81"]))?;
    let shown = cli.ok(["port", &name])?;
    assert!(shown.contains("80/tcp -> 127.0.0.1:") && shown.contains("81/tcp -> 127.0.0.2:"), "{shown}");
    assert!(!shown.contains("0.0.0.0") && !shown.contains("[::]"), "{shown}");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}
