//! The spawner: a small process of one thread that forks monitors, so that the engine never forks.
//!
//! Forking costs by the size of the memory that is copied, and only the forking thread exists in the child: the engine is large and has
//! many. The spawner is started before the engine has threads, and ends with it; monitors go on.

use crate::monitor::monitor_main;
use crate::protocol::{SpaceReply, SpawnRequest};
use crate::wire::{self, Decoder};
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_runtime::cgroup::Hierarchies;
use naru_runtime::own_binary;
use naru_runtime::plan::IdMap;
use naru_runtime::{MountSpaces, MountTemplates, UserSpace};
use naru_sys::clone::{Child, CloneFlags, clone3, fork};
use naru_sys::execve::{CStringArray, execveat};
use naru_sys::{fault, fds, process, signals};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::ffi::{CStr, CString};

/// The first argument of the spawner's process.
const PERSONALITY: &CStr = c"spawner";
/// Room behind it in which a monitor's title is shown.
const TITLE_ROOM: &CStr = c"                                        ";
/// How much of an id a title shows.
const SHORT_ID: usize = 12;
/// What asks a process to end is meant for the engine.
const IGNORED: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE];

/// The engine's hold on its spawner; when it is dropped, the spawner ends.
#[derive(Debug)]
pub struct Spawner {
    /// The spawner's socket. Frames must not be mixed: one thread at a time.
    pub control: OwnedFd,
    /// Its process id.
    pub pid: i32,
}

impl Spawner {
    /// A new monitor for the container `id`, which waits for its `Start` on the returned (blocking) socket.
    ///
    /// # Errors
    /// The spawner is gone.
    pub fn spawn(&self, id: &str) -> Result<OwnedFd> {
        let (ours, theirs) = stream_pair()?;
        let request = SpawnRequest { id: id.to_owned(), space: None, template: false };
        wire::send_all(&self.control, &request, &[theirs.as_fd()]).system("ask the spawner for a monitor")?;
        Ok(ours)
    }
}

fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).system("make a pair of sockets")
}

/// Starts the spawner: this program again, from a file that nothing can write, with the argument `spawner` and its socket as standard
/// input. The caller has no thread but its own.
///
/// # Errors
/// The program's file can't be had, or clone3(2)'s.
pub fn start_spawner() -> Result<Spawner> {
    let program = own_binary::open()?;
    let (control, theirs) = stream_pair()?;
    let null = open_null()?;
    let argv = CStringArray::new([c"naru", PERSONALITY, TITLE_ROOM].map(CString::from).into());
    let envp = CStringArray::new(fault::of_helpers());
    let run = || execute(program.as_fd(), theirs.as_fd(), null.as_fd(), &argv, &envp);
    let Child { pid, .. } = clone3(CloneFlags::CLEAR_SIGHAND, None, run).system("start the spawner")?;
    Ok(Spawner { control, pid: pid.as_raw_nonzero().get() })
}

/// In the child. Standard error stays the engine's: a spawner that panics should be heard.
fn execute(
    program: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
    argv: &CStringArray,
    envp: &CStringArray,
) -> Infallible {
    let ready = rustix::stdio::dup2_stdin(control)
        .and_then(|()| rustix::stdio::dup2_stdout(null))
        .and_then(|()| fds::close_on_exec_from(3))
        .and_then(|()| signals::set_mask(0));
    if ready.is_ok() {
        execveat(program, argv, envp);
    }
    process::exit_now(127)
}

/// What a process with the argument `spawner` does: [`spawner_main`] on the socket that is its standard input. Returns its exit code.
pub fn spawner_process() -> i32 {
    match take_stdin() {
        Ok(control) => spawner_main(control),
        Err(_) => 1,
    }
}

/// The socket that came as standard input, which is /dev/null from now on.
fn take_stdin() -> Result<OwnedFd> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).system("take the socket")?;
    rustix::stdio::dup2_stdin(open_null()?).system("open standard input")?;
    Ok(control)
}

fn open_null() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).system("open /dev/null")
}

