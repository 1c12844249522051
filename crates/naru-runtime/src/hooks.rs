//! Hooks: programs that run while a container is made, started and removed (OCI runtime specification, config.md, "POSIX-platform Hooks").
//!
//! Those of the runtime's namespaces are run by the caller, who is told when the container has been made; those of the container's by the
//! child itself, which forks: on prepared data, like all that it does.

use crate::StartError;
use crate::mounts::c_path;
use crate::report::{At, Failure, Op, errno_text};
use naru_sys::clone::fork;
use naru_sys::execve::{CStringArray, execve};
use naru_sys::process::exit_now;
use naru_sys::signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, SeekFrom, memfd_create, seek};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// How much of a failed hook's standard error is told.
const TOLD: u64 = 2048;

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: String,
    /// Its arguments, its own name first.
    #[serde(default)]
    pub args: Vec<String>,
    /// `KEY=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    #[serde(default)]
    pub timeout: Option<u32>,
}

/// The state that a hook reads from its standard input, for a container's first process and its status.
pub type StateText = Box<dyn Fn(i32, &str) -> String>;

/// What runs on the way to a container.
#[derive(Default)]
pub struct Hooks {
    /// In the runtime's namespaces, once the container's are there (the old name of the next).
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, once the container's are there.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root changes.
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    pub start_container: Vec<Hook>,
    /// What they are told.
    pub state: Option<StateText>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

impl Hooks {
    /// Whether there is one that the container must wait for while it is made.
    pub(crate) fn is_empty(&self) -> bool {
        self.prestart.is_empty()
            && self.create_runtime.is_empty()
            && self.create_container.is_empty()
            && self.start_container.is_empty()
    }

    /// Runs those of the runtime's namespaces for the container whose first process is `pid`.
    pub(crate) fn run_in_runtime(&self, pid: i32) -> Result<(), StartError> {
        run_hooks("prestart", &self.prestart, &self.text(pid, "creating"))?;
        run_hooks("createRuntime", &self.create_runtime, &self.text(pid, "creating"))
    }

    pub(crate) fn text(&self, pid: i32, status: &str) -> String {
        self.state.as_ref().map(|state| state(pid, status)).unwrap_or_default()
    }
}

/// Runs `hooks` one after the other in this process's namespaces, each with `state` on its standard input. The first that fails ends it.
///
/// # Errors
/// A hook can't be executed, fails, or takes longer than it may; the text has its number and the end of its standard error.
pub fn run_hooks(kind: &str, hooks: &[Hook], state: &str) -> Result<(), StartError> {
    for (number, hook) in hooks.iter().enumerate() {
        run_hook(hook, state)
            .map_err(|why| StartError::system(format!("error running {kind} hook #{number}: {why}")))?;
    }
    Ok(())
}

fn memory_file(content: &str) -> Result<File, String> {
    let file =
        memfd_create(c"naru-hook", MemfdFlags::CLOEXEC).map_err(|e| format!("memory file: {}", errno_text(e)))?;
    let mut file = File::from(file);
    file.write_all(content.as_bytes()).and_then(|()| file.rewind()).map_err(|e| format!("memory file: {e}"))?;
    Ok(file)
}

fn run_hook(hook: &Hook, state: &str) -> Result<(), String> {
    let input = memory_file(state)?;
    let mut output = memory_file("")?;
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if !hook.env.is_empty() {
        command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    }
    let copy = output.try_clone().map_err(|e| e.to_string())?;
    command.stdin(input).stdout(Stdio::null()).stderr(copy);
    let mut child = command.spawn().map_err(|e| format!("fork/exec {}: {e}", hook.path))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let in_time = pidfd.and_then(|pidfd| ended_in_time(&pidfd, hook.timeout));
    if !matches!(in_time, Ok(true)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    match in_time {
        Ok(true) if status.success() => Ok(()),
        Ok(true) => {
            let mut said = String::new();
            let _ = output.rewind().and_then(|()| (&output).take(TOLD).read_to_string(&mut said));
            Err(format!("{}, stdout: , stderr: {}", go_status(status), said.trim_end()))
        }
        Ok(false) => Err(format!("hook ran past specified timeout of {}.0s", hook.timeout.unwrap_or(0))),
        Err(errno) => Err(errno_text(errno)),
    }
}

/// A status as Go prints it.
fn go_status(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Waits for the end of the process behind `pidfd`, `timeout` seconds at most. After clone.
fn ended_in_time(pidfd: &OwnedFd, timeout: Option<u32>) -> rustix::io::Result<bool> {
    let limit = timeout.map(|seconds| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 });
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    // A signal makes it wait anew; the runtime gets none that it survives.
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, limit.as_ref()))? > 0)
}

/// Hooks that the child runs, prepared.
#[derive(Debug, Default)]
pub(crate) struct PreparedHooks {
    hooks: Vec<PreparedHook>,
    /// What they read; the caller writes it before the child gets here.
    pub(crate) state: Option<OwnedFd>,
}

