//! Further processes in running containers.

use crate::container::{Container, done};
use crate::types::{ClientStream, ExecSettings, ExecView, Status};
use crate::{Engine, clock, detach_keys};
use naru_base::{Class, Error, Id, Result};
use naru_monitor::protocol::{Attach, ExecRequest, PROTOCOL_VERSION, Request, Response};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How long an exec that has ended can be inspected: five minutes, in nanoseconds.
const KEPT: i64 = 300_000_000_000;

/// All execs that are known.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    known: Mutex<BTreeMap<Id, Exec>>,
}

#[derive(Debug, Clone)]
struct Exec {
    container: Id,
    settings: ExecSettings,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { exit_code: i32, at: i64 },
}

impl Execs {
    fn get(&self, id: &str) -> Result<Exec> {
        crate::lock(&self.known)
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    fn set(&self, id: &str, state: State) {
        if let Some(exec) = crate::lock(&self.known).get_mut(id) {
            exec.state = state;
        }
    }

    /// The execs that run in a container.
    pub(crate) fn running_in(&self, container: &Id) -> Vec<Id> {
        let known = crate::lock(&self.known);
        let runs = |e: &Exec| e.container == *container && matches!(e.state, State::Running { .. });
        known.iter().filter(|(_, e)| runs(e)).map(|(id, _)| id.clone()).collect()
    }

    /// The container has ended, and with it everything in it.
    pub(crate) fn container_ended(&self, container: &Id) {
        let now = clock::now();
        let mut known = crate::lock(&self.known);
        known.retain(|_, e| !matches!(e.state, State::Ended { at, .. } if at + KEPT < now));
        for exec in known.values_mut().filter(|e| e.container == *container) {
            if matches!(exec.state, State::Running { .. } | State::Starting) {
                exec.state = State::Ended { exit_code: 137, at: now };
            }
        }
    }

    /// Takes up an exec that an earlier engine started.
    pub(crate) fn take_up(&self, container: &Id, id: &str, pid: i32) {
        let Ok(id) = Id::parse(id) else { return };
        let exec =
            Exec { container: container.clone(), settings: ExecSettings::default(), state: State::Running { pid } };
        crate::lock(&self.known).insert(id, exec);
    }
}

impl Engine {
    /// Prepares a process; [`Engine::exec_begin`] starts it.
    ///
    /// # Errors
    /// docker's texts: not running, paused, no command.
    pub async fn exec_create(&self, name: &str, settings: ExecSettings) -> Result<Id> {
        let container = self.containers.find(name)?;
        check_runs(&container)?;
        if settings.command.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        detach_keys::parse(settings.detach_keys.as_deref())?;
        let id = Id::random()?;
        let action = format!("exec_create: {}", settings.command.join(" "));
        let exec = Exec { container: container.id.clone(), settings, state: State::Created };
        crate::lock(&self.execs.known).insert(id.clone(), exec);
        self.container_event(&container, &action, &[("execID", id.as_str())]);
        Ok(id)
    }

    /// An exec, as it is now.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecView> {
        let exec = self.execs.get(id)?;
        if matches!(exec.state, State::Starting | State::Running { .. }) {
            self.settle(&exec.container).await;
        }
        let exec = self.execs.get(id)?;
        let (pid, exit_code) = match exec.state {
            State::Running { pid } => (pid, None),
            State::Ended { exit_code, .. } => (0, Some(exit_code)),
            _ => (0, None),
        };
        Ok(ExecView {
            id: Id::parse(id)?,
            container: exec.container,
            settings: exec.settings,
            running: matches!(exec.state, State::Running { .. }),
            exit_code,
            pid,
        })
    }

    /// Hears the container's monitor out: a client whose stream has just ended asks for the exit code, and the monitor's word about it may
    /// still be on its way. It comes before the answer to this.
    async fn settle(&self, container: &Id) {
        let monitor = self.containers.by_id(container).and_then(|c| c.monitor());
        if let Some(monitor) = monitor {
            // A monitor that is gone has been heard out, too.
            let _ = monitor.request(Request::Hello { version: PROTOCOL_VERSION }, Vec::new()).await;
            tokio::task::yield_now().await;
        }
    }

