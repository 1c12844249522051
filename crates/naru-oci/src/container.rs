//! Making a container: the same for `create` and `run`.

use crate::args::{Flag, Parsed, switch, value};
use crate::convert::{self, Converted};
use crate::global::Global;
use crate::state::{Folder, State, Status, Store};
use crate::{console, log};
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_fs::{Durability, Root, durable};
use naru_runtime::cgroup::{Cgroup, Hierarchies};
use naru_runtime::{Started, Stdio, prepare_with, run_hooks};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::path::{Path, PathBuf};

/// Flags that `create` and `run` share.
pub(crate) const FLAGS: [Flag; 7] = [
    value("bundle", "path of the bundle, the current folder by default").or("b"),
    value("console-socket", "socket that receives the terminal"),
    value("pid-file", "file for the process id of the first process"),
    switch("no-pivot", "ignored: the root is always changed by pivot_root"),
    switch("no-new-keyring", "keep the caller's session keyring"),
    value("preserve-fds", "number of further descriptors, from 3 on, for the process"),
    switch("no-subreaper", "ignored"),
];

/// How a container is to be made.
#[derive(Debug)]
pub(crate) struct Request {
    pub id: String,
    pub bundle: PathBuf,
    pub console: Option<OwnedFd>,
    pub pid_file: Option<PathBuf>,
    pub keeps_keyring: bool,
    pub preserved_fds: u32,
    /// It waits at its gate.
    pub gated: bool,
    /// It goes on when this process ends.
    pub detached: bool,
}

/// A container that has been made.
#[derive(Debug)]
pub(crate) struct Made {
    pub state: State,
    pub started: Started,
}

impl Request {
    /// # Errors
    /// An argument makes no sense.
    pub(crate) fn new(parsed: &Parsed) -> Result<Self> {
        let bundle = parsed.get("bundle").filter(|path| !path.is_empty()).unwrap_or(".");
        let bundle = std::fs::canonicalize(bundle).map_err(|e| Error::invalid(format!("bundle {bundle}: {e}")))?;
        let console = parsed.get("console-socket").filter(|path| !path.is_empty());
        Ok(Self {
            id: parsed.id()?.to_owned(),
            bundle,
            console: console.map(|path| console::connect_to(Path::new(path))).transpose()?,
            pid_file: parsed.get("pid-file").filter(|path| !path.is_empty()).map(PathBuf::from),
            keeps_keyring: parsed.has("no-new-keyring"),
            preserved_fds: preserved_fds(parsed)?,
            gated: false,
            detached: true,
        })
    }
}

/// `--preserve-fds`, and those of socket activation (sd_listen_fds(3)).
pub(crate) fn preserved_fds(parsed: &Parsed) -> Result<u32> {
    let listen = listen_fds();
    let count = parsed.number::<u32>("preserve-fds")?.unwrap_or(0).saturating_add(listen);
    for number in 3..3 + count.min(1024) {
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return Err(Error::invalid(format!("--preserve-fds: descriptor {number} is not open")));
        }
    }
    if count > 1024 { Err(Error::invalid("--preserve-fds: too many")) } else { Ok(count) }
}

/// How many descriptors socket activation passes.
pub(crate) fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Makes the container of `request`. On failure nothing of it is left.
///
/// # Errors
/// What is wrong with the bundle, or what failed.
pub(crate) fn make(global: &Global, request: Request) -> Result<Made> {
    let store = Store::new(&global.root);
    let Converted { mut state, plan, descriptors, mut options, files, warnings } =
        convert::bundle(&request, global.systemd)?;
    warnings.iter().for_each(|text| log::warn(global, text));
    check_terminal(plan.process.terminal, &request)?;
    check_cgroup(&plan.cgroup.path)?;
    let folder = store.reserve(&request.id)?;
    let guard = Undo { store: &store, id: &request.id };
    if request.gated {
        options.gate = Some(gate(&folder)?);
    }
    options.process.outlives_caller = request.detached;
    let stdio = if plan.process.terminal { Stdio::Terminal } else { own_streams()? };
    let poststop = state.poststop.clone();
    let prepared = prepare_with(&plan, descriptors, stdio, options)?;
    files.write(prepared.cgroup())?;
    let started = prepared.start().map_err(|error| {
        // The lifecycle goes on with the last hooks (runtime.md, "Lifecycle").
        if let Err(hooks) = run_hooks("poststop", &poststop, &state.stopped_text()) {
            log::warn(global, &hooks.message);
        }
        Error::from(error)
    })?;
    started.warnings.iter().for_each(|text| log::warn(global, text));
    state.pid = started.pid.as_raw_nonzero().get();
    state.start_time = started.start_time;
    if let Err(error) = hand_over(&request, &folder, &state, &started) {
        end(&started);
        return Err(error);
    }
    std::mem::forget(guard);
    Ok(Made { state, started })
}