#[derive(Debug)]
struct PreparedHook {
    path: CString,
    argv: CStringArray,
    envp: CStringArray,
    timeout: Option<u32>,
}

impl PreparedHooks {
    /// Prepares `hooks`.
    pub(crate) fn prepare(hooks: &[Hook]) -> Result<Self, StartError> {
        if hooks.is_empty() {
            return Ok(Self::default());
        }
        let strings = |list: &[String]| -> Result<CStringArray, StartError> {
            let list = list.iter().map(|text| c_path(text.as_bytes())).collect::<Result<_, _>>()?;
            Ok(CStringArray::new(list))
        };
        let prepare_one = |hook: &Hook| {
            let args = if hook.args.is_empty() { std::slice::from_ref(&hook.path) } else { &hook.args };
            Ok::<_, StartError>(PreparedHook {
                path: c_path(hook.path.as_bytes())?,
                argv: strings(args)?,
                envp: strings(&hook.env)?,
                timeout: hook.timeout,
            })
        };
        let state = memory_file("").map_err(StartError::system)?;
        Ok(Self { hooks: hooks.iter().map(prepare_one).collect::<Result<_, _>>()?, state: Some(state.into()) })
    }

    /// Writes what they read. In the parent, while the child waits.
    pub(crate) fn tell(&self, text: &str) -> Result<(), StartError> {
        let Some(state) = &self.state else { return Ok(()) };
        let written = seek(state, SeekFrom::Start(0)).and_then(|_| rustix::io::write(state, text.as_bytes()));
        written.map(drop).map_err(|e| StartError::system(format!("write the state for hooks: {}", errno_text(e))))
    }

    /// Runs them, with `state` as standard input. After clone.
    pub(crate) fn run(&self, state: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let Some(state) = state else { return Ok(()) };
        for (index, hook) in self.hooks.iter().enumerate() {
            hook.run(state, index)?;
        }
        Ok(())
    }

    /// Their descriptor of what they read.
    pub(crate) fn state_fd(&self) -> Option<BorrowedFd<'_>> {
        self.state.as_ref().map(|fd| fd.as_fd())
    }
}

impl PreparedHook {
    fn run(&self, state: BorrowedFd<'_>, index: usize) -> Result<(), Failure> {
        seek(state, SeekFrom::Start(0)).at(Op::Call, index)?;
        let child = fork(|| {
            rustix::process::umask(Mode::from_raw_mode(0o022));
            // Whatever the runtime blocks or ignores is its own.
            signals::reset_dispositions();
            let _ = signals::set_mask(0);
            if rustix::stdio::dup2_stdin(state).is_ok() {
                execve(&self.path, &self.argv, &self.envp);
            }
            exit_now(127)
        })
        .at(Op::Call, index)?;
        let pid = Pid::from_raw(child).ok_or(Errno::SRCH).at(Op::Call, index)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).at(Op::Call, index)?;
        let in_time = ended_in_time(&pidfd, self.timeout).at(Op::Call, index)?;
        if !in_time {
            // It can only have ended meanwhile.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        }
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
        match status.at(Op::Call, index)?.and_then(|status| status.exit_status()) {
            Some(0) if in_time => Ok(()),
            _ if !in_time => Err(Failure::new(Op::HookTimeout, index, Errno::TIME)),
            // The code travels in the place of an error number, which is never 0 and never so large.
            Some(code) => Err(Failure::new(Op::HookStatus, index, Errno::from_raw_os_error(code.clamp(1, 255)))),
            None => Err(Failure::new(Op::HookStatus, index, Errno::from_raw_os_error(255))),
        }
    }
}

/// What failed.
pub(crate) fn describe(kind: &str, failure: Failure) -> StartError {
    let why = match failure.op {
        Op::HookStatus => format!("exit status {}", failure.errno.raw_os_error()),
        Op::HookTimeout => "hook ran past specified timeout".to_owned(),
        _ => errno_text(failure.errno),
    };
    StartError::system(format!("error running {kind} hook #{}: {why}", failure.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<u32>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).into();
        Hook { path: "/bin/sh".into(), args, env: vec!["WHAT=hook".into()], timeout }
    }

    #[test]
    fn hooks_read_the_state_and_have_their_environment() {
        run_hooks("poststop", &[hook("read line && [ \"$line $WHAT\" = 'told hook' ]", None)], "told\n").unwrap();
        let error = run_hooks("poststop", &[hook("exit 0", None), hook("echo why >&2; exit 3", None)], "").unwrap_err();
        assert_eq!(error.message, "error running poststop hook #1: exit status 3, stdout: , stderr: why");
        let missing = Hook { path: "/no/such".into(), args: Vec::new(), env: Vec::new(), timeout: None };
        let error = run_hooks("prestart", &[missing], "").unwrap_err();
        assert!(error.message.starts_with("error running prestart hook #0: fork/exec /no/such: "), "{error}");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let error = run_hooks("poststart", &[hook("exec sleep 1000", Some(1))], "").unwrap_err();
        assert_eq!(error.message, "error running poststart hook #0: hook ran past specified timeout of 1.0s");
    }
}