    /// The right to start it, once. `tty` is what the caller takes it for: as in docker, whether its output is framed goes by that, whether it
    /// has a terminal by what it was created with.
    ///
    /// # Errors
    /// docker's texts: no such exec, run already, container not running.
    pub fn exec_begin(self: &Arc<Self>, id: &str, tty: bool) -> Result<ExecTicket> {
        let exec = self.execs.get(id)?;
        let container = self
            .containers
            .by_id(&exec.container)
            .ok_or_else(|| Error::not_found(format!("No such container: {}", exec.container)))?;
        check_runs(&container)?;
        match exec.state {
            State::Created => {}
            State::Ended { .. } => return Err(Error::conflict(format!("exec command {id} has already run"))),
            _ => return Err(Error::conflict(format!("exec command {id} is already running"))),
        }
        self.execs.set(id, State::Starting);
        let (settings, framed) = (exec.settings, !tty);
        Ok(ExecTicket { engine: Arc::clone(self), container, id: Id::parse(id)?, settings, framed, used: false })
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it isn't running.
    pub async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let exec = self.execs.get(id)?;
        let container = self
            .containers
            .by_id(&exec.container)
            .ok_or_else(|| Error::not_found(format!("No such container: {}", exec.container)))?;
        let monitor = container.running_monitor()?;
        let request = Request::Resize { exec: Some(id.to_owned()), rows, columns };
        done(monitor.request(request, Vec::new()).await?.0)
    }

    /// A monitor tells that an exec has ended.
    pub(crate) fn exec_ended(&self, container: &Container, id: &str, exit_code: i32) {
        self.execs.set(id, State::Ended { exit_code, at: clock::now() });
        self.container_event(container, "exec_die", &[("execID", id), ("exitCode", &exit_code.to_string())]);
    }

    pub(crate) fn exec_detached(&self, container: &Container, id: &str) {
        self.container_event(container, "exec_detach", &[("execID", id)]);
    }
}

/// The right to start one exec.
#[derive(Debug)]
pub struct ExecTicket {
    engine: Arc<Engine>,
    container: Arc<Container>,
    id: Id,
    settings: ExecSettings,
    framed: bool,
    used: bool,
}

impl ExecTicket {
    /// Starts it: detached, or on the client's stream, which is then no longer the caller's. A program that can't be run is told to the
    /// client on its stream, and gives the exec its exit code.
    ///
    /// # Errors
    /// When it is detached and can't be run, or the container has ended.
    pub async fn connect(mut self, stream: Option<ClientStream>, console_size: Option<(u16, u16)>) -> Result<()> {
        if console_size.is_some() {
            self.settings.console_size = console_size;
        }
        let record = self.container.read(Clone::clone);
        let process = self.engine.exec_process(&record, &self.settings)?;
        let keys = detach_keys::parse(self.settings.detach_keys.as_deref())?;
        let attached = stream.is_some();
        let (attach, descriptors) = match stream {
            Some(stream) => {
                let attach = Attach {
                    stdin: self.settings.attach_stdin,
                    stdout: self.settings.attach_stdout,
                    stderr: self.settings.attach_stderr,
                    multiplexed: self.framed,
                    detach_keys: if self.settings.tty { keys } else { Vec::new() },
                    early_input: stream.early_input,
                    preamble: stream.preamble,
                };
                (Some(attach), vec![stream.fd])
            }
            None => (None, Vec::new()),
        };
        let monitor = self.container.running_monitor()?;
        let action = format!("exec_start: {}", self.settings.command.join(" "));
        self.engine.container_event(&self.container, &action, &[("execID", self.id.as_str())]);
        let request = ExecRequest { id: self.id.to_string(), process, attach };
        let asked = monitor.request(Request::Exec(Box::new(request)), descriptors).await;
        let answer = asked.map_err(|error| match error.class() {
            // It has just ended, and its monitor with it.
            Class::Unavailable => Error::conflict(format!("container {} is not running", self.container.id)),
            _ => error,
        })?;
        self.used = true;
        match answer.0 {
            Response::Started { pid, .. } => {
                // A short one may have ended before this answer is read.
                let mut known = crate::lock(&self.engine.execs.known);
                if let Some(exec) = known.get_mut(&self.id).filter(|e| e.state == State::Starting) {
                    exec.state = State::Running { pid };
                }
                Ok(())
            }
            Response::Failed { class, message, exit_code } => {
                self.engine.execs.set(self.id.as_str(), State::Ended { exit_code, at: clock::now() });
                if attached { Ok(()) } else { Err(Error::new(class, message)) }
            }
            _ => Err(Error::system("the monitor answered an exec with something else")),
        }
    }
}

impl Drop for ExecTicket {
    /// One that was never started can't be started again: its client has been answered.
    fn drop(&mut self) {
        if !self.used {
            self.engine.execs.set(self.id.as_str(), State::Ended { exit_code: 126, at: clock::now() });
        }
    }
}

fn check_runs(container: &Container) -> Result<()> {
    match container.status() {
        Status::Running => Ok(()),
        Status::Paused => {
            Err(Error::conflict(format!("Container {} is paused, unpause the container before exec", container.id)))
        }
        Status::Restarting => Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.id
        ))),
        _ => Err(Error::conflict(format!("container {} is not running", container.id))),
    }
}