/// Starts a monitor for each [`SpawnRequest`] on `control`, until its other end is closed; returns the exit code of the process.
pub fn spawner_main(control: OwnedFd) -> i32 {
    fault::be(fault::Kind::Spawner);
    ignore(&IGNORED);
    // The kernel reaps monitors.
    ignore(&[Signal::CHILD]);
    // The folder that the engine was started in is not held.
    let _ = rustix::process::chdir(c"/");
    let _ = process::set_title(c"naru-spawner");
    // Kept by every monitor. Where this fails, a start says why.
    let _ = Hierarchies::host();
    let templates = OnceCell::new();
    let mut decoder = Decoder::default();
    loop {
        match decoder.next::<SpawnRequest>() {
            Ok(Some((request, descriptors))) => {
                let mut descriptors = descriptors.into_iter();
                let Some(socket) = descriptors.next() else { continue };
                fault::point();
                // Without a monitor, or an answer, the engine finds its socket closed.
                let _ = match &request.space {
                    Some(map) => make_space(map, descriptors.next(), &templates, &socket),
                    None if request.template => give_template(&templates, &socket),
                    None => spawn(&request.id, &socket).map(drop),
                };
                fault::point();
            }
            Ok(None) if decoder.fill(&control).is_ok() => {}
            _ => return 0,
        }
    }
}

fn ignore(ignored: &[Signal]) {
    for signal in ignored {
        // Each can be ignored.
        let _ = signals::ignore(signal.as_raw());
    }
}

fn make_space(
    map: &IdMap,
    within: Option<OwnedFd>,
    templates: &OnceCell<Option<MountTemplates>>,
    socket: &OwnedFd,
) -> Result<()> {
    // Where there can't be any, a start makes its mount namespace itself.
    let templates = templates.get_or_init(|| MountTemplates::make().ok());
    fault::point();
    let made = UserSpace::create(map, within, templates.as_ref());
    fault::point();
    let (descriptors, reply): (Vec<OwnedFd>, SpaceReply) = match made {
        Ok(UserSpace { user, net, mounts }) => {
            let reply = SpaceReply { error: None, mounts: mounts.is_some() };
            let mounts = mounts.map(MountSpaces::into_descriptors).unwrap_or_default();
            ([user, net].into_iter().chain(mounts).collect(), reply)
        }
        Err(error) => (Vec::new(), SpaceReply { error: Some(error.message), mounts: false }),
    };
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    wire::send_all(socket, &reply, &descriptors).system("answer with namespaces")
}

fn give_template(templates: &OnceCell<Option<MountTemplates>>, socket: &OwnedFd) -> Result<()> {
    let templates = templates.get_or_init(|| MountTemplates::make().ok());
    let empty = templates.as_ref().and_then(|templates| templates.empty().ok());
    let error = empty.is_none().then(|| "there are no mount namespaces made ahead".to_owned());
    let descriptors: Vec<BorrowedFd<'_>> = empty.iter().map(AsFd::as_fd).collect();
    wire::send_all(socket, &SpaceReply { error, mounts: empty.is_some() }, &descriptors)
        .system("answer with a namespace")
}

fn spawn(id: &str, socket: &OwnedFd) -> Result<i32> {
    let short: String = id.chars().take(SHORT_ID).collect();
    let title = CString::new(format!("naru-monitor {short}")).system("make a title")?;
    fault::point();
    fork(|| become_monitor(&title, socket)).map_err(|e| Error::system(format!("fork a monitor: {e}")))
}

/// In the child: nothing of the spawner's stays but its memory.
fn become_monitor(title: &CStr, socket: &OwnedFd) -> Infallible {
    fault::be(fault::Kind::Monitor);
    signals::reset_dispositions();
    ignore(&IGNORED);
    fault::point();
    let ready = rustix::process::setsid()
        .and_then(|_| rustix::stdio::dup2_stdin(socket))
        .and_then(|()| rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
        .and_then(|null| {
            rustix::stdio::dup2_stdout(&null)?;
            rustix::stdio::dup2_stderr(&null)
        });
    if ready.is_err() {
        process::exit_now(1);
    }
    // Only for the eye.
    let _ = process::set_title(title);
    fds::close_from_then(3, run_monitor, 0)
}

fn run_monitor(_: i32) -> ! {
    fault::point();
    let code = match take_stdin() {
        Ok(control) => monitor_main(control),
        Err(_) => 1,
    };
    process::exit_now(code)
}
