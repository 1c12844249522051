//! Log drivers and their options.

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, shared, unique};

const DRIVERS: [&str; 2] = ["json-file", "local"];

/// A container that has ended; its name.
fn ended(cli: &Client, flags: &[&str], script: &str) -> Result<String> {
    let name = unique("log");
    cli.run([&["run", "--name", &name], flags, &["busybox", "sh", "-c", script]].concat())?;
    Ok(name)
}

fn engine(args: &[&str]) -> Result<Engine> {
    let args = args.iter().map(Into::into).collect();
    let engine = Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    Ok(engine)
}

#[test]
fn each_driver_keeps_what_was_said() -> Result<()> {
    let cli = shared()?.docker();
    for driver in DRIVERS {
        let script = "echo out1; echo err1 >&2; echo; printf 'a\\000b\\377\\n'; head -c 40000 /dev/zero | tr '\\0' x; printf '\\nno end'";
        let name = ended(&cli, &["--log-driver", driver], script)?;
        let done = cli.run(["logs", &name])?;
        assert_eq!(done.stderr, "err1\n", "{driver}");
        let start = done.stdout.strip_prefix("out1\n\na\0b").context("the first lines")?;
        let rest = start.trim_start_matches('\u{fffd}').strip_prefix('\n').context("a line end")?;
        // Not 40,000 of them in the message of a failure.
        assert_eq!(rest.matches('x').count(), 40_000);
        // dockerd's reader of `local` forgets the line end after the last piece of a long line.
        let forgets = driver == "local" && Target::from_env() == Target::Dockerd;
        assert_eq!(rest.replace('x', ""), if forgets { "no end" } else { "\nno end" }, "{driver}");
        assert_eq!(cli.ok(["logs", "--tail", "1", &name])?.lines().last(), Some("no end"));
        assert!(cli.ok(["logs", "-t", "--tail", "1", &name])?.contains("Z "));
        assert_eq!(cli.inspect(&name, "{{.HostConfig.LogConfig.Type}}")?, driver);
        assert_eq!(cli.inspect(&name, "{{.LogPath}}")?.is_empty(), driver == "local");
        cli.ok(["rm", &name])?;
    }
    Ok(())
}

#[test]
fn compressed_files_are_read_in_order() -> Result<()> {
    let cli = shared()?.docker();
    for driver in DRIVERS {
        let flags = [
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=10k",
            "--log-opt",
            "max-file=90",
            "--log-opt",
            "compress=true",
        ];
        let name = ended(&cli, &flags, "seq 1 4000")?;
        let said = cli.ok(["logs", &name])?;
        let expected: Vec<String> = (1..=4000).map(|n| n.to_string()).collect();
        assert!(said.lines().eq(expected.iter().map(String::as_str)), "{driver}: {} lines", said.lines().count());
        assert_eq!(cli.ok(["logs", "--tail", "1000", &name])?.lines().next(), Some("3001"), "{driver}");
        if driver == "json-file" {
            let path = cli.inspect(&name, "{{.LogPath}}")?;
            assert!(std::path::Path::new(&format!("{path}.2.gz")).exists());
        }
        cli.ok(["rm", &name])?;
    }
    Ok(())
}

