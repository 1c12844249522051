//! `exec`: a further process in a container.

use crate::args::{Flag, Parsed, switch, value};
use crate::container::{load_in, own_streams, preserved_fds, write_pid_file};
use crate::convert::{merge_capabilities, parse, process_options, process_plan};
use crate::global::Global;
use crate::spec::Process;
use crate::state::{State, Status};
use crate::{console, container, foreground, listener, log};
use naru_base::{Error, Result};
use naru_runtime::{Stdio, exec_with};
use std::path::{Path, PathBuf};

pub(super) const FLAGS: &[Flag] = &[
    value("process", "file with the process, as in config.json").or("p"),
    switch("tty", "give it a terminal").or("t"),
    value("user", "UID[:GID]").or("u"),
    value("cwd", "working folder"),
    value("env", "KEY=value, may be given again").or("e"),
    value("additional-gids", "further group, may be given again").or("g"),
    value("cap", "further capability, may be given again").or("c"),
    switch("no-new-privs", "set no_new_privs"),
    value("apparmor", "AppArmor profile"),
    value("process-label", "SELinux label"),
    value("cgroup", "not supported"),
    switch("detach", "leave the process running and return").or("d"),
    value("console-socket", "socket that receives the terminal"),
    value("pid-file", "file for the process id"),
    value("preserve-fds", "number of further descriptors, from 3 on, for the process"),
    switch("ignore-paused", "wait for a paused container instead of failing"),
    switch("no-subreaper", "ignored"),
];

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let id = parsed.id()?;
    if parsed.get("cgroup").is_some_and(|path| !path.is_empty()) {
        return Err(Error::not_implemented("exec --cgroup is not supported"));
    }
    let all = [Status::Created, Status::Running, Status::Paused];
    let (state, _, status) = load_in(global, id, &all).map_err(|e| match e.message() {
        "container not running" => Error::conflict("cannot exec a container that has stopped"),
        _ => e,
    })?;
    if status == Status::Paused && !parsed.has("ignore-paused") {
        return Err(Error::conflict("cannot exec in a paused container (use --ignore-paused to override)"));
    }
    let detached = parsed.has("detach");
    let process = process(parsed, &state)?;
    let console = parsed.get("console-socket").filter(|path| !path.is_empty());
    let console = console.map(|path| console::connect_to(Path::new(path))).transpose()?;
    if process.terminal && detached && console.is_none() {
        return Err(Error::invalid("cannot allocate tty if the process is detached without setting console socket"));
    }
    let mut warnings = Vec::new();
    let plan = process_plan(&process, state.seccomp.as_ref(), &mut warnings)?;
    let request = container::Request {
        id: id.to_owned(),
        bundle: PathBuf::new(),
        console: None,
        pid_file: None,
        keeps_keyring: false,
        preserved_fds: preserved_fds(parsed)?,
        gated: false,
        detached,
    };
    let mut options = process_options(&process, None, &request)?;
    options.listener = listener::receiver(&state, status);
    if !detached {
        foreground::hold_signals()?;
    }
    let stdio = if process.terminal { Stdio::Terminal } else { own_streams()? };
    let gone = || Error::conflict("cannot exec a container that has stopped");
    let (pid, pidfd) = state.pidfd().ok_or_else(gone)?;
    let mut started = exec_with(&state.target(pid, &pidfd), &plan, stdio, options)?;
    warnings.iter().chain(&started.warnings).for_each(|text| log::warn(global, text));
    if let (Some(socket), Some(master)) = (&console, &started.console) {
        console::send(socket, master)?;
        started.console = None;
    }
    if let Some(path) = parsed.get("pid-file").filter(|path| !path.is_empty()) {
        write_pid_file(Path::new(path), started.pid.as_raw_nonzero().get())?;
    }
    if detached { Ok(0) } else { foreground::wait(&mut started) }
}

/// The process of a file, or the container's own with what the flags say.
fn process(parsed: &Parsed, state: &State) -> Result<Process> {
    if let Some(path) = parsed.get("process").filter(|path| !path.is_empty()) {
        let text = std::fs::read(path).map_err(|e| Error::invalid(format!("read process {path}: {e}")))?;
        return parse(path, &text);
    }
    let args = parsed.rest.get(1..).unwrap_or_default();
    if args.is_empty() {
        return Err(Error::invalid("process args cannot be empty"));
    }
    let mut process =
        Process { args: args.to_vec(), terminal: parsed.has("tty"), console_size: None, ..state.process.clone() };
    if let Some(user) = parsed.get("user").filter(|user| !user.is_empty()) {
        let number = |text: &str| text.parse().map_err(|_| Error::invalid(format!("invalid user {user:?}: UID[:GID]")));
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = number(uid)?;
        process.user.gid = gid.map(number).transpose()?.unwrap_or(process.user.gid);
    }
    for gid in parsed.all("additional-gids") {
        let gid = gid.parse().map_err(|_| Error::invalid(format!("invalid group {gid:?}")))?;
        process.user.additional_gids.push(gid);
    }
    if let Some(cwd) = parsed.get("cwd").filter(|cwd| !cwd.is_empty()) {
        process.cwd = cwd.into();
    }
    process.env.extend(parsed.all("env").map(str::to_owned));
    let caps: Vec<String> = parsed.all("cap").map(str::to_owned).collect();
    if !caps.is_empty() {
        merge_capabilities(&mut process, &caps);
    }
    process.no_new_privileges |= parsed.has("no-new-privs");
    let text = |name: &str, own: String| parsed.get(name).map_or(own, str::to_owned);
    process.apparmor_profile = text("apparmor", process.apparmor_profile);
    process.selinux_label = text("process-label", process.selinux_label);
    Ok(process)
}
