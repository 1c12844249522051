//! A container as it is shown.

use super::state::State;
use super::{Container, Record};
use crate::Engine;
use crate::types::{
    BriefView, ContainerConfig, ContainerFiles, ContainerView, HealthState, HostSettings, NetworkMode, Status,
};
use naru_base::{Id, Result};
use serde_json::Value;

impl Engine {
    /// Everything about one container.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn inspect(&self, name: &str, size: bool) -> Result<ContainerView> {
        let container = self.containers.find(name)?;
        let mut view = self.view(&container);
        if size {
            self.add_sizes(&mut view);
        }
        Ok(view)
    }

    /// The id of the container that is meant; none when there is no such one, or several.
    pub fn container_id(&self, given: &str) -> Option<Id> {
        self.containers.find(given).ok().map(|container| container.id.clone())
    }

    pub(crate) fn view(&self, container: &Container) -> ContainerView {
        let record = container.read(Clone::clone);
        let image = self.images.summary_parts(&record.image);
        let view = self.view_of(container, record);
        ContainerView {
            exec_ids: self.execs.running_in(&container.id),
            lower: image.layer_dirs,
            manifest_digest: image.manifest_digest,
            ..view
        }
    }

    /// What a list shows, and nothing else: a thousand containers are listed at once.
    pub(crate) fn listed(&self, container: &Container) -> ContainerView {
        self.view_of(container, container.read(brief))
    }

    fn view_of(&self, container: &Container, record: Record) -> ContainerView {
        let status = container.status();
        let files = self.files(&record.id, record.state.pid);
        let endpoints = self.endpoint_views(&record);
        ContainerView {
            files: ContainerFiles {
                log: crate::log_config::path(
                    &record.host.log,
                    &self.config.container_dir(&record.id),
                    record.id.as_str(),
                )
                .unwrap_or_default(),
                ..files
            },
            name: record.name,
            created: record.created,
            image_id: record.image,
            path: record.path,
            args: record.args,
            status,
            pid: record.state.pid,
            exit_code: record.state.exit_code,
            error: record.state.error,
            oom_killed: record.state.oom_killed,
            started_at: record.state.started_at,
            finished_at: record.state.finished_at,
            restart_count: record.state.restart_count,
            health: record.state.health,
            log_lost: record.state.log_lost,
            mounts: record.mounts.into_iter().map(|m| m.view).collect(),
            endpoints,
            sandbox_id: record.state.sandbox_id,
            ports: crate::ports::shown(&record.state.ports),
            exec_ids: Vec::new(),
            lower: Vec::new(),
            size_rw: None,
            size_root: None,
            platform: record.platform,
            manifest_digest: None,
            process_label: record.process_label,
            mount_label: record.mount_label,
            config: record.config,
            host: HostSettings { apparmor: Some(self.apparmor.shown(&record.host)), ..record.host },
            document: record.document,
            id: record.id,
        }
    }

    /// Where a container's files are.
    pub(crate) fn files(&self, id: &naru_base::Id, pid: i32) -> ContainerFiles {
        let folder = self.config.container_dir(id);
        ContainerFiles {
            resolv_conf: folder.join("resolv.conf"),
            hostname: folder.join("hostname"),
            hosts: folder.join("hosts"),
            log: folder.join(format!("{id}-json.log")),
            upper: folder.join("fs/upper"),
            work: folder.join("fs/work"),
            sandbox_key: if pid > 0 { format!("/proc/{pid}/ns/net").into() } else { std::path::PathBuf::new() },
        }
    }

    /// Reads how much it takes on disk.
    pub(crate) fn add_sizes(&self, view: &mut ContainerView) {
        let own = crate::disk::usage(&view.files.upper);
        view.size_rw = Some(own);
        view.size_root = Some(own + self.images.size(&view.image_id));
    }
}

/// A record without what no list shows.
fn brief(r: &Record) -> Record {
    Record {
        id: r.id.clone(),
        name: r.name.clone(),
        created: r.created,
        image: r.image.clone(),
        platform: r.platform.clone(),
        config: ContainerConfig {
            image: r.config.image.clone(),
            labels: r.config.labels.clone(),
            exposed_ports: r.config.exposed_ports.clone(),
            ..ContainerConfig::default()
        },
        host: HostSettings {
            network: r.host.network.clone(),
            port_bindings: r.host.port_bindings.clone(),
            publish_all: r.host.publish_all,
            ..HostSettings::default()
        },
        document: r.document.get("Annotations").map_or(Value::Null, |a| serde_json::json!({ "Annotations": a })),
        path: r.path.clone(),
        args: r.args.clone(),
        mounts: r.mounts.clone(),
        networks: r.networks.clone(),
        user_namespace: r.user_namespace,
        process_label: String::new(),
        mount_label: String::new(),
        state: State {
            history: Vec::new(),
            log_lost: naru_log::Lost::default(),
            health: r.state.health.as_ref().map(|h| HealthState { log: Vec::new(), ..*h }),
            boot_id: String::new(),
            cgroup: None,
            error: String::new(),
            sandbox_id: String::new(),
            attached: r.state.attached.clone(),
            ports: r.state.ports.clone(),
            ..r.state
        },
    }
}

impl Container {
    pub(super) fn brief(&self) -> BriefView {
        let status = self.status();
        self.read(|r| BriefView {
            id: r.id.clone(),
            name: r.name.clone(),
            created: r.created,
            image: r.config.image.clone(),
            image_id: r.image.clone(),
            path: r.path.clone(),
            args: r.args.clone(),
            status,
            exit_code: r.state.exit_code,
            started_at: r.state.started_at,
            finished_at: r.state.finished_at,
            health: r.state.health.as_ref().map(|health| health.status),
            ports: crate::ports::shown(&r.state.ports),
            exposed_ports: r.config.exposed_ports.clone(),
        })
    }
}

impl ContainerView {
    /// Whether its network namespace is its own.
    pub fn has_own_network(&self) -> bool {
        !matches!(self.host.network, NetworkMode::Host | NetworkMode::Container(_))
    }

    /// Whether it has ever run.
    pub fn has_run(&self) -> bool {
        self.status != Status::Created
    }
}
