//! Links on a default network whose containers don't talk to each other (`--icc=false`): what is exposed is open to who is linked, and to
//! nobody else.

use anyhow::{Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Target, eventually, unique};
use naru_tests::only_naru;

/// What is served at a port of the linked container, as `asker` sees it by `name`; nothing when it isn't reached.
fn ask(cli: &Client, asker: &str, name: &str, port: &str) -> Result<String> {
    Ok(cli.run(["exec", asker, "nc", "-w", "2", name, port])?.stdout)
}

fn opens(cli: &Client, asker: &str, name: &str, port: &str) -> Result<()> {
    eventually(&format!("{asker} to reach {name}:{port}"), || {
        let said = ask(cli, asker, name, port)?;
        ensure!(said.trim_end() == port, "{said:?}");
        Ok(())
    })
}

fn is_shut(cli: &Client, asker: &str, name: &str, port: &str) -> Result<()> {
    let said = ask(cli, asker, name, port)?;
    ensure!(said.is_empty(), "{asker} reaches {name}:{port}: {said:?}");
    Ok(())
}

#[test]
fn what_is_exposed_is_open_to_who_is_linked() -> Result<()> {
    if only_naru("an older daemon needs a module of the kernel for containers that don't talk to each other") {
        return Ok(());
    }
    let args = ["--icc=false", "--ipv6", "--fixed-cidr-v6", "fd94:1::/64"].map(Into::into).to_vec();
    let mut engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.cli();
    let option = "{{index .Options \"com.docker.network.bridge.enable_icc\"}}";
    assert_eq!(cli.ok(["network", "inspect", "-f", option, "bridge"])?, "false");
    let serve = "for port in 5432 5433; do (while :; do echo $port | nc -l -p $port; done) & done; wait";
    cli.ok(["run", "-d", "--name", "db", "--expose", "5432", "busybox", "sh", "-c", serve])?;
    let sleep = ["busybox", "sleep", "1000"];
    cli.ok([&["run", "-d", "--name", "web", "--link", "db:store"], &sleep[..]].concat())?;
    cli.ok([&["run", "-d", "--name", "stranger"], &sleep[..]].concat())?;
    let (four, six) = ("{{.NetworkSettings.IPAddress}}", "{{.NetworkSettings.GlobalIPv6Address}}");
    let addresses = |name: &str| -> Result<[String; 2]> { Ok([cli.inspect(name, four)?, cli.inspect(name, six)?]) };
    opens(&cli, "web", "store", "5432")?;
    for address in addresses("db")? {
        opens(&cli, "web", &address, "5432")?;
        // Not what isn't exposed, not to another, and not by a ping.
        is_shut(&cli, "web", &address, "5433")?;
        is_shut(&cli, "stranger", &address, "5432")?;
        ensure!(cli.run(["exec", "web", "ping", "-c", "1", "-W", "1", &address])?.code != 0, "a ping got through");
    }
    // And not the other way.
    cli.ok(["exec", "-d", "web", "sh", "-c", "while :; do echo 5432 | nc -l -p 5432; done"])?;
    is_shut(&cli, "db", &addresses("web")?[0], "5432")?;
    // The next engine knows them.
    engine.kill()?;
    engine.launch()?;
    let cli = engine.cli();
    opens(&cli, "web", "store", "5432")?;
    is_shut(&cli, "stranger", &addresses("db")?[0], "5432")?;
    // What is open goes with the link.
    cli.ok(["rm", "-f", "web"])?;
    let is_open = || -> Result<bool> {
        let output = engine.world().command("nft").args(["list", "ruleset"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(". tcp . 5432"))
    };
    ensure!(!is_open()?, "a rule is left");
    // It comes back with the next one, and with a linked container that is started again.
    cli.ok([&["run", "-d", "--name", "web", "--link", "db:store"], &sleep[..]].concat())?;
    opens(&cli, "web", "store", "5432")?;
    cli.ok(["stop", "-t", "0", "db"])?;
    ensure!(!is_open()?, "a rule is left");
    cli.ok(["start", "db"])?;
    opens(&cli, "web", &addresses("db")?[0], "5432")?;
    cli.ok(["rm", "-f", "web", "db", "stranger"])?;
    ensure!(!is_open()?, "a rule is left");
    engine.finish()
}

#[test]
fn the_setting_holds_for_who_runs() -> Result<()> {
    if only_naru("its containers end with it") {
        return Ok(());
    }
    let config = std::env::temp_dir().join(unique("naru-icc"));
    std::fs::write(&config, "{}")?;
    let args = vec!["--config-file".into(), config.clone().into()];
    let mut engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    let cli = engine.cli();
    for name in ["one", "two"] {
        cli.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"])?;
    }
    let two = cli.inspect("two", "{{.NetworkSettings.IPAddress}}")?;
    let reaches =
        |cli: &Client, wait: &str| cli.run(["exec", "one", "ping", "-c", "1", "-W", wait, &two]).map(|d| d.code == 0);
    let open = |cli: &Client| eventually("one to reach two", || Ok(ensure!(reaches(cli, "2")?, "not yet")));
    open(&cli)?;
    let again = |icc: &str| -> Result<()> {
        std::fs::write(&config, format!("{{\"icc\": {icc}}}"))?;
        engine.kill()?;
        engine.launch()
    };
    again("false")?;
    let cli = engine.cli();
    ensure!(!reaches(&cli, "1")?, "they talk to each other");
    again("true")?;
    let cli = engine.cli();
    open(&cli)?;
    cli.ok(["rm", "-f", "one", "two"])?;
    std::fs::remove_file(&config)?;
    engine.finish()
}
