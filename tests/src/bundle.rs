//! OCI bundles of busybox, and the runtime that is given them: `naru oci`, or another one (`NARU_TEST_RUNTIME=runc`, `crun`), to judge the
//! tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use naru_testkit::{World, eventually, image, naru_binary, unique};
use serde_json::{Value, json};

/// What a command has said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; 128 and the signal's number for one that a signal has ended.
    pub code: i32,
    /// Standard output, without white space at the end.
    pub out: String,
    /// Standard error, likewise.
    pub err: String,
}

/// The runtime under test is another one: what only Naru promises isn't asked of it.
pub fn other_runtime() -> Option<String> {
    std::env::var("NARU_TEST_RUNTIME").ok().filter(|name| !name.is_empty())
}

/// Another runtime than Naru's is under test, and it is this one, which is known to differ from what follows.
pub fn is(runtime: &str) -> bool {
    other_runtime().is_some_and(|path| Path::new(&path).file_name().is_some_and(|name| name == runtime))
}

/// The world that all bundles share, with an unpacked busybox in it.
///
/// # Errors
/// It can't be made.
pub fn world() -> Result<&'static World> {
    static WORLD: OnceLock<Result<World, String>> = OnceLock::new();
    let make = || -> Result<World> {
        let world = World::new()?;
        let template = world.folder().join("busybox");
        fs::create_dir_all(&template)?;
        fs::write(world.folder().join("busybox.tar"), image::busybox_rootfs()?)?;
        let mut tar = Command::new("tar");
        tar.arg("-xpf").arg(world.folder().join("busybox.tar")).arg("-C").arg(&template);
        ensure!(tar.status()?.success(), "unpack busybox");
        if is("crun") {
            // It refuses hosts with both versions of cgroups.
            world.command("umount").arg("/sys/fs/cgroup/unified").status()?;
        }
        Ok(world)
    };
    WORLD.get_or_init(|| make().map_err(|e| format!("{e:#}"))).as_ref().map_err(|e| anyhow!("{e}"))
}

/// A bundle and the container that is made of it; both go when it is dropped.
#[derive(Debug)]
pub struct Bundle {
    /// config.json, written before each command that reads it.
    pub config: Value,
    /// The container's id.
    pub id: String,
    dir: PathBuf,
}

impl Bundle {
    /// A bundle whose process is `sh -c SCRIPT`.
    ///
    /// # Errors
    /// Its files can't be made.
    pub fn new(script: &str) -> Result<Bundle> {
        let id = unique("oci");
        let dir = world()?.folder().join(&id);
        fs::create_dir_all(&dir)?;
        let copied =
            Command::new("cp").arg("-a").arg(world()?.folder().join("busybox")).arg(dir.join("rootfs")).status()?;
        ensure!(copied.success(), "copy busybox");
        Ok(Bundle { config: template(script), id, dir })
    }

    /// The bundle's folder, which the world sees under the same path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The runtime's state folder.
    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// `command` of the runtime, in the bundle's folder.
    ///
    /// # Errors
    /// The configuration can't be written.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        fs::write(self.dir.join("config.json"), self.config.to_string())?;
        // nsenter goes to the top of the world's file system.
        let mut command = world()?.command("sh");
        command.args(["-c", "cd \"$0\" && exec \"$@\""]).arg(&self.dir);
        match other_runtime() {
            Some(other) => command.arg(other),
            None => command.arg(naru_binary()).arg("oci"),
        };
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `command` of the runtime with its output in files: what it leaves running may keep them.
    ///
    /// # Errors
    /// It can't be started.
    pub fn oci(&self, args: &[&str]) -> Result<Said> {
        said(self.command(args)?, &self.dir, &unique("said"))
    }

