//! What goes wrong, and what is said then. Nothing here may end the engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Registry, Tar, Target, eventually, image, shared, unique};
use serde_json::json;

fn cli() -> Result<Client> {
    Ok(shared()?.cli())
}

#[test]
fn an_unknown_image() -> Result<()> {
    // There is no network: the error is about the registry, after the image was not found here.
    let done = cli()?.run(["run", "--rm", "no-such-image-here", "true"])?;
    assert_eq!((done.code, done.stdout.as_str()), (125, ""));
    assert!(done.stderr.contains("Unable to find image 'no-such-image-here:latest' locally"), "{}", done.stderr);
    assert!(done.stderr.contains("Error response from daemon"), "{}", done.stderr);
    Ok(())
}

#[test]
fn a_registry_that_is_not_there() -> Result<()> {
    let said = cli()?.fails(1, ["pull", "127.0.0.1:1/x"])?;
    assert!(said.contains("127.0.0.1:1") && said.contains("connection refused"), "{said}");
    let said = cli()?.fails(1, ["pull", "registry.invalid/x"])?;
    assert!(said.contains("registry.invalid"), "{said}");
    Ok(())
}

#[test]
fn names_that_are_none() -> Result<()> {
    let cli = cli()?;
    let said = cli.fails(125, ["run", "--rm", "--name", "-bad-", "busybox", "true"])?;
    assert!(said.contains("Invalid container name (-bad-), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"), "{said}");
    for image in ["UPPER", "a:b:c", "a@sha256:123", "-x/y", "a//b", "x:-tag"] {
        let done = cli.run(["run", "--rm", "--", image, "true"])?;
        assert!(
            done.code == 125 && done.stderr.to_lowercase().contains("invalid reference format"),
            "{image}: {done:?}"
        );
    }
    Ok(())
}

#[test]
fn a_missing_bind_source() -> Result<()> {
    let said = cli()?
        .fails(125, ["run", "--rm", "--mount", "type=bind,source=/no/such/source,target=/b", "busybox", "true"])?;
    assert!(said.contains("bind source path does not exist: /no/such/source"), "{said}");
    let said = cli()?.fails(125, ["run", "--rm", "-v", "/tmp:relative", "busybox", "true"])?;
    assert!(said.contains("mount path must be absolute"), "{said}");
    let said = cli()?.fails(125, ["run", "--rm", "-v", "/tmp:/", "busybox", "true"])?;
    assert!(said.contains("destination can't be '/'"), "{said}");
    let said = cli()?.fails(125, ["run", "--rm", "-v", "/tmp:/a", "-v", "/var:/a", "busybox", "true"])?;
    assert!(said.contains("Duplicate mount point: /a"), "{said}");
    Ok(())
}

#[test]
fn a_failed_start_leaves_the_container_as_docker_does() -> Result<()> {
    let (cli, name) = (cli()?, unique("failed"));
    cli.run(["run", "--name", &name, "busybox", "no-such-program"])?;
    assert_eq!(cli.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}")?, "created 127");
    assert!(cli.inspect(&name, "{{.State.Error}}")?.contains("executable file not found"));
    cli.ok(["rm", &name])?;
    // With --rm nothing is left.
    cli.run(["run", "--rm", "--name", &name, "busybox", "no-such-program"])?;
    eventually("the failed container to be removed", || {
        ensure!(cli.run(["inspect", &name])?.code != 0, "it is there");
        Ok(())
    })
}

#[test]
fn no_command_at_all() -> Result<()> {
    let (cli, tag) = (cli()?, format!("{}:1", unique("nocmd")));
    shared()?.load(&image::archive(&tag, &[Tar::new().file("x", 0o644, b"x").finish()], &json!({})))?;
    let said = cli.fails(125, ["run", "--rm", &tag])?;
    assert!(said.to_lowercase().contains("no command specified"), "{said}");
    // A root file system without a single program.
    assert_eq!(cli.run(["run", "--rm", &tag, "sh"])?.code, 127);
    cli.ok(["rmi", &tag])?;
    Ok(())
}

#[test]
fn values_that_are_none() -> Result<()> {
    let cli = cli()?;
    for flags in [
        &["--memory", "lots"][..],
        &["--memory", "1m"],
        &["--cpus", "-1"],
        &["--cpus", "1000"],
        &["-p", "99999:1"],
        &["-p", "x"],
        &["--restart", "sometimes"],
        &["--network", "container:nobody-here"],
        &["-e", "=x"],
        &["--stop-signal", "NOSUCH"],
        &["--ulimit", "nofile=10:5"],
        &["--tmpfs", "relative"],
        &["--security-opt", "nonsense"],
        &["--log-driver", "no-such-driver"],
    ] {
        let done = cli.run([&["run", "--rm"], flags, &["busybox", "true"]].concat())?;
        assert!(done.code == 125 && !done.stderr.is_empty(), "{flags:?}: {done:?}");
    }
    Ok(())
}

