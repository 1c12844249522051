//! Who must not reach whom: networks beside each other, networks without a way out, containers that must not talk, sources that are not
//! theirs.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, eventually, shared, unique};
use naru_tests::neighbour::Neighbour;
use naru_tests::only_naru;

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
    let subnets = ["--ipv6", "--subnet", "10.93.3.0/24", "--subnet", "fd93:3::/64"];
    cli.ok([&["network", "create"], &subnets[..], &["-o", option, &network]].concat())?;
    cli.ok(sleeper(&a, &network, &[]))?;
    cli.ok(sleeper(&b, &network, &[]))?;
    let at_b = address(&cli, &b, &network)?;
    // An older daemon needs a module of the kernel for it.
    let strict = shared()?.target() == Target::Naru;
    assert!(!reaches(&cli, &a, &at_b)? || !strict);
    let six = format!("{{{{(index .NetworkSettings.Networks {network:?}).GlobalIPv6Address}}}}");
    assert!(!reaches(&cli, &a, &cli.inspect(&b, &six)?)? || !strict);
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
    // The kernel's own filter is as loose as the host's setting for all interfaces, which some distributions have at 2.
    on_host(&engine, "echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter")?;
    cli.ok(["network", "create", "--subnet", "10.93.6.0/24", "pier"])?;
    // So any source is behind some interface.
    on_host(&engine, "ip link add lan9 type bridge; ip link set lan9 up; ip route add default dev lan9")?;
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

