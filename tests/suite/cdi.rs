//! Devices by the Container Device Interface, described by made-up files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use naru_testkit::{Engine, EngineOptions, Target, eventually, unique};
use naru_tests::only_naru;

/// An engine that looks for specifications in a folder, and that folder.
fn engine() -> Result<Option<(Engine, PathBuf)>> {
    if only_naru("dockerd 20.10 has no CDI") {
        return Ok(None);
    }
    let folder = std::env::temp_dir().join(unique("naru-cdi"));
    fs::create_dir_all(&folder)?;
    let args = vec!["--cdi-spec-dir".into(), folder.clone().into()];
    let engine = Engine::with(Target::Naru, EngineOptions { args, ..EngineOptions::default() })?;
    engine.load_busybox()?;
    Ok(Some((engine, folder)))
}

/// A program of the host.
fn program(path: &Path, script: &str) -> Result<String> {
    fs::write(path, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(path.to_str().context("a name of letters")?.to_owned())
}

#[test]
fn a_name_brings_all_that_a_device_needs() -> Result<()> {
    let Some((mut engine, folder)) = engine()? else { return Ok(()) };
    let scratch = engine.scratch("cdi")?;
    fs::write(scratch.join("library"), "from the host")?;
    let told = scratch.join("told");
    let runtime = program(&scratch.join("runtime"), &format!("cat >{}", told.display()))?;
    // Finds the root as vendors' hooks do: by the bundle that its state names.
    let container = program(
        &scratch.join("container"),
        r#"bundle=$(sed 's/.*"bundle":"\([^"]*\)".*/\1/')
root=$(tr -d ' \n' <"$bundle/config.json" | sed 's/.*"root":{"path":"\([^"]*\)".*/\1/')
echo "$1" >"$root/linked""#,
    )?;
    fs::write(
        folder.join("vendor.yaml"),
        format!(
            r#"---
cdiVersion: 0.6.0
kind: vendor.com/class
annotations:
  made.by: a test
containerEdits:
  env:
  - VENDOR=all   # of them
  mounts:
  - hostPath: {library}
    containerPath: /usr/lib/vendor/library
    options: [ro, nosuid, nodev, bind]
devices:
- name: one
  containerEdits:
    env: [ONE=yes]
    additionalGids: [44]
    deviceNodes:
    - path: /dev/vendor/one
      hostPath: /dev/null
      fileMode: 0640
      gid: 5
    hooks:
    - hookName: createRuntime
      path: {runtime}
    - hookName: createContainer
      path: {container}
      args: [hook, "a word"]
    - hookName: startContainer
      path: /bin/touch
      args: [touch, /started]
- name: "2"
  containerEdits:
    env: [TWO=yes]
    deviceNodes:
    - {{path: /dev/vendor/two, type: c, major: 1, minor: 5, permissions: r}}
"#,
            library = scratch.join("library").display(),
        ),
    )?;
    let script = "echo $VENDOR $ONE $TWO; cat /usr/lib/vendor/library; echo; stat -c '%t:%T %a %g' /dev/vendor/one; \
                  echo x >/dev/vendor/one; cat /linked; ls /started; ls /dev/vendor; \
                  touch /usr/lib/vendor/library 2>&1 | grep -o 'Read-only'; id -G";
    let said = engine.cli().ok(["run", "--rm", "--device", "vendor.com/class=one", "busybox", "sh", "-c", script])?;
    assert_eq!(said, "all yes\nfrom the host\n1:3 640 5\na word\n/started\none\nRead-only\n0 44");
    let told = fs::read_to_string(told)?;
    for part in [r#""status":"creating""#, r#""made.by":"a test""#, r#""pid":"#, r#""id":""#] {
        assert!(told.contains(part), "{told}");
    }
    // Two at once, by the API.
    let body = serde_json::json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"],
        "HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=one", "vendor.com/class=2"]}]},
    });
    assert_eq!(engine.http().post("/containers/create?name=both", &body)?.status, 201);
    engine.cli().ok(["start", "both"])?;
    assert_eq!(
        engine.cli().ok(["exec", "both", "sh", "-c", "ls /dev/vendor; head -c 2 /dev/vendor/two | wc -c"])?,
        "one\ntwo\n2"
    );
    let shown = engine.http().get("/containers/both/json")?.json()?;
    assert_eq!(shown["HostConfig"]["DeviceRequests"][0]["DeviceIDs"][1], "vendor.com/class=2");
    engine.cli().ok(["rm", "-f", "both"])?;
    let info = engine.http().get("/v1.50/info")?.json()?;
    assert_eq!(info["CDISpecDirs"], serde_json::json!([folder]));
    let devices = serde_json::json!([{"Source": "cdi", "ID": "vendor.com/class=2"}, {"Source": "cdi", "ID": "vendor.com/class=one"}]);
    assert_eq!(info["DiscoveredDevices"], devices);
    fs::remove_dir_all(&folder)?;
    engine.finish()
}

