//! Command lines that speak to an engine.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::pty::Pty;
use crate::wait::{PATIENCE, eventually};

/// A client program bound to one engine's socket.
#[derive(Clone, Debug)]
pub struct Client {
    program: PathBuf,
    host: String,
    home: PathBuf,
    folder: Option<PathBuf>,
}

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Done {
    /// Exit code; 128 + n when signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Client {
    pub(crate) fn new(program: PathBuf, socket: &Path, home: &Path) -> Client {
        Client { program, host: format!("unix://{}", socket.display()), home: home.to_owned(), folder: None }
    }

    /// The same client started in `folder`.
    pub fn in_folder(&self, folder: impl Into<PathBuf>) -> Client {
        Client { folder: Some(folder.into()), ..self.clone() }
    }

    /// Whether this is Naru's own client.
    pub fn is_naru(&self) -> bool {
        self.program == crate::engine::naru_binary()
    }

    /// The command, not yet started, with no standard input.
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null());
        command.env("DOCKER_HOST", &self.host).env("HOME", &self.home).env("DOCKER_CONFIG", self.home.join(".docker"));
        command.env_remove("DOCKER_API_VERSION").env_remove("DOCKER_CONTEXT");
        command.env("DOCKER_CLI_HINTS", "false").env("LC_ALL", "C.UTF-8").env("TERM", "xterm").env_remove("NO_COLOR");
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it can't be started, or doesn't end in time.
    pub fn run<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Result<Done> {
        self.run_with_input(args, b"")
    }

    /// Runs it to its end with `input` as its standard input.
    ///
    /// # Errors
    /// When it can't be started, or doesn't end in time.
    pub fn run_with_input<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>, input: &[u8]) -> Result<Done> {
        let mut running = self.start(args)?;
        let mut stdin = running.stdin.take();
        if let Some(stdin) = stdin.as_mut() {
            // A command that does not read its input may be gone before all is written.
            let _ = stdin.write_all(input);
        }
        drop(stdin);
        running.finish()
    }

    /// Runs it and gives its standard output without the last line's end.
    ///
    /// # Errors
    /// When it exits with anything but 0.
    pub fn ok<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Result<String> {
        let args: Vec<I> = args.into_iter().collect();
        let shown: Vec<String> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
        let done = self.run(args)?;
        ensure!(done.code == 0, "{} exited with {}: {}{}", shown.join(" "), done.code, done.stdout, done.stderr);
        Ok(done.stdout.trim_end_matches('\n').to_owned())
    }

    /// Runs it and gives its standard output and error together.
    ///
    /// # Errors
    /// When it exits with anything but `code`.
    pub fn fails<I: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = I>) -> Result<String> {
        let args: Vec<I> = args.into_iter().collect();
        let shown: Vec<String> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
        let done = self.run(args)?;
        let said = format!("{}{}", done.stdout, done.stderr);
        ensure!(done.code == code, "{} exited with {}, not {code}: {said}", shown.join(" "), done.code);
        Ok(said)
    }

    /// Starts it with pipes.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Result<Running> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{command:?}");
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let stdin = child.stdin.take();
        let stdout = Gathered::from(child.stdout.take());
        let stderr = Gathered::from(child.stderr.take());
        Ok(Running { child, shown, stdin, stdout, stderr })
    }

    /// Starts it under a pseudo-terminal of 24 × 80.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn pty<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Result<Pty> {
        Pty::start(&self.command(args))
    }

    /// The value of one `--format` of `inspect`.
    ///
    /// # Errors
    /// When inspect fails.
    pub fn inspect(&self, name: &str, format: &str) -> Result<String> {
        self.ok(["inspect", "--format", format, name])
    }

    /// Waits until `inspect --format format name` gives `value`.
    ///
    /// # Errors
    /// When it never does.
    pub fn wait_for(&self, name: &str, format: &str, value: &str) -> Result<()> {
        eventually(&format!("{format} of {name} to be {value}"), || {
            let now = self.inspect(name, format)?;
            if now == value { Ok(()) } else { bail!("it is {now}") }
        })
    }

    /// Waits until the container's logs have `text` in them.
    ///
    /// # Errors
    /// When they never have.
    pub fn wait_for_log(&self, name: &str, text: &str) -> Result<()> {
        eventually(&format!("{text:?} in the logs of {name}"), || {
            let done = self.run(["logs", name])?;
            let said = format!("{}{}", done.stdout, done.stderr);
            if said.contains(text) { Ok(()) } else { bail!("they are {said:?}") }
        })
    }
}

/// A started command with pipes. Ended when dropped.
pub struct Running {
    child: Child,
    shown: String,
    /// Its standard input, until taken or closed.
    pub stdin: Option<ChildStdin>,
    stdout: Gathered,
    stderr: Gathered,
}

impl Running {
    /// Writes to its standard input.
    ///
    /// # Errors
    /// When that is closed.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.stdin.as_mut().context("standard input is closed")?.write_all(text.as_bytes()).context("write")
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its standard output has `text` in it.
    ///
    /// # Errors
    /// When it never has.
    pub fn expect(&self, text: &str) -> Result<()> {
        eventually(&format!("{text:?} from {}", self.shown), || {
            let said = self.stdout();
            if said.contains(text) { Ok(()) } else { bail!("it said {said:?} and {:?}", self.stderr()) }
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).context("signal the client")
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When its state can't be had.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end; standard input is closed first.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn finish(mut self) -> Result<Done> {
        self.stdin = None;
        // On a descriptor of the process, not by looking again and again: the bench measures through this.
        let pid = rustix::process::Pid::from_child(&self.child);
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .context("open the client's process")?;
        let mut polled = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: i64::try_from((PATIENCE * 2).as_secs())?, tv_nsec: 0 };
        if rustix::event::poll(&mut polled, Some(&limit)).context("wait for the client")? == 0 {
            bail!("{} does not end; it said {:?} and {:?}", self.shown, self.stdout(), self.stderr());
        }
        let status = self.child.wait()?;
        self.stdout.finish()?;
        self.stderr.finish()?;
        Ok(Done { code: code_of(status), stdout: self.stdout(), stderr: self.stderr() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended in the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shell's exit code for `status`.
pub(crate) fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// A pipe's content, read by a thread of its own.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Gathered {
    fn from<R: Read + Send + 'static>(pipe: Option<R>) -> Gathered {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = pipe.map(|mut pipe| {
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                let mut chunk = [0; 16 * 1024];
                while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                    let Ok(mut bytes) = bytes.lock() else { return };
                    bytes.extend_from_slice(&chunk[..n]);
                }
            })
        });
        Gathered { bytes, reader }
    }

    fn text(&self) -> String {
        self.bytes.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn finish(&mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.join().map_err(|_| anyhow!("the pipe's reader panicked")),
            None => Ok(()),
        }
    }
}
