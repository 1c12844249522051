//! What each event tells besides its name: docker's attributes, in docker's form.

use anyhow::{Context, Result, ensure};
use naru_testkit::{Client, Engine, Registry, eventually};
use naru_tests::only_naru;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

struct Told {
    cli: Client,
    since: String,
}

fn now() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{}.{:09}", now.as_secs(), now.subsec_nanos()))
}

impl Told {
    fn by(engine: &Engine) -> Result<Self> {
        Ok(Self { cli: engine.docker(), since: now()? })
    }

    /// The events so far that these filters let through.
    fn all(&self, filters: &[&str]) -> Result<Vec<Value>> {
        let until = now()?;
        let filters = filters.iter().flat_map(|f| ["--filter", f]);
        let args = ["events", "--since", &self.since, "--until", &until, "--format", "json"];
        let said = self.cli.ok(args.into_iter().chain(filters))?;
        said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The newest event of this kind, once there is one; checked for what they all have.
    fn newest(&self, kind: &str, action: &str) -> Result<Value> {
        eventually(&format!("{kind} {action}"), || {
            let all = self.all(&[&format!("type={kind}")])?;
            let found = all.into_iter().rfind(|e| e["Action"].as_str().is_some_and(|a| a.starts_with(action)));
            let event = found.context("not told yet")?;
            ensure!(event["scope"] == "local" && event["Type"] == kind, "{event}");
            let (time, nanos) = (event["time"].as_i64(), event["timeNano"].as_i64());
            ensure!(time.is_some() && nanos.map(|n| n / 1_000_000_000) == time, "{event}");
            Ok::<_, anyhow::Error>(event)
        })
    }

    /// It has these attributes, `*` for any value.
    fn has(&self, kind: &str, action: &str, attributes: &[(&str, &str)]) -> Result<Value> {
        let event = self.newest(kind, action)?;
        for (key, value) in attributes {
            let told = event["Actor"]["Attributes"][*key].as_str();
            ensure!(told.is_some_and(|t| *value == "*" || t == *value), "{key} is not {value:?} in {event}");
        }
        Ok(event)
    }
}

fn own() -> Result<Engine> {
    let engine = Engine::start()?;
    engine.load_busybox()?;
    Ok(engine)
}

#[test]
fn of_containers() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    let general = [("name", "web"), ("image", "busybox"), ("color", "red")];
    let id = cli.ok(["run", "-dit", "--name", "web", "--label", "color=red", "busybox"])?;
    for action in ["create", "start"] {
        let event = told.has("container", action, &general)?;
        assert_eq!((event["id"].as_str(), event["Actor"]["ID"].as_str()), (Some(&*id), Some(&*id)));
        assert_eq!((event["status"].as_str(), event["from"].as_str()), (Some(action), Some("busybox")));
    }
    cli.ok(["top", "web"])?;
    told.has("container", "top", &general)?;
    cli.ok(["update", "--memory", "64m", "--memory-swap", "64m", "web"])?;
    told.has("container", "update", &general)?;
    cli.ok(["cp", "web:/etc/passwd", "-"])?;
    told.has("container", "archive-path", &general)?;
    cli.ok(["cp", "/etc/hostname", "web:/tmp"])?;
    told.has("container", "extract-to-dir", &general)?;
    cli.ok(["export", "-o", "/dev/null", "web"]).or_else(|_| cli.ok(["export", "web"]))?;
    told.has("container", "export", &general)?;
    cli.ok(["rm", "-f", "web"])?;
    engine.finish()
}

#[test]
fn of_execs() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    cli.ok(["run", "-d", "--name", "web", "busybox", "sleep", "1000"])?;
    assert_eq!(cli.run(["exec", "web", "sh", "-c", "exit 3"])?.code, 3);
    let created = told.has("container", "exec_create: sh -c exit 3", &[("execID", "*"), ("name", "web")])?;
    let id = created["Actor"]["Attributes"]["execID"].as_str().unwrap_or_default().to_owned();
    told.has("container", "exec_start: sh -c exit 3", &[("execID", &id)])?;
    told.has("container", "exec_die", &[("execID", &id), ("exitCode", "3")])?;
    // docker's client keeps the keys for itself.
    let exec =
        json!({"AttachStdin": true, "AttachStdout": true, "Tty": true, "DetachKeys": "ctrl-a,d", "Cmd": ["cat"]});
    let http = engine.http();
    let answer = http.post("/containers/web/exec", &exec)?.json()?;
    let id = answer["Id"].as_str().context("an id")?.to_owned();
    let (_, mut stream) = http.hijack(&format!("/exec/{id}/start"), true, &json!({"Tty": true}))?;
    stream.write(b"here\n")?;
    stream.until("here")?;
    stream.write(b"\x01d")?;
    if !only_naru("20.10 leaves it out for this request") {
        told.has("container", "exec_detach", &[("execID", &id), ("name", "web")])?;
    }
    cli.ok(["rm", "-f", "web"])?;
    engine.finish()
}

