//! A private engine: Naru, or the dockerd that judges the suite.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::http::Http;
use crate::image;
use crate::wait::eventually;
use crate::world::World;

/// Which engine is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The binary at `NARU_BIN`, `target/release/naru` of this checkout when unset.
    Naru,
    /// Debian's dockerd.
    Dockerd,
}

impl Target {
    /// From `NARU_TEST_TARGET`: `naru` (also when unset) or `dockerd`.
    ///
    /// # Panics
    /// On any other word: a typing mistake must not run the suite on the wrong engine.
    pub fn from_env() -> Target {
        match std::env::var("NARU_TEST_TARGET").as_deref() {
            Err(_) | Ok("" | "naru") => Target::Naru,
            Ok("dockerd") => Target::Dockerd,
            Ok(other) => panic!("NARU_TEST_TARGET is {other:?}; it can be naru or dockerd"),
        }
    }
}

/// How an engine is started.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Arguments added to the daemon's command line.
    pub args: Vec<OsString>,
    /// Program in the place of `NARU_BIN`'s.
    pub program: Option<PathBuf>,
    /// Size in MiB of the file system that the data root is on: a tmpfs of its own. A folder on disk when unset.
    pub data_tmpfs_mib: Option<u32>,
}

/// One engine in a world of its own, or beside another in the same.
///
/// Dropping it removes its containers, stops it, and panics when it leaves anything behind (unless a panic is under way).
pub struct Engine {
    target: Target,
    world: Option<Arc<World>>,
    folder: PathBuf,
    options: EngineOptions,
    process: Mutex<Option<Child>>,
    strict: bool,
}

impl Engine {
    /// Starts the engine under test in a new world.
    ///
    /// # Errors
    /// When it doesn't come up; its log is in the error.
    pub fn start() -> Result<Engine> {
        Engine::with(Target::from_env(), EngineOptions::default())
    }

    /// Starts `target` in a new world.
    ///
    /// # Errors
    /// When it doesn't come up; its log is in the error.
    pub fn with(target: Target, options: EngineOptions) -> Result<Engine> {
        Engine::within(Arc::new(World::new()?), "e", target, options)
    }

    /// Starts another of the same kind beside this one: the same world, roots of its own.
    ///
    /// # Errors
    /// When it doesn't come up; its log is in the error.
    pub fn beside(&self) -> Result<Engine> {
        let world = self.world.as_ref().context("the engine's world")?;
        Engine::within(Arc::clone(world), &crate::unique("e"), self.target, self.options.clone())
    }

    /// Starts an engine of another kind beside this one: the same world and so the same loopback, roots of its own. dockerd gets no network of
    /// its own there: it is for what needs no container.
    ///
    /// # Errors
    /// When it doesn't come up; its log is in the error.
    pub fn beside_as(&self, target: Target) -> Result<Engine> {
        let world = self.world.as_ref().context("the engine's world")?;
        let quiet: &[&str] = match target {
            Target::Naru => &[],
            Target::Dockerd => &["--bridge", "none", "--iptables=false", "--ip-forward=false"],
        };
        let options = EngineOptions { args: quiet.iter().map(OsString::from).collect(), ..EngineOptions::default() };
        Engine::within(Arc::clone(world), &crate::unique("e"), target, options)
    }

