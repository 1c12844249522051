//! The tutorial, line by line, as a reader types it: once with docker's client, once with Naru's; on a real Debian and on
//! busybox.

use anyhow::{Context, Result, bail, ensure};
use naru_testkit::{Client, Engine, HubSearch, Target, image};

#[test]
fn with_dockers_client_on_debian() -> Result<()> {
    let engine = Engine::start()?;
    engine.load(&image::debian()?)?;
    walk(&engine, &engine.docker(), "debian:bookworm", "bash")
}

#[test]
fn with_dockers_client_on_busybox() -> Result<()> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    walk(&engine, &engine.docker(), "busybox", "sh")
}

#[test]
fn with_narus_client_on_debian() -> Result<()> {
    let engine = Engine::start()?;
    if no_naru(&engine) {
        return Ok(());
    }
    engine.load(&image::debian()?)?;
    walk(&engine, &engine.naru(), "debian:bookworm", "bash")
}

#[test]
fn with_narus_client_on_busybox() -> Result<()> {
    let engine = Engine::start()?;
    if no_naru(&engine) {
        return Ok(());
    }
    engine.load_busybox()?;
    walk(&engine, &engine.naru(), "busybox", "sh")
}

/// On dockerd, the walk with Naru's client is of use once there is one.
fn no_naru(engine: &Engine) -> bool {
    let works = || engine.naru().ok(["version"]).is_ok_and(|said| said.contains("Server"));
    let skip = engine.target() == Target::Dockerd && !works();
    if skip {
        naru_tests::note("skipped: no naru binary");
    }
    skip
}

fn walk(engine: &Engine, cli: &Client, image: &str, shell: &str) -> Result<()> {
    images_and_search(engine, cli, image)?;
    run_and_ps(cli, image)?;
    attach_and_exit(cli)?;
    start_and_exec(cli, shell)?;
    inspect(cli, image)?;
    commit_and_rmi(cli)?;
    stop_start_rm(cli)
}

