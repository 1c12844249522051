//! The API as it goes over the socket: versions, headers, error texts, hijacked streams, and the shape of every answer.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use naru_testkit::http::Http;
use naru_testkit::{Target, shared, unique};
use naru_tests::only_naru;
use serde_json::{Map, Value, json};

fn http() -> Result<Http> {
    Ok(shared()?.http())
}

/// Creates and starts a container; gives its id.
fn started(body: Value) -> Result<String> {
    let http = http()?;
    let id = created(body)?;
    let answer = http.post(&format!("/containers/{id}/start"), &Value::Null)?;
    assert_eq!(answer.status, 204, "{}", answer.text());
    Ok(id)
}

fn created(body: Value) -> Result<String> {
    let answer = http()?.post("/containers/create", &body)?;
    assert_eq!(answer.status, 201, "{}", answer.text());
    Ok(answer.json()?["Id"].as_str().context("an id")?.to_owned())
}

fn remove(id: &str) -> Result<()> {
    let answer = http()?.request("DELETE", &format!("/containers/{id}?force=1"), &[], &[])?;
    assert_eq!(answer.status, 204, "{}", answer.text());
    Ok(())
}

#[test]
fn ping() -> Result<()> {
    for method in ["GET", "HEAD"] {
        let answer = http()?.request(method, "/_ping", &[], &[])?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), if method == "GET" { "OK" } else { "" });
        let version = answer.header("Api-Version").context("Api-Version")?;
        let minor: u32 = version.strip_prefix("1.").context("1.x")?.parse()?;
        assert!(minor >= 41, "{version}");
        assert_eq!(answer.header("Ostype"), Some("linux"));
        assert_eq!(answer.header("Docker-Experimental"), Some("false"));
        assert_eq!(answer.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
        assert_eq!(answer.header("Pragma"), Some("no-cache"));
        if Target::from_env() == Target::Naru {
            // dockerd 20.10 leaves it out with its default settings.
            assert!(answer.header("Builder-Version").is_some());
        }
        assert!(answer.header("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")));
    }
    Ok(())
}

#[test]
fn versions_are_negotiated() -> Result<()> {
    let http = http()?;
    let newest = http.get("/version")?.json()?["ApiVersion"].as_str().context("ApiVersion")?.to_owned();
    for version in ["1.24", "1.30", "1.40", "1.41", &newest] {
        assert_eq!(http.get(&format!("/v{version}/version"))?.status, 200, "{version}");
        assert_eq!(http.get(&format!("/v{version}/containers/json"))?.status, 200, "{version}");
    }
    let said = http.get("/v1.99/version")?.error(400)?;
    assert_eq!(said, format!("client version 1.99 is too new. Maximum supported API version is {newest}"));
    Ok(())
}

#[test]
fn unknown_routes() -> Result<()> {
    let http = http()?;
    for (method, path) in
        [("GET", "/nothing"), ("GET", "/v1.41/nothing/at/all"), ("DELETE", "/version"), ("PUT", "/containers/json")]
    {
        let said = http.request(method, path, &[], &[])?.error(404)?;
        assert_eq!(said, "page not found", "{method} {path}");
    }
    Ok(())
}

