//! Changing a container that exists: its name, its limits.

use crate::Engine;
use crate::types::RestartPolicy;
use naru_base::{Error, Result, name};
use naru_fs::Durability;
use naru_runtime::plan::Resources;

impl Engine {
    /// Gives it another name.
    ///
    /// # Errors
    /// docker's texts: bad, taken, the same.
    pub async fn rename(&self, given: &str, new: &str) -> Result<()> {
        let container = self.containers.find(given)?;
        let new = name::container(new)?.to_owned();
        let _operation = container.operation.lock().await;
        let old = container.name();
        if old == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.containers.reserve(&new, &container.id)?;
        container.change(|r| r.name.clone_from(&new));
        if let Err(error) = container.save(&self.records, Durability::Synced) {
            container.change(|r| r.name.clone_from(&old));
            self.containers.release(&new, &container.id);
            return Err(error);
        }
        self.containers.release(&old, &container.id);
        self.container_event(&container, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }

    /// Changes its limits, also while it runs; `document` replaces the caller's own.
    ///
    /// # Errors
    /// When the kernel refuses a limit; nothing is changed then.
    pub async fn update(
        &self,
        given: &str,
        limits: Resources,
        policy: Option<RestartPolicy>,
        document: Option<serde_json::Value>,
    ) -> Result<Vec<String>> {
        let container = self.containers.find(given)?;
        let _operation = container.operation.lock().await;
        if policy.as_ref().is_some_and(|p| !matches!(p.name.as_str(), "" | "no"))
            && container.read(|r| r.host.auto_remove)
        {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        let mut warnings = Vec::new();
        if container.read(|r| r.state.has_process()) {
            let mut cgroup = self.cgroup(&container)?;
            cgroup.update(&limits)?;
            warnings = cgroup.take_warnings();
        }
        container.change(|r| {
            merge(&mut r.host.resources, limits);
            if let Some(policy) = policy {
                r.host.restart = policy;
            }
            if let Some(document) = document {
                r.document = document;
            }
        });
        container.save(&self.records, Durability::Synced)?;
        self.container_event(&container, "update", &[]);
        Ok(warnings)
    }
}

/// Takes over what is set.
fn merge(into: &mut Resources, from: Resources) {
    macro_rules! take {
        ($($field:ident),*) => { $( if from.$field.is_some() { into.$field = from.$field; } )* };
    }
    take!(
        memory,
        memory_swap,
        memory_reservation,
        memory_swappiness,
        oom_kill_disable,
        cpu_shares,
        cpu_quota,
        cpu_period,
        cpu_rt_runtime,
        cpu_rt_period,
        cpuset_cpus,
        cpuset_mems,
        pids_limit,
        blkio_weight
    );
}
