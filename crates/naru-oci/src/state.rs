//! What is known of a container between calls: one folder below `--root` with `state.json`, and the socket of its gate until it is
//! started.

use crate::listener::Listener;
use crate::spec;
use naru_base::error::Context as _;
use naru_base::{Class, Error, Result};
use naru_fs::{Durability, Root, durable};
use naru_runtime::cgroup::systemd::Scope;
use naru_runtime::cgroup::{Cgroup, Hierarchies};
use naru_runtime::plan::{self, Namespaces, SeccompProgram};
use naru_runtime::{ExecTarget, Hook};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
const FILE: &str = "state.json";
/// The gate's socket.
pub(crate) const GATE: &str = "gate";
/// State is of this boot only: the root is a folder of /run.
const DURABILITY: Durability = Durability::Volatile;

/// One container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub version: u32,
    pub id: String,
    pub oci_version: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub owner: u32,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Of its first process, with what tells it from a later one of the same number.
    pub pid: i32,
    pub start_time: u64,
    pub boot_id: String,
    pub cgroup_path: String,
    /// The scope that it is of, if systemd has made it.
    #[serde(default)]
    pub scope: Option<Scope>,
    pub namespaces: Namespaces,
    /// The first process as it was asked for: a further one without a description of its own begins with it.
    pub process: spec::Process,
    /// The same as it was planned, to tell what failed at its start.
    pub planned: plan::Process,
    #[serde(default)]
    pub seccomp: Option<SeccompProgram>,
    /// Who decides on what the filter notifies.
    #[serde(default)]
    pub listener: Option<Listener>,
    #[serde(default)]
    pub poststart: Vec<Hook>,
    #[serde(default)]
    pub poststop: Vec<Hook>,
}

/// How a container is (runtime.md, "State"; `paused` is runc's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// Its name in documents.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl State {
    /// An empty one of this version, for `id`.
    pub(crate) fn new(id: &str) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            id: id.to_owned(),
            oci_version: String::new(),
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: format!("{:.9}", jiff::Timestamp::now()),
            owner: rustix::process::getuid().as_raw(),
            annotations: BTreeMap::new(),
            pid: 0,
            start_time: 0,
            boot_id: boot_id()?,
            cgroup_path: String::new(),
            scope: None,
            namespaces: Namespaces::default(),
            process: spec::Process::default(),
            planned: plan::Process::default(),
            seccomp: None,
            listener: None,
            poststart: Vec::new(),
            poststop: Vec::new(),
        })
    }

    /// The document that hooks read and `state` prints (runtime.md, "State").
    pub(crate) fn document(&self, pid: i32, status: &str) -> serde_json::Value {
        serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }

    /// The document for hooks once there is no process any more.
    pub(crate) fn stopped_text(&self) -> String {
        self.document(0, Status::Stopped.name()).to_string()
    }

    /// Its first process, if that is there and has not ended: opened first and then looked at, so it can't be another one.
    pub(crate) fn pidfd(&self) -> Option<(Pid, OwnedFd)> {
        let pid = Pid::from_raw(self.pid).filter(|pid| pid.as_raw_nonzero().get() > 0)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let (state, start_time) = stat(self.pid)?;
        let same = start_time == self.start_time && boot_id().is_ok_and(|boot| boot == self.boot_id);
        (same && !matches!(state, 'Z' | 'X' | 'x')).then_some((pid, pidfd))
    }

    /// Its group.
    pub(crate) fn cgroup(&self) -> Result<Cgroup> {
        Ok(Cgroup::open(Hierarchies::host()?, &self.cgroup_path)?.in_scope(self.scope.as_ref()))
    }

    /// Whether processes of it may go on when the first one has ended.
    pub(crate) fn shares_pids(&self) -> bool {
        self.namespaces.pid != plan::Namespace::New
    }

    /// What an exec enters.
    pub(crate) fn target<'a>(&'a self, pid: Pid, pidfd: &'a OwnedFd) -> ExecTarget<'a> {
        ExecTarget { pid, pidfd: pidfd.as_fd(), cgroup_path: &self.cgroup_path, namespaces: &self.namespaces }
    }
}

/// State letter and start time out of /proc/PID/stat.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").system("read the boot id")?;
    Ok(text.trim().to_owned())
}