/// `docker images`, `docker search <image_name>`.
fn images_and_search(engine: &Engine, cli: &Client, image: &str) -> Result<()> {
    let (repository, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let listed = cli.ok(["images"])?;
    ensure!(listed.lines().any(|line| line.contains(repository) && line.contains(tag)), "{listed}");

    // Offline, the hub is not to be reached: an error, not a hang.
    let said = cli.fails(1, ["search", "busybox"])?;
    ensure!(said.contains("Error response from daemon"), "{said}");
    let hub = HubSearch::start(
        engine,
        5900,
        &[("busybox", "Busybox base image.", 3000), ("me/busybox-x", "Another one", 1)],
    )?;
    let said = cli.ok(["search", &format!("{}/busybox", hub.address())])?;
    ensure!(
        said.starts_with("NAME") && said.contains("Busybox base image.") && said.contains("me/busybox-x"),
        "{said}"
    );
    Ok(())
}

/// `docker run`, which ends at once; `docker run -dit --name`; `docker ps`, `docker ps -a`.
fn run_and_ps(cli: &Client, image: &str) -> Result<()> {
    // The shell has no input, and so it ends with its start.
    cli.ok(["run", "--name", "at-once", image])?;
    ensure!(!cli.ok(["ps"])?.contains("at-once"));
    let all = cli.ok(["ps", "-a"])?;
    let line = all.lines().find(|line| line.contains("at-once")).context("ps -a shows what has ended")?;
    ensure!(line.contains("Exited (0)"), "{line}");

    let id = cli.ok(["run", "-dit", "--name", "mine", image])?;
    ensure!(id.len() == 64, "{id}");
    let running = cli.ok(["ps"])?;
    let line = running.lines().find(|line| line.contains("mine")).context("ps shows what runs")?;
    ensure!(line.contains(&id[..12]) && line.contains("Up "), "{line}");
    Ok(())
}

/// `docker attach <name>`, `exit`: the process ends with it.
fn attach_and_exit(cli: &Client) -> Result<()> {
    let mut terminal = cli.pty(["attach", "mine"])?;
    terminal.send("echo in''side\r")?;
    terminal.expect("inside")?;
    terminal.send("exit\r")?;
    let (code, screen) = terminal.finish()?;
    ensure!(code == 0, "attach exited with {code}: {screen}");
    ensure!(cli.inspect("mine", "{{.State.Status}}")? == "exited");
    Ok(())
}

/// `docker start <name>`, `docker exec -it <name> bash` with `exit`, `docker exec -it <name> echo hello world`.
fn start_and_exec(cli: &Client, shell: &str) -> Result<()> {
    ensure!(cli.ok(["start", "mine"])? == "mine");
    let mut terminal = cli.pty(["exec", "-it", "mine", shell])?;
    terminal.send("echo in''side; touch /left-behind; hostname\r")?;
    terminal.expect("inside")?;
    terminal.send("exit\r")?;
    let (code, screen) = terminal.finish()?;
    ensure!(code == 0, "exec exited with {code}: {screen}");
    ensure!(cli.inspect("mine", "{{.State.Running}}")? == "true", "exec's exit must not end the container");

    let (code, screen) = cli.pty(["exec", "-it", "mine", "echo", "hello", "world"])?.finish()?;
    ensure!(code == 0 && screen == "hello world\r\n", "{code} {screen:?}");
    ensure!(cli.inspect("mine", "{{.State.Running}}")? == "true");
    Ok(())
}

/// `docker inspect <name>`: path and ip.
fn inspect(cli: &Client, image: &str) -> Result<()> {
    let whole: serde_json::Value = serde_json::from_str(&cli.ok(["inspect", "mine"])?)?;
    let one = &whole[0];
    let shell = if image.starts_with("debian") { "bash" } else { "sh" };
    ensure!(one["Path"] == shell && one["Name"] == "/mine" && one["Config"]["Image"] == image, "{one}");
    let address = one["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap_or_default();
    let Ok(address) = address.parse::<std::net::Ipv4Addr>() else { bail!("no address in {one}") };
    ensure!(address.is_private(), "{address}");
    ensure!(cli.inspect("mine", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")? == address.to_string());
    Ok(())
}

/// `docker commit <from_container> <to_image_name>`, `docker images`, `docker rmi <image_name>`.
fn commit_and_rmi(cli: &Client) -> Result<()> {
    let id = cli.ok(["commit", "mine", "my-image"])?;
    ensure!(id.starts_with("sha256:"), "{id}");
    ensure!(cli.ok(["images"])?.lines().any(|line| line.starts_with("my-image")));
    cli.ok(["run", "--rm", "my-image", "test", "-e", "/left-behind"])?;
    cli.ok(["run", "--name", "from-mine", "my-image"])?;
    cli.fails(1, ["rmi", "my-image"])?;
    cli.ok(["rm", "from-mine"])?;
    let said = cli.ok(["rmi", "my-image"])?;
    ensure!(said.contains("Untagged: my-image:latest") && said.contains("Deleted: sha256:"), "{said}");
    ensure!(!cli.ok(["images"])?.contains("my-image"));
    Ok(())
}

/// `docker stop`, `docker ps`, `docker ps -a`, `docker start`, `docker rm`.
fn stop_start_rm(cli: &Client) -> Result<()> {
    // An interactive shell does not end on SIGTERM; the second it is given is the test's, not the tutorial's.
    ensure!(cli.ok(["stop", "-t", "1", "mine"])? == "mine");
    ensure!(!cli.ok(["ps"])?.contains("mine"));
    let all = cli.ok(["ps", "-a"])?;
    let line = all.lines().find(|line| line.contains("mine")).context("ps -a shows what was stopped")?;
    ensure!(line.contains("Exited ("), "{line}");

    ensure!(cli.ok(["start", "mine"])? == "mine");
    let said = cli.fails(1, ["rm", "mine"])?;
    ensure!(said.to_lowercase().contains("stop the container before"), "{said}");
    ensure!(cli.ok(["ps"])?.contains("mine"));
    ensure!(cli.ok(["rm", "-f", "mine"])? == "mine");
    ensure!(cli.ok(["rm", "at-once"])? == "at-once");
    let all = cli.ok(["ps", "-a"])?;
    ensure!(all.lines().count() == 1, "{all}");
    Ok(())
}
