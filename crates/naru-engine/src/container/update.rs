//! Changing a container that exists: its name, its limits.

use crate::Engine;
use crate::types::RestartPolicy;
use naru_base::{Class, Error, Result, name};
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
        self.rename_on_networks(&container);
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
            return Err(Error::conflict(format!(
                "Cannot update container {}: Restart policy cannot be updated because AutoRemove is enabled for the container",
                container.id
            )));
        }
        let mut warnings = Vec::new();
        if container.read(|r| r.state.has_process()) {
            let mut cgroup = self.cgroup(&container)?;
            let wanted = container.read(|r| completed(&limits, &r.host.resources));
            // systemd may take its time.
            let update = move || cgroup.update(&wanted).map(|()| cgroup.take_warnings());
            match crate::image::blocking(update).await {
                Ok(told) => warnings = told,
                // It ends just now: the limits are those of its next run.
                Err(error) if self.unless_ended(&container, error.clone()).class() == Class::Conflict => {}
                Err(error) => return Err(error.context(format!("Cannot update container {}", container.id))),
            }
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

/// `limits` with those that one of them can't be written without: the kernel's files hold swap alone, and quota and period in one.
fn completed(limits: &Resources, existing: &Resources) -> Resources {
    let mut all = limits.clone();
    if all.memory.is_some() || all.memory_swap.is_some() {
        all.memory = all.memory.or(existing.memory);
        all.memory_swap = all.memory_swap.or(existing.memory_swap);
    }
    if all.cpu_quota.is_some() || all.cpu_period.is_some() {
        all.cpu_quota = all.cpu_quota.or(existing.cpu_quota);
        all.cpu_period = all.cpu_period.or(existing.cpu_period);
    }
    all
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
    macro_rules! take_lists {
        ($($field:ident),*) => { $( if !from.$field.is_empty() { into.$field = from.$field; } )* };
    }
    take_lists!(blkio_weight_device, blkio_read_bps, blkio_write_bps, blkio_read_iops, blkio_write_iops);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_written_together() {
        let existing = Resources {
            memory: Some(64),
            memory_swap: Some(128),
            cpu_period: Some(50_000),
            pids_limit: Some(5),
            ..Resources::default()
        };
        let asked = Resources { memory: Some(32), cpu_quota: Some(1000), ..Resources::default() };
        let all = completed(&asked, &existing);
        assert_eq!((all.memory, all.memory_swap), (Some(32), Some(128)));
        assert_eq!((all.cpu_quota, all.cpu_period, all.pids_limit), (Some(1000), Some(50_000), None));
        assert_eq!(completed(&Resources::default(), &existing), Resources::default());
    }
}
