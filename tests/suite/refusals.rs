//! What nobody can have of networks, ports, volumes and `cp`: each is refused in docker's words, and nothing is other than before.

use std::fs;

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, Target};

/// Everything that an engine has, as its lists tell it.
fn everything(cli: &Client) -> Result<Vec<String>> {
    let lists = [
        &["network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"][..],
        &["volume", "ls", "--format", "{{.Name}}"],
        &["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}} {{.Ports}} {{.Networks}}"],
    ];
    lists.iter().map(|list| cli.ok(*list)).collect()
}

/// Runs each, wants one of `code`s that say so, and compares what is there with what was.
fn refused(cli: &Client, cases: &[(Vec<&str>, &str)]) -> Result<()> {
    let before = everything(cli)?;
    for (args, why) in cases {
        let done = cli.run(args)?;
        ensure!(matches!(done.code, 1 | 125), "{args:?}: {} {} {}", done.code, done.stdout, done.stderr);
        ensure!(done.stderr.contains(why), "{args:?}: {why} is not in {}", done.stderr);
        ensure!(everything(cli)? == before, "{args:?} changed something");
    }
    Ok(())
}

fn run<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["create"], flags, &["busybox", "true"]].concat()
}

#[test]
fn nothing_changes_by_what_is_refused() -> Result<()> {
    let mut engine = Engine::start()?;
    engine.load_busybox()?;
    let naru = engine.target() == Target::Naru;
    for cli in [engine.docker(), engine.naru()] {
        cli.ok(["network", "create", "--subnet", "10.96.0.0/24", "taken"])?;
        cli.ok([
            "run",
            "-d",
            "--name",
            "owner",
            "--network",
            "taken",
            "--ip",
            "10.96.0.7",
            "busybox",
            "sleep",
            "100000",
        ])?;
        cli.ok(["volume", "create", "held"])?;
        cli.ok(["create", "--name", "holder", "-v", "held:/v", "busybox", "true"])?;
        let mut cases = vec![
            // Networks.
            (
                vec!["network", "create", "--subnet", "10.96.0.128/25", "other"],
                "Pool overlaps with other one on this address space",
            ),
            (
                vec!["network", "create", "--subnet", "10.0.0.0/8", "other"],
                "Pool overlaps with other one on this address space",
            ),
            (
                vec!["network", "create", "--subnet", "10.97.0.0/24", "--gateway", "10.98.0.1", "other"],
                "no matching subnet for gateway 10.98.0.1",
            ),
            (
                vec!["network", "create", "--subnet", "10.97.0.0/24", "--ip-range", "10.98.0.0/25", "other"],
                "no matching subnet for range 10.98.0.0/25",
            ),
            (vec!["network", "rm", "taken"], "has active endpoints"),
            (vec!["network", "rm", "nowhere"], "not found"),
            (vec!["network", "connect", "taken", "nobody"], "No such container: nobody"),
            (vec!["network", "connect", "taken", "owner"], "endpoint with name owner already exists in network taken"),
            (vec!["network", "disconnect", "taken", "nobody"], "No such container: nobody"),
            // Ports.
            (run(&["-p", "99999:1"]), "invalid hostPort: 99999"),
            (run(&["-p", "80:99999"]), "invalid containerPort: 99999"),
            (run(&["-p", "x"]), "invalid containerPort: x"),
            (run(&["-p", "9-8:80"]), "invalid hostPort: 9-8"),
            (run(&["-p", "1.2.3:80:80"]), "invalid IP address: 1.2.3"),
            (run(&["-p", "300.1.1.1:80:80"]), "invalid IP address: 300.1.1.1"),
            (run(&["-p", "[::1:80:80"]), "invalid IP address"),
            (run(&["-p", "8080:80/nope"]), "invalid proto: nope"),
            (
                run(&["-p", "8000-8002:80-81"]),
                "invalid ranges specified for container and host Ports: 80-81 and 8000-8002",
            ),
            (run(&["-p", ""]), "no port specified"),
            (run(&["--expose", "x"]), "invalid range format for --expose: x"),
            // Volumes.
            (
                vec!["volume", "create", "a/b"],
                "create a/b: \"a/b\" includes invalid characters for a local volume name",
            ),
            (vec!["volume", "create", "a:b"], "includes invalid characters for a local volume name"),
            (
                vec!["volume", "create", "x"],
                "create x: volume name is too short, names should be at least two alphanumeric characters",
            ),
            (
                vec!["volume", "create", "-d", "nope", "other"],
                "create other: error looking up volume plugin nope: plugin \"nope\" not found",
            ),
            (vec!["volume", "create", "-o", "nope=1", "other"], "create other: invalid option: \"nope\""),
            (
                vec!["volume", "create", "-o", "type=tmpfs", "other"],
                "create other: missing required option: \"device\"",
            ),
            (vec!["volume", "rm", "held"], "remove held: volume is in use"),
            (vec!["volume", "rm", "-f", "held"], "remove held: volume is in use"),
            (vec!["volume", "rm", "nowhere"], "get nowhere: no such volume"),
            (run(&["-v", "a/b:/x"]), "includes invalid characters for a local volume name"),
            (run(&["-v", "/var:/x", "-v", "/tmp:/x"]), "Duplicate mount point: /x"),
            (run(&["-v", "/tmp:/"]), "destination can't be '/'"),
            (run(&["--mount", "type=bind,source=/no/such,target=/x"]), "bind source path does not exist: /no/such"),
            (run(&["--volumes-from", "nobody"]), "No such container: nobody"),
            // Files.
            (vec!["cp", "holder:/none", "."], "Could not find the file /none in container holder"),
            (vec!["cp", "/etc/hostname", "holder:/none/x"], "Could not find the file /none in container holder"),
            (vec!["cp", "/etc/hostname", "nobody:/x"], "No such container: nobody"),
            (vec!["cp", "holder:/bin", "owner:/x"], "copying between containers is not supported"),
            (vec!["cp", "/etc", "holder:/etc/passwd"], "cannot copy directory"),
        ];
        if naru {
            // dockerd 20.10 finds out when the container starts, or has other words.
            cases.extend([
                (run(&["-v", "fresh:/x", "-v", "/tmp:/x"]), "Duplicate mount point: /x"),
                (vec!["network", "connect", "nowhere", "holder"], "network nowhere not found"),
                (run(&["--network", "taken", "--ip", "10.95.0.2"]), "invalid config for network taken"),
                (vec!["network", "create", "taken"], "network with name taken already exists"),
                (vec!["network", "create", "a/b"], "invalid name"),
            ]);
        }
        refused(&cli, &cases)?;
        // These are refused when it starts; then nothing is left, either.
        let before = everything(&cli)?;
        for (flags, why) in [
            (["--network", "taken", "--ip", "10.96.0.7"], "Address already in use"),
            (["--network", "nowhere", "--name", "late"], "network nowhere not found"),
        ] {
            let done = cli.run([&["run", "--rm"][..], &flags, &["busybox", "true"]].concat())?;
            ensure!(done.code == 125 && done.stderr.contains(why), "{flags:?}: {done:?}");
            naru_testkit::eventually("nothing to be left", || {
                ensure!(everything(&cli)? == before, "{flags:?}: something is left");
                Ok(())
            })?;
        }
        cli.ok(["rm", "-f", "-v", "owner", "holder"])?;
        cli.ok(["volume", "rm", "held"])?;
        cli.ok(["network", "rm", "taken"])?;
    }
    engine.finish()
}

