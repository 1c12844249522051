//! `spec`: a config.json to begin with, as runc writes it.

use crate::args::{Flag, Parsed, switch, value};
use crate::convert::CONFIG;
use crate::global::Global;
use naru_base::{Error, Result};
use naru_runtime::defaults;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

pub(super) const FLAGS: &[Flag] = &[
    value("bundle", "folder that the file is written into").or("b"),
    switch("rootless", "not supported: this runtime needs root"),
];

pub(super) fn run(_: &Global, parsed: &Parsed) -> Result<i32> {
    if parsed.has("rootless") {
        return Err(Error::not_implemented("--rootless: this runtime needs root"));
    }
    let path = Path::new(parsed.get("bundle").unwrap_or(".")).join(CONFIG);
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::conflict(format!("file {} exists, remove it first", path.display()))
        }
        _ => Error::system(format!("write {}: {e}", path.display())),
    };
    let mut file = std::fs::File::create_new(&path).map_err(fail)?;
    file.write_all(format!("{:#}\n", template()).as_bytes()).map_err(fail)?;
    Ok(0)
}

fn template() -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!({
        "ociVersion": crate::OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [defaults::DEFAULT_PATH, "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "naru",
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": defaults::MASKED_PATHS,
            "readonlyPaths": defaults::READONLY_PATHS,
        },
    })
}