    /// As [`Bundle::oci`], for a command that must succeed; its standard output.
    ///
    /// # Errors
    /// It doesn't.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let said = self.oci(args)?;
        ensure!(said.code == 0, "{args:?} ended with {}: {}", said.code, said.err);
        Ok(said.out)
    }

    /// As [`Bundle::oci`], for a command that must fail; its standard error.
    ///
    /// # Errors
    /// It doesn't.
    pub fn fails(&self, args: &[&str]) -> Result<String> {
        let said = self.oci(args)?;
        ensure!(said.code != 0, "{args:?} succeeded: {}", said.out);
        Ok(said.err)
    }

    /// `run` in the foreground.
    ///
    /// # Errors
    /// The runtime can't be started.
    pub fn run(&self) -> Result<Said> {
        self.oci(&["run", &self.id])
    }

    /// `run` in the foreground, which must end with 0; its standard output.
    ///
    /// # Errors
    /// It doesn't.
    pub fn prints(&self) -> Result<String> {
        let said = self.run()?;
        ensure!(said.code == 0, "run ended with {}: {} {}", said.code, said.out, said.err);
        Ok(said.out)
    }

    /// `create`, whose container writes into [`Bundle::output`].
    ///
    /// # Errors
    /// It fails.
    pub fn create(&self) -> Result<()> {
        self.create_with(&[])
    }

    /// As [`Bundle::create`], with `flags`.
    ///
    /// # Errors
    /// It fails.
    pub fn create_with(&self, flags: &[&str]) -> Result<()> {
        let args = [&["create"], flags, &[self.id.as_str()]].concat();
        let said = said(self.command(&args)?, &self.dir, "container")?;
        ensure!(said.code == 0, "create ended with {}: {}", said.code, said.err);
        Ok(())
    }

    /// `create` and `start`.
    ///
    /// # Errors
    /// One fails.
    pub fn started(&self) -> Result<()> {
        self.create()?;
        self.ok(&["start", &self.id]).map(drop)
    }

    /// What the container of `create` has written so far.
    pub fn output(&self) -> String {
        read(&self.dir.join("container.out"))
    }

    /// The state document.
    ///
    /// # Errors
    /// There is none.
    pub fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ok(&["state", &self.id])?)?)
    }

    /// The status out of it.
    ///
    /// # Errors
    /// There is none.
    pub fn status(&self) -> Result<String> {
        Ok(self.state()?["status"].as_str().context("a status")?.to_owned())
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// It doesn't come.
    pub fn until(&self, status: &str) -> Result<()> {
        eventually(&format!("the container to be {status}"), || {
            let now = self.status()?;
            if now == status { Ok(()) } else { bail!("it is {now}") }
        })
    }

    /// Nothing of the container is there: no state, no cgroup.
    ///
    /// # Errors
    /// With what is left.
    pub fn expect_gone(&self) -> Result<()> {
        let state = self.root().join(&self.id);
        ensure!(!fs::exists(&state)?, "{} is left", state.display());
        let groups = self.groups()?;
        ensure!(groups.is_empty(), "cgroups are left: {groups:?}");
        Ok(())
    }

    /// The container's cgroups on the host.
    ///
    /// # Errors
    /// find(1)'s.
    pub fn groups(&self) -> Result<Vec<PathBuf>> {
        let find = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &self.id]).output()?;
        Ok(String::from_utf8_lossy(&find.stdout).lines().map(PathBuf::from).collect())
    }

    /// Sets the place `path` (JSON pointer) of the configuration; what is missing above is an error of the test.
    ///
    /// # Panics
    /// There is no such place.
    #[must_use]
    pub fn with(mut self, path: &str, value: Value) -> Bundle {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.config.pointer_mut(above) {
            Some(Value::Object(map)) => drop(map.insert(name.to_owned(), value)),
            Some(Value::Array(list)) if name == "-" => list.push(value),
            _ => panic!("no place {path} in the configuration"),
        }
        self
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // What is left of it is found by the world's end.
        let _ = self.oci(&["delete", "--force", &self.id]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()).unwrap_or_default()
}

/// Runs `command` with `NAME.out` and `NAME.err` in `dir` as its output.
///
/// # Errors
/// It can't be started.
pub fn said(mut command: Command, dir: &Path, name: &str) -> Result<Said> {
    let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
    let status = command.stdout(File::create(&out)?).stderr(File::create(&err)?).status()?;
    let signal = || std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0) + 128;
    Ok(Said { code: status.code().unwrap_or_else(signal), out: read(&out), err: read(&err) })
}

fn template(script: &str) -> Value {
    let caps = [
        "CAP_AUDIT_WRITE",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_MKNOD",
    ];
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "bundle",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "hooks": {},
        "annotations": {"org.example.key": "value"},
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/nope"],
            "readonlyPaths": ["/proc/sys", "/proc/bus", "/proc/nope"],
        },
    })
}
