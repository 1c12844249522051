//! The container of a monitor: its start, further processes in it, and its end.

use crate::client::{self, Client};
use crate::exits;
use crate::health::{self, Health};
use crate::listener::Listener;
use crate::protocol::{ExecRequest, ExitRecord, MemoryAtEnd, StartRequest};
use crate::session::Session;
use crate::streams::{self, Wanted};
use naru_base::Error;
use naru_dns::{Resolver, Server, Sockets};
use naru_log::{Log, timestamp};
use naru_runtime::cgroup::{Cgroup, MemoryWatch};
use naru_runtime::plan::{Descriptors, MountSource, Namespace, Namespaces, Plan, Process};
use naru_runtime::{ExecTarget, MountSpaces, StartError, Started};
use naru_sys::fault;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::Signal;
use std::path::Path;
use std::time::Instant;

/// A container that has been started.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id.
    pub id: String,
    /// Its first process.
    pub main: Session,
    /// Where later engines connect; gone when it has ended.
    pub listener: Option<Listener>,
    cgroup_path: String,
    namespaces: Namespaces,
    cgroup: Option<Cgroup>,
    /// See [`Started::mounts`]: there unless files of others are in it.
    mounts: Option<OwnedFd>,
    /// See [`Started::spent`]: closed when this monitor ends and everybody has heard.
    _spent: Vec<OwnedFd>,
    /// Locked until what is mounted has gone: the next monitor of this container waits for that before it mounts the root anew.
    record_dir: OwnedFd,
    volatile: bool,
    /// The last signal that an engine had sent.
    pub asked_signal: Option<i32>,
    /// Kills for want of memory that have been seen.
    oom_kills: u64,
    /// Those of them that have been told.
    oom_kills_told: u64,
    /// When its first process began, by a clock that nobody sets.
    started: Instant,
    /// The name server in its network namespace.
    pub names: Option<Server>,
}

/// What an engine is told of a process that has been started.
#[derive(Debug)]
pub(crate) struct Facts {
    pub pid: i32,
    pub start_time: u64,
    pub warnings: Vec<String>,
}

impl Facts {
    fn of(started: &mut Started) -> Self {
        Self {
            pid: started.pid.as_raw_nonzero().get(),
            start_time: started.start_time,
            warnings: std::mem::take(&mut started.warnings),
        }
    }
}

impl Container {
    /// Makes the container and executes its program. `descriptors` are those of the request's frame.
    ///
    /// # Errors
    /// It can't be had as planned, or its program can't be executed; nothing is left behind then, and the clients have got their
    /// preambles.
    ///
    /// `wanted` tells, when the container can be found by its socket and before anything of it exists, whether anyone still waits for it.
    pub(crate) fn start(
        request: StartRequest,
        descriptors: Vec<OwnedFd>,
        wanted: impl FnOnce() -> bool,
    ) -> Result<(Self, Facts, Option<Health>), StartError> {
        let StartRequest {
            plan,
            namespaces,
            mounts,
            record_dir,
            run_dir,
            log,
            stdin_open,
            stdin_once,
            volatile,
            attaches,
            health,
            resolver,
            hooks,
        } = request;
        let mut descriptors = descriptors.into_iter();
        let joined = take_namespaces(namespaces, mounts, &mut descriptors)?;
        let terminal = plan.process.terminal;
        let connect = |(stream, attach)| Client::new(stream, attach, terminal, stdin_open);
        let clients = descriptors.zip(attaches).map(connect).collect();
        let others = shows_others_files(&plan, &record_dir);
        let record_dir = open_folder(&record_dir)?;
        lock(&record_dir)?;
        exits::remove_record(&record_dir).map_err(Error::from)?;
        fault::point();
        let listener = Listener::bind(open_folder(&run_dir)?)?;
        fault::point();
        // An engine that came since has found nothing, and looks no more: this start was never answered, so it never was.
        if !wanted() {
            return Err(StartError::system("the engine is gone"));
        }
        let names = match (resolver, &joined.net) {
            (Some(resolver), Some(network)) => Some(name_server(network.try_clone(), resolver)?),
            _ => None,
        };
        let log = Log::open(&log)?;
        let (stdio, mut ends) = streams::make(Wanted { terminal, input: stdin_open, output: true })?;
        let options = hooks.map(|hooks| hooks.options(&plan.id, &run_dir)).transpose()?.unwrap_or_default();
        let prepared = naru_runtime::prepare_with(&plan, joined, stdio, options)?;
        fault::point();
        let mut started = prepared.start()?;
        fault::point();
        if let Some(console) = started.console.take() {
            ends.take_console(console, stdin_open)?;
        }
        let facts = Facts::of(&mut started);
        let cgroup = started.cgroup.take();
        let spent = std::mem::take(&mut started.spent);
        let mounts = started.mounts.take().filter(|_| !others);
        let main = Session::new(None, started, ends).with_clients(clients).with_log(log).with_input_once(stdin_once);
        let container = Self {
            id: plan.id,
            main,
            listener: Some(listener),
            cgroup_path: plan.cgroup.path,
            namespaces: plan.namespaces,
            cgroup,
            mounts,
            _spent: spent,
            record_dir,
            volatile,
            asked_signal: None,
            oom_kills: 0,
            oom_kills_told: 0,
            started: Instant::now(),
            names,
        };
        Ok((container, facts, health.map(Health::new)))
    }