#[test]
fn flags_and_commands_that_are_none() -> Result<()> {
    let cli = cli()?;
    assert_eq!(cli.run(["ps", "--no-such-flag"])?.code, 125);
    assert_eq!(cli.run(["no-such-command"])?.code, 1);
    assert_eq!(cli.run(["rm"])?.code, 1);
    assert_eq!(cli.run(["run"])?.code, 1);
    assert_eq!(cli.run(["inspect", "--format", "{{.Nope.Nope}}", "busybox"])?.code, 1);
    assert_ne!(cli.run(["ps", "--format", "{{.Nope}}"])?.code, 0);
    Ok(())
}

#[test]
fn no_permission_on_the_socket() -> Result<()> {
    let engine = shared()?;
    let mode = fs::metadata(engine.socket())?.permissions().mode() & 0o777;
    assert_eq!(mode & 0o007, 0, "others may use the socket: {mode:o}");
    let client = engine.cli().command(["ps"]);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(client.get_program())
        .args(client.get_args());
    for (key, value) in client.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    let output = command.env("HOME", "/").env("DOCKER_CONFIG", "/nonexistent").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.to_lowercase().contains("permission denied"), "{said}");
    Ok(())
}

#[test]
fn no_engine_at_all() -> Result<()> {
    let cli = cli()?;
    if cli.is_naru() {
        // It starts one; the engine's own tests say how.
        return Ok(());
    }
    let done = cli.run(["-H", "unix:///tmp/no-such.sock", "ps"])?;
    assert_eq!(done.code, 1);
    assert!(done.stderr.to_lowercase().contains("cannot connect to the docker daemon"), "{}", done.stderr);
    Ok(())
}

#[test]
fn an_engine_is_already_running_on_these_roots() -> Result<()> {
    let engine = Engine::start()?;
    let mut command = engine.daemon_command();
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("running") || said.contains("in use"), "{said}");
    // The first one is none the worse.
    engine.load_busybox()?;
    engine.cli().ok(["run", "--rm", "busybox", "true"])?;
    Ok(())
}

#[test]
fn daemon_flags_that_are_none() -> Result<()> {
    let engine = Engine::start()?;
    let output =
        engine.daemon_command().arg("--no-such-flag").stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-flag"));
    Ok(())
}

#[test]
fn the_disk_is_full_while_pulling() -> Result<()> {
    let engine =
        Engine::with(Target::from_env(), EngineOptions { data_tmpfs_mib: Some(64), ..EngineOptions::default() })?;
    let cli = engine.cli();
    let registry = Registry::start(&engine, 5000)?;
    let layer = |mib: usize| -> Vec<u8> {
        // Zeros would pack to nothing and only fail when unpacked; both must be survived.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let half = mib * 1024 * 1024 / 2;
        let mut bytes = vec![0; half];
        bytes.extend(
            std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .take(half / 8)
            .flatten(),
        );
        Tar::new().file("large", 0o644, &bytes).finish()
    };
    let config = json!({"Env": ["PATH=/bin"]});
    registry.fill(&image::archive("kit/big:1", &[layer(150)], &config), "big:1", &[])?;
    let done = cli.run(["pull", &registry.reference("big:1")])?;
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(done.stderr.contains("no space left on device"), "{}", done.stderr);
    assert_eq!(cli.run(["inspect", &registry.reference("big:1")])?.code, 1);
    // What half came is cleared away, and not kept for another try: something smaller fits.
    if engine.target() == Target::Naru {
        eventually("nothing is left of what didn't fit", || {
            // The small disk is in the engine's mount namespace alone.
            let ls = engine.world().command("ls").arg(engine.data_root().join("images/ingest")).output()?;
            ensure!(ls.status.success() && ls.stdout.is_empty(), "{ls:?}");
            Ok::<_, anyhow::Error>(())
        })?;
    }
    registry.fill(&image::archive("kit/small:1", &[image::busybox_rootfs()?], &config), "small:1", &[])?;
    cli.ok(["pull", &registry.reference("small:1")])?;
    assert_eq!(cli.ok(["run", "--rm", &registry.reference("small:1"), "echo", "fits"])?, "fits");
    Ok(())
}

#[test]
fn a_body_that_never_ends_or_is_cut() -> Result<()> {
    use std::io::Write;
    let engine = shared()?;
    for text in [
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"Image\":",
        "GET /containers/json HTTP/1.1\r\nHost",
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\0\0\0\0",
        "POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(engine.socket())?;
        stream.write_all(text.as_bytes())?;
        drop(stream);
    }
    let answer = engine.http().get("/_ping")?;
    assert_eq!(answer.status, 200);
    let long = "x".repeat(100_000);
    let answer = engine.http().get(&format!("/containers/{long}/json"));
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 400));
    engine.http().get("/_ping").context("after a long path")?;
    Ok(())
}