#[test]
fn a_follower_goes_over_rotations() -> Result<()> {
    if Target::from_env() == Target::Dockerd {
        // Its reader tells some lines twice when a file is rotated while it reads.
        return Ok(());
    }
    let cli = shared()?.docker();
    for driver in DRIVERS {
        let name = unique("follow");
        let script =
            "echo first; while [ ! -e /go ]; do sleep 0.05; done; seq 1 3000; while [ ! -e /end ]; do sleep 0.05; done";
        let flags = ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=90"];
        cli.ok([&["run", "-d", "--name", &name], &flags[..], &["busybox", "sh", "-c", script]].concat())?;
        let running = cli.start(["logs", "-f", &name])?;
        running.expect("first\n")?;
        cli.ok(["exec", &name, "touch", "/go"])?;
        running.expect("\n3000\n")?;
        cli.ok(["exec", &name, "touch", "/end"])?;
        let expected: String = (1..=3000).map(|n| format!("{n}\n")).collect();
        assert_eq!(running.finish()?.stdout, format!("first\n{expected}"), "{driver}");
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}

#[test]
fn labels_variables_and_tags_are_in_each_line() -> Result<()> {
    let cli = shared()?.docker();
    let flags = [
        "--label",
        "com.example.a=1 2",
        "--label",
        "other=3",
        "--label",
        "left=4",
        "-e",
        "COLOR=red",
        "-e",
        "SHAPE=round",
        "--log-opt",
        "labels=other,none",
        "--log-opt",
        "labels-regex=^com\\.example",
        "--log-opt",
        "env=COLOR",
        "--log-opt",
        "env-regex=^SH",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
    ];
    let name = ended(&cli, &flags, "echo hello")?;
    let expected = format!("COLOR=red,SHAPE=round,com.example.a=1+2,other=3,tag={name}%2Fbusybox hello");
    assert_eq!(cli.ok(["logs", "--details", &name])?, expected);
    let text = std::fs::read_to_string(cli.inspect(&name, "{{.LogPath}}")?)?;
    let attrs = format!(
        r#"{{"log":"hello\n","stream":"stdout","attrs":{{"COLOR":"red","SHAPE":"round","com.example.a":"1 2","other":"3","tag":"{name}/busybox"}},"time":""#
    );
    assert!(text.starts_with(&attrs), "{text}");
    cli.ok(["rm", &name])?;
    let plain = ended(&cli, &[], "echo hello")?;
    assert_eq!(cli.run(["logs", "--details", &plain])?.stdout, " hello\n");
    cli.ok(["rm", &plain])?;
    Ok(())
}

#[test]
fn what_is_not_there_is_refused() -> Result<()> {
    let cli = shared()?.docker();
    for (flags, text) in [
        (&["--log-driver", "bla"][..], "error looking up logging plugin bla: plugin \"bla\" not found"),
        (&["--log-opt", "foo=1"], "unknown log opt 'foo' for json-file log driver"),
        (&["--log-driver", "local", "--log-opt", "tag=x"], "unknown log opt 'tag' for log driver local"),
        (&["--log-opt", "mode=fast"], "logger: logging mode not supported: fast"),
        (
            &["--log-opt", "max-buffer-size=1m"],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
    ] {
        let said = cli.fails(1, [&["create"], flags, &["busybox"]].concat())?;
        assert!(said.contains(text), "{flags:?}: {said}");
    }
    if cli.is_naru() || Target::from_env() == Target::Naru {
        for driver in ["bla", "syslog"] {
            let said = cli.fails(1, ["create", "--log-driver", driver, "busybox"])?;
            assert!(said.contains("json-file, local, none"), "{said}");
        }
    }
    Ok(())
}

#[test]
fn the_engines_own_driver_and_options() -> Result<()> {
    let engine = engine(&["--log-driver", "local", "--log-opt", "max-file=3"])?;
    let cli = engine.docker();
    assert_eq!(cli.ok(["info", "--format", "{{.LoggingDriver}}"])?, "local");
    let listed = cli.ok(["info", "--format", "{{json .Plugins.Log}}"])?;
    assert!(listed.contains("\"json-file\"") && listed.contains("\"local\""), "{listed}");
    let log_config = |name: &str| cli.inspect(name, "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}}");
    let name = ended(&cli, &["--log-opt", "max-size=1m"], "echo hello")?;
    assert_eq!(log_config(&name)?, "local map[max-file:3 max-size:1m]");
    assert_eq!(cli.ok(["logs", &name])?, "hello");
    let other = ended(&cli, &["--log-driver", "json-file"], "echo hello")?;
    assert_eq!(log_config(&other)?, "json-file map[]");
    cli.ok(["rm", &name, &other])?;
    Ok(())
}

#[test]
fn without_blocking_all_that_finds_room_is_kept() -> Result<()> {
    let cli = shared()?.docker();
    for driver in DRIVERS {
        let flags = ["--log-driver", driver, "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m"];
        let name = ended(&cli, &flags, "seq 1 2000; printf end")?;
        let said = cli.ok(["logs", &name])?;
        assert!(
            said.starts_with("1\n2\n") && said.ends_with("\n2000\nend"),
            "{driver}: {} lines",
            said.lines().count()
        );
        cli.ok(["rm", &name])?;
    }
    Ok(())
}

#[test]
fn a_full_disk_under_the_log_stops_nothing_and_is_told() -> Result<()> {
    if Target::from_env() != Target::Naru {
        return Ok(());
    }
    let options = EngineOptions { data_tmpfs_mib: Some(48), ..EngineOptions::default() };
    let engine = Engine::with(Target::Naru, options)?;
    engine.load_busybox()?;
    let cli = engine.naru();
    let script = "while [ ! -e /dev/shm/go ]; do sleep 0.05; done; seq 1 20000; touch /dev/shm/said; \
                  while [ ! -e /dev/shm/end ]; do sleep 0.05; done; echo later; \
                  while [ ! -e /dev/shm/out ]; do sleep 0.05; done";
    cli.ok(["run", "-d", "--name", "chatty", "busybox", "sh", "-c", script])?;
    cli.ok(["exec", "chatty", "true"])?;
    // Inside the engine's world, where the small file system is; bounded, should it be somewhere else.
    let ballast = engine.data_root().join("ballast");
    let in_world = |program: &str, args: &[String]| engine.world().command(program).args(args).output();
    for block in ["64k", "4k", "1"] {
        let args =
            [format!("of={}", ballast.display()), format!("bs={block}"), "count=4096".into(), "if=/dev/zero".into()];
        in_world("dd", &[&args[..], &["oflag=append".into(), "conv=notrunc".into()]].concat())?;
    }
    cli.ok(["exec", "chatty", "touch", "/dev/shm/go"])?;
    eventually("the container to go on", || cli.ok(["exec", "chatty", "test", "-e", "/dev/shm/said"]))?;
    eventually("the loss to be told", || {
        let said = cli.ok(["why", "chatty"])?;
        ensure!(said.contains("in no log: cannot write") && said.contains("No space left on device"), "{said}");
        Ok(())
    })?;
    in_world("rm", &[ballast.display().to_string()])?;
    cli.ok(["exec", "chatty", "touch", "/dev/shm/end"])?;
    cli.wait_for_log("chatty", "later")?;
    // What could be written before is whole, and so is what came after.
    let said = cli.ok(["logs", "chatty"])?;
    let lines: Vec<&str> = said.lines().collect();
    ensure!(
        lines.last() == Some(&"later") && lines[..lines.len() - 1].iter().all(|l| l.parse::<u32>().is_ok()),
        "{said}"
    );
    cli.ok(["exec", "chatty", "touch", "/dev/shm/out"])?;
    cli.ok(["wait", "chatty"])?;
    cli.ok(["rm", "chatty"])?;
    Ok(())
}

#[test]
fn a_follower_sees_restarts_and_ends_with_the_last() -> Result<()> {
    if Target::from_env() != Target::Naru {
        // There it ends with the first run.
        return Ok(());
    }
    let (cli, name) = (shared()?.docker(), unique("again"));
    let script = "while [ ! -e /go ]; do sleep 0.05; done; echo run; exit 3";
    cli.ok(["run", "-d", "--name", &name, "--restart", "on-failure:2", "busybox", "sh", "-c", script])?;
    let running = cli.start(["logs", "-f", &name])?;
    cli.ok(["exec", &name, "touch", "/go"])?;
    assert_eq!(running.finish()?.stdout, "run\nrun\nrun\n");
    cli.ok(["rm", &name])?;
    Ok(())
}

#[test]
fn a_follower_ends_when_the_container_is_removed() -> Result<()> {
    let (cli, name) = (shared()?.docker(), unique("gone"));
    cli.ok(["run", "-d", "--name", &name, "busybox", "sh", "-c", "echo here; exec sleep 1000"])?;
    let running = cli.start(["logs", "-f", &name])?;
    running.expect("here\n")?;
    cli.ok(["rm", "-f", &name])?;
    assert_eq!(running.finish()?.stdout, "here\n");
    assert!(cli.fails(1, ["logs", &name])?.contains("No such container"));
    Ok(())
}

#[test]
fn what_is_said_while_no_engine_runs_is_logged() -> Result<()> {
    if Target::from_env() != Target::Naru {
        return Ok(());
    }
    let engine = engine(&[])?;
    let cli = engine.docker();
    for driver in DRIVERS {
        let (name, go) = (unique("alone"), format!("/dev/shm/{driver}"));
        let script = format!("echo before; while [ ! -e {go} ]; do sleep 0.05; done; echo meanwhile; exec sleep 1000");
        let flags = ["--log-driver", driver, "--name", &name];
        cli.ok([&["run", "-d"], &flags[..], &["busybox", "sh", "-c", &script]].concat())?;
        cli.wait_for_log(&name, "before")?;
        let root = cli.inspect(&name, "{{.State.Pid}}")?;
        engine.kill()?;
        let touched = engine.world().command("touch").arg(format!("/proc/{root}/root{go}")).status()?;
        ensure!(touched.success(), "touch {go} in the container");
        engine.launch()?;
        cli.wait_for_log(&name, "meanwhile")?;
        assert_eq!(cli.ok(["logs", &name])?, "before\nmeanwhile", "{driver}");
        cli.ok(["rm", "-f", &name])?;
    }
    Ok(())
}
