//! Registries that want to know who asks, and whom we believe: accounts, credential helpers, authorities, client certificates; mirrors and blocks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Registry, Tar, Target, Wants, image};
use naru_tests::only_naru;
use serde_json::{Value, json};

/// `joe` with the password `secret`.
const HTPASSWD: &str = "joe:$2y$04$NS1vCjEANsZIaydday8h9uXZzXdlNcnGAfwY/QDsO7Ww6Vz3pkdDO\n";

fn word(word: &str) -> Result<Vec<u8>> {
    let layer = Tar::new().file("word", 0o644, word.as_bytes()).finish();
    Ok(image::archive("kit/word:1", &[image::busybox_rootfs()?, layer], &json!({"Cmd": ["/bin/cat", "/word"]})))
}

fn with_args(args: &[&str]) -> Result<Engine> {
    let args = args.iter().map(OsString::from).collect();
    Engine::with(Target::from_env(), EngineOptions { args, ..EngineOptions::default() })
}

fn accounts(engine: &Engine) -> Result<std::path::PathBuf> {
    let file = engine.scratch("accounts")?.join("htpasswd");
    fs::write(&file, HTPASSWD)?;
    Ok(file)
}

#[test]
fn an_account_is_checked_kept_and_forgotten() -> Result<()> {
    let engine = Engine::start()?;
    let file = accounts(&engine)?;
    let registry = Registry::with(&engine, "127.0.0.1", 5000, &Wants { htpasswd: Some(&file), ..Wants::default() })?;
    registry.fill(&word("told")?, "word:1", &["--dest-creds", "joe:secret"])?;
    let reference = registry.reference("word:1");
    for cli in [engine.docker(), engine.naru()] {
        let said = cli.fails(1, ["pull", &reference])?;
        ensure!(said.contains("no basic auth credentials"), "{said}");
        let wrong = cli.run_with_input(["login", "-u", "joe", "--password-stdin", &registry.address()], b"wrong\n")?;
        ensure!(wrong.code == 1 && wrong.stderr.to_lowercase().contains("unauthorized"), "{wrong:?}");
        let right = cli.run_with_input(["login", "-u", "joe", "--password-stdin", &registry.address()], b"secret\n")?;
        ensure!(right.code == 0 && right.stdout.contains("Login Succeeded"), "{right:?}");
        cli.ok(["pull", &reference])?;
        let other = registry.reference("other:1");
        cli.ok(["tag", &reference, &other])?;
        cli.ok(["push", &other])?;
        cli.ok(["rmi", &reference, &other])?;
        // `run` pulls with the account too.
        assert_eq!(cli.run(["run", "--rm", &reference])?.stdout, "told");
        cli.ok(["rmi", &reference])?;
        let said = cli.ok(["logout", &registry.address()])?;
        ensure!(said.contains("Removing login credentials"), "{said}");
        cli.fails(1, ["pull", &reference])?;
    }
    Ok(())
}

#[test]
fn a_terminal_is_asked_for_name_and_password() -> Result<()> {
    let engine = Engine::start()?;
    let file = accounts(&engine)?;
    let registry = Registry::with(&engine, "127.0.0.1", 5000, &Wants { htpasswd: Some(&file), ..Wants::default() })?;
    registry.fill(&word("asked")?, "word:1", &["--dest-creds", "joe:secret"])?;
    let (address, reference) = (registry.address(), registry.reference("word:1"));
    for cli in [engine.docker(), engine.naru()] {
        // Where nobody can be asked, that is said, and a pull does not wait for anything.
        ensure!(
            cli.fails(1, ["login", &address])?.contains("Cannot perform an interactive login from a non TTY device")
        );
        let mut pull = cli.pty(["pull", &reference])?;
        pull.expect("no basic auth credentials")?;
        ensure!(pull.finish()?.0 == 1);
        let mut login = cli.pty(["login", &address])?;
        login.expect("Username")?;
        login.send("joe\n")?;
        login.expect("Password: ")?;
        login.send("secret\n")?;
        login.expect("Login Succeeded")?;
        let (code, screen) = login.finish()?;
        ensure!(code == 0 && !screen.contains("secret"), "{code}: {screen}");
        cli.ok(["pull", &reference])?;
        cli.ok(["rmi", &reference])?;
        cli.ok(["logout", &address])?;
    }
    Ok(())
}