/// The folder of all containers.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// The folder of one container.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: OwnedFd,
}

impl Store {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn open(&self) -> Result<Root> {
        Root::open_host(&self.root).system("cannot open the root folder")
    }

    /// Takes the name `id`: only one caller gets it.
    ///
    /// # Errors
    /// It is taken, or no name.
    pub(crate) fn reserve(&self, id: &str) -> Result<Folder> {
        check_id(id)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.root)
            .map_err(|e| Error::system(format!("make the root folder {}: {e}", self.root.display())))?;
        let root = self.open()?;
        match rustix::fs::mkdirat(&root, id, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::conflict(format!("container with given ID already exists: {id}")));
            }
            Err(errno) => return Err(Error::system(format!("make the folder of {id}: {errno}"))),
        }
        let dir = root.open_dir(id).system("open the container's folder")?;
        Ok(Folder { dir })
    }

    /// What is known of `id`.
    ///
    /// # Errors
    /// There is no such container, or its state can't be read.
    pub(crate) fn load(&self, id: &str) -> Result<(State, Folder)> {
        check_id(id)?;
        let missing = || Error::new(Class::NotFound, "container does not exist");
        let root = match Root::open_host(&self.root) {
            Ok(root) => root,
            Err(e) if e.is_not_found() => return Err(missing()),
            Err(e) => return Err(e.into()),
        };
        let dir = match root.open_dir(id) {
            Ok(dir) => dir,
            Err(e) if e.is_not_found() => return Err(missing()),
            Err(e) => return Err(e.into()),
        };
        let state: State = durable::read_json(&dir, FILE)?.ok_or_else(missing)?;
        if state.version != VERSION {
            return Err(Error::system(format!("state of {id}: unknown version {}", state.version)));
        }
        Ok((state, Folder { dir }))
    }

    /// The ids of all containers, in order.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let root = match Root::open_host(&self.root) {
            Ok(root) => root,
            Err(e) if e.is_not_found() => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let names = root.list("/").system("list the root folder")?;
        let mut ids: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        ids.retain(|id| check_id(id).is_ok());
        ids.sort();
        Ok(ids)
    }

    /// Forgets `id`.
    ///
    /// # Errors
    /// unlinkat(2)'s.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let root = self.open()?;
        match root.open_dir(id) {
            Ok(dir) => naru_fs::remove_contents(dir).system("empty the container's folder")?,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        match rustix::fs::unlinkat(&root, id, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::system(format!("remove the folder of {id}: {errno}"))),
        }
    }
}

impl Folder {
    /// # Errors
    /// The disk is full.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        Ok(durable::write_json(&self.dir, FILE, state, DURABILITY)?)
    }

    /// Whether the container still waits to be started.
    pub(crate) fn has_gate(&self) -> bool {
        rustix::fs::statat(&self.dir, GATE, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The gate is open, or nobody is behind it.
    pub(crate) fn remove_gate(&self) -> Result<()> {
        Ok(durable::remove(&self.dir, GATE, DURABILITY)?)
    }

    /// A path of the gate that is short enough for a socket's address.
    pub(crate) fn gate_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{GATE}", self.dir.as_raw_fd()))
    }

    /// How the container is now.
    pub(crate) fn status(&self, state: &State) -> Status {
        if state.pidfd().is_none() {
            return Status::Stopped;
        }
        let frozen = || state.cgroup().and_then(|cgroup| cgroup.is_frozen());
        match self.has_gate() {
            true => Status::Created,
            // Without a freezer nothing is ever frozen.
            false if frozen().unwrap_or(false) => Status::Paused,
            false => Status::Running,
        }
    }
}

/// runc's rule: letters, digits, `_`, `+`, `-`, `.`; and no name that a folder can't have.
fn check_id(id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 255 || matches!(id, "." | "..") || !id.chars().all(fine) {
        return Err(Error::invalid(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_folders() {
        for good in ["a", "A-b_c+d.e", "0123", "..a"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let mut state = State::new("x").unwrap();
        state.pid = i32::try_from(std::process::id()).unwrap();
        state.start_time = stat(state.pid).unwrap().1;
        assert!(state.pidfd().is_some());
        state.start_time += 1;
        assert!(state.pidfd().is_none());
        state.start_time -= 1;
        state.boot_id.push('x');
        assert!(state.pidfd().is_none());
    }
}
