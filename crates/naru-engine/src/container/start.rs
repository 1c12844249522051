//! Starting a container: network and files in parallel, then the plan, then a monitor that makes it.

use super::{Container, restart_policy};
use crate::cdi::Registry;
use crate::cgroups::Place;
use crate::monitor_link::MonitorLink;
use crate::networks::Sandbox;
use crate::types::{NetworkMode, Status, WaitOutcome};
use crate::user_spaces::{Space, UserSpace};
use crate::{Engine, clock};
use naru_base::{Class, Error, Result};
use naru_fs::Durability;
use naru_monitor::protocol::{Attach, ExitRecord, Request, Response, StartRequest};
use naru_runtime::MountSpaces;
use naru_runtime::plan::Descriptors;
use naru_sys::fault;
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Engine {
    /// Starts a container that isn't running.
    ///
    /// # Errors
    /// [`Class::NotModified`] when it runs already; with docker's texts when it can't be started, and then its exit code is 126,
    /// 127 or 128 and its state tells why.
    pub async fn start(self: &Arc<Self>, name: &str, _detach_keys: Option<String>) -> Result<()> {
        let container = self.containers.find(name)?;
        let _operation = container.operation.lock().await;
        self.start_locked(&container).await
    }

    /// The caller holds the container's operation lock.
    pub(crate) async fn start_locked(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        match container.status() {
            // One that waits for its restart counts as running, as docker has it.
            Status::Running | Status::Restarting => {
                return Err(Error::not_modified(format!("container {} is already running", container.id)));
            }
            Status::Paused => return Err(Error::conflict("cannot start a paused container, try unpause instead")),
            Status::Removing | Status::Dead => {
                return Err(Error::conflict("container is marked for removal and cannot be started"));
            }
            Status::Created | Status::Exited => {}
        }
        container.change(|r| {
            r.state.restart_count = 0;
            r.state.backoff_ms = 0;
            // Not at a start by policy: a stop may come while that is under way, and holds.
            r.state.stopped_by_hand = false;
        });
        self.start_again(container).await
    }

    /// Starts what isn't running; the count of restarts stays. The caller holds the operation lock.
    pub(crate) async fn start_again(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        if !container.begin_start() {
            return Err(Error::conflict("container is marked for removal and cannot be started"));
        }
        let started = self.start_process(container).await;
        let ended = container.finish_start();
        let Err(failure) = started else {
            self.container_event(container, "start", &[]);
            // A short one may have ended before its start was recorded.
            if let Some(record) = ended {
                self.ended(container, &record);
            }
            return Ok(());
        };
        let failure = StartFailure { error: self.explain(container, failure.error).await, ..failure };
        self.record_failure(container, &failure);
        Err(failure.error)
    }

    async fn start_process(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), StartFailure> {
        let space = container.read(|r| self.space_of(r))?;
        let shared = match &space {
            Space::Of(other) => Some(self.user_space_of(other)?),
            Space::Host | Space::Own => None,
        };
        // It is forked while its request is made.
        fault::point();
        let monitor = self.spawner.spawn(self, container)?;
        let (sandbox, attaches) = tokio::join!(self.make_sandbox(container, &space), container.take_pending());
        let (sandbox, made) = sandbox?;
        let user = shared.or(made);
        let first_id = user.as_ref().map(|user| user.lease.first);
        container.set_lease(user.as_ref().map(|user| Arc::clone(&user.lease)));
        let started = self.start_in(container, &monitor, sandbox.as_ref(), user, attaches).await;
        let (pid, start_time) = match started {
            Ok(started) => started,
            Err(failure) => {
                if let Some(sandbox) = sandbox {
                    self.follow_links(Some(&container.id));
                    self.networks.release(&container.id, sandbox);
                }
                return Err(failure);
            }
        };
        self.record_start(container, monitor, sandbox, (pid, start_time, first_id));
        Ok(())
    }

    /// The process itself, in its sandbox, which is the caller's to release when this fails.
    async fn start_in(
        self: &Arc<Self>,
        container: &Arc<Container>,
        monitor: &Arc<MonitorLink>,
        sandbox: Option<&Sandbox>,
        user: Option<UserSpace>,
        attaches: Vec<(Attach, OwnedFd)>,
    ) -> Result<(i32, u64), StartFailure> {
        let mut ports = self.open_ports(container, sandbox).await?;
        self.write_files(container, sandbox)?;
        if let Some(sandbox) = sandbox {
            self.apply_links(Some((container, sandbox)), None)?;
        }
        self.take_mounted(container, container.id.to_string()).await?;
        let (mut plan, mut joined) = self.plan(container, sandbox, user)?;
        let place = Place { path: plan.cgroup.path.clone(), scope: plan.cgroup.scope.clone() };
        container.change(|r| r.state.cgroup = Some(place));
        let (attaches, streams): (Vec<_>, Vec<_>) = attaches.into_iter().unzip();
        let record = container.read(Clone::clone);
        let requests = &record.host.device_requests;
        let hooks = if requests.is_empty() {
            None
        } else {
            Registry::read(&self.config.cdi_spec_dirs).injection(requests)?.apply(&mut plan)
        };
        let folder = self.config.container_dir(&container.id);
        let resolver = sandbox.and_then(|s| self.resolver(&record, &s.attached));
        let mounts = joined.mounts.take().map(MountSpaces::into_descriptors).unwrap_or_default();
        let request = StartRequest {
            plan,
            namespaces: present(&joined),
            mounts: mounts.len(),
            run_dir: self.make_run_dir(&container.id)?,
            log: crate::log_config::for_monitor(&record, &folder)?,
            record_dir: folder,
            stdin_open: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            volatile: record.host.auto_remove,
            attaches,
            health: self.health_plan(&record)?,
            resolver,
            hooks,
        };
        fault::point();
        let descriptors = in_order(joined, mounts, streams);
        let (answer, _) = monitor.request(Request::Start(Box::new(request)), descriptors).await?;
        // A container that nobody has written down.
        fault::point();
        match answer {
            Response::Started { pid, start_time, warnings } => {
                for warning in warnings {
                    tracing::warn!(container = container.id.short(), "{warning}");
                }
                if let Some(ports) = &mut ports {
                    ports.keep(monitor).await;
                }
                Ok((pid, start_time))
            }
            Response::Failed { class, message, exit_code } => {
                Err(StartFailure { error: Error::new(class, message), exit_code })
            }
            _ => Err(Error::system("the monitor answered a start with something else").into()),
        }
    }

    /// It runs, also where that can't be written down (a full disk): an engine that begins later finds it by its monitor.
    fn record_start(
        &self,
        container: &Arc<Container>,
        monitor: Arc<MonitorLink>,
        sandbox: Option<Sandbox>,
        (pid, start_time, first_id): (i32, u64, Option<u32>),
    ) {
        let now = clock::now();
        // After a power cut nothing runs, whatever the record says: its boot id is another. So no sync, but where a policy starts it then.
        let durability = container.change(|r| {
            let by_hand = r.state.restart_count == 0;
            r.state.begin(pid, start_time, &self.boot_id, now);
            r.state.first_id = first_id;
            super::health::after_change(r, true);
            if let Some(sandbox) = &sandbox {
                r.state.sandbox_id = sandbox.id.clone();
                r.state.attached = sandbox.attached.clone();
            }
            if by_hand && restart_policy::is_set(&r.host.restart) { Durability::Synced } else { Durability::Volatile }
        });
        container.set_monitor(Some(monitor));
        let networks: Vec<String> = sandbox.as_ref().map(|s| s.attached.keys().cloned().collect()).unwrap_or_default();
        container.set_sandbox(sandbox);
        for network in networks.iter().filter_map(|name| self.networks.find(name).ok()) {
            self.network_event(&network, "connect", Some(&container.id));
        }
        self.mount_events(container);
        if let Err(error) = container.save(&self.records, durability) {
            tracing::warn!(
                container = container.id.short(),
                "it has been started, and that can't be written down: {error}"
            );
        }
    }

    /// The state of a container that could not be started; `--rm` removes it.
    fn record_failure(self: &Arc<Self>, container: &Arc<Container>, failure: &StartFailure) {
        container.set_monitor(None);
        self.give_back_mounted(container, container.id.as_str());
        container.set_lease(None);
        container.change(|r| {
            let by_policy = r.state.status == Status::Restarting;
            r.state.fail_start(failure.exit_code, failure.error.message(), clock::now());
            // A user is told, and decides; a policy goes on: what was missing may come back.
            if by_policy {
                let finished_at = r.state.finished_at;
                let end = ExitRecord { exit_code: failure.exit_code, finished_at, ..ExitRecord::default() };
                super::restart::judge_end(r, &end, 0);
            }
        });
        if let Err(error) = container.save(&self.records, Durability::Volatile) {
            tracing::warn!("{error}");
        }
        self.exit_event(container, failure.exit_code, 0);
        container.announce_end(WaitOutcome {
            exit_code: failure.exit_code,
            error: Some(failure.error.message().to_owned()),
        });
        if failure.error.class() == Class::Unavailable {
            // Its monitor died on the way, maybe after it had made the container.
            self.kill_remains(container);
        }
        if container.read(|r| r.state.status) == Status::Restarting {
            self.schedule_restart(container);
        }
        if container.read(|r| r.host.auto_remove) {
            self.remove_in_background(container);
        }
    }

    /// The container's network: its own namespace, or none of its own.
    async fn make_sandbox(
        self: &Arc<Self>,
        container: &Arc<Container>,
        space: &Space,
    ) -> Result<(Option<Sandbox>, Option<UserSpace>)> {
        match container.read(|r| r.host.network.clone()) {
            NetworkMode::Host | NetworkMode::Container(_) => Ok((None, None)),
            _ => {
                let (engine, container, space) = (Arc::clone(self), Arc::clone(container), space.clone());
                let make = move || {
                    let pooled = engine.pool_fits(&space);
                    engine.networks.sandbox(&container, pooled, &|| engine.make_netns(&space))
                };
                crate::image::blocking(make).await.map(|(sandbox, user)| (Some(sandbox), user))
            }
        }
    }

    fn make_run_dir(&self, id: &naru_base::Id) -> Result<std::path::PathBuf> {
        use std::os::unix::fs::DirBuilderExt as _;
        let run_dir = self.config.exec_root.join("containers").join(id.as_str());
        fault::point();
        match std::fs::DirBuilder::new().mode(0o700).create(&run_dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::system(format!("cannot make the folder {}: {e}", run_dir.display())))
            }
            _ => Ok(run_dir),
        }
    }
}

/// A start that failed, with the exit code that docker gives it.
#[derive(Debug)]
struct StartFailure {
    error: Error,
    exit_code: i32,
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        // docker's code for a failure outside of the program itself.
        let exit_code = if error.class() == Class::Cancelled { 137 } else { 128 };
        Self { error, exit_code }
    }
}

/// Namespaces first, in the protocol's order, then the clients' streams.
fn in_order(joined: Descriptors, mounts: Vec<OwnedFd>, streams: Vec<OwnedFd>) -> Vec<OwnedFd> {
    let spaces = [joined.net, joined.ipc, joined.pid, joined.uts, joined.user].into_iter().flatten();
    spaces.chain(mounts).chain(streams).collect()
}

/// Which of them there are.
fn present(joined: &Descriptors) -> [bool; 5] {
    [&joined.net, &joined.ipc, &joined.pid, &joined.uts, &joined.user].map(Option::is_some)
}
