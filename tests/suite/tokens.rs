//! A registry with a token service: what is asked of it, with what, and what becomes of a token that no longer holds.

use anyhow::{Result, ensure};
use naru_testkit::{Engine, Registry, Tar, Tokens, image};
use naru_tests::only_naru;
use serde_json::json;

#[test]
fn tokens_are_asked_for_used_and_renewed() -> Result<()> {
    if only_naru("a token that holds for few requests is renewed by Naru") {
        return Ok(());
    }
    let engine = Engine::start()?;
    let registry = Registry::start(&engine, 5000)?;
    let tokens = Tokens::start(&engine, 5001, 5000)?;
    let layers = [1, 2].map(|n| Tar::new().file(&format!("file{n}"), 0o644, b"content").finish());
    registry.fill(&image::archive("kit/app:1", &layers, &json!({})), "app:1", &[])?;
    let (address, reference) = (tokens.address(), format!("{}/app:1", tokens.address()));
    for cli in [engine.docker(), engine.naru()] {
        // With a wrong password there is none.
        tokens.begin(None, false)?;
        let wrong = cli.run_with_input(["login", "-u", "joe", "--password-stdin", &address], b"wrong\n")?;
        ensure!(wrong.code == 1 && wrong.stderr.contains("incorrect username or password"), "{wrong:?}");
        ensure!(tokens.granted()?.is_empty(), "{:?}", tokens.granted()?);
        for (identity, way) in [(false, "basic"), (true, "refresh")] {
            tokens.begin(None, identity)?;
            let right = cli.run_with_input(["login", "-u", "joe", "--password-stdin", &address], b"secret\n")?;
            ensure!(right.code == 0 && right.stdout.contains("Login Succeeded"), "{right:?}");
            // Each token holds for two requests: a pull and a push need several.
            tokens.begin(Some(2), identity)?;
            cli.ok(["pull", &reference])?;
            let granted = tokens.granted()?;
            ensure!(granted.len() > 1, "none was renewed: {granted:?}");
            ensure!(granted.iter().all(|one| *one == format!("{way} repository:app:pull")), "{granted:?}");
            let other = format!("{address}/pushed-{way}:1");
            cli.ok(["tag", &reference, &other])?;
            tokens.begin(None, identity)?;
            cli.ok(["push", &other])?;
            let granted = tokens.granted()?;
            let wanted = format!("repository:pushed-{way}:pull,push");
            ensure!(
                granted
                    .iter()
                    .any(|one| one.starts_with(way) && one.replace("push,pull", "pull,push").contains(&wanted)),
                "{granted:?}"
            );
            cli.ok(["rmi", &reference, &other])?;
            cli.ok(["logout", &address])?;
        }
    }
    Ok(())
}
