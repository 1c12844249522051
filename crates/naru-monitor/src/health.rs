//! The checks of a container's health: begun by the clock, one at a time, ended by force when they take too long. No engine is needed.

use crate::container::Container;
use crate::health_probe::{NetProbe, Verdict, http_request};
use crate::health_state::Capture;
use crate::protocol::{Event, HealthPlan, HealthReport, HealthResult, HealthState, HealthStatus, OnUnhealthy, Probe};
use crate::session::{Session, Source};
use naru_base::{Id, duration};
use naru_log::timestamp;
use naru_sys::signals;
use rustix::event::PollFlags;
use rustix::fd::BorrowedFd;
use rustix::process::{Signal, kill_process_group};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// docker's exit code of a check that could not be run, or took too long.
const NOT_RUN: i32 = -1;

/// The health of one container.
#[derive(Debug)]
pub(crate) struct Health {
    plan: HealthPlan,
    state: HealthState,
    started: Instant,
    /// When the next check begins.
    next: Instant,
    check: Option<Check>,
    /// What has been done about its being unhealthy.
    acted: Option<OnUnhealthy>,
    /// When it is killed, having been asked to end.
    kill_at: Option<Instant>,
}

/// A check under way.
#[derive(Debug)]
struct Check {
    id: String,
    begun: Instant,
    start: i64,
    deadline: Instant,
    timed_out: bool,
    /// The container was frozen meanwhile: what became of the check says nothing.
    void: bool,
    /// Where a probe goes that can't connect.
    other: Option<SocketAddr>,
    /// What became of it at the first address, where nothing could be connected to.
    refused: Option<Verdict>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Command(Box<Session>),
    Net(NetProbe),
    Done(Verdict),
}

/// What a check waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HealthSource {
    Command(Source),
    Net,
}

impl Health {
    /// Of a container that has just been started.
    pub(crate) fn new(plan: HealthPlan) -> Self {
        let (state, started) = (HealthState::default(), Instant::now());
        let next = started + state.pause(&plan, Duration::ZERO);
        Self { plan, state, started, next, check: None, acted: None, kill_at: None }
    }

    /// For an engine that has come later.
    pub(crate) fn state(&self) -> &HealthState {
        &self.state
    }

    /// What was done because it was unhealthy.
    pub(crate) fn acted(&self) -> Option<OnUnhealthy> {
        self.acted
    }

    /// When something has to be done.
    pub(crate) fn deadline(&self) -> Instant {
        let next = match &self.check {
            None => self.next,
            Some(Check { work: Work::Done(_), begun, .. }) => *begun,
            Some(Check { work: Work::Command(session), timed_out: true, .. }) => {
                session.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1))
            }
            Some(Check { work: Work::Command(session), deadline, .. }) => {
                session.deadline().map_or(*deadline, |ended| ended.min(*deadline))
            }
            Some(check) => check.deadline,
        };
        self.kill_at.map_or(next, |at| at.min(next))
    }

    /// Everything that it waits for now.
    pub(crate) fn watch<'a>(&'a self, add: &mut impl FnMut(HealthSource, BorrowedFd<'a>, PollFlags)) {
        match self.check.as_ref().map(|c| &c.work) {
            Some(Work::Command(session)) => {
                session.watch(&mut |source, fd, flags| add(HealthSource::Command(source), fd, flags));
            }
            Some(Work::Net(probe)) => {
                let (fd, flags) = probe.watched();
                add(HealthSource::Net, fd, flags);
            }
            _ => {}
        }
    }

    /// Something that was waited for has happened.
    pub(crate) fn handle(&mut self, source: HealthSource, flags: PollFlags, chunk: &mut Vec<u8>) {
        let Some(check) = &mut self.check else { return };
        match (source, &mut check.work) {
            // A check has no clients, and nothing to tell by itself.
            (HealthSource::Command(source), Work::Command(session)) => {
                session.handle(source, flags, chunk, &mut Vec::new());
            }
            (HealthSource::Net, Work::Net(probe)) => {
                let verdict = probe.advance();
                if probe.is_connected() {
                    (check.other, check.refused) = (None, None);
                }
                if let Some(verdict) = verdict {
                    check.work = Work::Done(verdict);
                }
            }
            _ => {}
        }
    }

    /// What follows from what has happened, and from the time.
    pub(crate) fn tend(&mut self, container: &Container, now: Instant, events: &mut Vec<Event>) {
        if container.main.exit_code().is_some() {
            self.abandon();
            return;
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            // Not reaped yet, so the number can't be another process's. One that can't be killed has ended.
            let _ = signals::send(container.main.pid.as_raw_nonzero().get(), Signal::KILL.as_raw());
        }
        if self.check.is_none() && now >= self.next {
            if container.is_frozen() {
                self.next = now + self.plan.interval;
            } else {
                self.check = Some(self.begin(container, now));
            }
        }
        let Some(check) = &mut self.check else { return };
        if now >= check.deadline && !check.void && container.is_frozen() {
            check.make_void();
        }
        let Some(verdict) = check.verdict(&self.plan, now) else { return };
        if let (Some(address), false) = (check.other.take(), verdict.0 == 0) {
            check.work = probe(&self.plan.probe, address, container);
            check.refused = Some(verdict);
        } else if check.void {
            self.check = None;
            self.next = now + self.plan.interval;
        } else {
            let first = check.refused.take().filter(|_| verdict.0 != 0);
            self.finish(container, first.unwrap_or(verdict), now, events);
        }
    }

    fn begin(&self, container: &Container, now: Instant) -> Check {
        let id = Id::random().map(|id| id.to_string()).unwrap_or_default();
        let (work, other) = match &self.plan.probe {
            Probe::Command(process) => {
                let session = container.check_session(&id, process);
                let work = session.map(|session| Work::Command(Box::new(session)));
                (work.unwrap_or_else(|error| Work::Done((NOT_RUN, error.message))), None)
            }
            Probe::Http { address, other, .. } | Probe::Tcp { address, other } => {
                (probe(&self.plan.probe, *address, container), *other)
            }
        };
        let (start, deadline) = (timestamp::now(), now + self.plan.timeout);
        Check { id, begun: now, start, deadline, timed_out: false, void: false, other, refused: None, work }
    }

    fn finish(&mut self, container: &Container, (exit_code, output): Verdict, now: Instant, events: &mut Vec<Event>) {
        let Some(check) = self.check.take() else { return };
        let result = HealthResult { start: check.start, end: timestamp::now(), exit_code, output };
        let changed = self.state.judge(&self.plan, &result, check.begun.saturating_duration_since(self.started));
        self.next = now + self.state.pause(&self.plan, now.saturating_duration_since(self.started));
        if changed && self.state.status == HealthStatus::Unhealthy {
            self.act(container, now);
        }
        events.push(Event::Health(Box::new(HealthReport {
            check: check.id,
            result,
            status: self.state.status,
            failing_streak: self.state.failing_streak,
            changed,
        })));
    }

    /// Unhealthy: what was asked for that case is done, with no engine's help.
    fn act(&mut self, container: &Container, now: Instant) {
        let (signal, kill_at) = match self.plan.on_unhealthy {
            OnUnhealthy::None => return,
            OnUnhealthy::Kill => (Signal::KILL.as_raw(), None),
            OnUnhealthy::Stop | OnUnhealthy::Restart => (self.plan.stop_signal, Some(now + self.plan.stop_timeout)),
        };
        self.acted = Some(self.plan.on_unhealthy);
        self.kill_at = kill_at;
        let _ = signals::send(container.main.pid.as_raw_nonzero().get(), signal);
    }

    /// The container has ended: there is nothing to be checked any more.
    fn abandon(&mut self) {
        self.kill_at = None;
        if let Some(Check { work: Work::Command(session), .. }) = self.check.take() {
            kill_all(&session);
        }
        // Not again before the monitor ends.
        self.next = Instant::now() + Duration::from_secs(3600);
    }
}