/// A shell script in the engine's world.
fn on_host(engine: &Engine, script: &str) -> Result<String> {
    let output = engine.world().command("sh").args(["-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A shell script in a container's network namespace, with all rights there: what the container itself may do is not the question.
fn in_namespace(engine: &Engine, container: &str, script: &str) -> Result<bool> {
    let pid = engine.cli().inspect(container, "{{.State.Pid}}")?;
    let mut command = engine.world().command("nsenter");
    Ok(command.args(["--target", &pid, "--net", "sh", "-ec", script]).output()?.status.success())
}

#[test]
fn an_internal_network_has_no_way_around() -> Result<()> {
    if only_naru("an older daemon lets an internal network reach all of the host's addresses") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let outside = Neighbour::beside(engine.world())?;
    // On the host: a server at all of its addresses, and an address of each family that is on no network of containers.
    on_host(&engine, "ip addr add 2001:db8:7::1/64 dev out0 nodad")?;
    let cli = engine.cli();
    let shut = ["--internal", "--ipv6", "--subnet", "10.93.8.0/24", "--subnet", "fd93:8::/64", "shut"];
    cli.ok([&["network", "create"], &shut[..]].concat())?;
    let open = ["--ipv6", "--subnet", "10.93.9.0/24", "--subnet", "fd93:9::/64", "open"];
    cli.ok([&["network", "create"], &open[..]].concat())?;
    cli.ok(sleeper("kept", "shut", &["--cap-add", "NET_ADMIN"]))?;
    cli.ok(sleeper("beside", "shut", &[]))?;
    cli.ok(sleeper("free", "open", &[]))?;
    let routes = "ip route add default via 10.93.8.1; ip -6 route add default via fd93:8::1";
    cli.ok(["exec", "kept", "sh", "-ec", routes])?;
    // Its own network is there, the host's address on it included.
    for address in ["10.93.8.1", "fd93:8::1", &address(&cli, "beside", "shut")?] {
        comes_to_reach(&cli, "kept", address)?;
    }
    comes_to_reach(&cli, "free", "192.0.2.1")?;
    comes_to_reach(&cli, "free", "192.0.2.2")?;
    // The host's other addresses, other bridges' gateways, who is behind them, and the world outside.
    let free6 = cli.inspect("free", "{{.NetworkSettings.Networks.open.GlobalIPv6Address}}")?;
    let free = address(&cli, "free", "open")?;
    let default = cli.ok(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"])?;
    for target in ["192.0.2.1", "192.0.2.2", "2001:db8:7::1", "10.93.9.1", "fd93:9::1", &default, &free, &free6] {
        ensure!(!reaches(&cli, "kept", target)?, "an internal network reaches {target}");
    }
    // Nor does anybody reach it, but the host.
    ensure!(!reaches(&cli, "free", &address(&cli, "kept", "shut")?)?, "another network reaches an internal one");
    on_host(&engine, &format!("busybox ping -c 1 -W 5 {}", address(&cli, "kept", "shut")?))?;
    let way_in =
        format!("ip route add 10.93.8.0/24 via 192.0.2.1; busybox ping -c 1 -W 1 {}", address(&cli, "kept", "shut")?);
    let done = outside.command(engine.world(), "sh").args(["-c", &way_in]).output()?;
    ensure!(!done.status.success(), "the outside reaches an internal network");
    // Multicast stays on its link: who is on the same one hears it, the other network and the machine outside don't.
    let count = "nft add table inet seen; nft add chain inet seen in '{ type filter hook prerouting priority -400; }'; \
                 nft add rule inet seen in ip daddr 239.1.2.3 counter; nft add rule inet seen in ip6 daddr ff15::9 counter";
    let heard = "test \"$(nft list table inet seen | grep -c 'packets [1-9]')\"";
    for container in ["beside", "free"] {
        ensure!(in_namespace(&engine, container, count)?, "count what {container} hears");
    }
    ensure!(outside.command(engine.world(), "sh").args(["-ec", count]).status()?.success(), "count outside");
    let call = "ping -c 1 -W 1 239.1.2.3; ping -6 -c 1 -W 1 -I eth0 ff15::9; true";
    eventually("the container beside to hear both", || {
        cli.ok(["exec", "kept", "sh", "-c", call])?;
        ensure!(in_namespace(&engine, "beside", &format!("{heard} = 2"))?, "not both");
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(in_namespace(&engine, "free", &format!("{heard} = 0"))?, "another network hears an internal one");
    let done = outside.command(engine.world(), "sh").args(["-c", &format!("{heard} = 0")]).status()?;
    ensure!(done.success(), "the outside hears an internal network");
    cli.ok(["rm", "-f", "kept", "beside", "free"])?;
    cli.ok(["network", "rm", "shut", "open"])?;
    drop(outside);
    engine.finish()
}

#[test]
fn metadata_and_link_local_addresses_are_as_far_as_the_host_has_them() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let outside = Neighbour::beside(engine.world())?;
    let give = "ip addr add 169.254.169.254/32 dev out1; ip addr add 169.254.7.7/32 dev out1";
    ensure!(outside.command(engine.world(), "sh").args(["-ec", give]).status()?.success(), "give a metadata service");
    on_host(&engine, "ip route add 169.254.169.254 dev out0; ip route add 169.254.7.7 dev out0")?;
    let cli = engine.cli();
    cli.ok(["network", "create", "--subnet", "10.93.10.0/24", "open"])?;
    cli.ok(["network", "create", "--internal", "--subnet", "10.93.11.0/24", "shut"])?;
    cli.ok(sleeper("free", "open", &[]))?;
    cli.ok(sleeper("kept", "shut", &["--cap-add", "NET_ADMIN"]))?;
    cli.ok(["exec", "kept", "ip", "route", "replace", "default", "via", "10.93.11.1"])?;
    // As docker has it: what the host has a way to, a container has, under the host's address; an internal network has none.
    for address in ["169.254.169.254", "169.254.7.7"] {
        comes_to_reach(&cli, "free", address)?;
        ensure!(!reaches(&cli, "kept", address)?, "an internal network reaches {address}");
    }
    cli.ok(["rm", "-f", "free", "kept"])?;
    cli.ok(["network", "rm", "open", "shut"])?;
    drop(outside);
    engine.finish()
}

#[test]
fn nobody_is_another_one_on_a_bridge() -> Result<()> {
    if only_naru("an older daemon leaves ARP and Ethernet addresses to the containers") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let pier = ["--ipv6", "--subnet", "10.93.12.0/24", "--subnet", "fd93:12::/64"];
    let option = "com.docker.network.bridge.name=pier0";
    cli.ok([&["network", "create"], &pier[..], &["-o", option, "pier"]].concat())?;
    cli.ok(sleeper("victim", "pier", &["--ip", "10.93.12.10", "--ip6", "fd93:12::10"]))?;
    cli.ok(sleeper("liar", "pier", &["--ip", "10.93.12.20", "--ip6", "fd93:12::20"]))?;
    let mac = |name: &str| cli.inspect(name, "{{.NetworkSettings.Networks.pier.MacAddress}}");
    let (victim, liar) = (mac("victim")?, mac("liar")?);
    comes_to_reach(&cli, "liar", "10.93.12.10")?;
    // By ARP, which a container may speak: it has the victim's address, and the gateway's.
    for claim in ["10.93.12.10", "10.93.12.1"] {
        let claimed = cli.run(["exec", "liar", "arping", "-U", "-c", "3", "-I", "eth0", "-s", claim, claim])?;
        ensure!(!claimed.stderr.contains("not permitted"), "{claimed:?}");
    }
    let host = on_host(&engine, "ip neigh show 10.93.12.10 dev pier0")?;
    ensure!(host.contains(&victim) && !host.contains(&liar), "the host believes it: {host}");
    let seen = cli.ok(["exec", "victim", "ip", "neigh", "show", "10.93.12.1"])?;
    ensure!(!seen.contains(&liar), "the victim believes it: {seen}");
    for address in ["10.93.12.10", "fd93:12::10"] {
        on_host(&engine, &format!("busybox ping -c 1 -W 5 {address}"))?;
    }
    // With the victim's Ethernet address it isn't heard.
    let change = |to: &str| format!("ip link set eth0 down; ip link set eth0 address {to}; ip link set eth0 up");
    ensure!(in_namespace(&engine, "liar", &change(&victim))?, "change the address");
    ensure!(!reaches(&cli, "liar", "10.93.12.1")?, "another's Ethernet address is let through");
    ensure!(in_namespace(&engine, "liar", &change("02:00:00:00:00:77"))?, "change the address");
    ensure!(!reaches(&cli, "liar", "10.93.12.1")?, "a made-up Ethernet address is let through");
    ensure!(in_namespace(&engine, "liar", &change(&liar))?, "change the address back");
    comes_to_reach(&cli, "liar", "10.93.12.1")?;
    comes_to_reach(&cli, "victim", "10.93.12.1")?;
    cli.ok(["rm", "-f", "victim", "liar"])?;
    cli.ok(["network", "rm", "pier"])?;
    engine.finish()
}

#[test]
fn a_foreign_ipv6_source_does_not_get_out() -> Result<()> {
    if only_naru("an older daemon leaves this to the host's settings") {
        return Ok(());
    }
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let options = ["--ipv6", "--subnet", "10.93.13.0/24", "--subnet", "fd93:13::/64"];
    cli.ok([&["network", "create"], &options[..], &["-o", "com.docker.network.bridge.name=pier1", "pier"]].concat())?;
    cli.ok(sleeper("liar", "pier", &["--cap-add", "NET_ADMIN"]))?;
    // Behind the filters of sources, on the host itself.
    let count = "nft add table inet seen; nft add chain inet seen in '{ type filter hook input priority -10; }'; \
                 nft add rule inet seen in iifname pier1 ip6 saddr 2001:db8:5::/64 counter; \
                 nft add rule inet seen in iifname pier1 ip6 saddr fd93:13::/64 icmpv6 type echo-request counter";
    on_host(&engine, count)?;
    let ask = || cli.run(["exec", "liar", "ping", "-6", "-c", "1", "-W", "1", "fd93:13::1"]);
    eventually("the true source to be heard", || {
        ask()?;
        on_host(&engine, "nft list table inet seen | grep echo-request | grep -q 'packets [1-9]'")
    })?;
    // Another one, and no other; what it sends is counted where it is sent.
    let other = "nft add table inet sent; nft add chain inet sent out '{ type filter hook output priority 0; }'; \
                 nft add rule inet sent out ip6 saddr 2001:db8:5::/64 icmpv6 type echo-request counter; \
                 ip -6 addr flush dev eth0 scope global; ip -6 addr add 2001:db8:5::7/128 dev eth0 nodad; \
                 ip -6 route add fd93:13::/64 dev eth0";
    ensure!(in_namespace(&engine, "liar", other)?, "give it another source");
    eventually("the foreign source to be sent", || {
        ask()?;
        let sent = in_namespace(&engine, "liar", "nft list table inet sent | grep -q 'packets [1-9]'")?;
        ensure!(sent, "not yet");
        Ok::<_, anyhow::Error>(())
    })?;
    ask()?;
    let seen = on_host(&engine, "nft list table inet seen | grep 2001:db8:5::")?;
    ensure!(seen.contains("packets 0 "), "a foreign source got out: {seen}");
    cli.ok(["rm", "-f", "liar"])?;
    cli.ok(["network", "rm", "pier"])?;
    engine.finish()
}