#[test]
fn errors_have_class_and_text() -> Result<()> {
    let http = http()?;
    let error = |method: &str, path: &str, status: u16| -> Result<String> {
        http.request(method, path, &[], &[])?.error(status).with_context(|| format!("{method} {path}"))
    };
    for (method, path) in [
        ("GET", "/containers/nope/json"),
        ("POST", "/containers/nope/start"),
        ("POST", "/containers/nope/stop"),
        ("POST", "/containers/nope/kill"),
        ("POST", "/containers/nope/restart"),
        ("POST", "/containers/nope/pause"),
        ("POST", "/containers/nope/wait"),
        ("DELETE", "/containers/nope"),
        ("GET", "/containers/nope/logs?stdout=1"),
        ("GET", "/containers/nope/changes"),
        ("GET", "/containers/nope/export"),
        ("POST", "/containers/nope/rename?name=x"),
    ] {
        // kill says "Cannot kill container: nope: " before it.
        let said = error(method, path, 404)?;
        assert!(said.ends_with("No such container: nope"), "{method} {path}: {said}");
    }
    assert!(error("GET", "/images/nope/json", 404)?.ends_with("No such image: nope:latest"));
    assert!(error("DELETE", "/images/nope", 404)?.ends_with("No such image: nope:latest"));
    assert!(error("GET", "/networks/nope", 404)?.contains("network nope not found"));
    assert!(error("GET", "/volumes/nope", 404)?.contains("get nope: no such volume"));
    assert!(error("GET", "/exec/nope/json", 404)?.starts_with("No such exec instance: nope"));
    assert!(error("GET", "/swarm", 503)?.contains("This node is not a swarm manager"));
    // dockerd 20.10 calls it 500.
    assert!(http.get("/containers/json?filters=nonsense")?.status >= 400);
    // Without a body there is nothing to create; dockerd 20.10 calls that 500 as well.
    assert!(http.request("POST", "/containers/create?name=-bad", &[], &[])?.status >= 400);
    Ok(())
}

#[test]
fn bad_bodies_are_refused() -> Result<()> {
    let http = http()?;
    let kind = [("Content-Type", "application/json")];
    for body in ["{", "[]", "\"x\"", "nonsense", "{\"Image\": 5}"] {
        let answer = http.request("POST", "/containers/create", &kind, body.as_bytes())?;
        assert!((400..=500).contains(&answer.status), "{body}: {}", answer.status);
        assert!(answer.json()?["message"].is_string(), "{body}: {}", answer.text());
    }
    let answer = http.request("POST", "/containers/create", &[("Content-Type", "text/plain")], b"{}")?;
    assert!((400..=500).contains(&answer.status), "{}", answer.status);
    assert_eq!(http.post("/containers/create", &json!({"Image": "busybox", "Cmd": []}))?.status / 100, 2);
    let said = http.post("/containers/create", &json!({"Image": "no-such-image"}))?.error(404)?;
    assert_eq!(said, "No such image: no-such-image:latest");
    Ok(())
}