#[test]
fn of_terminals() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    cli.ok(["run", "-dit", "--name", "web", "busybox", "sh"])?;
    let pty = cli.pty(["attach", "web"])?;
    told.has("container", "attach", &[("name", "web")])?;
    eventually("the new size to be told", || {
        // Again and again: the client may not have looked out for it yet.
        pty.resize(32, 77)?;
        pty.resize(33, 77)?;
        told.has("container", "resize", &[("height", "33"), ("width", "77")])
    })?;
    drop(pty);
    // docker's client keeps the keys for itself.
    let path = "/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,d";
    let (_, mut stream) = engine.http().hijack(path, true, &Value::Null)?;
    stream.write(b"echo he''re\n")?;
    stream.until("here")?;
    stream.write(b"\x01d")?;
    told.has("container", "detach", &[("name", "web")])?;
    cli.ok(["rm", "-f", "web"])?;
    engine.finish()
}

#[test]
fn of_ends() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    cli.ok(["run", "-d", "--name", "web", "busybox", "sleep", "1000"])?;
    cli.ok(["pause", "web"])?;
    told.has("container", "pause", &[("name", "web")])?;
    cli.ok(["unpause", "web"])?;
    told.has("container", "unpause", &[("name", "web")])?;
    cli.ok(["rename", "web", "www"])?;
    told.has("container", "rename", &[("name", "www"), ("oldName", "/web")])?;
    cli.ok(["kill", "-s", "KILL", "www"])?;
    told.has("container", "kill", &[("signal", "9"), ("name", "www")])?;
    told.has("container", "die", &[("exitCode", "137"), ("name", "www")])?;
    if !only_naru("20.10 tells no duration") {
        told.has("container", "die", &[("execDuration", "*")])?;
    }
    cli.ok(["start", "www"])?;
    cli.ok(["restart", "-t", "0", "www"])?;
    told.has("container", "restart", &[("name", "www")])?;
    cli.ok(["stop", "-t", "0", "www"])?;
    told.has("container", "stop", &[("name", "www")])?;
    let commit = cli.ok(["commit", "-m", "a comment", "www", "mine:1"])?;
    let event = told.has("container", "commit", &[("comment", "a comment"), ("imageID", &commit)])?;
    let reference = event["Actor"]["Attributes"]["imageRef"].as_str().unwrap_or_default();
    assert!(reference.ends_with("mine:1"), "{event}");
    cli.ok(["rm", "www"])?;
    told.has("container", "destroy", &[("name", "www")])?;
    cli.ok(["run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox", "tail", "/dev/zero"])
        .err()
        .context("it is killed")?;
    told.has("container", "oom", &[("name", "hungry")])?;
    cli.ok(["rm", "hungry"])?;
    engine.finish()
}

#[test]
fn of_health() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    let check = ["--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "1"];
    cli.ok([&["run", "-d", "--name", "web"], &check[..], &["busybox", "sleep", "1000"]].concat())?;
    told.has("container", "health_status: unhealthy", &[("name", "web"), ("image", "busybox")])?;
    cli.ok(["exec", "web", "touch", "/well"])?;
    told.has("container", "health_status: healthy", &[("name", "web")])?;
    let by_beginning = told.all(&["event=health_status"])?;
    assert!(by_beginning.len() >= 2, "{by_beginning:?}");
    assert_eq!(told.all(&["event=health_status: healthy"])?.len(), 1);
    cli.ok(["rm", "-f", "web"])?;
    engine.finish()
}

#[test]
fn of_images() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    let id = cli.ok(["image", "inspect", "--format", "{{.Id}}", "busybox"])?;
    {
        let registry = Registry::start(&engine, 5000)?;
        let name = registry.reference("team/box:1");
        cli.ok(["tag", "busybox", &name])?;
        let event = told.has("image", "tag", &[("name", &name)])?;
        assert_eq!(event["Actor"]["ID"].as_str(), Some(&*id));
        cli.ok(["push", &name])?;
        let repository = registry.reference("team/box");
        let event = told.has("image", "push", &[("name", &repository)])?;
        assert_eq!(event["Actor"]["ID"].as_str(), Some(&*name));
        cli.ok(["rmi", &name])?;
        told.has("image", "untag", &[("name", &id)])?;
        cli.ok(["pull", &name])?;
        let event = told.has("image", "pull", &[("name", &repository)])?;
        assert_eq!(event["Actor"]["ID"].as_str(), Some(&*name));
        cli.ok(["rmi", &name])?;
    }
    let archive = engine.scratch("attributes")?.join("busybox.tar").display().to_string();
    cli.ok(["save", "-o", &archive, "busybox"])?;
    told.has("image", "save", &[("name", &id)])?;
    cli.ok(["load", "-i", &archive])?;
    told.has("image", "load", &[("name", "*")])?;
    let said = cli.ok(["import", &archive, "third:1"])?;
    let imported = said.lines().last().unwrap_or_default();
    told.has("image", "import", &[("name", "*")])?;
    cli.ok(["rmi", "third:1"])?;
    let event = told.has("image", "delete", &[("name", "*")])?;
    assert_eq!(event["Actor"]["ID"].as_str(), Some(imported));
    for image in ["busybox", "busybox:latest", &id] {
        let found = told.all(&["type=image", "event=save", &format!("image={image}")])?;
        // Its name is the id, so that only this finds it.
        assert_eq!(found.len(), usize::from(image == id), "{image}");
    }
    cli.ok(["image", "prune", "-f"])?;
    told.has("image", "prune", &[("reclaimed", "*")])?;
    engine.finish()
}

