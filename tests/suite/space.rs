//! Space: what is shown is what is taken, prune gives back what it says, the budget is kept, and nothing is lost or left when the engine
//! dies in the middle.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, EngineOptions, Tar, Target, eventually, image};
use naru_tests::only_naru;
use serde_json::{Value, json};

fn engine() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    Ok(engine)
}

/// Loads an image of busybox's layer and one of its own, with a file `mark` of `size` bytes.
fn load(engine: &Engine, tag: &str, size: usize, labels: &Value) -> Result<()> {
    let own =
        Tar::new().file("mark", 0o644, &vec![b'm'; size]).file(&format!("of-{}", tag.replace(':', "-")), 0o644, b"");
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": labels});
    engine.load(&image::archive(tag, &[image::busybox_rootfs()?, own.finish()], &config))
}

fn by<'v>(list: &'v Value, key: &str, value: &str) -> Result<&'v Value> {
    let is =
        |item: &&Value| item[key] == value || item[key].as_array().is_some_and(|all| all.iter().any(|v| v == value));
    list.as_array().into_iter().flatten().find(is).with_context(|| format!("no {key} {value} in {list}"))
}

#[test]
fn what_is_shown_is_what_is_taken() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    load(&engine, "more:1", 3000, &json!({}))?;
    let script = "head -c 5000 /dev/zero >/own; head -c 7000 /dev/zero >/v/in; dd if=/dev/zero of=/hole bs=1M seek=100 count=0 2>/dev/null; \
                  echo logged";
    cli.ok(["run", "--name", "one", "-v", "vol:/v", "busybox", "sh", "-c", script])?;
    cli.ok(["create", "--name", "two", "-v", "vol:/v", "busybox", "true"])?;
    let http = engine.http();
    let usage = http.get("/system/df")?.json()?;
    let volume = by(&usage["Volumes"], "Name", "vol")?;
    assert_eq!((&volume["UsageData"]["Size"], &volume["UsageData"]["RefCount"]), (&json!(7000), &json!(2)));
    let container = by(&usage["Containers"], "Names", "/one")?;
    if engine.target() == Target::Naru {
        let id = container["Id"].as_str().unwrap_or_default();
        let log = fs::metadata(engine.data_root().join(format!("containers/{id}/{id}-json.log")))?.len();
        assert!(log > 0);
        assert_eq!(container["SizeRw"], json!(5000 + log));
        let (one, two) =
            (by(&usage["Images"], "RepoTags", "busybox:latest")?, by(&usage["Images"], "RepoTags", "more:1")?);
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        // busybox's layer is shared; `more` has 3000 bytes, their archive and its documents for itself.
        let shared = number(&one["SharedSize"]);
        assert_eq!(shared, number(&two["SharedSize"]));
        let alone = number(&two["Size"]) - shared;
        assert!((3000..20_000).contains(&alone), "{alone}");
        assert_eq!(number(&usage["LayersSize"]), number(&one["Size"]) + alone);
        assert_eq!((&one["Containers"], &two["Containers"]), (&json!(2), &json!(0)));
        let only = http.get("/v1.42/system/df?type=volume")?.json()?;
        assert!(only["Volumes"].is_array() && only["Images"].is_null() && only["Containers"].is_null(), "{only}");
        assert_eq!(http.get("/system/df?type=nope")?.status, 400);
    }
    for cli in [engine.docker(), engine.naru()] {
        let shown = cli.ok(["system", "df"])?;
        let row = |kind: &str| shown.lines().find(|l| l.starts_with(kind)).unwrap_or_default().to_owned();
        assert!(row("Local Volumes").contains("7kB"), "{shown}");
        let shown = cli.ok(["system", "df", "-v"])?;
        assert!(shown.lines().any(|line| line.starts_with("vol ") && line.contains("7kB")), "{shown}");
    }
    engine.finish()
}

