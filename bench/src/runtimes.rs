//! `naru oci run` beside `crun run` and `runc run`: the same bundle of busybox's `true`, back to back and with pauses between.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use naru_testkit::{World, image, naru_binary};
use serde_json::{Value, json};

use crate::sample::Series;
use crate::say;

/// A runtime's name and how it is called.
struct Runtime {
    name: &'static str,
    program: Vec<String>,
}

/// Prints the table.
///
/// # Errors
/// A runtime fails.
pub fn compare(rounds: usize) -> Result<()> {
    let world = World::new()?;
    // crun refuses hosts that have both versions of cgroups.
    world.command("umount").arg("/sys/fs/cgroup/unified").stderr(Stdio::null()).status()?;
    let bundle = bundle(world.folder())?;
    let naru = naru_binary();
    let naru = fs::canonicalize(&naru).with_context(|| naru.display().to_string())?.display().to_string();
    let runtimes = [
        Runtime { name: "runc", program: vec!["runc".into()] },
        Runtime { name: "crun", program: vec!["crun".into()] },
        Runtime { name: "naru oci", program: vec![naru, "oci".into()] },
    ];
    let load = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    say(&format!("load {}; {rounds} rounds of `run` of the same bundle (busybox true)\n\n", load.trim()))?;
    say("| runtime | pause ms | p10 ms | median ms | p90 ms |\n|---|---|---|---|---|\n")?;
    for pause in [0, 60] {
        for (runtime, series) in runtimes.iter().zip(measure(&world, &bundle, &runtimes, rounds, pause)?) {
            let [p10, median, p90] = [10, 50, 90].map(|percent| series.percentile(percent));
            say(&format!("| {} | {pause} | {p10:.1} | {median:.1} | {p90:.1} |\n", runtime.name))?;
        }
    }
    Ok(())
}

/// All in turn, so that the machine's load is the same for each. A script inside the world does the calls and tells their times: entering
/// the world takes longer than the calls themselves.
fn measure(world: &World, bundle: &Path, runtimes: &[Runtime], rounds: usize, pause: u32) -> Result<Vec<Series>> {
    const SCRIPT: &str = "cd \"$1\"; rounds=$2 pause=$3; shift 3; i=0; while [ $i -lt $rounds ]; do i=$((i+1)); for r in \"$@\"; do \
        [ $pause = 0 ] || sleep 0.0$pause; s=$EPOCHREALTIME; $r --root state${#r} run b$i </dev/null >&2 || exit 1; \
        e=$EPOCHREALTIME; echo $((${e/./} - ${s/./})); done; done";
    let mut command = world.command("bash");
    command.args(["-c", SCRIPT, "bash"]).arg(bundle).arg(rounds.to_string()).arg(pause.to_string());
    command.args(runtimes.iter().map(|runtime| runtime.program.join(" ")));
    let output = command.output().context("bash")?;
    ensure!(output.status.success(), "a runtime failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut series = vec![Series::default(); runtimes.len()];
    for (at, line) in String::from_utf8_lossy(&output.stdout).lines().enumerate() {
        let micros: f64 = line.parse().with_context(|| format!("{line:?} is no time"))?;
        series[at % runtimes.len()].push(micros / 1000.0);
    }
    Ok(series)
}

fn bundle(folder: &Path) -> Result<std::path::PathBuf> {
    let bundle = folder.join("bundle");
    fs::create_dir_all(bundle.join("rootfs"))?;
    fs::write(folder.join("rootfs.tar"), image::busybox_rootfs()?)?;
    let mut tar = Command::new("tar");
    tar.arg("-xpf").arg(folder.join("rootfs.tar")).arg("-C").arg(bundle.join("rootfs"));
    ensure!(tar.status()?.success(), "unpack busybox");
    fs::write(bundle.join("config.json"), config().to_string())?;
    Ok(bundle)
}

fn config() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let caps = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["true"], "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 134_217_728}, "pids": {"limit": 100}},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
