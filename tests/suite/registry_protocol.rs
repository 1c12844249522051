//! What is asked of a registry, and what a user reads when it says no.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Asked, Client, Engine, Proxy, Registry, Tar, Target, image, shared, unique};
use naru_tests::only_naru;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Two ports: a registry's and that of the proxy in front.
fn ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(5900);
    let one = NEXT.fetch_add(2, Ordering::Relaxed);
    (one, one + 1)
}

fn small(tag: &str, word: &str) -> Vec<u8> {
    let layers = ["a", "b"].map(|n| Tar::new().file(n, 0o644, word.as_bytes()).finish());
    image::archive(tag, &layers, &json!({"Labels": {"word": word}}))
}

/// Both clients, docker's first.
fn clients(engine: &Engine) -> [Client; 2] {
    [engine.docker(), engine.naru()]
}

fn is_naru(engine: &Engine) -> bool {
    engine.target() == Target::Naru
}

#[test]
fn an_upload_at_once_and_in_chunks() -> Result<()> {
    if only_naru("docker's uploads have no length, which the proxy wants") {
        return Ok(());
    }
    let (engine, (own, front)) = (shared()?, ports());
    let registry = Registry::start(engine, own)?;
    let small_only = Arc::new(AtomicBool::new(false));
    let limit = Arc::clone(&small_only);
    // As proxies with a limit on requests do.
    let proxy = Proxy::start(engine, front, own, move |asked| {
        let too_large = asked.method == "PUT" && asked.target.contains("/blobs/uploads/") && asked.length > 1000;
        (too_large && limit.load(Ordering::SeqCst)).then(|| Proxy::answer("413 Request Entity Too Large", "", "{}"))
    })?;
    let cli = engine.cli();
    for (chunked, name) in [(false, unique("once")), (true, unique("chunks"))] {
        small_only.store(chunked, Ordering::SeqCst);
        let reference = format!("{}/{name}:1", proxy.address());
        // More than one chunk of 16 MiB.
        let content: Vec<u8> = (0..17 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let layer = Tar::new().file("large", 0o644, &content).file(&name, 0o644, b"").finish();
        let (size, sum) = (layer.len(), image::sha256(&layer));
        engine.load(&image::archive(&reference, &[layer], &json!({})))?;
        proxy.asked()?;
        cli.ok(["push", &reference])?;
        let asked: Vec<Asked> = proxy.asked()?.into_iter().filter(|a| a.target.contains("/blobs/uploads/")).collect();
        let of = |method: &str| asked.iter().filter(|a| a.method == method).collect::<Vec<_>>();
        let patches: Vec<(String, usize)> = of("PATCH")
            .iter()
            .map(|a| (a.header("Content-Range").unwrap_or_default().to_owned(), a.length))
            .filter(|(_, length)| *length > 1000)
            .collect();
        if chunked {
            let chunk = 16 << 20;
            let wanted = [(format!("0-{}", chunk - 1), chunk), (format!("{chunk}-{}", size - 1), size - chunk)];
            assert_eq!(patches, wanted);
            ensure!(of("PUT").iter().any(|a| a.length == 0), "no empty request ended the upload");
        } else {
            assert_eq!(patches, []);
            assert_eq!(of("PUT").iter().filter(|a| a.length == size).count(), 1);
        }
        // The registry has it whole, under its digest.
        assert_eq!(registry.layers(&format!("{name}:1"))?, [format!("sha256:{sum}")]);
        assert_eq!(std::fs::metadata(registry.blob(&format!("sha256:{sum}")))?.len(), size as u64);
        cli.ok(["rmi", &reference])?;
    }
    Ok(())
}

#[test]
fn all_tags_are_pushed_and_pulled() -> Result<()> {
    let (engine, (own, _)) = (shared()?, ports());
    let registry = Registry::start(engine, own)?;
    for cli in clients(engine) {
        let name = unique("all");
        let reference = |tag: &str| registry.reference(&format!("{name}:{tag}"));
        for tag in ["a", "b"] {
            engine.load(&small(&reference(tag), tag))?;
        }
        cli.ok(["tag", &reference("a"), &reference("c")])?;
        let whole = registry.reference(&name);
        ensure!(cli.fails(1, ["push", "-a", &reference("a")])?.contains("tag can't be used with --all-tags"));
        let said = cli.ok(["push", "-a", &whole])?;
        for tag in ["a", "b", "c"] {
            ensure!(said.contains(&format!("{tag}: digest: sha256:")), "{tag}: {said}");
        }
        let ids = ["a", "b", "c"].map(|tag| cli.inspect(&reference(tag), "{{.Id}}"));
        let ids = ids.into_iter().collect::<Result<Vec<_>>>()?;
        cli.ok(["rmi", &reference("a"), &reference("b"), &reference("c")])?;
        let said = cli.ok(["pull", "-a", &whole])?;
        ensure!(
            said.contains(&format!("Status: Downloaded newer image for {whole}")) || said.contains(&whole),
            "{said}"
        );
        for (tag, id) in ["a", "b", "c"].into_iter().zip(&ids) {
            assert_eq!(cli.inspect(&reference(tag), "{{.Id}}")?, *id);
        }
        cli.ok(["rmi", &reference("a"), &reference("b"), &reference("c")])?;
        ensure!(cli.fails(1, ["push", "-a", &whole])?.contains("An image does not exist locally with the tag"));
    }
    Ok(())
}

/// A token service that gives everybody a token, which then is not good enough for anything.
fn refuses_every_scope(port: u16) -> impl Fn(&Asked) -> Option<String> + Send + Sync {
    move |asked| {
        if asked.target.starts_with("/token") {
            return Some(Proxy::answer("200 OK", "", r#"{"token": "poor", "expires_in": 3600}"#));
        }
        let given = asked.header("Authorization").is_some();
        let error = if given { ",error=\"insufficient_scope\"" } else { "" };
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"kit\",scope=\"repository:team/app:pull\"{error}\r\n"
        );
        let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": null}]});
        Some(Proxy::answer("401 Unauthorized", &challenge, &body.to_string()))
    }
}

#[test]
fn a_token_without_the_right_says_what_to_do() -> Result<()> {
    let (engine, (own, front)) = (Engine::start()?, ports());
    let proxy = Proxy::start(&engine, front, own, refuses_every_scope(front))?;
    let reference = format!("{}/team/app:1", proxy.address());
    engine.load(&small(&reference, "denied"))?;
    for cli in clients(&engine) {
        let said = cli.fails(1, ["pull", &reference])?;
        let wanted = format!(
            "pull access denied for {}/team/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            proxy.address()
        );
        ensure!(said.contains(&wanted), "{said}");
        let said = cli.fails(1, ["push", &reference])?;
        ensure!(said.contains("denied: requested access to the resource is denied"), "{said}");
        if is_naru(&engine) {
            ensure!(said.contains(&format!("'docker login {}'", proxy.address())), "{said}");
        }
    }
    Ok(())
}

#[test]
fn nobody_is_asked_for_an_account_in_the_middle() -> Result<()> {
    let (engine, (own, front)) = (Engine::start()?, ports());
    // A token service that wants an account.
    let proxy = Proxy::start(&engine, front, own, move |asked| {
        if asked.target.starts_with("/token") {
            return Some(Proxy::answer("401 Unauthorized", "", r#"{"details": "authentication required"}"#));
        }
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{front}/token\",service=\"kit\"\r\n");
        Some(Proxy::answer(
            "401 Unauthorized",
            &challenge,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
        ))
    })?;
    let reference = format!("{}/app:1", proxy.address());
    for cli in clients(&engine) {
        let said = cli.fails(1, ["pull", &reference])?;
        ensure!(said.contains("unauthorized: authentication required"), "{said}");
        if is_naru(&engine) {
            ensure!(said.contains(&format!("'docker login {}'", proxy.address())), "{said}");
        }
    }
    Ok(())
}

#[test]
fn a_rate_limit_says_how_long_and_what_helps() -> Result<()> {
    if only_naru("docker shows the registry's word alone") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let limits = [
        ("Retry-After: 1800\r\n".to_owned(), "wait 30 minutes and try again"),
        (String::new(), "wait a while and try again"),
        (format!("Retry-After: {}\r\n", in_two_hours()?), "wait 2 hours and try again"),
    ];
    for (header, wanted) in limits {
        let (own, front) = ports();
        let proxy = Proxy::start(&engine, front, own, move |asked| {
            if asked.target == "/v2/" {
                return Some(Proxy::answer("200 OK", "", "{}"));
            }
            let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
            Some(Proxy::answer("429 Too Many Requests", &header, body))
        })?;
        let reference = format!("{}/app:1", proxy.address());
        for cli in clients(&engine) {
            for args in [&["pull", reference.as_str()][..], &["run", "--rm", &reference]] {
                let done = cli.run(args)?;
                let said = done.stderr;
                ensure!(
                    done.code != 0 && said.contains("toomanyrequests: You have reached your pull rate limit."),
                    "{said}"
                );
                ensure!(said.contains(wanted) && said.contains("docker login"), "{wanted}: {said}");
            }
        }
        // Nobody waits for such a long time, nor asks again and again.
        ensure!(proxy.asked()?.iter().filter(|a| a.target.contains("/manifests/")).count() <= 8);
    }
    Ok(())
}

/// The date of RFC 9110, two hours from now.
fn in_two_hours() -> Result<String> {
    let mut date = std::process::Command::new("date");
    date.args(["-u", "-d", "+2 hours", "+%a, %d %b %Y %H:%M:%S GMT"]).env("LC_ALL", "C");
    let output = date.output().context("date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn an_index_in_an_index_is_followed_but_not_for_ever() -> Result<()> {
    if only_naru("docker 20.10 follows none") {
        return Ok(());
    }
    let (engine, (own, _)) = (shared()?, ports());
    let registry = Registry::start(engine, own)?;
    let cli = engine.cli();
    registry.fill(&small("kit/deep:1", "deep"), "deep:0", &["--format", "oci"])?;
    let raw = |name: &str| {
        registry.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.reference(name))])
    };
    let id = registry.manifest("deep:0")?["config"]["digest"].as_str().context("a configuration")?.to_owned();
    let mut below = raw("deep:0")?;
    let mut kind = "application/vnd.oci.image.manifest.v1+json";
    for depth in 1..=6 {
        let entry = json!({"mediaType": kind, "digest": format!("sha256:{}", image::sha256(below.as_bytes())), "size": below.len(),
            "platform": {"architecture": "amd64", "os": "linux"}});
        below = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        kind = INDEX;
        registry.put_manifest("deep", &depth.to_string(), INDEX, &below)?;
        let reference = registry.reference(&format!("deep:{depth}"));
        let done = cli.run(["pull", &reference])?;
        if depth > 4 {
            ensure!(done.code == 1 && done.stderr.contains("nested more than 4 deep"), "{depth}: {done:?}");
            continue;
        }
        ensure!(done.code == 0, "{depth}: {done:?}");
        assert_eq!(cli.inspect(&reference, "{{.Id}}")?, id);
        // It goes by the digest of what was asked for, and can be had by it.
        let digests: Vec<String> = serde_json::from_str(&cli.inspect(&reference, "{{json .RepoDigests}}")?)?;
        let whole = format!("{}@sha256:{}", registry.reference("deep"), image::sha256(below.as_bytes()));
        ensure!(digests.contains(&whole), "{depth}: {digests:?}");
        cli.ok(["rmi", &reference])?;
        cli.ok(["pull", &whole])?;
        cli.ok(["rmi", &whole])?;
    }
    let check: Value = engine.http().post("/system/check", &Value::Null)?.json()?;
    ensure!(check["Problems"] == json!([]), "{check}");
    Ok(())
}