/// Forgets the container unless it has been made.
struct Undo<'a> {
    store: &'a Store,
    id: &'a str,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // The reason of the failure counts.
        let _ = self.store.remove(self.id);
    }
}

/// What others are told: the terminal, the state, and last the process id.
fn hand_over(request: &Request, folder: &Folder, state: &State, started: &Started) -> Result<()> {
    if let (Some(socket), Some(master)) = (&request.console, &started.console) {
        console::send(socket, master)?;
    }
    folder.save(state)?;
    request.pid_file.as_ref().map_or(Ok(()), |path| write_pid_file(path, state.pid))
}

fn end(started: &Started) {
    // It can only have ended already.
    let _ = rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::KILL);
    let fd = rustix::process::WaitId::PidFd(started.pidfd.as_fd());
    let _ = rustix::process::waitid(fd, rustix::process::WaitIdOptions::EXITED);
    if let Some(cgroup) = &started.cgroup {
        let _ = cgroup.kill_all().and_then(|()| cgroup.remove());
    }
}

fn check_terminal(terminal: bool, request: &Request) -> Result<()> {
    match (terminal, request.console.is_some(), request.detached) {
        (true, false, true) => {
            Err(Error::invalid("cannot allocate tty if the container is detached without setting console socket"))
        }
        (false, true, _) => Err(Error::invalid("cannot use console socket if the process has no terminal")),
        (true, true, false) => Err(Error::invalid("cannot use console socket if the container is not detached")),
        _ => Ok(()),
    }
}

/// A group with processes in it is somebody else's.
fn check_cgroup(path: &str) -> Result<()> {
    let group = Cgroup::open(Hierarchies::host()?, path)?;
    match group.pids()?.as_slice() {
        [] => Ok(()),
        pids => {
            Err(Error::conflict(format!("container's cgroup {path} is not empty: {} process(es) found", pids.len())))
        }
    }
}

/// This process's own streams.
pub(crate) fn own_streams() -> Result<Stdio> {
    let copy = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).system("standard streams");
    Ok(Stdio::Pipes {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

/// The socket at which the container waits.
fn gate(folder: &Folder) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .system("make the gate's socket")?;
    let address = SocketAddrUnix::new(folder.gate_path()).system("the gate's path")?;
    bind(&socket, &address).system("make the gate")?;
    listen(&socket, 1).system("open the gate")?;
    Ok(socket)
}

/// Writes `pid` as a whole or not at all.
///
/// # Errors
/// The folder isn't there, or the disk is full.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::invalid(format!("invalid pid file {}", path.display())))?;
    let dir = Root::open_host(folder).map_err(Error::from).map_err(|e| e.context("pid file"))?;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    durable::write_with_mode(&dir, name, pid.to_string().as_bytes(), Durability::Volatile, mode)
        .map_err(|e| Error::from(e).context("pid file"))
}

/// Takes everything of a container away: its processes, its group, its state; then the last hooks.
///
/// # Errors
/// Something of it is still in use.
pub(crate) fn destroy(global: &Global, state: &State) -> Result<()> {
    let cgroup = state.cgroup()?;
    // What shares a PID namespace with others outlives its first process; and that one may just be ending.
    cgroup.kill_all()?;
    cgroup.remove()?;
    Store::new(&global.root).remove(&state.id)?;
    if let Err(error) = run_hooks("poststop", &state.poststop, &state.stopped_text()) {
        log::warn(global, &error.message);
    }
    Ok(())
}

/// The state of a container, which must be in one of `wanted`.
///
/// # Errors
/// It isn't; the text is the one that callers of runc look for.
pub(crate) fn load_in(global: &Global, id: &str, wanted: &[Status]) -> Result<(State, Folder, Status)> {
    let (state, folder) = Store::new(&global.root).load(id)?;
    let status = folder.status(&state);
    if !wanted.contains(&status) {
        let text = match status {
            Status::Stopped => "container not running".to_owned(),
            status => format!("container {id} is {}", status.name()),
        };
        return Err(Error::conflict(text));
    }
    Ok((state, folder, status))
}