/// A credential helper that keeps what it is given in a file of its folder.
fn helper(folder: &Path) -> Result<()> {
    let script = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$1" in
store) cat >kept;;
get) read -r server; [ -f kept ] && grep -q "\"ServerURL\":\"$server\"" kept && cat kept || { echo "credentials not found in native keychain"; exit 1; };;
erase) read -r server; rm -f kept;;
list) echo '{}';;
esac
"#;
    let path = folder.join("docker-credential-kit");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Runs a command whose path begins with `folder`, with `input`; what it said, and whether it went well.
fn with_path(cli: &Client, folder: &Path, args: &[&str], input: &str) -> Result<(bool, String)> {
    use std::io::Write as _;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let mut command = cli.command(args);
    command.env("PATH", path).env("DOCKER_CONFIG", folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("its standard input")?.write_all(input.as_bytes())?;
    let done = child.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Ok((done.status.success(), said))
}

#[test]
fn a_credential_helper_keeps_the_password() -> Result<()> {
    let engine = Engine::start()?;
    let file = accounts(&engine)?;
    let registry = Registry::with(&engine, "127.0.0.1", 5000, &Wants { htpasswd: Some(&file), ..Wants::default() })?;
    registry.fill(&word("kept")?, "word:1", &["--dest-creds", "joe:secret"])?;
    let (address, reference) = (registry.address(), registry.reference("word:1"));
    for settings in [json!({"credsStore": "kit"}), json!({"credHelpers": {&address: "kit"}})] {
        for cli in [engine.docker(), engine.naru()] {
            let folder = engine.scratch("helper")?;
            helper(&folder)?;
            fs::write(folder.join("config.json"), settings.to_string())?;
            let (good, said) = with_path(&cli, &folder, &["pull", &reference], "")?;
            ensure!(!good, "pulled without an account: {said}");
            let (good, said) =
                with_path(&cli, &folder, &["login", "-u", "joe", "--password-stdin", &address], "secret\n")?;
            ensure!(good, "{said}");
            let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json"))?)?;
            ensure!(config["auths"][&address]["auth"].is_null(), "the password is in the file: {config}");
            ensure!(fs::read_to_string(folder.join("kept"))?.contains("secret"));
            let (good, said) = with_path(&cli, &folder, &["pull", &reference], "")?;
            ensure!(good, "{said}");
            let (good, said) = with_path(&cli, &folder, &["logout", &address], "")?;
            ensure!(good && !folder.join("kept").exists(), "{said}");
            engine.cli().ok(["rmi", &reference])?;
        }
    }
    Ok(())
}

/// An authority `ca.crt`, and what it signed for the address 10.99.0.1 (`reg.pem`) and for a client (`client.pem`), with their keys.
fn authority(folder: &Path) -> Result<()> {
    let openssl = |args: &str| -> Result<()> {
        let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().context("openssl")?;
        ensure!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let signed = "-addext basicConstraints=critical,CA:FALSE -CA ca.crt -CAkey ca.key";
    openssl(&format!("req -x509 {new} -subj /CN=kit-ca -keyout ca.key -out ca.crt"))?;
    openssl(&format!(
        "req -x509 {new} -subj /CN=reg -addext subjectAltName=IP:10.99.0.1 {signed} -keyout reg.key -out reg.pem"
    ))?;
    openssl(&format!(
        "req -x509 {new} -subj /CN=client -addext extendedKeyUsage=clientAuth {signed} -keyout client.key -out client.pem"
    ))
}

#[test]
fn authorities_and_client_certificates() -> Result<()> {
    if only_naru("dockerd reads its authorities from a folder of the machine") {
        return Ok(());
    }
    let certs = tempdir("certs")?;
    let engine = with_args(&["--registry-certs", &certs.display().to_string()])?;
    let (cli, keys) = (engine.cli(), engine.scratch("keys")?);
    authority(&keys)?;
    let status = engine.world().command("ip").args(["address", "add", "10.99.0.1/32", "dev", "lo"]).status()?;
    ensure!(status.success());
    let ca = keys.join("ca.crt");
    let open = Registry::with(&engine, "10.99.0.1", 5001, &Wants { tls: Some(&keys), ..Wants::default() })?;
    let wants = Wants { tls: Some(&keys), clients: Some(&ca), ..Wants::default() };
    let closed = Registry::with(&engine, "10.99.0.1", 5002, &wants)?;
    open.fill(&word("tls")?, "word:1", &[])?;
    // Nobody vouches for it.
    let said = cli.fails(1, ["pull", &open.reference("word:1")])?;
    ensure!(said.contains("certificate signed by unknown authority"), "{said}");
    // The authority of this registry alone.
    let folder = certs.join(open.address());
    fs::create_dir_all(&folder)?;
    fs::copy(&ca, folder.join("ca.crt"))?;
    cli.ok(["pull", &open.reference("word:1")])?;
    let said = cli.fails(1, ["pull", &closed.reference("word:1")])?;
    ensure!(said.contains("certificate signed by unknown authority"), "{said}");
    // A certificate of ours for the one that wants it.
    let folder = certs.join(closed.address());
    fs::create_dir_all(&folder)?;
    fs::copy(&ca, folder.join("ca.crt"))?;
    cli.ok(["tag", &open.reference("word:1"), &closed.reference("word:1")])?;
    cli.fails(1, ["push", &closed.reference("word:1")])?;
    fs::copy(keys.join("client.pem"), folder.join("client.cert"))?;
    let said = cli.fails(1, ["push", &closed.reference("word:1")])?;
    ensure!(said.contains("missing key"), "{said}");
    fs::copy(keys.join("client.key"), folder.join("client.key"))?;
    cli.ok(["push", &closed.reference("word:1")])?;
    fs::remove_dir_all(&certs)?;
    Ok(())
}

fn tempdir(stem: &str) -> Result<std::path::PathBuf> {
    let path = std::env::temp_dir().join(naru_testkit::unique(&format!("nt-{stem}")));
    fs::create_dir_all(&path)?;
    Ok(path)
}

#[test]
fn a_mirror_of_the_hub_is_asked_first() -> Result<()> {
    let engine = with_args(&["--registry-mirror", "http://127.0.0.1:5000"])?;
    let registry = Registry::start(&engine, 5000)?;
    registry.fill(&word("mirrored")?, "library/kit-word:1", &[])?;
    let cli = engine.cli();
    cli.ok(["pull", "kit-word:1"])?;
    assert_eq!(cli.ok(["run", "--rm", "kit-word:1"])?, "mirrored");
    Ok(())
}

#[test]
fn mirrors_and_blocks_by_prefix() -> Result<()> {
    if only_naru("dockerd has mirrors of the hub only") {
        return Ok(());
    }
    let engine = with_args(&[
        "--registry-mirror",
        "gone.invalid/team=http://127.0.0.1:5000/cache",
        "--block-registry",
        "127.0.0.1:5000/secret",
        "--block-registry",
        "gone.invalid/team",
        "--block-registry",
        "*.evil.invalid",
    ])?;
    let registry = Registry::start(&engine, 5000)?;
    for name in ["cache/word:1", "secret/word:1", "open/word:1"] {
        registry.fill(&word(name)?, name, &[])?;
    }
    let cli = engine.cli();
    cli.ok(["pull", "gone.invalid/team/word:1"])?;
    assert_eq!(cli.ok(["run", "--rm", "gone.invalid/team/word:1"])?, "cache/word:1");
    cli.ok(["pull", &registry.reference("open/word:1")])?;
    for name in ["127.0.0.1:5000/secret/word:1", "a.evil.invalid/x:1", "gone.invalid/team/none:1"] {
        let said = cli.fails(1, ["pull", name])?;
        ensure!(said.contains("is blocked by the engine's configuration"), "{said}");
    }
    cli.ok(["tag", "gone.invalid/team/word:1", "a.evil.invalid/x:1"])?;
    let said = cli.fails(1, ["push", "a.evil.invalid/x:1"])?;
    ensure!(said.contains("is blocked by the engine's configuration"), "{said}");
    Ok(())
}

#[test]
fn a_layer_is_mounted_from_another_repository() -> Result<()> {
    let engine = Engine::start()?;
    let registry = Registry::start(&engine, 5000)?;
    registry.fill(&word("mounted")?, "from/here:1", &[])?;
    let cli = engine.cli();
    let (one, two) = (registry.reference("from/here:1"), registry.reference("to/there:1"));
    cli.ok(["pull", &one])?;
    cli.ok(["tag", &one, &two])?;
    let said = cli.ok(["push", &two])?;
    ensure!(said.contains("Mounted from from/here"), "{said}");
    assert_eq!(registry.layers("from/here:1")?, registry.layers("to/there:1")?);
    Ok(())
}
