//! Every form of `-p`, `-P` and `--expose`, what `port` then says, and in which words the others are refused.

use anyhow::{Result, ensure};
use naru_testkit::{Client, Target, shared, unique};

/// What `port` says of a container that publishes so, with the numbers that the engine chose as `*`.
fn shown(cli: &Client, options: &[&str]) -> Result<String> {
    let name = unique("form");
    let done = cli.run([&["run", "-d", "--name", &name], options, &["busybox", "sleep", "1000"]].concat())?;
    ensure!(done.code == 0, "{options:?}: {}", done.stderr);
    let text = cli.ok(["port", &name])?;
    cli.ok(["rm", "-f", &name])?;
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let (rest, port) = line.rsplit_once(':').unwrap_or((line, ""));
            let chosen = port.parse::<u32>().is_ok_and(|p| p >= 32768);
            format!("{rest}:{}", if chosen { "*" } else { port })
        })
        .collect();
    lines.sort();
    Ok(lines.join(", "))
}

#[test]
fn what_is_published() -> Result<()> {
    let engine = shared()?;
    let cli = engine.cli();
    let naru = engine.target() == Target::Naru;
    for (options, expected) in [
        (&["-p", "80"][..], "80/tcp -> 0.0.0.0:*, 80/tcp -> [::]:*"),
        (&["-p", ":80"], "80/tcp -> 0.0.0.0:*, 80/tcp -> [::]:*"),
        (&["-p", "0:80"], "80/tcp -> 0.0.0.0:*, 80/tcp -> [::]:*"),
        (&["-p", "80-81"], "80/tcp -> 0.0.0.0:*, 80/tcp -> [::]:*, 81/tcp -> 0.0.0.0:*, 81/tcp -> [::]:*"),
        (&["-p", "23010:80/UDP"], "80/udp -> 0.0.0.0:23010, 80/udp -> [::]:23010"),
        (&["-p", "127.0.0.1::80"], "80/tcp -> 127.0.0.1:*"),
        (&["-p", "[::1]::80"], "80/tcp -> [::1]:*"),
        (&["-p", "::1:23011:80"], "80/tcp -> [::1]:23011"),
        (&["-p", "127.0.0.1:23012-23013:80-81/udp"], "80/udp -> 127.0.0.1:23012, 81/udp -> 127.0.0.1:23013"),
        (&["-p", "127.0.0.1:23014:80", "-p", "127.0.0.1:23014:80"], "80/tcp -> 127.0.0.1:23014"),
        (
            &["-p", "127.0.0.1:23015:80/tcp", "-p", "127.0.0.1:23015:80/udp"],
            "80/tcp -> 127.0.0.1:23015, 80/udp -> 127.0.0.1:23015",
        ),
        // One port of the container on several of the host.
        (
            &["-p", "127.0.0.1:23016:80", "-p", "127.0.0.1:23017:80"],
            "80/tcp -> 127.0.0.1:23016, 80/tcp -> 127.0.0.1:23017",
        ),
        (
            &["-P", "--expose", "80", "--expose", "53/udp", "--expose", "90-91"],
            "53/udp -> 0.0.0.0:*, 53/udp -> [::]:*, 80/tcp -> 0.0.0.0:*, 80/tcp -> [::]:*, 90/tcp -> 0.0.0.0:*, \
             90/tcp -> [::]:*, 91/tcp -> 0.0.0.0:*, 91/tcp -> [::]:*",
        ),
        // What is published in words of its own keeps them.
        (&["-P", "--expose", "80", "-p", "127.0.0.1:23018:80"], "80/tcp -> 127.0.0.1:23018"),
        (&["--network", "none", "-p", "23019:80"], ""),
        (&["--network", "host", "-p", "23019:80"], ""),
    ] {
        // An older daemon is in its own way.
        if !naru && options.iter().filter(|o| **o == options[1]).count() > 1 {
            continue;
        }
        let said = shown(&cli, options)?;
        // An older daemon chooses a port for each address.
        ensure!(said == expected || (!naru && options.contains(&"-P")), "{options:?}: {said:?}, not {expected:?}");
    }
    Ok(())
}

#[test]
fn what_is_refused() -> Result<()> {
    let engine = shared()?;
    let cli = engine.cli();
    let name = unique("refused");
    let mut all = vec![
        ("8080:80/icmp", "invalid proto: icmp"),
        ("8080:80:90", "invalid IP address: 8080"),
        ("99999:80", "invalid hostPort: 99999"),
        ("8080:99999", "invalid containerPort: 99999"),
        ("8080-8082:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8080-8082"),
        ("8082-8080:80", "invalid hostPort: 8082-8080"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("abc:80", "invalid hostPort: abc"),
        ("1.2.3:8080:80", "invalid IP address: 1.2.3"),
        ("localhost:8080:80", "invalid IP address: localhost"),
        ("", "no port specified: <empty>"),
        ("published=8080", "no port specified: 8080:/tcp<empty>"),
        ("published=8080,target=abc", "invalid containerPort: abc"),
    ];
    if engine.target() == Target::Naru {
        all.push(("198.51.100.9:8080:80", "cannot assign requested address: the host has no address 198.51.100.9"));
    }
    for (form, error) in all {
        let done = cli.run(["run", "-d", "--name", &name, "-p", form, "busybox", "true"])?;
        ensure!(done.code == 125 && done.stderr.contains(error), "{form}: {done:?}");
        cli.run(["rm", "-f", &name])?;
    }
    for (form, error) in [
        ("abc", "invalid range format for --expose: abc, error: strconv.ParseUint: parsing \"abc\": invalid syntax"),
        ("90-80", "invalid range format for --expose: 90-80, error: invalid range specified for port: 90-80"),
    ] {
        let done = cli.run(["run", "-d", "--name", &name, "--expose", form, "busybox", "true"])?;
        ensure!(done.code == 125 && done.stderr.contains(error), "{form}: {done:?}");
    }
    // Its own, by two names.
    let twice = ["-p", "127.0.0.1:23030:80", "-p", "127.0.0.1:23030:81"];
    let done = cli.run([&["run", "-d", "--name", &name], &twice[..], &["busybox", "true"]].concat())?;
    let taken = ["port is already allocated", "address already in use"].iter().any(|text| done.stderr.contains(text));
    ensure!(done.code == 125 && taken, "{done:?}");
    cli.ok(["rm", "-f", &name])?;
    cli.ok(["run", "-d", "--name", &name, "-p", "127.0.0.1:23031:80", "busybox", "sleep", "1000"])?;
    for (port, error) in [
        ("99", "No public port '99' published for"),
        ("80/udp", "No public port '80/udp' published for"),
        ("abc", "invalid port (abc): strconv.ParseUint: parsing \"abc\": invalid syntax"),
    ] {
        let done = cli.run(["port", &name, port])?;
        ensure!(done.code == 1 && done.stderr.contains(error), "{port}: {done:?}");
    }
    ensure!(cli.ok(["port", &name, "80/tcp"])?.trim_end() == "127.0.0.1:23031");
    cli.ok(["rm", "-f", &name])?;
    Ok(())
}