#[test]
fn what_can_not_be_had_is_named() -> Result<()> {
    let Some((mut engine, folder)) = engine()? else { return Ok(()) };
    let cli = engine.naru();
    let refused = |name: &str, text: &str| -> Result<()> {
        let done = cli.run(["run", "--rm", "--device", name, "busybox", "true"])?;
        assert!(done.code != 0 && done.stderr.contains(text), "{name}: {done:?}");
        Ok(())
    };
    refused("v.com/c=none", "CDI device injection failed: unresolvable CDI devices v.com/c=none")?;
    let device = |name: &str, edits: &str| {
        let text = format!(
            r#"{{"cdiVersion":"0.6.0","kind":"v.com/{name}","devices":[{{"name":"x","containerEdits":{edits}}}]}}"#
        );
        fs::write(folder.join(format!("{name}.json")), text)
    };
    device("missing", r#"{"deviceNodes":[{"path":"/dev/no-such-device"}]}"#)?;
    refused("v.com/missing=x", "failed to stat CDI host device \"/dev/no-such-device\"")?;
    device("hook", r#"{"hooks":[{"hookName":"createRuntime","path":"/bin/false"}]}"#)?;
    refused("v.com/hook=x", "error running createRuntime hook #0: exit status 1")?;
    device("inner", r#"{"hooks":[{"hookName":"createContainer","path":"/bin/sh","args":["sh","-c","exit 3"]}]}"#)?;
    refused("v.com/inner=x", "error running createContainer hook #0: exit status 3")?;
    device("late", r#"{"hooks":[{"hookName":"poststop","path":"/bin/true"}]}"#)?;
    refused("v.com/late=x", "\"poststop\" hooks are not supported")?;
    fs::write(folder.join("broken.yaml"), "cdiVersion: 0.6.0\nkind: broken\n")?;
    refused("v.com/c=none", "broken.yaml: invalid kind")?;
    fs::remove_file(folder.join("broken.yaml"))?;
    // Two that say different things about one device.
    fs::copy(folder.join("missing.json"), folder.join("again.json"))?;
    refused("v.com/missing=x", "unresolvable CDI devices v.com/missing=x")?;
    eventually("nothing to be left", || {
        anyhow::ensure!(cli.ok(["ps", "-aq"])?.is_empty(), "a container is left");
        Ok(())
    })?;
    fs::remove_dir_all(&folder)?;
    engine.finish()
}

#[test]
fn gpus_are_devices_of_a_vendor() -> Result<()> {
    let Some((mut engine, folder)) = engine()? else { return Ok(()) };
    let cli = engine.cli();
    let said = cli.fails(125, ["run", "--rm", "--gpus", "all", "busybox", "true"])?;
    assert!(said.contains("could not select device driver \"\" with capabilities: [[gpu]]"), "{said}");
    fs::write(
        folder.join("nvidia.yaml"),
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n\
         - name: \"0\"\n  containerEdits:\n    env:\n    - GPU0=yes\n\
         - name: \"1\"\n  containerEdits:\n    env:\n    - GPU1=yes\n\
         - name: all\n  containerEdits:\n    env:\n    - ALL=yes\n",
    )?;
    cli.ok(["run", "--rm", "--gpus", "all", "busybox", "sh", "-c", "test $ALL = yes"])?;
    for (gpus, wanted) in [("1", "GPU0=yes"), ("2", "GPU0=yes GPU1=yes"), ("device=1", "GPU1=yes")] {
        let said = cli.ok(["run", "--rm", "--gpus", gpus, "busybox", "sh", "-c", "env | grep -E 'GPU|ALL' | sort"])?;
        assert_eq!(said.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "{gpus}");
    }
    let done = cli.run(["run", "--rm", "--gpus", "3", "busybox", "true"])?;
    assert!(done.code != 0 && done.stderr.contains("3 GPUs are asked for, and there are 2"), "{done:?}");
    fs::remove_dir_all(&folder)?;
    engine.finish()
}
