//! A container as it is shown.

use super::Container;
use crate::Engine;
use crate::types::{ContainerFiles, ContainerView, NetworkMode, Status};
use naru_base::Result;

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

    pub(crate) fn view(&self, container: &Container) -> ContainerView {
        let record = container.read(Clone::clone);
        let status = container.status();
        let files = self.files(&record.id, record.state.pid);
        let image = self.images.summary_parts(&record.image);
        let endpoints = self.endpoint_views(&record);
        ContainerView {
            files: ContainerFiles {
                log: if record.host.log.driver == "none" { std::path::PathBuf::new() } else { files.log },
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
            mounts: record.mounts.into_iter().map(|m| m.view).collect(),
            endpoints,
            sandbox_id: record.state.sandbox_id,
            ports: crate::ports::shown(&record.state.ports),
            exec_ids: self.execs.running_in(&record.id),
            lower: image.layer_dirs,
            size_rw: None,
            size_root: None,
            platform: record.platform,
            manifest_digest: image.manifest_digest,
            config: record.config,
            host: record.host,
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