#[test]
fn names_are_checked() -> Result<()> {
    let (http, name) = (http()?, unique("api"));
    let create = |name: &str| http.post(&format!("/containers/create?name={name}"), &json!({"Image": "busybox"}));
    let first = create(&name)?.json()?;
    let id = first["Id"].as_str().context("an id")?;
    let said = create(&name)?.error(409)?;
    assert_eq!(
        said,
        format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    for bad in ["-x", "x%20y", "%2Fa%2Fb", "x%21"] {
        let said = create(bad)?.error(400)?;
        assert!(said.contains("only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"), "{said}");
    }
    remove(id)
}

#[test]
fn states_answer_as_they_should() -> Result<()> {
    let http = http()?;
    let id = started(json!({"Image": "busybox", "Cmd": ["sleep", "1000"]}))?;
    let post = |action: &str| http.post(&format!("/containers/{id}/{action}"), &Value::Null);
    assert_eq!(post("start")?.status, 304);
    assert!(post("unpause")?.status >= 400);
    assert_eq!(post("pause")?.status, 204);
    assert!(post("start")?.error(409).or_else(|_| post("start")?.error(500))?.contains("paused"));
    assert_eq!(post("unpause")?.status, 204);
    assert!(http.request("DELETE", &format!("/containers/{id}"), &[], &[])?.error(409)?.contains("container"));
    assert!(
        post("kill?signal=NOSUCH")?.error(400).or_else(|_| post("kill?signal=NOSUCH")?.error(500))?.contains("signal")
    );
    assert_eq!(post("kill?signal=KILL")?.status, 204);
    let waited = post("wait")?;
    assert_eq!((waited.status, waited.json()?["StatusCode"].as_i64()), (200, Some(137)));
    assert_eq!(post("stop")?.status, 304);
    assert!(post("kill")?.error(409)?.contains("is not running"));
    assert!(post("pause")?.error(409)?.contains("is not running"));
    remove(&id)
}

#[test]
fn wait_for_the_next_exit_answers_its_head_at_once() -> Result<()> {
    let http = http()?;
    let id = created(json!({"Image": "busybox", "Cmd": ["sh", "-c", "exit 9"]}))?;
    let (head, mut stream) = http.stream("POST", &format!("/containers/{id}/wait?condition=next-exit"))?;
    assert_eq!(head.status, 200);
    assert_eq!(http.post(&format!("/containers/{id}/start"), &Value::Null)?.status, 204);
    let body: Value = serde_json::from_slice(&stream.body(&head)?)?;
    assert_eq!(body["StatusCode"], 9);
    remove(&id)
}

#[test]
fn attach_multiplexed_with_upgrade_and_without() -> Result<()> {
    let http = http()?;
    for upgrade in [true, false] {
        let id = created(json!({
            "Image": "busybox", "Cmd": ["sh", "-c", "read x; echo out $x; echo err $x >&2; cat >/dev/null; echo last"],
            "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
        }))?;
        let (head, mut stream) = http.hijack(
            &format!("/v1.41/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1"),
            upgrade,
            &Value::Null,
        )?;
        assert_eq!(head.status, if upgrade { 101 } else { 200 });
        assert_eq!(head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
        assert_eq!(head.header("Upgrade"), upgrade.then_some("tcp"));
        assert_eq!(http.post(&format!("/containers/{id}/start"), &Value::Null)?.status, 204);
        stream.write(b"word\n")?;
        // Half a connection is closed; the other half goes on to the process's end.
        stream.close_write()?;
        let (out, err) = stream.frames()?;
        assert_eq!((out.as_str(), err.as_str()), ("out word\nlast\n", "err word\n"));
        remove(&id)?;
    }
    Ok(())
}

#[test]
fn attach_raw_with_a_terminal() -> Result<()> {
    let http = http()?;
    let id = created(json!({"Image": "busybox", "Cmd": ["sh", "-c", "echo a; echo b >&2"], "Tty": true}))?;
    let (head, mut stream) =
        http.hijack(&format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"), true, &Value::Null)?;
    assert_eq!(head.status, 101);
    assert_eq!(http.post(&format!("/containers/{id}/start"), &Value::Null)?.status, 204);
    assert_eq!(stream.to_end()?, b"a\r\nb\r\n");
    remove(&id)
}

#[test]
fn attach_replays_the_logs_when_asked() -> Result<()> {
    let http = http()?;
    let id = started(
        json!({"Image": "busybox", "Cmd": ["sh", "-c", "echo before; read x; echo after"], "OpenStdin": true}),
    )?;
    naru_testkit::eventually("the first line", || {
        let logs = http.get(&format!("/containers/{id}/logs?stdout=1"))?;
        anyhow::ensure!(logs.text().contains("before"), "{}", logs.text());
        Ok(())
    })?;
    let path = format!("/containers/{id}/attach?logs=1&stream=1&stdin=1&stdout=1");
    let (_, mut stream) = http.hijack(&path, true, &Value::Null)?;
    assert_eq!(stream.frame()?, Some((1, b"before\n".to_vec())));
    stream.write(b"x\n")?;
    assert_eq!(stream.frame()?, Some((1, b"after\n".to_vec())));
    remove(&id)
}

#[test]
fn exec_streams_and_its_state() -> Result<()> {
    let http = http()?;
    let id = started(json!({"Image": "busybox", "Cmd": ["sleep", "1000"]}))?;
    for upgrade in [true, false] {
        let body = json!({"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Cmd": ["sh", "-c", "cat; echo e >&2; exit 5"]});
        let answer = http.post(&format!("/containers/{id}/exec"), &body)?;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let exec = answer.json()?["Id"].as_str().context("an id")?.to_owned();
        let before = http.get(&format!("/exec/{exec}/json"))?.json()?;
        assert_eq!((&before["Running"], &before["ExitCode"]), (&json!(false), &Value::Null));
        let (head, mut stream) =
            http.hijack(&format!("/exec/{exec}/start"), upgrade, &json!({"Detach": false, "Tty": false}))?;
        assert_eq!(head.status, if upgrade { 101 } else { 200 });
        stream.write(b"through\n")?;
        stream.close_write()?;
        let (out, err) = stream.frames()?;
        assert_eq!((out.as_str(), err.as_str()), ("through\n", "e\n"));
        let after = naru_testkit::eventually("the exec's end", || {
            let state = http.get(&format!("/exec/{exec}/json"))?.json()?;
            if state["Running"] == json!(false) { Ok(state) } else { bail!("it is {state}") }
        })?;
        assert_eq!(after["ExitCode"], 5);
        assert_eq!(after["ContainerID"], json!(id));
        assert_eq!(after["ProcessConfig"]["entrypoint"], "sh");
    }
    remove(&id)
}

#[test]
fn logs_need_a_stream_to_be_named() -> Result<()> {
    let id = created(json!({"Image": "busybox"}))?;
    let said = http()?.get(&format!("/containers/{id}/logs"))?.error(400)?;
    assert!(said.contains("at least one"), "{said}");
    remove(&id)
}

#[test]
fn archive_goes_both_ways() -> Result<()> {
    let http = http()?;
    let id = created(json!({"Image": "busybox"}))?;
    let tar = naru_testkit::Tar::new().file("put", 0o600, b"by hand").finish();
    let path = format!("/containers/{id}/archive");
    let answer = http.request("PUT", &format!("{path}?path=/tmp"), &[("Content-Type", "application/x-tar")], &tar)?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = http.request("HEAD", &format!("{path}?path=/tmp/put"), &[], &[])?;
    assert_eq!(head.status, 200);
    assert!(head.header("X-Docker-Container-Path-Stat").is_some());
    let got = http.get(&format!("{path}?path=/tmp/put"))?;
    assert_eq!(got.header("Content-Type"), Some("application/x-tar"));
    assert!(got.body.windows(7).any(|window| window == b"by hand"));
    assert_eq!(http.get(&format!("{path}?path=/nope"))?.status, 404);
    // A link in the container does not lead out of it.
    let hostile = naru_testkit::Tar::new().symlink("out", "/../../../../etc").finish();
    http.request("PUT", &format!("{path}?path=/tmp"), &[("Content-Type", "application/x-tar")], &hostile)?;
    let host = fs::read("/etc/hostname").unwrap_or_default();
    let got = http.get(&format!("{path}?path=/tmp/out/hostname"))?;
    assert!(
        got.status == 404 || host.is_empty() || !got.body.windows(host.len()).any(|w| w == host),
        "it reads the host's file"
    );
    remove(&id)
}

#[test]
fn events_answer_their_head_at_once() -> Result<()> {
    let (head, _stream) = http()?.stream("GET", "/events")?;
    assert_eq!(head.status, 200);
    assert!(head.header("Content-Type").is_some_and(|kind| kind.starts_with("application/json")));
    Ok(())
}

#[test]
fn the_multiplexed_content_type_comes_with_1_42() -> Result<()> {
    if only_naru("dockerd 20.10 ends at 1.41") {
        return Ok(());
    }
    let id = created(json!({"Image": "busybox"}))?;
    let (head, _) = http()?.hijack(&format!("/v1.42/containers/{id}/attach?stream=1&stdout=1"), true, &Value::Null)?;
    assert_eq!(head.header("Content-Type"), Some("application/vnd.docker.multiplexed-stream"));
    remove(&id)
}

// The shapes. Clients index on keys that dockerd prints even when they are empty, and tell `null`, `[]` and `{}` apart.
// `NARU_TEST_RECORD=1 NARU_TEST_TARGET=dockerd` writes them anew.

/// Keys that later versions of the API have dropped, by path.
const DROPPED: &[&str] = &[
    "VirtualSize",
    "KernelMemory",
    "KernelMemoryTCP",
    "ContainerConfig",
    "Container",
    "DockerVersion",
    "BuildTime",
    "ClusterStore",
    "ClusterAdvertise",
    "SystemStatus",
    "RegistryConfig.AllowNondistributableArtifactsCIDRs",
    "RegistryConfig.AllowNondistributableArtifactsHostnames",
    "ContainerdCommit.Expected",
    "RuncCommit.Expected",
    "InitCommit.Expected",
    "HostConfig.Capabilities",
    "HostConfig.IOMaximumIOps",
];

/// Values that say something about the machine or the storage, not about the API: only the key counts.
const FREE: &[&str] = &[
    "GraphDriver",
    "DriverStatus",
    "Runtimes",
    "Components",
    "SecurityOptions",
    "Warnings",
    "Plugins",
    "Swarm",
    "Details",
    "RepoDigests",
];

#[test]
fn shape_of_a_containers_inspect() -> Result<()> {
    let id = started(rich_container())?;
    let body = http()?.get(&format!("/v1.41/containers/{id}/json"))?.json()?;
    shape("container-inspect", &body)?;
    let plain = created(json!({"Image": "busybox"}))?;
    shape("container-inspect-plain", &http()?.get(&format!("/v1.41/containers/{plain}/json"))?.json()?)?;
    remove(&plain)?;
    remove(&id)
}

#[test]
fn shape_of_the_list() -> Result<()> {
    let id = started(rich_container())?;
    let filter = format!("%7B%22id%22%3A%5B%22{id}%22%5D%7D");
    let body = http()?.get(&format!("/v1.41/containers/json?all=1&size=1&filters={filter}"))?.json()?;
    shape("containers-json", &body)?;
    assert_eq!(body[0]["Names"].as_array().map(Vec::len), Some(1));
    let empty = http()?.get("/containers/json?filters=%7B%22name%22%3A%5B%22no-such-name%22%5D%7D")?;
    assert_eq!(empty.text(), "[]\n");
    remove(&id)
}

#[test]
fn shape_of_images() -> Result<()> {
    let list = http()?.get("/v1.41/images/json")?.json()?;
    shape("images-json", &list)?;
    shape("image-inspect", &http()?.get("/v1.41/images/busybox/json")?.json()?)?;
    shape("image-history", &http()?.get("/v1.41/images/busybox/history")?.json()?)
}

#[test]
fn shape_of_the_system() -> Result<()> {
    shape("version", &http()?.get("/v1.41/version")?.json()?)?;
    shape("info", &http()?.get("/v1.41/info")?.json()?)
}

#[test]
fn shape_of_networks_and_volumes() -> Result<()> {
    shape("network-inspect", &http()?.get("/v1.41/networks/bridge")?.json()?)?;
    let list = http()?.get("/v1.41/networks")?.json()?;
    let names: Vec<&str> =
        list.as_array().context("a list")?.iter().filter_map(|network| network["Name"].as_str()).collect();
    for name in ["bridge", "host", "none"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let volume = http()?.post("/v1.41/volumes/create", &json!({"Name": unique("shape")}))?;
    assert_eq!(volume.status, 201, "{}", volume.text());
    shape("volume", &volume.json()?)?;
    let name = volume.json()?["Name"].as_str().unwrap_or_default().to_owned();
    assert_eq!(http()?.request("DELETE", &format!("/volumes/{name}"), &[], &[])?.status, 204);
    Ok(())
}

#[test]
fn shape_of_small_answers() -> Result<()> {
    let http = http()?;
    let answer = http.post("/v1.41/containers/create", &json!({"Image": "busybox", "Cmd": ["sleep", "1000"]}))?;
    shape("container-create", &answer.json()?)?;
    let id = answer.json()?["Id"].as_str().unwrap_or_default().to_owned();
    http.post(&format!("/containers/{id}/start"), &Value::Null)?;
    shape("top", &http.get(&format!("/v1.41/containers/{id}/top"))?.json()?)?;
    shape("stats", &http.get(&format!("/v1.41/containers/{id}/stats?stream=0&one-shot=1"))?.json()?)?;
    let exec = http.post(&format!("/containers/{id}/exec"), &json!({"Cmd": ["true"], "AttachStdout": true}))?.json()?;
    let exec = exec["Id"].as_str().unwrap_or_default();
    shape("exec-inspect", &http.get(&format!("/v1.41/exec/{exec}/json"))?.json()?)?;
    shape(
        "update",
        &http
            .post(&format!("/v1.41/containers/{id}/update"), &json!({"Memory": 64 << 20, "MemorySwap": 64 << 20}))?
            .json()?,
    )?;
    http.post(&format!("/containers/{id}/kill"), &Value::Null)?;
    shape("wait", &http.post(&format!("/v1.41/containers/{id}/wait"), &Value::Null)?.json()?)?;
    remove(&id)
}

/// A container that uses a bit of everything.
fn rich_container() -> Value {
    json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "Env": ["A=1"], "Labels": {"kit": "yes"}, "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}},
        "HostConfig": {
            "Memory": 128 << 20, "RestartPolicy": {"Name": "no"}, "Tmpfs": {"/t": ""}, "CapAdd": ["NET_ADMIN"],
            "Binds": ["/tmp:/b:ro"], "ExtraHosts": ["a:10.0.0.1"],
        },
    })
}

/// Compares `value`'s shape with the recorded one.
fn shape(name: &str, value: &Value) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.json"));
    let have = shape_of("", value);
    if std::env::var_os("NARU_TEST_RECORD").is_some() && Target::from_env() == Target::Dockerd {
        fs::write(&file, serde_json::to_string_pretty(&have)? + "\n")?;
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut differences = Vec::new();
    compare("", &serde_json::from_str(&text)?, &have, &mut differences);
    if differences.is_empty() { Ok(()) } else { bail!("{name} differs from dockerd's:\n{}", differences.join("\n")) }
}

/// The value with its scalars replaced by the names of their kinds, and arrays by their first element.
fn shape_of(path: &str, value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => Value::Array(items.iter().take(1).map(|item| shape_of(path, item)).collect()),
        Value::Object(map) => {
            let mut shaped = Map::new();
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let free = FREE.iter().any(|free| path == *free || path.ends_with(&format!(".{free}")));
                // Names that differ from run to run are one name.
                let is_name = key.len() == 64 || key.starts_with('/') && !matches!(key.as_str(), "/v" | "/t");
                let key = if is_name { "<name>".to_owned() } else { key.clone() };
                shaped.insert(key, if free { json!("any") } else { shape_of(&path, value) });
            }
            Value::Object(shaped)
        }
    }
}

/// What of `want` is missing or of another kind in `have`. More keys are right: newer versions have added some.
fn compare(path: &str, want: &Value, have: &Value, differences: &mut Vec<String>) {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => {
            for (key, value) in want {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if DROPPED.iter().any(|dropped| path == *dropped || path.ends_with(&format!(".{dropped}"))) {
                    continue;
                }
                match have.get(key) {
                    Some(have) => compare(&path, value, have, differences),
                    None => differences.push(format!("{path} is missing, it should be {value}")),
                }
            }
        }
        (Value::Array(want), Value::Array(have)) if want.is_empty() == have.is_empty() => {
            for (want, have) in want.iter().zip(have) {
                compare(path, want, have, differences);
            }
        }
        _ if want == have || want == "any" => {}
        _ => differences.push(format!("{path} is {have}, it should be {want}")),
    }
}