/// Begins a probe at `address`.
fn probe(probe: &Probe, address: SocketAddr, container: &Container) -> Work {
    let request = match probe {
        Probe::Http { host, path, .. } => Some(http_request(host, path)),
        Probe::Command(_) | Probe::Tcp { .. } => None,
    };
    let begun = container.probed_network().and_then(|network| NetProbe::begin(network, address, request));
    begun.map_or_else(|error| Work::Done((NOT_RUN, error.to_string())), Work::Net)
}

impl Check {
    /// It is ended, and nothing follows from it.
    fn make_void(&mut self) {
        self.void = true;
        self.other = None;
        match &self.work {
            Work::Command(session) => {
                kill_all(session);
                self.timed_out = true;
            }
            Work::Net(_) | Work::Done(_) => self.work = Work::Done(Verdict::default()),
        }
    }

    /// The verdict, once there is one. What takes too long is killed, and waited for: dying checks must not pile up.
    fn verdict(&mut self, plan: &HealthPlan, now: Instant) -> Option<Verdict> {
        let late = now >= self.deadline;
        match &mut self.work {
            Work::Done(verdict) => Some(std::mem::take(verdict)),
            Work::Net(probe) if late => {
                self.other = None;
                Some((NOT_RUN, too_long(plan, &probe.stage())))
            }
            Work::Net(_) => None,
            Work::Command(session) => {
                if self.timed_out {
                    return session.exit_code().map(|_| (NOT_RUN, too_long(plan, &session.captured())));
                }
                if session.is_complete(now) {
                    return session.exit_code().map(|code| (code, session.captured()));
                }
                if late {
                    kill_all(session);
                    self.timed_out = true;
                }
                None
            }
        }
    }
}

fn too_long(plan: &HealthPlan, said: &str) -> String {
    let limit = duration::format(i64::try_from(plan.timeout.as_nanos()).unwrap_or(i64::MAX));
    let colon = if said.is_empty() { "" } else { ": " };
    format!("Health check exceeded timeout ({limit}){colon}{said}")
}

/// The check's process leads a session of its own (setsid(2)), and so a group, in which its own children are.
fn kill_all(session: &Session) {
    if session.exit_code().is_none() {
        // Not reaped yet, so the number can't be another group's. What can't be killed has ended.
        let _ = kill_process_group(session.pid, Signal::KILL);
    }
}

/// A capture for a check's output.
pub(crate) fn capture() -> Capture {
    Capture::default()
}
