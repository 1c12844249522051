//! Ending and freezing: stop, kill, restart, pause, unpause; and resizing a terminal.

use super::history::{What, note};
use super::state::State;
use super::{Container, restart_policy};
use crate::types::{Status, WaitOutcome};
use crate::{Engine, clock};
use naru_base::{Class, Error, Result, signal};
use naru_fs::Durability;
use naru_monitor::protocol::{FREEZE_VERSION, Request, Response};
use std::sync::Arc;
use std::time::Duration;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// Seconds that a stop waits before it kills.
const STOP_TIMEOUT: i64 = 10;
/// How long a killed process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

impl Engine {
    /// Asks the process to end, and kills it after the timeout (seconds; `None` the container's own or 10; -1 never).
    ///
    /// # Errors
    /// [`Class::NotModified`] when it isn't running.
    pub async fn stop(self: &Arc<Self>, name: &str, signal: Option<String>, timeout: Option<i64>) -> Result<()> {
        let container = self.containers.find(name)?;
        let _operation = container.operation.lock().await;
        if !container.status().is_running() {
            self.keep_stopped(&container)?;
            return Err(Error::not_modified(format!("container {} is already stopped", container.id)));
        }
        self.stop_locked(&container, "stop", signal, timeout).await?;
        self.container_event(&container, "stop", &[]);
        Ok(())
    }