#[test]
fn prune_gives_back_what_it_says() -> Result<()> {
    let mut engine = engine()?;
    let cli = engine.cli();
    let run = |name: &str, label: &str, script: &str| {
        cli.ok(["run", "--log-driver", "none", "--name", name, "--label", label, "busybox", "sh", "-c", script])
    };
    run("keep", "keep=yes", "head -c 1000 /dev/zero >/f")?;
    run("go", "keep=no", "head -c 2000 /dev/zero >/f")?;
    cli.ok(["run", "-d", "--name", "runs", "--label", "keep=no", "busybox", "sleep", "1000"])?;
    let total = |said: &str| said.lines().last().unwrap_or_default().to_owned();
    let said = cli.ok(["container", "prune", "-f", "--filter", "label!=keep=yes", "--filter", "until=2000-01-01"])?;
    assert_eq!(total(&said), "Total reclaimed space: 0B", "{said}");
    let go = cli.inspect("go", "{{.Id}}")?;
    let said = cli.ok(["container", "prune", "-f", "--filter", "label!=keep=yes"])?;
    assert!(said.contains(&go) && total(&said) == "Total reclaimed space: 2kB", "{said}");
    let left = cli.ok(["ps", "-a", "--format", "{{.Names}}"])?;
    assert!(left.contains("keep") && left.contains("runs") && !left.contains("go"), "{left}");
    assert!(cli.fails(1, ["container", "prune", "-f", "--filter", "nope=1"])?.contains("nope"));
    // Images: those without a name, or all that nobody uses.
    load(&engine, "old:1", 10, &json!({"stage": "old"}))?;
    load(&engine, "other:1", 10, &json!({"stage": "other"}))?;
    assert_eq!(total(&cli.ok(["image", "prune", "-f"])?), "Total reclaimed space: 0B");
    let said = cli.ok(["image", "prune", "-f", "-a", "--filter", "label=stage=old"])?;
    assert!(said.contains("untagged: old:1") && !said.contains("other:1"), "{said}");
    // Everything at once.
    cli.ok(["run", "--name", "last", "-v", "/v", "busybox", "sh", "-c", "head -c 4000 /dev/zero >/v/f"])?;
    let said = cli.ok(["system", "prune", "-f", "-a", "--volumes"])?;
    assert!(said.contains("Deleted Containers:") && said.contains("untagged: other:1"), "{said}");
    if engine.target() == Target::Naru {
        assert!(said.contains("Deleted Volumes:"), "{said}");
    }
    assert!(cli.ok(["ps", "-aq"])?.lines().count() == 1, "what runs is not pruned");
    assert_eq!(cli.ok(["images", "-q", "busybox"])?.lines().count(), 1, "what is used is not pruned");
    engine.finish()
}

#[test]
fn a_budget_is_kept() -> Result<()> {
    if only_naru("docker has no disk budget") {
        return Ok(());
    }
    let args = ["--disk-budget", "1k", "--disk-budget-grace", "0s", "--disk-budget-keep", "named:*"];
    let args = args.iter().map(Into::into).collect();
    let mut engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    let cli = engine.cli();
    // Made at once with its container: what is used stays.
    load(&engine, "named:1", 10, &json!({}))?;
    load(&engine, "labelled:1", 10, &json!({"naru.keep": "true"}))?;
    let used = || -> Result<()> {
        load(&engine, "used:1", 10, &json!({}))?;
        cli.ok(["create", "--name", "user", "used:1", "true"]).map(drop)
    };
    eventually("a container of an image that may be collected", used)?;
    load(&engine, "unused:1", 10, &json!({}))?;
    eventually("the unused image to be collected", || {
        let left = cli.ok(["images", "--format", "{{.Repository}}"])?;
        ensure!(!left.contains("unused"), "{left}");
        Ok(())
    })?;
    let left = cli.ok(["images", "--format", "{{.Repository}}"])?;
    for kept in ["used", "named", "labelled"] {
        assert!(left.lines().any(|name| name == kept), "{kept} is not in {left}");
    }
    engine.finish()
}

