//! Names on networks: who is found by which, what is forwarded, and that it goes on without an engine.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Target, eventually, shared, unique};
use naru_tests::only_naru;

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

fn sleeper<'a>(name: &'a str, network: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-d", "--name", name, "--network", network], more, &["busybox", "sleep", "1000"]].concat()
}

/// The addresses that `container` gets for `name`, sorted; nothing when there is none.
fn look_up(cli: &Client, container: &str, name: &str) -> Result<Vec<String>> {
    let script =
        format!("nslookup {name} 127.0.0.11 2>&1 | sed '1,/^$/d' | sed -n 's/^Address[ 0-9]*: *//p' | cut -d' ' -f1");
    let mut found: Vec<String> = cli.ok(["exec", container, "sh", "-c", &script])?.lines().map(str::to_owned).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

#[test]
fn names_of_a_network() -> Result<()> {
    let (cli, network, web, db) = (cli()?, unique("harbour"), unique("web"), unique("db"));
    cli.ok(["network", "create", "--subnet", "10.81.0.0/24", &network])?;
    let id = cli.ok(sleeper(&web, &network, &["--ip", "10.81.0.10", "--network-alias", "shared"]))?;
    cli.ok(sleeper(&db, &network, &["--ip", "10.81.0.20", "--network-alias", "shared", "--network-alias", "Store"]))?;
    for name in [&web, &id[..12], &format!("{web}.{network}"), &web.to_uppercase()] {
        assert_eq!(look_up(&cli, &db, name)?, ["10.81.0.10"], "{name}");
    }
    assert_eq!(look_up(&cli, &web, "store")?, ["10.81.0.20"]);
    assert_eq!(look_up(&cli, &web, "shared")?, ["10.81.0.10", "10.81.0.20"]);
    let reverse = cli.ok(["exec", &web, "nslookup", "10.81.0.20", "127.0.0.11"])?;
    assert!(reverse.contains(&format!("{db}.{network}")), "{reverse}");
    let conf = cli.ok(["exec", &web, "cat", "/etc/resolv.conf"])?;
    assert!(conf.contains("nameserver 127.0.0.11") && conf.contains("ndots:0"), "{conf}");
    // The resolver of a program finds it, too.
    cli.ok(["exec", &db, "ping", "-c", "1", "-W", "5", &web])?;
    // Nobody else does.
    let (other, stranger) = (unique("other"), unique("stranger"));
    cli.ok(["network", "create", &other])?;
    cli.ok(sleeper(&stranger, &other, &[]))?;
    assert!(look_up(&cli, &stranger, &web)?.is_empty());
    // A name goes with its container.
    cli.ok(["stop", "-t", "0", &web])?;
    assert!(look_up(&cli, &db, &web)?.is_empty());
    cli.ok(["start", &web])?;
    let renamed = unique("www");
    cli.ok(["rename", &web, &renamed])?;
    assert_eq!(look_up(&cli, &db, &renamed)?, ["10.81.0.10"]);
    cli.ok(["rm", "-f", &renamed, &db, &stranger])?;
    cli.ok(["network", "rm", &network, &other])?;
    Ok(())
}

#[test]
fn several_addresses_have_their_turns() -> Result<()> {
    let (cli, network, asker) = (cli()?, unique("fleet"), unique("asker"));
    cli.ok(["network", "create", "--subnet", "10.87.0.0/24", &network])?;
    let ships: Vec<String> = (0..3).map(|n| unique(&format!("ship{n}"))).collect();
    for ship in &ships {
        cli.ok(sleeper(ship, &network, &["--network-alias", "fleet"]))?;
    }
    cli.ok(sleeper(&asker, &network, &[]))?;
    // Each is the first one of some answer: a client that takes the first is led to all of them.
    let script = "for n in 1 2 3 4 5 6 7 8 9 10; do nslookup fleet 127.0.0.11 | sed '1,/^$/d' | \
                  sed -n 's/^Address[ 0-9]*: *//p' | head -1; done";
    let mut first = std::collections::BTreeSet::new();
    eventually("each address to be the first one of an answer", || {
        first.extend(cli.ok(["exec", &asker, "sh", "-c", script])?.lines().map(str::to_owned));
        ensure!(first.len() == 3, "{first:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    assert_eq!(look_up(&cli, &asker, "fleet")?.len(), 3);
    cli.ok([&["rm", "-f", &asker], &ships.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

#[test]
fn names_come_and_go_with_networks() -> Result<()> {
    let (cli, network, one, two) = (cli()?, unique("pier"), unique("one"), unique("two"));
    cli.ok(["network", "create", "--subnet", "10.82.0.0/24", &network])?;
    cli.ok(sleeper(&one, &network, &["--ip", "10.82.0.5"]))?;
    // Its only network had no names so far.
    cli.ok(["run", "-d", "--name", &two, "busybox", "sleep", "1000"])?;
    assert!(!cli.ok(["exec", &two, "cat", "/etc/resolv.conf"])?.contains("127.0.0.11"));
    cli.ok(["network", "connect", "--ip", "10.82.0.6", "--alias", "late", &network, &two])?;
    assert!(cli.ok(["exec", &two, "cat", "/etc/resolv.conf"])?.contains("127.0.0.11"));
    assert_eq!(look_up(&cli, &two, &one)?, ["10.82.0.5"]);
    assert_eq!(look_up(&cli, &one, "late")?, ["10.82.0.6"]);
    cli.ok(["network", "disconnect", &network, &two])?;
    assert!(look_up(&cli, &one, "late")?.is_empty());
    if shared()?.target() == Target::Naru {
        assert!(!cli.ok(["exec", &two, "cat", "/etc/resolv.conf"])?.contains("127.0.0.11"));
    }
    cli.ok(["rm", "-f", &one, &two])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

#[test]
fn links_are_names() -> Result<()> {
    let (cli, network, db, web) = (cli()?, unique("dock"), unique("db"), unique("web"));
    cli.ok(["network", "create", "--subnet", "10.83.0.0/24", &network])?;
    cli.ok(sleeper(&db, &network, &["--ip", "10.83.0.7"]))?;
    let link = format!("{db}:store");
    cli.ok(sleeper(&web, &network, &["--link", &link]))?;
    assert_eq!(look_up(&cli, &web, "store")?, ["10.83.0.7"]);
    assert!(look_up(&cli, &db, "store")?.is_empty(), "a link is its container's own");
    cli.ok(["rm", "-f", &db, &web])?;
    cli.ok(["network", "rm", &network])?;
    // On the default network a link is a line in a file and variables.
    cli.ok(["run", "-d", "--name", &db, "--expose", "5432", "-e", "MODE=fast", "busybox", "sleep", "1000"])?;
    let at = cli.inspect(&db, "{{.NetworkSettings.Networks.bridge.IPAddress}}")?;
    let said = cli.ok(["run", "--rm", "--link", &link, "busybox", "sh", "-c", "cat /etc/hosts; env"])?;
    for part in [
        format!("{at}\tstore "),
        format!("STORE_PORT_5432_TCP=tcp://{at}:5432"),
        format!("STORE_PORT_5432_TCP_ADDR={at}"),
        "STORE_ENV_MODE=fast".to_owned(),
    ] {
        assert!(said.contains(&part), "{part} is not in {said}");
    }
    cli.ok(["stop", "-t", "0", &db])?;
    let done = cli.run(["run", "--rm", "--link", &link, "busybox", "true"])?;
    assert_eq!(done.code, 125);
    assert!(done.stderr.contains("Cannot link to a non running container"), "{}", done.stderr);
    cli.ok(["rm", &db])?;
    Ok(())
}

#[test]
fn a_container_may_serve_names_itself() -> Result<()> {
    let (cli, network, server, asker) = (cli()?, unique("ns"), unique("server"), unique("asker"));
    cli.ok(["network", "create", "--subnet", "10.86.0.0/24", &network])?;
    cli.ok(sleeper(&asker, &network, &["--ip", "10.86.0.9"]))?;
    let script = "while :; do echo mine | nc -l -p 53; done";
    let args =
        ["run", "-d", "--name", &server, "--network", &network, "--expose", "53/tcp", "busybox", "sh", "-c", script];
    cli.ok(args)?;
    // Its port is its own at every address, and names are answered all the same.
    eventually("the container's own server", || {
        let said = cli.run(["exec", &asker, "nc", "-w", "5", &server, "53"])?.stdout;
        ensure!(said == "mine\n", "{said:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    assert_eq!(look_up(&cli, &server, &asker)?, ["10.86.0.9"]);
    cli.ok(["exec", &server, "ping", "-c", "1", "-W", "5", &asker])?;
    cli.ok(["rm", "-f", &server, &asker])?;
    cli.ok(["network", "rm", &network])?;
    Ok(())
}

/// A name server of the test's own at an address of the engine's host: it says 192.0.2.53 to everything but single words, which it doesn't
/// know; by UDP only half of it when the name begins with "long", and 300 addresses when it begins with "huge". It hears only those whose
/// address begins with `asker`.
fn serve_names(engine: &Engine, address: &'static str, asker: &'static str) -> Result<()> {
    let (sender, ready) = std::sync::mpsc::channel();
    drop(engine.world().in_network(move || {
        let bound = UdpSocket::bind((address, 53)).and_then(|udp| Ok((udp, TcpListener::bind((address, 53))?)));
        let Ok((udp, tcp)) = bound else { return };
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut question).is_err() {
                    continue;
                }
                let answer = answer(&question, false);
                let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat());
            }
        });
        let _ = sender.send(());
        let mut buffer = [0; 1500];
        while let Ok((read, from)) = udp.recv_from(&mut buffer) {
            if !from.ip().to_string().starts_with(asker) {
                continue;
            }
            let cut = buffer[13..read].starts_with(b"long") || buffer[13..read].starts_with(b"huge");
            let _ = udp.send_to(&answer(&buffer[..read], cut), from);
        }
    })?);
    ready.recv().context("the test's name server did not come up")?;
    Ok(())
}

fn answer(question: &[u8], cut: bool) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|b| *b == 0).unwrap_or(0);
    let mut out = question[..name_end + 5].to_vec();
    let is_word = usize::from(question[12]) + 13 == name_end;
    let count: u16 = match &question[13..name_end] {
        _ if out[name_end + 2] != 1 || cut || is_word => 0,
        name if name.starts_with(b"huge") => 300,
        _ => 1,
    };
    out[2] = 0x81 | if cut { 2 } else { 0 };
    out[3] = 0x80 | if is_word { 3 } else { 0 };
    out[6..8].copy_from_slice(&count.to_be_bytes());
    out[11] = 0;
    for n in 0..count {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        let last = if count == 1 { [192, 0, 2, 53] } else { [10, 1, (n >> 8) as u8, n as u8] };
        out.extend_from_slice(&last);
    }
    out
}

/// An engine whose host asks the test's own server, which only the host reaches.
fn with_a_server() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    serve_names(&engine, "127.0.0.1", "127.")?;
    let file = engine.scratch("conf")?.join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.1\nsearch harbour.example\noptions timeout:2\n")?;
    let status = engine.world().command("mount").arg("--bind").arg(&file).arg("/etc/resolv.conf").status()?;
    ensure!(status.success(), "give the engine's host a resolv.conf");
    Ok(engine)
}

#[test]
fn the_rest_is_asked_of_the_hosts_servers() -> Result<()> {
    let mut engine = with_a_server()?;
    let cli = engine.cli();
    cli.ok(["network", "create", "open"])?;
    cli.ok(["network", "create", "--internal", "shut"])?;
    cli.ok(sleeper("free", "open", &[]))?;
    cli.ok(sleeper("kept", "shut", &[]))?;
    assert_eq!(look_up(&cli, "free", "example.org")?, ["192.0.2.53"]);
    let conf = cli.ok(["exec", "free", "cat", "/etc/resolv.conf"])?;
    assert!(conf.contains("search harbour.example") && conf.contains("timeout:2"), "{conf}");
    // A word that nobody knows is looked for in the host's search domain, by a program's own resolver.
    let printer = |container: &str| {
        eventually("a word in a search domain", || {
            let said = cli.run(["exec", container, "ping", "-c", "1", "-W", "1", "printer"])?;
            ensure!(said.stdout.starts_with("PING printer (192.0.2.53)"), "{said:?}");
            Ok(())
        })
    };
    printer("free")?;
    // And in one of the container's own instead.
    cli.ok(sleeper("own", "open", &["--dns-search", "quay.example"]))?;
    assert!(cli.ok(["exec", "own", "cat", "/etc/resolv.conf"])?.contains("search quay.example"));
    if engine.target() == Target::Naru {
        // An older daemon asks the host's loopback server out of the container then.
        printer("own")?;
    }
    // Its own names, and nothing of the world's (`cve_2024_29018_…`), which an older daemon asks for.
    let strict = engine.target() == Target::Naru;
    assert!(look_up(&cli, "kept", "example.org")?.is_empty() || !strict);
    assert_eq!(look_up(&cli, "kept", "kept")?.len(), 1);
    // Once it has a way out, it may ask.
    cli.ok(["network", "connect", "open", "kept"])?;
    assert_eq!(look_up(&cli, "kept", "example.org")?, ["192.0.2.53"]);
    cli.ok(["network", "disconnect", "open", "kept"])?;
    assert!(look_up(&cli, "kept", "example.org")?.is_empty() || !strict);
    cli.ok(["rm", "-f", "free", "kept", "own"])?;
    cli.ok(["network", "rm", "open", "shut"])?;
    unmount(&engine)?;
    engine.finish()
}

#[test]
fn the_containers_own_servers_are_asked_out_of_its_network() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let cli = engine.cli();
    // Nothing leads out of it. The server is in it, and hears nobody of another network.
    cli.ok(["network", "create", "--internal", "--subnet", "10.80.0.0/24", "cove"])?;
    serve_names(&engine, "10.80.0.1", "10.80.0.")?;
    let options =
        ["--ip", "10.80.0.9", "--dns", "10.80.0.1", "--dns-option", "ndots:2", "--dns-search", "cove.example"];
    cli.ok(sleeper("asker", "cove", &options))?;
    let conf = cli.ok(["exec", "asker", "cat", "/etc/resolv.conf"])?;
    for part in ["nameserver 127.0.0.11", "search cove.example", "ndots:2"] {
        assert!(conf.contains(part), "{part} is not in {conf}");
    }
    eventually("an answer of the container's own server", || {
        let found = look_up(&cli, "asker", "lighthouse.example")?;
        ensure!(found == ["192.0.2.53"], "{found:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    assert_eq!(look_up(&cli, "asker", "asker")?, ["10.80.0.9"]);
    cli.ok(["rm", "-f", "asker"])?;
    cli.ok(["network", "rm", "cove"])?;
    engine.finish()
}

#[test]
fn cve_2024_29018_no_question_gets_out_of_an_internal_network() -> Result<()> {
    if only_naru("an older daemon has it") {
        return Ok(());
    }
    let mut engine = with_a_server()?;
    let cli = engine.cli();
    cli.ok(["network", "create", "--internal", "shut"])?;
    cli.ok(sleeper("kept", "shut", &[]))?;
    // The server answers any name, so an answer would show that it was asked; the name could carry a secret to it.
    for name in ["secret.example.org", "example.org", "kept.example.org", "shut"] {
        assert!(look_up(&cli, "kept", name)?.is_empty(), "{name} was asked for outside");
    }
    assert_eq!(look_up(&cli, "kept", "kept")?.len(), 1);
    cli.ok(["rm", "-f", "kept"])?;
    cli.ok(["network", "rm", "shut"])?;
    unmount(&engine)?;
    engine.finish()
}

fn unmount(engine: &Engine) -> Result<()> {
    let status = engine.world().command("umount").arg("/etc/resolv.conf").status()?;
    ensure!(status.success(), "take the resolv.conf away");
    Ok(())
}

/// One question as bytes, over a stream or in a datagram, out of a container's network; the answer in hexadecimal, empty after
/// `seconds`.
fn ask_raw(engine: &Engine, container: &str, question: &[u8], way: &str, seconds: u32) -> Result<String> {
    ask(engine, container, question, way, &format!("timeout {seconds} dd bs=4096 count=1"))
}

/// One question; `reader` is the program that reads the answer.
fn ask(engine: &Engine, container: &str, question: &[u8], way: &str, reader: &str) -> Result<String> {
    let pid = engine.cli().inspect(container, "{{.State.Pid}}")?;
    let escaped: String = question.iter().map(|b| format!("\\{b:03o}")).collect();
    let length = format!("\\{:03o}\\{:03o}", question.len() >> 8, question.len() & 255);
    let length = if way == "tcp" { length.as_str() } else { "" };
    let script = format!("exec 3<>/dev/{way}/127.0.0.11/53; printf '{length}{escaped}' >&3; {reader} <&3 2>/dev/null");
    let mut command = engine.world().command("nsenter");
    let output = command.args(["--target", &pid, "--net", "bash", "-c", &script]).output()?;
    Ok(output.stdout.iter().map(|b| format!("{b:02x}")).collect())
}

fn question(name: &str) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    out
}

#[test]
fn streams_and_cut_answers() -> Result<()> {
    let mut engine = with_a_server()?;
    let cli = engine.cli();
    cli.ok(["network", "create", "--subnet", "10.84.0.0/24", "open"])?;
    cli.ok(sleeper("asker", "open", &["--ip", "10.84.0.9"]))?;
    // An own name, over a stream.
    let said = ask_raw(&engine, "asker", &question("asker"), "tcp", 20)?;
    assert!(said.contains("12348") && said.ends_with("0a540009"), "{said}");
    // A cut answer comes as cut, and the whole one over a stream.
    let said = ask_raw(&engine, "asker", &question("long.example"), "udp", 20)?;
    ensure!(said.len() > 8, "no answer");
    assert_eq!(u8::from_str_radix(&said[4..6], 16)? & 2, 2, "{said}");
    let said = ask_raw(&engine, "asker", &question("long.example"), "tcp", 20)?;
    assert!(said.ends_with("c0000235"), "{said}");
    // One of 300 addresses, 4,830 bytes, comes whole; the last one is 10.1.1.43.
    let said = ask_raw(&engine, "asker", &question("huge.example"), "udp", 20)?;
    assert_eq!(u8::from_str_radix(said.get(4..6).unwrap_or("0"), 16)? & 2, 2, "{said}");
    let said = ask(&engine, "asker", &question("huge.example"), "tcp", "timeout 20 head -c 4832")?;
    assert!(said.len() == 2 * 4832 && said.ends_with("0a01012b"), "{} digits", said.len());
    // Nonsense is refused or ignored, and the server goes on.
    assert_eq!(ask_raw(&engine, "asker", b"nonsense", "udp", 1)?, "");
    let refused = ask_raw(&engine, "asker", &[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63], "udp", 20)?;
    assert!(refused.starts_with("12348") && refused.len() == 24, "{refused}");
    assert_eq!(look_up(&cli, "asker", "asker")?, ["10.84.0.9"]);
    cli.ok(["rm", "-f", "asker"])?;
    cli.ok(["network", "rm", "open"])?;
    unmount(&engine)?;
    engine.finish()
}

#[test]
fn names_are_answered_while_no_engine_runs() -> Result<()> {
    let mut engine = Engine::start()?;
    if engine.target() == Target::Dockerd {
        // Its containers end with it.
        return engine.finish();
    }
    engine.load_busybox()?;
    let cli = engine.cli();
    cli.ok(["network", "create", "--subnet", "10.85.0.0/24", "pier"])?;
    cli.ok(sleeper("other", "pier", &["--ip", "10.85.0.9"]))?;
    let folder = engine.scratch("seen")?;
    let script = "n=0; while :; do nslookup other 127.0.0.11 | grep -q 10.85.0.9 && n=$((n+1)) && echo $n >/seen/n; sleep 0.05; done";
    let mount = format!("{}:/seen", folder.display());
    cli.ok(["run", "-d", "--name", "asker", "--network", "pier", "-v", &mount, "busybox", "sh", "-c", script])?;
    let count = || fs::read_to_string(folder.join("n")).unwrap_or_default().trim().parse::<u32>().unwrap_or(0);
    let grows = |what: &str| -> Result<()> {
        let before = count();
        eventually(what, || {
            let now = count();
            ensure!(now > before + 2, "{now} answers, {before} before");
            Ok(())
        })
    };
    grows("names to be answered")?;
    engine.kill()?;
    grows("names to be answered without an engine")?;
    engine.launch()?;
    // And by the next one's names.
    let cli = engine.cli();
    cli.ok(["network", "disconnect", "pier", "other"])?;
    assert!(look_up(&cli, "asker", "other")?.is_empty());
    cli.ok(["network", "connect", "--ip", "10.85.0.10", "pier", "other"])?;
    assert_eq!(look_up(&cli, "asker", "other")?, ["10.85.0.10"]);
    cli.ok(["rm", "-f", "asker", "other"])?;
    cli.ok(["network", "rm", "pier"])?;
    engine.finish()
}