    pub(crate) async fn stop_locked(
        self: &Arc<Self>,
        container: &Arc<Container>,
        command: &str,
        signal: Option<String>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let (own_signal, own_timeout) = container.read(|r| (r.config.stop_signal.clone(), r.config.stop_timeout));
        let number = signal.or(own_signal).map_or(Ok(SIGTERM), |s| signal::parse(&s))?;
        let seconds = timeout.or(own_timeout).unwrap_or(STOP_TIMEOUT);
        self.mark_stopped(container, command, number, Some(seconds))?;
        if self.give_up_restart(container) {
            return Ok(());
        }
        let ended = container.ended();
        tokio::pin!(ended);
        if self.signal(container, number).await.is_ok() {
            let grace = u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs);
            if tokio::time::timeout(grace.min(Duration::from_secs(86_400 * 365)), &mut ended).await.is_ok() {
                return Ok(());
            }
        }
        self.kill_and_wait(container, ended).await
    }

    /// Where a policy could start it again, the user's word is on the disk before anything is done.
    fn mark_stopped(&self, container: &Container, command: &str, signal: i32, grace: Option<i64>) -> Result<()> {
        let policy = container.change(|r| {
            note(&mut r.state.history, clock::now(), What::Asked { command: command.to_owned(), signal, grace });
            r.state.stopped_by_hand = true;
            restart_policy::is_set(&r.host.restart)
        });
        if policy { container.save(&self.records, Durability::Synced) } else { Ok(()) }
    }

    /// One that doesn't run, say because it could not be started again, is not started by the next engine either, whatever its policy: its user
    /// wants it stopped.
    fn keep_stopped(&self, container: &Container) -> Result<()> {
        let changed = container.change(|r| {
            let changes = restart_policy::is_set(&r.host.restart) && !r.state.stopped_by_hand;
            r.state.stopped_by_hand |= changes;
            changes
        });
        if changed { container.save(&self.records, Durability::Synced) } else { Ok(()) }
    }

    async fn kill_and_wait(
        self: &Arc<Self>,
        container: &Arc<Container>,
        mut ended: std::pin::Pin<&mut impl Future<Output = WaitOutcome>>,
    ) -> Result<()> {
        match self.signal(container, SIGKILL).await {
            Err(e) if e.class() != Class::Conflict => return Err(e),
            _ => {}
        }
        if tokio::time::timeout(KILL_TIMEOUT, &mut ended).await.is_ok() || !container.status().is_running() {
            return Ok(());
        }
        Err(Error::system(format!(
            "container {} did not end within {KILL_TIMEOUT:?} of being killed",
            container.id.short()
        )))
    }

    /// Sends a signal (a name or number; empty for SIGKILL). SIGKILL returns when the container has ended.
    ///
    /// # Errors
    /// docker's texts: not running, invalid signal.
    pub async fn kill(self: &Arc<Self>, name: &str, signal: &str) -> Result<()> {
        let container = self.containers.find(name)?;
        let number = if signal.is_empty() { SIGKILL } else { signal::parse(signal)? };
        if !container.status().is_running() {
            let text = format!("cannot kill container: {name}: container {} is not running", container.id);
            return Err(Error::conflict(text));
        }
        let stop_signal = container.read(|r| r.config.stop_signal.clone());
        let stop_signal = stop_signal.and_then(|s| signal::parse(&s).ok()).unwrap_or(SIGTERM);
        if number == SIGKILL || number == stop_signal {
            self.mark_stopped(&container, "kill", number, None)?;
        }
        if container.status() == Status::Restarting {
            let _operation = container.operation.lock().await;
            // Started meanwhile, it is killed as any other.
            if self.give_up_restart(&container) {
                return Ok(());
            }
        }
        let ended = container.ended();
        tokio::pin!(ended);
        if number == SIGKILL {
            self.kill_and_wait(&container, ended).await
        } else {
            self.signal(&container, number).await
        }
    }

    /// Sends a signal to the first process. A frozen one is thawed for a signal that is to end it.
    pub(crate) async fn signal(self: &Arc<Self>, container: &Arc<Container>, number: i32) -> Result<()> {
        let monitor = container.running_monitor()?;
        let paused = container.status() == Status::Paused;
        if paused && (number == SIGKILL || number == SIGTERM) {
            // First: a monitor may be waiting for something that is frozen with the rest.
            if let Err(error) = self.cgroup(container).and_then(|c| c.thaw()) {
                return Err(self.unless_ended(container, error));
            }
            container.change(|r| {
                if r.state.status == Status::Paused {
                    r.state.resume();
                }
            });
        }
        let asked = monitor.request(Request::Signal { exec: None, signal: number }, Vec::new()).await;
        let answer = asked.map_err(|e| match e.class() {
            // It has just ended, and its monitor with it.
            Class::Unavailable => Error::conflict(format!("container {} is not running", container.id)),
            _ => e,
        })?;
        self.container_event(container, "kill", &[("signal", &number.to_string())]);
        done(answer.0)
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As for stop and start.
    pub async fn restart(self: &Arc<Self>, name: &str, signal: Option<String>, timeout: Option<i64>) -> Result<()> {
        let container = self.containers.find(name)?;
        let _operation = container.operation.lock().await;
        if container.status().is_running() {
            // `--rm` removes a container that ends, but not one that is restarted.
            let remove = container.change(|r| std::mem::replace(&mut r.host.auto_remove, false));
            let stopped = self.stop_locked(&container, "restart", signal, timeout).await;
            container.change(|r| r.host.auto_remove = remove);
            stopped?;
            self.container_event(&container, "stop", &[]);
        }
        self.start_locked(&container).await?;
        self.container_event(&container, "restart", &[]);
        Ok(())
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// docker's texts: not running, already paused.
    pub async fn pause(self: &Arc<Self>, name: &str) -> Result<()> {
        let container = self.containers.find(name)?;
        let _operation = container.operation.lock().await;
        match container.status() {
            Status::Paused => return Err(Error::conflict(format!("container {name} is already paused"))),
            Status::Running => {}
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    container.id
                )));
            }
            _ => return Err(Error::conflict(format!("container {} is not running", container.id))),
        }
        if let Err(error) = self.freeze(&container).await {
            return Err(self.unless_ended(&container, error));
        }
        self.change_running(&container, State::pause)?;
        self.container_event(&container, "pause", &[]);
        Ok(())
    }

    /// Its monitor does it, which has no process on the way into the container then: one that is frozen before it has become its program
    /// would keep its monitor waiting, and every engine that greets that.
    pub(crate) async fn freeze(&self, container: &Container) -> Result<()> {
        match container.running_monitor()? {
            monitor if monitor.version() >= FREEZE_VERSION => {
                done(monitor.request(Request::Freeze, Vec::new()).await?.0)
            }
            _ => self.cgroup(container)?.freeze(),
        }
    }

    /// Lets a frozen container go on.
    ///
    /// # Errors
    /// When it isn't paused.
    pub async fn unpause(self: &Arc<Self>, name: &str) -> Result<()> {
        let container = self.containers.find(name)?;
        let _operation = container.operation.lock().await;
        if container.status() != Status::Paused {
            return Err(Error::system(format!("Container {name} is not paused")));
        }
        if let Err(error) = self.cgroup(&container).and_then(|c| c.thaw()) {
            return Err(self.unless_ended(&container, error));
        }
        self.change_running(&container, State::resume)?;
        self.container_event(&container, "unpause", &[]);
        Ok(())
    }

    /// What went wrong with a container that is ending is that it ends.
    pub(crate) fn unless_ended(&self, container: &Container, error: Error) -> Error {
        let group_is_gone = || self.cgroup(container).and_then(|c| c.pids()).map_or(true, |pids| pids.is_empty());
        let monitor_is_gone = error.class() == Class::Unavailable;
        if !container.read(|r| r.state.has_process()) || monitor_is_gone || group_is_gone() {
            return Error::conflict(format!("container {} is not running", container.id));
        }
        error
    }

    /// It may have ended meanwhile.
    fn change_running(&self, container: &Container, change: fn(&mut State)) -> Result<()> {
        let there = container.change(|r| {
            let there = r.state.has_process();
            if there {
                change(&mut r.state);
            }
            there
        });
        if !there {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        }
        container.save(&self.records, Durability::Volatile)
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it isn't running.
    pub async fn resize(self: &Arc<Self>, name: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.containers.find(name)?;
        let monitor = container.running_monitor()?;
        done(monitor.request(Request::Resize { exec: None, rows, columns }, Vec::new()).await?.0)?;
        self.container_event(&container, "resize", &[("height", &rows.to_string()), ("width", &columns.to_string())]);
        Ok(())
    }
}

impl Container {
    /// A future of its end, registered when this returns.
    pub(crate) fn ended(&self) -> impl Future<Output = WaitOutcome> + use<> {
        let mut ends = self.ends();
        let seen = ends.borrow_and_update().count;
        async move {
            match ends.wait_for(|end| end.count > seen || end.removed).await {
                Ok(end) => end.outcome.clone(),
                Err(_) => WaitOutcome::default(),
            }
        }
    }
}

/// An answer that carries nothing.
pub(crate) fn done(answer: Response) -> Result<()> {
    match answer {
        Response::Failed { class, message, .. } => Err(Error::new(class, message)),
        _ => Ok(()),
    }
}