    /// Starts a further process; `stream` is the client's. A failure is told to the client on its stream.
    ///
    /// # Errors
    /// The container has ended, or the program can't be executed.
    pub(crate) fn exec(&self, request: ExecRequest, stream: Option<OwnedFd>) -> Result<(Session, Facts), StartError> {
        let ExecRequest { id, process, attach } = request;
        let client = stream.zip(attach);
        let input = client.as_ref().is_some_and(|(_, attach)| attach.stdin);
        let wanted = Wanted { terminal: process.terminal, input, output: client.is_some() };
        match self.exec_process(&process, wanted) {
            Ok((mut started, ends)) => {
                let facts = Facts::of(&mut started);
                let connect = |(stream, attach)| Client::new(stream, attach, process.terminal, input);
                let clients = client.into_iter().map(connect).collect();
                Ok((Session::new(Some(id), started, ends).with_clients(clients).with_input_once(true), facts))
            }
            Err(error) => {
                if let Some((stream, attach)) = client {
                    client::tell_failure(stream, attach, process.terminal, &error.message);
                }
                Err(error)
            }
        }
    }

    fn exec_process(&self, process: &Process, wanted: Wanted) -> Result<(Started, streams::Ends), StartError> {
        if self.main.exit_code().is_some() {
            return Err(Error::conflict("the container is not running").into());
        }
        let target = ExecTarget {
            pid: self.main.pid,
            pidfd: self.main.pidfd(),
            cgroup_path: &self.cgroup_path,
            namespaces: &self.namespaces,
        };
        let (stdio, mut ends) = streams::make(wanted)?;
        let mut started = naru_runtime::exec(&target, process, stdio)?;
        if let Some(console) = started.console.take() {
            ends.take_console(console, wanted.input)?;
        }
        Ok((started, ends))
    }

    /// A check of its health that is a process.
    ///
    /// # Errors
    /// As [`Container::exec`].
    pub(crate) fn check_session(&self, id: &str, process: &Process) -> Result<Session, StartError> {
        let (started, ends) = self.exec_process(process, Wanted { terminal: false, input: false, output: true })?;
        Ok(Session::new(Some(id.to_owned()), started, ends).with_capture(health::capture()))
    }

    /// Whether its processes stand still: a further one would, too.
    pub(crate) fn is_frozen(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
    }

