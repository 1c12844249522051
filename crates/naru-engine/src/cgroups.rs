//! Where containers' groups are, and who makes them: this engine, or systemd.

use crate::container::{Container, Record};
use crate::{Engine, EngineConfig};
use naru_base::{Id, Result};
use naru_runtime::cgroup::systemd::{self, Scope};
use naru_runtime::cgroup::{Cgroup, Hierarchies, Support};
use naru_runtime::defaults;
use naru_runtime::plan::CgroupPlan;
use serde::{Deserialize, Serialize};

/// The slice of containers that don't say, as docker has it.
const DEFAULT_SLICE: &str = "system.slice";

/// Who makes the groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The engine, by the file system.
    #[default]
    Cgroupfs,
    /// systemd, as scopes.
    Systemd,
}

impl CgroupDriver {
    /// docker's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// The driver of an engine with this configuration: without a setting systemd where it is the init and cgroup v2 is alone, as in dockerd.
    ///
    /// # Errors
    /// systemd was asked for and can't be had, or `cgroup_parent` is no slice.
    pub(crate) fn choose(config: &EngineConfig) -> Result<Self> {
        let can = || Hierarchies::host().and_then(systemd::check_host);
        let driver = match config.cgroup_driver {
            Some(Self::Systemd) => can().map(|()| Self::Systemd)?,
            Some(Self::Cgroupfs) => Self::Cgroupfs,
            None if can().is_ok() => Self::Systemd,
            None => Self::Cgroupfs,
        };
        if let (Self::Systemd, Some(parent)) = (driver, &config.cgroup_parent) {
            systemd::check_slice(parent)?;
        }
        Ok(driver)
    }
}

/// Where a container's group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Below the root of each hierarchy.
    pub path: String,
    /// The scope, if systemd has made it.
    #[serde(default)]
    pub scope: Option<Scope>,
}

impl Place {
    fn open(&self, hierarchies: &Hierarchies) -> Result<Cgroup> {
        Ok(Cgroup::open(hierarchies, &self.path)?.in_scope(self.scope.as_ref()))
    }
}

impl EngineConfig {
    /// The cgroup of all containers of this engine that don't say, without a driver's help.
    fn cgroup_parent(&self) -> String {
        self.cgroup_parent.clone().unwrap_or_else(|| self.instance().cgroup())
    }

    fn slice(&self) -> &str {
        self.cgroup_parent.as_deref().unwrap_or(DEFAULT_SLICE)
    }

    /// The scope of a container, in `slice`.
    fn scope(&self, slice: &str, id: &Id) -> Result<Scope> {
        Scope::new(slice, &format!("{}-{id}", self.instance().cgroup()))
    }
}

impl Engine {
    /// # Errors
    /// `parent` is none that this engine's driver can have, in dockerd's words.
    pub(crate) fn check_cgroup_parent(&self, parent: &str) -> Result<()> {
        match self.cgroup_driver {
            CgroupDriver::Systemd if !parent.is_empty() => systemd::check_slice(parent),
            _ => Ok(()),
        }
    }

    /// Where the group of the container's next run is to be.
    fn next_place(&self, record: &Record) -> Result<Place> {
        let own = record.host.cgroup_parent.as_str();
        if self.cgroup_driver == CgroupDriver::Systemd {
            let scope = self.config.scope(if own.is_empty() { self.config.slice() } else { own }, &record.id)?;
            return Ok(Place { path: scope.path(), scope: Some(scope) });
        }
        let parent = match own {
            "" => self.config.cgroup_parent(),
            own => own.trim_matches('/').to_owned(),
        };
        Ok(Place { path: format!("/{parent}/{}", record.id), scope: None })
    }

    /// The group of its next run, with its limits and rules for devices.
    pub(crate) fn cgroup_plan(&self, record: &Record) -> Result<CgroupPlan> {
        let host = &record.host;
        let mut resources = host.resources.clone();
        resources.devices =
            if host.privileged { defaults::privileged_device_rules() } else { defaults::default_device_rules() };
        resources.devices.extend(host.device_rules.iter().cloned());
        let Place { path, scope } = self.next_place(record)?;
        Ok(CgroupPlan { path, resources, scope })
    }

    /// The container's group: of its run now, or of its last one. The engine may have other settings since.
    pub(crate) fn cgroup(&self, container: &Container) -> Result<Cgroup> {
        let place = container.read(|r| r.state.cgroup.clone().map_or_else(|| self.next_place(r), Ok))?;
        place.open(Hierarchies::host()?)
    }

    /// Which limits groups of containers can have.
    pub(crate) fn probe_limits(&self) -> Support {
        let probe = |all| match self.cgroup_driver {
            CgroupDriver::Cgroupfs => Support::probe(all, &self.config.cgroup_parent()),
            CgroupDriver::Systemd => Support::of_host(all),
        };
        Hierarchies::host().map(probe).unwrap_or_default()
    }

    /// Groups of no container that runs: monitors that died together with an engine have left them. What is in them ends.
    pub(crate) fn end_strays(&self) {
        let Ok(hierarchies) = Hierarchies::host() else { return };
        for (id, place) in self.find_groups(hierarchies) {
            let lives = self.containers.by_id(&id).is_some_and(|c| c.read(|r| r.state.has_process()));
            if lives {
                continue;
            }
            let ended = place.open(hierarchies).and_then(|group| group.kill_all().and_then(|()| group.remove()));
            if let Err(error) = ended {
                tracing::warn!(container = id.short(), "what was left of it can't be ended: {error}");
            }
        }
        // Below a parent of a user's choice there may be groups of anybody: only those of known containers are looked for.
        for container in self.containers.all() {
            if container.read(|r| !r.host.cgroup_parent.is_empty() && !r.state.has_process()) {
                self.kill_remains(&container);
            }
        }
    }

    /// The group of all containers goes with the engine, unless containers go on. Nothing waits for it.
    pub(crate) fn remove_parent_group(&self) {
        if self.config.cgroup_parent.is_none()
            && let Ok(group) = Hierarchies::host().and_then(|all| Cgroup::open(all, &self.config.cgroup_parent()))
        {
            group.remove_if_empty();
        }
    }

    /// Groups where those of this engine's containers are that don't say, by either driver: the engine may have had the other one before.
    fn find_groups(&self, hierarchies: &Hierarchies) -> Vec<(Id, Place)> {
        let mut found = Vec::new();
        let names = |path: &str| {
            let mut names = std::collections::BTreeSet::new();
            for (_, folder) in Cgroup::open(hierarchies, path).iter().flat_map(Cgroup::dirs) {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                names.extend(entries.filter_map(|e| e.file_name().into_string().ok()));
            }
            names
        };
        let parent = self.config.cgroup_parent();
        for id in names(&parent).iter().filter_map(|name| Id::parse(name).ok()) {
            let path = format!("/{parent}/{id}");
            found.push((id, Place { path, scope: None }));
        }
        if systemd::check_host(hierarchies).is_err() {
            return found;
        }
        let prefix = format!("{}-", self.config.instance().cgroup());
        let id = |name: &str| Id::parse(name.strip_prefix(&prefix)?.strip_suffix(".scope")?).ok();
        let scope = |id: Id| self.config.scope(self.config.slice(), &id).ok().map(|scope| (id, scope));
        let Ok(slice) = Scope::new(self.config.slice(), "x").map(|scope| scope.parent()) else { return found };
        for (id, scope) in names(&slice).iter().filter_map(|name| scope(id(name)?)) {
            found.push((id, Place { path: scope.path(), scope: Some(scope) }));
        }
        found
    }
}
