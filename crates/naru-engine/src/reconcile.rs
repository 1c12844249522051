//! What an engine does when it begins: it meets the monitors that are there, takes up what ended meanwhile, and removes what nobody owns.
//!
//! In two parts. Lists are answered as soon as every container is what its record says, for which a look into `/proc` is enough where its
//! process is still the recorded one. Whatever changes something, or wants more than the record, waits for the second part
//! ([`Engine::settled`]), in which those monitors are met, too.

use crate::Engine;
use crate::container::{Container, Record};
use crate::networks::{Networks, Sandbox};
use crate::types::Status;
use naru_base::Result;
use naru_fs::Durability;
use naru_monitor::protocol::ExitRecord;
use naru_net::Netns;
use std::sync::Arc;
use std::time::Duration;

/// docker's exit code for a container whose end nobody saw (the machine went down).
const LOST: i32 = 255;
/// As many monitors are asked at the same time.
const AT_ONCE: usize = 64;
/// So long a monitor is waited for. One that stands still (somebody has stopped it) answers when it goes on, and nobody else waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// The first part, before anyone is served. What concerns one container is reported and does not keep the others from being served.
    pub async fn reconcile(self: &Arc<Self>) {
        let all = self.containers.all();
        for container in &all {
            self.images.hold(&container.id, &container.read(|r| r.image.clone()));
        }
        let (unclear, running): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| !self.still_runs(c));
        self.take_up_all(&unclear).await;
        *crate::lock(&self.to_meet) = running;
    }

    /// The second part, once, while lists are served.
    ///
    /// # Errors
    /// When the networks can't be set up.
    pub async fn finish_reconcile(self: &Arc<Self>) -> Result<()> {
        let running = std::mem::take(&mut *crate::lock(&self.to_meet));
        self.take_up_all(&running).await;
        self.check_isolation();
        let engine = Arc::clone(self);
        let work = move || {
            engine.reconcile_disk();
            // Asked now: one that was taken up may have ended since.
            let live = engine.containers.all().into_iter().map(|c| c.read(Clone::clone));
            let live: Vec<Record> = live.filter(|r| r.state.has_process()).collect();
            live.iter().for_each(|r| engine.take_up_ports(r));
            engine.note_links();
            engine.networks.reconcile(&live)?;
            engine.follow_links(None);
            engine.remove_leftovers();
            engine.user_spaces.ranges().sweep();
            Ok(())
        };
        crate::image::blocking(work).await?;
        self.watch_rules();
        self.settled.send_replace(true);
        Networks::refill(self);
        self.keep_budget();
        tokio::spawn(Arc::clone(self).start_in_order(self.due_at_engine_start()));
        Ok(())
    }

    /// Waits until everything has been taken up that an earlier engine left.
    pub async fn settled(&self) {
        // It can't fail: the sender is ours.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Whether that has been done.
    pub(crate) fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Whether the process of its record is there. Then its monitor is, or will have ended it by the time that it is looked for.
    fn still_runs(&self, container: &Container) -> bool {
        let (pid, start_time) = container.read(|r| {
            let recorded = r.state.has_process() && r.state.boot_id == self.boot_id;
            if recorded { (r.state.pid, r.state.start_time) } else { (0, 0) }
        });
        pid > 0 && start_time > 0 && naru_runtime::start_time_of(pid) == Some(start_time)
    }

    fn reconcile_disk(&self) {
        if let Err(error) = self.images.store.sweep() {
            tracing::warn!("cannot sweep the store: {error}");
        }
        self.reconcile_volumes();
    }

    /// Each of them waits for its monitor's answer, and not for the others'.
    async fn take_up_all(self: &Arc<Self>, containers: &[Arc<Container>]) {
        for some in containers.chunks(AT_ONCE) {
            let begin = |container: &Arc<Container>| {
                let (engine, container) = (Arc::clone(self), Arc::clone(container));
                tokio::spawn(async move {
                    if let Err(error) = engine.take_up(&container).await {
                        tracing::warn!(container = container.id.short(), "{error}");
                    }
                })
            };
            let tasks: Vec<_> = some.iter().map(begin).collect();
            let limit = tokio::time::Instant::now() + ANSWER_LIMIT;
            for (task, container) in tasks.into_iter().zip(some) {
                // The task goes on.
                if tokio::time::timeout_at(limit, task).await.is_err() {
                    tracing::warn!(
                        container = container.id.short(),
                        "its monitor doesn't answer; it can be used when it does"
                    );
                }
            }
        }
    }

    /// One container: running under its monitor, or ended.
    async fn take_up(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        // First: its monitor may be waiting for a process that was frozen on its way into the container.
        if container.read(|r| r.state.has_process() && r.state.boot_id == self.boot_id) {
            self.take_up_pause(container);
        }
        if let Some((monitor, state, descriptors)) = self.meet_monitor(container).await? {
            container.change(|r| {
                if r.state.has_process() && r.state.pid != state.pid {
                    // Its end and the next start have both not been recorded.
                    r.state.end(LOST, false, crate::clock::now());
                }
                if !r.state.has_process() {
                    // It was being started when the engine died.
                    r.state.begin(state.pid, state.start_time, &self.boot_id, crate::clock::now());
                    r.state.stopped_by_hand = false;
                }
            });
            for (id, pid) in &state.execs {
                self.execs.take_up(&container.id, id, *pid);
            }
            if state.log_lost.records > 0 {
                self.log_lost(container, state.log_lost.clone());
            }
            if let Some(health) = &state.health {
                self.health_taken_up(container, health);
            }
            let first = first_id(state.pid);
            container.change(|r| r.state.first_id = first);
            container.set_lease(first.map(|first| self.user_spaces.ranges().hold(first)));
            container.set_monitor(Some(monitor));
            self.take_up_network(container, descriptors);
            return Ok(());
        }
        let finished_at = container.read(|r| r.state.finished_at);
        if !container.read(|r| r.state.has_process()) {
            let unheard = self.read_exit_record(&container.id).filter(|e| e.finished_at > finished_at);
            let Some(record) = unheard else { return Ok(()) };
            // It was started when the engine died, and has ended since.
            container.change(|r| r.state.begin(0, 0, &self.boot_id, record.finished_at));
            self.note_end(container, &record);
            return Ok(());
        }
        let this_boot = container.read(|r| r.state.boot_id == self.boot_id);
        // The monitor of a run removes the record of the one before. A power cut may bring that back, and a clock that was set back makes a new
        // one look older.
        let of_this_run = |e: &ExitRecord| this_boot || e.finished_at > finished_at;
        let record = self.read_exit_record(&container.id).filter(of_this_run).unwrap_or(ExitRecord {
            exit_code: if this_boot { 137 } else { LOST },
            finished_at: crate::clock::now(),
            unseen: true,
            ..ExitRecord::default()
        });
        if this_boot {
            self.kill_remains(container);
        }
        self.note_end(container, &record);
        Ok(())
    }

    /// A pause that was answered is in the record. Any other freeze was the engine's that died: of a commit, or of a pause that nobody was told of.
    fn take_up_pause(&self, container: &Container) {
        let Ok(cgroup) = self.cgroup(container) else { return };
        match (cgroup.is_frozen().unwrap_or(false), container.status()) {
            (true, Status::Running) => {
                if let Err(error) = cgroup.thaw() {
                    tracing::warn!(container = container.id.short(), "{error}");
                    container.change(|r| r.state.pause());
                }
            }
            (false, Status::Paused) => container.change(|r| r.state.resume()),
            _ => {}
        }
    }

    fn take_up_network(&self, container: &Container, descriptors: Vec<std::os::fd::OwnedFd>) {
        let (id, attached) = container.read(|r| (r.state.sandbox_id.clone(), r.state.attached.clone()));
        if let Some(netns) = descriptors.into_iter().next().map(Netns::from_fd) {
            drop(container.set_sandbox(Some(Sandbox { id, netns: Arc::new(netns), attached })));
        }
    }

    /// Folders of containers that are none, the trash, and run folders without a container.
    fn remove_leftovers(&self) {
        let known = |name: &str| naru_base::Id::parse(name).is_ok_and(|id| self.containers.by_id(&id).is_some());
        for folder in [self.config.data_root.join("containers"), self.config.exec_root.join("containers")] {
            let Ok(root) = naru_fs::Root::open_host(&folder) else { continue };
            for name in root.list("/").unwrap_or_default() {
                // A record that can't be read is somebody's container: its folder stays.
                if !name.to_str().is_some_and(|name| known(name) || self.records.has(name))
                    && let Err(error) = naru_fs::remove_tree(&root, &name)
                {
                    tracing::warn!("cannot remove {}: {error}", folder.join(&name).display());
                }
            }
        }
        self.end_strays();
        if let Ok(trash) = naru_fs::Root::open_host(self.config.trash_dir()) {
            for name in trash.list("/").unwrap_or_default() {
                self.empty_trash(&name.to_string_lossy());
            }
        }
    }

    /// Stops nothing: containers outlive the engine. Lets go of what only the engine needs.
    pub async fn shutdown(&self) {
        for container in self.containers.all() {
            if let Err(error) = container.save(&self.records, Durability::Volatile) {
                tracing::warn!("{error}");
            }
        }
        self.networks.close();
        self.user_spaces.close();
        self.remove_parent_group();
    }
}

/// The host's id of a process's root user, if that is another one (user_namespaces(7)).
fn first_id(pid: i32) -> Option<u32> {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).ok()?;
    let mut fields = map.split_whitespace();
    (fields.next()? == "0").then(|| fields.next()?.parse().ok()).flatten().filter(|first| *first != 0)
}