    /// Stops its processes.
    ///
    /// # Errors
    /// [`Cgroup::freeze`]'s.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(),
            None => Err(Error::system("the container has no cgroup")),
        }
    }

    /// Serves names in its network namespace, or serves others than before.
    ///
    /// # Errors
    /// It has no namespace of its own, or the server's address is taken there.
    pub(crate) fn resolve(&mut self, resolver: Resolver) -> Result<(), Error> {
        if let Some(names) = &mut self.names {
            names.set(resolver);
            return Ok(());
        }
        let network =
            self.network_namespace().ok_or_else(|| Error::conflict("the container has no network of its own"))?;
        self.names = Some(name_server(Ok(network), resolver)?);
        Ok(())
    }

    /// The network namespace of its own, while its first process is there.
    pub(crate) fn network_namespace(&self) -> Option<OwnedFd> {
        if self.namespaces.net == Namespace::Host {
            return None;
        }
        self.open_network().ok()
    }

    fn open_network(&self) -> rustix::io::Result<OwnedFd> {
        let path = format!("/proc/{}/ns/net", self.main.pid.as_raw_nonzero());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// The network that a probe of its health is made in: `None` for the host's, if that is the container's own.
    ///
    /// # Errors
    /// It has another one, which can't be entered: its first process is ending. Never the host's in its place.
    pub(crate) fn probed_network(&self) -> Result<Option<OwnedFd>, Error> {
        if self.namespaces.net == Namespace::Host {
            return Ok(None);
        }
        self.open_network().map(Some).map_err(|e| Error::system(format!("enter the container's network: {e}")))
    }

    /// Whether the kernel has killed something for want of memory since the last time this was asked; the asker tells it.
    pub(crate) fn was_out_of_memory(&mut self) -> bool {
        self.count_kills();
        std::mem::replace(&mut self.oom_kills_told, self.oom_kills) < self.oom_kills
    }

    /// What can't be read any more is what it was, at least.
    fn count_kills(&mut self) {
        let kills = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(0);
        self.oom_kills = self.oom_kills.max(kills);
    }

    /// Begins to watch for kills for want of memory. Nothing where that can't be had: they are counted at the end all the same.
    pub(crate) fn watch_memory(&self) -> Option<MemoryWatch> {
        self.cgroup.as_ref().and_then(|cgroup| cgroup.watch_memory().ok().flatten())
    }

    /// Ends what its first process has left running: with a PID namespace of its own the kernel has done so.
    pub(crate) fn end_remains(&self) {
        if self.namespaces.pid != Namespace::New
            && let Some(cgroup) = &self.cgroup
        {
            // What can't be killed can't be waited for either; the group stays then.
            let _ = cgroup.kill_all();
        }
    }

    /// Writes down how it ended, and takes its socket and its cgroup away: whoever hears of the end may start it again at once.
    pub(crate) fn end(&mut self, exit_code: i32, health: Option<&Health>) -> ExitRecord {
        self.count_kills();
        let oom_killed = self.oom_kills > 0;
        let finished_at = timestamp::now();
        let log_lost = self.main.finish_log();
        // The last unmount writes the root's files to the disk: before the end is told, unless they are to go, or it was killed.
        if !self.volatile && self.asked_signal != Some(Signal::KILL.as_raw()) {
            self.mounts = None;
        }
        let cgroup = self.cgroup.as_ref();
        let record = ExitRecord {
            version: exits::RECORD_VERSION,
            exit_code,
            oom_killed,
            finished_at,
            signal: self.main.signal(),
            asked_signal: self.asked_signal,
            unhealthy: health.and_then(Health::acted),
            memory: cgroup.filter(|_| oom_killed).map(|cgroup| MemoryAtEnd::of(cgroup, self.oom_kills)),
            unseen: false,
            log_lost,
            lasted: u64::try_from(self.started.elapsed().as_nanos()).ok(),
            kills_told: self.oom_kills_told == self.oom_kills,
            refused_processes: cgroup.map_or(0, Cgroup::refused_processes),
        };
        // On a full disk the engine still hears it; one that isn't there will find the container dead.
        let _ = exits::write_record(&self.record_dir, &record, self.volatile);
        fault::point();
        self.listener = None;
        if let Some(cgroup) = self.cgroup.take() {
            // A group that is held by something unkillable is the engine's to sweep.
            let _ = cgroup.remove();
        }
        record
    }
}

impl Container {
    /// Once its end has been told: what was mounted goes, and may be mounted anew.
    pub(crate) fn let_go(&mut self) {
        self.mounts = None;
        // It can only be unlocked already.
        let _ = rustix::fs::flock(&self.record_dir, FlockOperation::Unlock);
    }
}

/// Waits until the root of an earlier run has gone.
fn lock(folder: &OwnedFd) -> Result<(), StartError> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(folder, FlockOperation::LockExclusive))
        .map_err(|e| StartError::system(format!("lock the container's folder: {e}")))
}

/// Whether files of somebody else are in it: who waits for its end may want to unmount or to remove what holds them at once.
fn shows_others_files(plan: &Plan, own: &Path) -> bool {
    plan.mounts.iter().any(|mount| match &mount.source {
        MountSource::Bind { path, .. } => !path.starts_with(own),
        MountSource::Filesystem { .. } | MountSource::Cgroup | MountSource::Image { .. } => false,
    })
}

fn take_namespaces(
    present: [bool; 5],
    mounts: usize,
    descriptors: &mut impl Iterator<Item = OwnedFd>,
) -> Result<Descriptors, StartError> {
    let mut take = |present: bool| match (present, present.then(|| descriptors.next()).flatten()) {
        (true, None) => Err(StartError::invalid("a namespace's descriptor is missing")),
        (_, descriptor) => Ok(descriptor),
    };
    let [net, ipc, pid, uts, user] = present;
    let taken = [take(net)?, take(ipc)?, take(pid)?, take(uts)?, take(user)?];
    let mounts = MountSpaces::from_descriptors(descriptors.take(mounts).collect());
    let [net, ipc, pid, uts, user] = taken;
    Ok(Descriptors { net, ipc, pid, uts, user, mounts })
}

fn name_server(network: std::io::Result<OwnedFd>, resolver: Resolver) -> Result<Server, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::system(format!("serve names at {}: {e}", naru_dns::ADDRESS));
    let sockets = Sockets::open(network.map_err(|e| failed(&e))?, resolver.port).map_err(|e| failed(&e))?;
    Ok(Server::new(sockets, resolver))
}

fn open_folder(path: &Path) -> Result<OwnedFd, StartError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| StartError::system(format!("open the folder {}: {e}", path.display())))
}
