//! `manifest`: lists of images, made by the client alone. docker's own client is the judge: the same words, the same files, the same bytes in the
//! registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use naru_testkit::{Registry, Tar, image, naru_binary, shared, unique};
use naru_tests::only_naru;
use serde_json::json;

fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(5700);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// `a:amd64` in docker's form, `a:oci` and `b:arm64` in OCI's.
fn fill(registry: &Registry<'_>) -> Result<()> {
    for (name, architecture, format) in
        [("a:amd64", "amd64", "v2s2"), ("a:oci", "amd64", "oci"), ("b:arm64", "arm64", "oci")]
    {
        let layer = Tar::new().file("for", 0o644, architecture.as_bytes()).finish();
        let archive = image::archive_for(architecture, "kit/part:1", &[layer], &json!({}));
        registry.fill(&archive, name, &["--format", format])?;
    }
    Ok(())
}

/// What a `manifest` command says, on both streams, and how it ends.
fn say(program: &Path, config: &Path, args: &[&str]) -> Result<String> {
    // Beside the registry: it is the client that speaks to it.
    let mut command = shared()?.world().command(program);
    let done = command.arg("manifest").args(args).env("DOCKER_CONFIG", config).output().context("start the client")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(format!("{args:?} {:?}\n{}{}", done.status.code(), text(&done.stdout), text(&done.stderr)))
}

/// Every file below `folder` with its content.
fn files(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    let Ok(lists) = fs::read_dir(folder) else { return Ok(all) };
    for list in lists {
        let list = list?;
        for file in fs::read_dir(list.path())? {
            let file = file?;
            let name = format!("{}/{}", list.file_name().display(), file.file_name().display());
            all.push((name, fs::read_to_string(file.path())?));
        }
    }
    all.sort();
    Ok(all)
}

#[test]
fn as_dockers_own_client() -> Result<()> {
    if only_naru("it is about naru's client") {
        return Ok(());
    }
    let engine = shared()?;
    let registry = Registry::start(engine, port())?;
    fill(&registry)?;
    let name = |name: &str| registry.reference(name);
    let (list, oci, amd, own, arm) = (name("list:1"), name("oci:1"), name("a:amd64"), name("a:oci"), name("b:arm64"));
    let (none, other) = (name("a:none"), "other.example/x:1");
    let steps: &[&[&str]] = &[
        &["inspect", "--insecure", &amd],
        &["inspect", "--insecure", "-v", &amd],
        &["inspect", "--insecure", &own],
        &["inspect", "--insecure", "--verbose", &own],
        &["inspect", "--insecure", &none],
        &["create", "--insecure", &list, &amd, &arm],
        &["create", "--insecure", &list, &amd],
        &["create", "--insecure", &oci, &own],
        &["create", "--insecure", "--amend", &oci, &arm],
        &["create", "--insecure", "UP:1", &own],
        &["inspect", &list],
        &["inspect", "-v", &list],
        &["inspect", &list, &arm],
        &["inspect", &list, &own],
        &["annotate", "--arch", "arm", "--variant", "v7", "--os-features", "a,b", "--os-version", "3", &list, &arm],
        &["annotate", "--arch", "nope", &list, &arm],
        &["annotate", "--arch", "arm", &list, &own],
        &["inspect", &list],
        &["push", "--insecure", &list],
        &["push", "--insecure", &oci],
        &["push", "--purge", "--insecure", &list],
        &["push", "--insecure", &list],
        &["inspect", "--insecure", &list],
        &["inspect", "--insecure", "-v", &list],
        &["create", "--insecure", &name("mixed:1"), &own, &list],
        &["create", "--insecure", other, &own],
        &["push", "--insecure", other],
        &["rm", other, &list, &none],
        &["inspect", "--insecure", &oci],
    ];
    // The registry speaks as one to both: it has all that is pushed before either begins.
    let folder = engine.scratch(&unique("manifest"))?;
    let mut told = Vec::new();
    for (client, word) in [(PathBuf::from("docker"), "docker"), (naru_binary(), "naru")] {
        let config = folder.join(word);
        fs::create_dir_all(&config)?;
        let mut all = Vec::new();
        for step in steps {
            let said = say(&client, &config, step)?.replace("library/UP", "UP");
            all.push((said, files(&config.join("manifests"))?));
        }
        let raw =
            |name: &str| registry.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
        told.push((all, raw(&list)?, raw(&oci)?));
    }
    let (naru, docker) = (told.pop().context("naru's")?, told.pop().context("docker's")?);
    for (own, theirs) in naru.0.iter().zip(&docker.0) {
        assert_eq!(own, theirs);
    }
    assert_eq!((naru.1, naru.2), (docker.1, docker.2));
    Ok(())
}

#[test]
fn one_goes_on_where_the_other_began() -> Result<()> {
    if only_naru("it is about naru's client") {
        return Ok(());
    }
    let engine = shared()?;
    let registry = Registry::start(engine, port())?;
    fill(&registry)?;
    let (list, amd, arm) = (registry.reference("both:1"), registry.reference("a:oci"), registry.reference("b:arm64"));
    let config = engine.scratch(&unique("manifest"))?;
    let (docker, naru) = (PathBuf::from("docker"), naru_binary());
    for (first, second) in [(&docker, &naru), (&naru, &docker)] {
        let said = say(first, &config, &["create", "--insecure", &list, &amd])?;
        assert!(said.contains("Created manifest list"), "{said}");
        say(second, &config, &["create", "--amend", "--insecure", &list, &arm])?;
        say(first, &config, &["annotate", "--variant", "v8", &list, &arm])?;
        let said = say(second, &config, &["push", "--purge", "--insecure", &list])?;
        let pushed = registry.manifest("both:1")?;
        assert_eq!(pushed["manifests"].as_array().map(Vec::len), Some(2), "{said}");
        assert_eq!(pushed["manifests"][1]["platform"]["variant"], "v8");
        assert!(files(&config.join("manifests"))?.is_empty());
    }
    // What is pushed is an image that can be pulled.
    let cli = engine.cli();
    cli.ok(["pull", &list])?;
    assert_eq!(cli.inspect(&list, "{{.Architecture}}")?, "amd64");
    cli.ok(["rmi", &list])?;
    Ok(())
}