#[test]
fn what_a_container_calls_a_file_is_none_of_the_hosts() -> Result<()> {
    let engine = naru_testkit::shared()?;
    let folder = engine.scratch("hostile")?;
    fs::write(folder.join("secret"), "the host's")?;
    let name = naru_testkit::unique("hostile");
    let cli = engine.cli().in_folder(&folder);
    let victim = folder.display();
    let script = format!(
        "mkdir /w; ln -s {victim}/secret /w/file; ln -s {victim} /w/folder; ln -s ../../../../../../../..{victim} /w/up; ln -s loop /w/loop"
    );
    cli.ok(["run", "--name", &name, "busybox", "sh", "-c", &script])?;
    let at = |path: &str| format!("{name}:/w/{path}");
    for path in ["file", "folder/secret", "up/secret"] {
        let done = cli.run(["cp", "-L", &at(path), "out"])?;
        ensure!(done.code == 1 && done.stderr.contains("Could not find the file"), "{path}: {done:?}");
    }
    // A link is a link.
    cli.ok(["cp", &at("file"), "link"])?;
    ensure!(fs::symlink_metadata(folder.join("link"))?.is_symlink(), "the link was followed");
    let done = cli.run(["cp", "-L", &at("loop"), "out"])?;
    ensure!(done.code == 1, "{done:?}");
    ensure!(!folder.join("out").exists(), "something came out");
    fs::write(folder.join("in"), "the client's")?;
    for path in ["folder/secret", "up/secret", "folder/new", "up/new"] {
        let done = cli.run(["cp", "in", &at(path)])?;
        ensure!(done.code == 1, "{path}: {done:?}");
    }
    let mut names: Vec<_> = fs::read_dir(&folder)?.flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["in", "link", "secret"]);
    assert_eq!(fs::read_to_string(folder.join("secret"))?, "the host's");
    cli.ok(["rm", &name])?;
    Ok(())
}