#[test]
fn of_networks_and_volumes() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    let network = cli.ok(["network", "create", "--label", "a=b", "net"])?;
    let event = told.has("network", "create", &[("name", "net"), ("type", "bridge")])?;
    assert_eq!(event["Actor"]["ID"].as_str(), Some(&*network));
    cli.ok(["volume", "create", "vol"])?;
    told.has("volume", "create", &[("driver", "local")])?;
    let run = ["run", "-d", "--name", "web", "--network", "net", "-v", "vol:/data:ro", "busybox", "sleep", "1000"];
    let id = cli.ok(run)?;
    told.has("network", "connect", &[("name", "net"), ("type", "bridge"), ("container", &id)])?;
    let mounted = [("driver", "local"), ("container", &*id), ("destination", "/data"), ("read/write", "false")];
    let event = told.has("volume", "mount", &mounted)?;
    assert_eq!(event["Actor"]["ID"].as_str(), Some("vol"));
    ensure!(event["Actor"]["Attributes"]["propagation"].is_string(), "{event}");
    cli.ok(["stop", "-t", "0", "web"])?;
    told.has("network", "disconnect", &[("name", "net"), ("container", &id)])?;
    told.has("volume", "unmount", &[("driver", "local"), ("container", &id)])?;
    assert_eq!(told.all(&["volume=vol"])?.len(), told.all(&["type=volume"])?.len());
    assert_eq!(told.all(&["network=net", "event=connect"])?.len(), 1);
    assert_eq!(told.all(&[&format!("network={network}"), "event=connect"])?.len(), 1);
    cli.ok(["container", "prune", "-f"])?;
    told.has("container", "prune", &[("reclaimed", "*")])?;
    cli.ok(["network", "prune", "-f"])?;
    told.has("network", "destroy", &[("name", "net")])?;
    told.has("network", "prune", &[("reclaimed", "0")])?;
    cli.ok(["volume", "rm", "vol"])?;
    told.has("volume", "destroy", &[("driver", "local")])?;
    cli.ok(["volume", "prune", "-f"])?;
    told.has("volume", "prune", &[("reclaimed", "*")])?;
    engine.finish()
}

#[test]
fn filters_have_all_of_dockers_keys() -> Result<()> {
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    cli.ok(["create", "--name", "web", "busybox"])?;
    let all = told.all(&[])?.len();
    for (key, value, found) in [
        ("config", "x", 0),
        ("container", "web", 1),
        ("daemon", "x", 0),
        ("event", "create", 1),
        ("image", "busybox", 1),
        ("label", "none", 0),
        ("network", "x", 0),
        ("node", "x", 0),
        ("plugin", "x", 0),
        ("scope", "local", all),
        ("secret", "x", 0),
        ("service", "x", 0),
        ("type", "container", 1),
        ("volume", "x", 0),
    ] {
        assert_eq!(told.all(&[&format!("{key}={value}")])?.len(), found, "{key}");
    }
    if !only_naru("20.10 takes any key") {
        let said = cli.fails(1, ["events", "--until", "0s", "--filter", "nonsense=x"])?;
        ensure!(said.contains("invalid filter 'nonsense'"), "{said}");
    }
    let said = cli.fails(1, ["events", "--since", "0s", "--until", "10m"])?;
    ensure!(said.contains("cannot be after `until`") || said.contains("time cannot be after"), "{said}");
    cli.ok(["rm", "web"])?;
    engine.finish()
}

#[test]
fn the_past_and_the_present_are_one_stream() -> Result<()> {
    if only_naru("its events come late under load") {
        return Ok(());
    }
    let mut engine = own()?;
    let told = Told::by(&engine)?;
    let cli = &told.cli;
    for n in 0..40 {
        cli.ok(["create", "--name", &format!("c{n}"), "busybox"])?;
    }
    let format = ["--filter", "event=create", "--filter", "type=container", "--format", "{{.Actor.Attributes.name}}"];
    let follow = cli.start(["events", "--since", &told.since].into_iter().chain(format))?;
    for n in 40..80 {
        cli.ok(["create", "--name", &format!("c{n}"), "busybox"])?;
    }
    follow.expect("c79\n")?;
    let expected: String = (0..80).map(|n| format!("c{n}\n")).collect();
    assert_eq!(follow.stdout(), expected);
    drop(follow);
    engine.finish()
}
