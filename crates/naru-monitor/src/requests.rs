//! What engines ask, and the answers.

use crate::container::{Container, Facts};
use crate::forward::Forwarder;
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::peer::Peer;
use crate::protocol::{Attach, ExecRequest, MonitorState, PROTOCOL_VERSION, Request, Response, StartRequest};
use crate::served::{Targets, take_sockets};
use crate::session::Session;
use naru_base::Class;
use naru_dns::Resolver;
use naru_runtime::StartError;
use rustix::fd::OwnedFd;
use rustix::process::getpid;
use std::time::Instant;

/// An answer with its descriptors.
type Answer = (Response, Vec<OwnedFd>);

impl Monitor {
    /// Does what is asked.
    pub(crate) fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        match request {
            Request::Hello { .. } => self.hello(),
            Request::Start(start) => (self.start(*start, descriptors), Vec::new()),
            Request::Attach(attach) => (self.attach(attach, descriptors), Vec::new()),
            Request::Exec(exec) => (self.exec(*exec, descriptors), Vec::new()),
            Request::Hold => {
                self.held = descriptors;
                (Response::Done, Vec::new())
            }
            Request::Forward(to) => (self.forward(to.into(), descriptors), Vec::new()),
            Request::Serve(ranges) => (self.serve(Targets::new(ranges), descriptors), Vec::new()),
            Request::Resize { exec, rows, columns } => (self.resize(exec.as_deref(), rows, columns), Vec::new()),
            Request::Signal { exec, signal } => (self.signal(exec.as_deref(), signal), Vec::new()),
            Request::Resolve(resolver) => (self.resolve(*resolver), Vec::new()),
            Request::Freeze => (self.freeze(), Vec::new()),
        }
    }

    fn hello(&mut self) -> Answer {
        let Some(container) = &self.container else {
            return (failed(Class::Conflict, "the container has not been started"), Vec::new());
        };
        let running = self.execs.iter().filter(|e| e.exit_code().is_none());
        let state = MonitorState {
            version: PROTOCOL_VERSION,
            id: container.id.clone(),
            monitor_pid: getpid().as_raw_nonzero().get(),
            pid: container.main.pid.as_raw_nonzero().get(),
            start_time: container.main.start_time,
            execs: running.map(|e| (e.exec.clone().unwrap_or_default(), e.pid.as_raw_nonzero().get())).collect(),
            ended_execs: self.ended_execs.drain(..).collect(),
            health: self.health.as_ref().map(|h| h.state().clone()),
            log_lost: container.main.log_lost(),
        };
        (Response::Hello(Box::new(state)), container.network_namespace().into_iter().collect())
    }

    fn serve(&mut self, to: Targets, descriptors: Vec<OwnedFd>) -> Response {
        let Some(queue) = descriptors.into_iter().next() else { return self.forward(to, Vec::new()) };
        // Programs of the container don't inherit it.
        if let Err(errno) = naru_runtime::open_more_files(to.count() as u64) {
            return failed(Class::System, &format!("cannot serve so many ports: {errno}"));
        }
        match take_sockets(&queue, to.count()) {
            Ok(sockets) => self.forward(to, sockets),
            Err(errno) => failed(Class::System, &format!("cannot take its ports: {errno}")),
        }
    }

    fn forward(&mut self, to: Targets, sockets: Vec<OwnedFd>) -> Response {
        if to.count() == 0 {
            self.forwarder = None;
            return Response::Done;
        }
        match &mut self.forwarder {
            Some(forwarder) if sockets.is_empty() => forwarder.turn(to),
            forwarder if sockets.len() == to.count() => match Forwarder::new(sockets, to) {
                Ok(new) => *forwarder = Some(new),
                Err(errno) => return failed(Class::System, &format!("cannot serve its ports: {errno}")),
            },
            _ => return failed(Class::InvalidParameter, "a port's socket is missing"),
        }
        Response::Done
    }

    fn start(&mut self, request: StartRequest, descriptors: Vec<OwnedFd>) -> Response {
        if self.container.is_some() || self.failed {
            return failed(Class::Conflict, "the container has been started already");
        }
        let peers = &self.peers;
        match Container::start(request, descriptors, || peers.iter().any(Peer::is_there)) {
            Ok((container, facts, health)) => {
                self.container = Some(container);
                self.health = health;
                self.memory = Memory::new(Instant::now());
                started(facts)
            }
            Err(error) => {
                self.failed = true;
                refused(error)
            }
        }
    }

    fn attach(&mut self, attach: Attach, descriptors: Vec<OwnedFd>) -> Response {
        let Some(stream) = descriptors.into_iter().next() else {
            return failed(Class::InvalidParameter, "the client's stream is missing");
        };
        match self.container.as_mut().filter(|c| c.main.exit_code().is_none()) {
            Some(container) => {
                container.main.attach(stream, attach);
                Response::Done
            }
            None => not_running(),
        }
    }

    fn exec(&mut self, request: ExecRequest, descriptors: Vec<OwnedFd>) -> Response {
        let Some(container) = &self.container else { return not_running() };
        match container.exec(request, descriptors.into_iter().next()) {
            Ok((session, facts)) => {
                self.execs.push(session);
                started(facts)
            }
            Err(error) => refused(error),
        }
    }

    fn resize(&self, exec: Option<&str>, rows: u16, columns: u16) -> Response {
        match self.running(exec).map(|session| session.resize(rows, columns)) {
            Ok(Ok(())) => Response::Done,
            Ok(Err(errno)) => failed(Class::System, &format!("resize the terminal: {errno}")),
            Err(response) => response,
        }
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32) -> Response {
        // Not reaped yet, so the number can't be another process's.
        let pid = match self.running(exec) {
            Ok(session) => session.pid.as_raw_nonzero().get(),
            Err(response) => return response,
        };
        match naru_sys::signals::send(pid, signal) {
            Ok(()) => {
                if let (None, Some(container)) = (exec, &mut self.container) {
                    container.asked_signal = Some(signal);
                }
                Response::Done
            }
            Err(errno) => failed(Class::System, &format!("send signal {signal}: {errno}")),
        }
    }

    fn resolve(&mut self, resolver: Resolver) -> Response {
        match self.container.as_mut().map(|c| c.resolve(resolver)) {
            Some(Ok(())) => Response::Done,
            Some(Err(error)) => failed(error.class(), error.message()),
            None => not_running(),
        }
    }

    /// Between two things that are done: no process is on its way into the container.
    fn freeze(&self) -> Response {
        match self.container.as_ref().filter(|c| c.main.exit_code().is_none()).map(Container::freeze) {
            Some(Ok(())) => Response::Done,
            Some(Err(error)) => failed(error.class(), error.message()),
            None => not_running(),
        }
    }

    /// The session of an exec, or of the container, if its process runs.
    fn running(&self, exec: Option<&str>) -> Result<&Session, Response> {
        let found = match exec {
            None => self.container.as_ref().map(|c| &c.main),
            Some(_) => self.execs.iter().find(|e| e.exec.as_deref() == exec),
        };
        match (found, exec) {
            (Some(session), _) if session.exit_code().is_none() => Ok(session),
            (None, Some(id)) => Err(failed(Class::NotFound, &format!("no such exec: {id}"))),
            _ => Err(not_running()),
        }
    }
}

fn started(facts: Facts) -> Response {
    Response::Started { pid: facts.pid, start_time: facts.start_time, warnings: facts.warnings }
}

fn refused(error: StartError) -> Response {
    Response::Failed { class: error.class, message: error.message, exit_code: error.exit_code }
}

fn not_running() -> Response {
    failed(Class::Conflict, "the container is not running")
}

fn failed(class: Class, message: &str) -> Response {
    Response::Failed { class, message: message.to_owned(), exit_code: 128 }
}