    fn within(world: Arc<World>, name: &str, target: Target, options: EngineOptions) -> Result<Engine> {
        let folder = world.folder().join(name);
        fs::create_dir_all(folder.join("data"))?;
        fs::create_dir_all(folder.join("home"))?;
        if let Some(mib) = options.data_tmpfs_mib {
            let size = format!("size={mib}m");
            let status =
                world.command("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.join("data")).status()?;
            ensure!(status.success(), "mount a tmpfs for the data root");
        }
        let strict = options.data_tmpfs_mib.is_none();
        let engine = Engine { target, world: Some(world), folder, options, process: Mutex::new(None), strict };
        engine.launch()?;
        Ok(engine)
    }

    /// Which engine this is.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Its world.
    ///
    /// # Panics
    /// Never: the world is there until the engine is dropped.
    pub fn world(&self) -> &World {
        match &self.world {
            Some(world) => world,
            None => unreachable!("the world lives as long as the engine"),
        }
    }

    /// A folder for the test's own files, which the engine sees under the same path.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.world().folder().join("t").join(crate::unique(name));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// The engine's data root.
    pub fn data_root(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The engine's run folder.
    pub fn exec_root(&self) -> PathBuf {
        self.folder.join("x")
    }

    /// Its standard output and error so far.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Speaks HTTP to its socket.
    pub fn http(&self) -> Http {
        Http::new(self.socket())
    }

    /// The client under test: docker's, or Naru's when `NARU_TEST_CLIENT=naru`.
    pub fn cli(&self) -> Client {
        match std::env::var("NARU_TEST_CLIENT").as_deref() {
            Ok("naru") => self.naru(),
            _ => self.docker(),
        }
    }

    /// Docker's client: `NARU_DOCKER_CLI`, or `docker` on the path.
    pub fn docker(&self) -> Client {
        let program = std::env::var_os("NARU_DOCKER_CLI").unwrap_or_else(|| "docker".into());
        Client::new(program.into(), &self.socket(), &self.folder.join("home"))
    }

    /// Naru's client.
    pub fn naru(&self) -> Client {
        Client::new(naru_binary(), &self.socket(), &self.folder.join("home"))
    }

    /// The daemon's command line for these roots, to be run in the world.
    pub fn daemon_command(&self) -> Command {
        let world = self.world();
        let mut command = match self.target {
            Target::Naru => {
                let program = self.options.program.clone().unwrap_or_else(naru_binary);
                let mut command = world.command(program);
                command.arg("daemon");
                command
            }
            Target::Dockerd => {
                let mut command = world.command("dockerd");
                command.arg("--config-file").arg(self.folder.join("daemon.json"));
                command
            }
        };
        command.arg("--data-root").arg(self.data_root());
        command.arg("--exec-root").arg(self.exec_root());
        command.arg("--pidfile").arg(self.pidfile());
        command.arg("-H").arg(format!("unix://{}", self.socket().display()));
        command.args(&self.options.args);
        if self.target == Target::Naru
            && let Ok(more) = std::env::var("NARU_TEST_DAEMON_ARGS")
        {
            command.args(more.split_whitespace());
        }
        command.env("HOME", self.folder.join("home"));
        command.stdin(Stdio::null());
        command
    }

    fn pidfile(&self) -> PathBuf {
        self.folder.join("pid")
    }

    /// Starts the daemon on its roots again after [`Engine::kill`] or [`Engine::terminate`].
    ///
    /// # Errors
    /// When it doesn't come up; its log is in the error.
    pub fn launch(&self) -> Result<()> {
        self.launch_with(&[])
    }

    /// As [`Engine::launch`], with variables in its environment.
    ///
    /// # Errors
    /// When it doesn't come up; its log is in the error.
    pub fn launch_with(&self, variables: &[(&str, &str)]) -> Result<()> {
        fs::write(self.folder.join("daemon.json"), "{}")?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = self.daemon_command();
        command.stdout(log.try_clone()?).stderr(log).envs(variables.iter().copied());
        let child = command.spawn().with_context(|| format!("start {:?}", self.target))?;
        *self.process.lock().map_err(|_| anyhow!("poisoned"))? = Some(child);
        // The inner result ends the wait at once: an engine that has ended will not answer any more.
        let up = eventually("the engine to answer", || {
            if let Some(child) = self.process.lock().map_err(|_| anyhow!("poisoned"))?.as_mut()
                && let Some(status) = child.try_wait()?
            {
                return Ok(Err(anyhow!("the engine ended at once: {status}")));
            }
            // Connected first, so that a refused connection doesn't look like a broken answer.
            UnixStream::connect(self.socket())?;
            let answer = self.http().get("/_ping")?;
            ensure!(answer.status == 200, "ping answered {}", answer.status);
            Ok(Ok(()))
        })
        .flatten();
        if up.is_err()
            && let Some(mut child) = self.process.lock().map_err(|_| anyhow!("poisoned"))?.take()
        {
            // What never answered can't be asked to end; its world takes the rest of it down.
            let _ = child.kill();
            let _ = child.wait();
        }
        up.with_context(|| format!("engine's log:\n{}", tail(&self.log(), 60)))
    }

    /// The daemon's pid as the test sees it.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn pid(&self) -> Result<u32> {
        let guard = self.process.lock().map_err(|_| anyhow!("poisoned"))?;
        let child = guard.as_ref().context("the engine is not running")?;
        // `nsenter --pid` forks: the daemon is its child.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
        children.split_whitespace().next().context("the engine's process")?.parse().context("the engine's pid")
    }

    /// Ends the daemon with SIGKILL; what it left running goes on.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Ends the daemon with SIGTERM.
    ///
    /// # Errors
    /// When it isn't running, or does not end.
    pub fn terminate(&self) -> Result<()> {
        self.end(Signal::TERM)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        kill_process(Pid::from_raw(pid.cast_signed()).context("a pid")?, signal)?;
        let mut child =
            self.process.lock().map_err(|_| anyhow!("poisoned"))?.take().context("the engine is not running")?;
        let ended = eventually("the engine to end", || match child.try_wait()? {
            Some(_) => Ok(()),
            None => bail!("still there after {signal:?}"),
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }

    /// Waits for a daemon that ends by itself.
    ///
    /// # Errors
    /// When it isn't running, or doesn't end.
    pub fn wait_for_end(&self) -> Result<()> {
        let mut child =
            self.process.lock().map_err(|_| anyhow!("poisoned"))?.take().context("the engine is not running")?;
        eventually("the engine to end", || match child.try_wait()? {
            Some(_) => Ok(()),
            None => bail!("it goes on"),
        })
    }

    /// From now on another build is started.
    pub fn replace_program(&mut self, program: PathBuf) {
        self.options.program = Some(program);
    }

    /// Loads the busybox image as `busybox:latest`.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load_busybox(&self) -> Result<()> {
        self.load(&image::busybox()?)
    }

    /// Loads an archive in the format of `docker save`.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load(&self, archive: &[u8]) -> Result<()> {
        let kind = [("Content-Type", "application/x-tar")];
        let answer = self.http().request("POST", "/images/load?quiet=1", &kind, archive);
        let answer = answer.with_context(|| format!("engine's log:\n{}", tail(&self.log(), 60)))?;
        let text = answer.text();
        ensure!(answer.status == 200 && !text.contains("errorDetail"), "load answered {} {text}", answer.status);
        Ok(())
    }

    /// Removes every container, stops the daemon and looks for what is left.
    ///
    /// # Errors
    /// When anything is.
    pub fn finish(&mut self) -> Result<()> {
        let running = self.process.lock().is_ok_and(|guard| guard.is_some());
        if !running {
            return Ok(());
        }
        let http = self.http();
        let list = http.get("/containers/json?all=1")?.json()?;
        for container in list.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            let answer = http.request("DELETE", &format!("/containers/{id}?force=1&v=1"), &[], &[])?;
            ensure!(
                matches!(answer.status, 204 | 404 | 409),
                "removing {id} answered {} {}",
                answer.status,
                answer.text()
            );
        }
        eventually("every container to be removed", || {
            let left = http.get("/containers/json?all=1")?.json()?;
            let left = left.as_array().map_or(0, Vec::len);
            if left == 0 { Ok(()) } else { bail!("{left} left") }
        })?;
        self.terminate()?;
        // Beside another engine, what is there may be the other one's.
        let alone = self.world.as_ref().is_some_and(|world| Arc::strong_count(world) == 1);
        if !self.strict || !alone {
            return Ok(());
        }
        match self.target {
            Target::Naru => self.world().expect_clean(&[]),
            // dockerd binds its root onto itself when another one starts on it, and keeps it so.
            Target::Dockerd => self.world().expect_clean(&[format!("mount {} ", self.data_root().display())]),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Captured by the test harness and shown with the failure. Nothing to do when it can't be written.
            let mut log = tail(&self.log(), 40);
            log.insert_str(0, "--- engine's log ---\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), log.as_bytes());
            return;
        }
        let finished = self.finish();
        let log = tail(&self.log(), 40);
        if let Ok(mut guard) = self.process.lock()
            && let Some(mut child) = guard.take()
        {
            let _ = child.kill();
        }
        drop(self.world.take());
        if let Err(error) = finished {
            panic!("{error:#}\n--- engine's log ---\n{log}");
        }
    }
}

/// The engine that the tests of one binary share, with `busybox:latest` in it. Names come from [`crate::unique`].
///
/// # Errors
/// When it doesn't come up.
pub fn shared() -> Result<&'static Engine> {
    static SHARED: OnceLock<Result<Engine, String>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let engine = Engine::start().map_err(|error| format!("{error:#}"))?;
            engine.load_busybox().map_err(|error| format!("{error:#}"))?;
            Ok(engine)
        })
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

/// The binary under test.
pub fn naru_binary() -> PathBuf {
    std::env::var_os("NARU_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/naru"), PathBuf::from)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n") + "\n"
}