/// The files below `folder` that are called `name`.
fn find(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What the engine removes meanwhile is none.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// What `system check` finds, and its exit code.
fn check(cli: &Client, repair: bool) -> Result<(i32, Value)> {
    let mut args = vec!["system", "check", "--format", "json"];
    if repair {
        args.push("--repair");
    }
    let done = cli.run(args)?;
    let report = serde_json::from_str(&done.stdout).with_context(|| format!("{}{}", done.stdout, done.stderr))?;
    Ok((done.code, report))
}

#[test]
fn damage_is_found_and_put_right() -> Result<()> {
    if only_naru("docker has no check") {
        return Ok(());
    }
    let mut engine = engine()?;
    let cli = engine.naru();
    load(&engine, "more:1", 3000, &json!({}))?;
    cli.ok(["volume", "create", "vol"])?;
    cli.ok(["create", "--name", "holds", "busybox", "true"])?;
    let (code, report) = check(&cli, false)?;
    assert_eq!((code, &report["Problems"]), (0, &json!([])), "{report}");
    assert_eq!(report["Checked"]["images"], 2, "{report}");
    damaged_layers(&engine, &cli)?;
    orphans(&engine, &cli)?;
    damaged_blobs(&engine, &cli)?;
    // An image that was left out when the engine began, since a part of it is missing.
    let mark = find(&engine.data_root(), "mark")?.pop().context("the layer's file")?;
    let layer = mark.parent().and_then(Path::parent).context("the layer's folder")?.to_owned();
    engine.kill()?;
    fs::remove_dir_all(layer)?;
    engine.launch()?;
    let (code, report) = check(&cli, false)?;
    assert!(code == 1 && report.to_string().contains("more:1"), "{report}");
    let (code, report) = check(&cli, true)?;
    assert!(code == 0 && report.to_string().contains("forgotten"), "{report}");
    assert_eq!(check(&cli, false)?.0, 0);
    load(&engine, "more:1", 3000, &json!({}))?;
    assert_eq!(cli.ok(["run", "--rm", "more:1", "wc", "-c", "/mark"])?, "3000 /mark");
    engine.finish()
}

fn damaged_layers(engine: &Engine, cli: &Client) -> Result<()> {
    let marks = find(&engine.data_root(), "mark")?;
    let [mark] = &marks[..] else { anyhow::bail!("{marks:?}") };
    fs::write(mark, "damaged")?;
    let (code, report) = check(cli, false)?;
    let problem = &report["Problems"][0];
    assert_eq!((code, &problem["Kind"], &problem["Repaired"]), (1, &json!("layer"), &Value::Null), "{report}");
    assert!(problem["Problem"].as_str().is_some_and(|p| p.contains("/mark")), "{report}");
    let (code, report) = check(cli, true)?;
    assert_eq!(code, 0, "{report}");
    assert_eq!(fs::read(mark)?, vec![b'm'; 3000]);
    assert_eq!(cli.ok(["run", "--rm", "more:1", "wc", "-c", "/mark"])?, "3000 /mark");
    // Under a container nothing is changed.
    let all = find(&engine.data_root(), "passwd")?;
    let passwd = all.iter().find(|path| path.ends_with("etc/passwd")).context("the layer's passwd file")?;
    let before = fs::read(passwd)?;
    fs::write(passwd, "damaged")?;
    let (code, report) = check(cli, true)?;
    assert_eq!((code, &report["Problems"][0]["Repaired"]), (1, &Value::Null), "{report}");
    fs::write(passwd, before)?;
    assert_eq!(check(cli, false)?.0, 0);
    Ok(())
}

fn orphans(engine: &Engine, cli: &Client) -> Result<()> {
    let root = engine.data_root();
    fs::create_dir_all(root.join("containers").join("f".repeat(64)).join("fs/upper/left"))?;
    fs::create_dir_all(root.join("volumes/unknown/_data"))?;
    fs::write(root.join("volumes/unknown/_data/file"), "somebody's")?;
    fs::remove_dir(root.join("volumes/vol/_data"))?;
    let (code, report) = check(cli, false)?;
    assert_eq!((code, report["Problems"].as_array().map(Vec::len)), (1, Some(3)), "{report}");
    let shown = cli.run(["system", "check"])?;
    assert!(shown.stdout.contains("3 problems found; --repair puts right what can be"), "{}", shown.stdout);
    let (code, report) = check(cli, true)?;
    // Data without a record stays.
    assert_eq!(code, 1, "{report}");
    assert!(!root.join("containers").join("f".repeat(64)).exists() && root.join("volumes/vol/_data").exists());
    assert_eq!(fs::read_to_string(root.join("volumes/unknown/_data/file"))?, "somebody's");
    fs::remove_dir_all(root.join("volumes/unknown"))?;
    assert_eq!(check(cli, false)?.0, 0);
    Ok(())
}

fn damaged_blobs(engine: &Engine, cli: &Client) -> Result<()> {
    // The last loaded layer's archive, by its size.
    let layer = cli.ok(["image", "inspect", "--format", "{{index .RootFS.Layers 1}}", "more:1"])?;
    let hex = layer.trim_start_matches("sha256:");
    let blobs = find(&engine.data_root(), hex)?;
    let Some(blob) = blobs.first() else { return Ok(()) };
    let before = fs::read(blob)?;
    let mut bytes = before.clone();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    fs::write(blob, &bytes)?;
    let (code, report) = check(cli, false)?;
    assert_eq!((code, &report["Problems"][0]["Kind"]), (1, &json!("blob")), "{report}");
    check(cli, true)?;
    assert!(!blob.exists(), "a damaged blob is used by nobody");
    let (code, report) = check(cli, false)?;
    assert!(code == 1 && report.to_string().contains("missing"), "{report}");
    load(engine, "more:1", 3000, &json!({}))?;
    let (code, report) = check(cli, false)?;
    assert_eq!(code, 0, "{report}");
    Ok(())
}

#[test]
fn killed_in_the_middle_of_volumes_copies_and_prunes() -> Result<()> {
    if only_naru("dockerd promises nothing here") {
        return Ok(());
    }
    let mut engine = engine()?;
    let folder = engine.scratch("kill")?;
    fs::create_dir_all(folder.join("tree/sub"))?;
    for n in 0..50 {
        fs::write(folder.join(format!("tree/sub/{n}")), vec![b'x'; 5000])?;
    }
    let cli = engine.docker().in_folder(&folder);
    cli.ok(["run", "-d", "--name", "target", "busybox", "sleep", "1000"])?;
    cli.ok(["create", "--name", "stopped", "busybox", "true"])?;
    cli.ok(["volume", "create", "promised"])?;
    let script = "echo kept >/p/f";
    cli.ok(["run", "--rm", "-v", "promised:/p", "busybox", "sh", "-c", script])?;
    for round in 0_u64..8 {
        let mut clients = Vec::new();
        for n in 0..3 {
            clients.push(cli.start(["volume", "create", &format!("v{round}-{n}")])?);
            // Its /bin fills the volume.
            clients.push(cli.start([
                "create",
                "-v",
                &format!("f{round}-{n}:/bin"),
                "-v",
                "/etc",
                "busybox",
                "true",
            ])?);
            if round > 0 {
                clients.push(cli.start(["volume", "rm", &format!("v{}-{n}", round - 1)])?);
            }
        }
        clients.push(cli.start(["cp", "tree", "target:/tmp"])?);
        clients.push(cli.start(["cp", "tree", "stopped:/tmp"])?);
        clients.push(cli.start(["container", "prune", "-f", "--filter", "label=none"])?);
        clients.push(cli.start(["volume", "prune", "-f"])?);
        // Not a wait for anything: each round kills at another moment.
        std::thread::sleep(std::time::Duration::from_millis(7 * round + 2));
        engine.kill()?;
        for client in clients {
            client.finish()?;
        }
        engine.launch()?;
        let (code, report) = check(&engine.naru(), true)?;
        ensure!(code == 0, "round {round}: {report}");
        let (code, report) = check(&engine.naru(), false)?;
        ensure!(code == 0 && report["Problems"] == json!([]), "round {round}, after the repair: {report}");
        // A volume that was filled was filled whole.
        for volume in cli.ok(["volume", "ls", "-q", "--filter", &format!("name=f{round}-")])?.lines() {
            let count = [
                "run",
                "--rm",
                "-v",
                &format!("{volume}:/x:nocopy"),
                "busybox",
                "sh",
                "-c",
                "ls /x | wc -l; ls /bin | wc -l",
            ];
            let counts = cli.ok(count)?;
            let (own, all) = counts.split_once('\n').context("two numbers")?;
            ensure!(own == all || own == "0", "round {round}: {volume} has {own} of {all} files");
        }
        assert_eq!(cli.ok(["run", "--rm", "-v", "promised:/p", "busybox", "cat", "/p/f"])?, "kept");
        cli.ok(["exec", "target", "true"])?;
    }
    cli.ok(["cp", "tree", "stopped:/tmp"])?;
    engine.finish()
}
