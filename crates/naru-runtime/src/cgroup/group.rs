//! One container's group in every tree: made, opened, joined, limited.

use super::hierarchy::{Controller, Hierarchies, Hierarchy};
use super::limits::{self, Current, Setting};
use super::systemd::{KernelLog, Manager, Placeholder, Scope, check_host};
use super::{devices, file, path};
use crate::plan::{CgroupPlan, Resources};
use naru_base::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, mkdir, open};
use rustix::io::Errno;
use rustix::process::Pid;
use std::path::{Path, PathBuf};

/// How many processes of ours may be in a group at the side of its first one, for a moment.
const HELPERS: i64 = 2;

/// One group, in every tree of the host.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) groups: Vec<Group>,
    warnings: Vec<String>,
    /// The scope that the group is of, if systemd has made it.
    pub(super) scope: Option<String>,
    /// What is in it before the first process.
    pub(super) placeholder: Option<Placeholder>,
    /// Where kills are found when systemd has removed the group already.
    pub(super) kernel_log: Option<KernelLog>,
    /// The first process, once it is there.
    pub(super) first: Option<i32>,
    /// The limit of processes, for when helpers are none of them any more.
    pids_limit: Option<i64>,
}

/// The group's folder in one tree.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) hierarchy: Hierarchy,
    pub(super) dir: PathBuf,
}

impl Cgroup {
    /// Makes the group of `plan` in every tree, with what is missing above it, and sets its limits and device rules. A group that is
    /// there already is taken.
    ///
    /// # Errors
    /// An impossible path, or a value that the kernel refuses; what was made is removed again. What this kernel has no file for is
    /// one of the [warnings](Cgroup::take_warnings).
    pub fn create(hierarchies: &Hierarchies, plan: &CgroupPlan) -> Result<Self> {
        let mut cgroup = match &plan.scope {
            Some(scope) => Self::start_scope(hierarchies, scope, &plan.resources)?,
            None => Self::ensure(hierarchies, &plan.path)?,
        };
        if let Err(error) = cgroup.limit(&plan.resources) {
            // The reason counts, not how the removal went.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Has systemd make the group, with a [`Placeholder`] in it.
    fn start_scope(hierarchies: &Hierarchies, scope: &Scope, resources: &Resources) -> Result<Self> {
        check_host(hierarchies)?;
        let mut cgroup = Self::open(hierarchies, &scope.path())?;
        // What is in a scope of this name would be ended with it.
        if !cgroup.pids()?.is_empty() {
            return Err(Error::conflict(format!("there is a scope {} already, with processes in it", scope.name)));
        }
        let placeholder = Placeholder::new()?;
        naru_sys::fault::point();
        Manager::connect()?.start(scope, &placeholder, resources)?;
        cgroup.scope = Some(scope.name.clone());
        cgroup.placeholder = Some(placeholder);
        cgroup.kernel_log = KernelLog::from_now();
        naru_sys::fault::point();
        if let Some(group) = cgroup.groups.iter().find(|group| !group.dir.is_dir()) {
            let text = format!("systemd has made the scope {}, but not at {}", scope.name, group.dir.display());
            let _ = cgroup.remove();
            return Err(Error::system(text));
        }
        Ok(cgroup)
    }

    /// Says that the group is of `scope`, if it is of one: of one that [`Cgroup::open`] has opened.
    #[must_use]
    pub fn in_scope(mut self, scope: Option<&Scope>) -> Self {
        self.scope = scope.map(|scope| scope.name.clone());
        self
    }

    /// The first process is in the group: what kept its place goes.
    pub fn first_process_is_there(&mut self, pid: i32) {
        self.first = Some(pid);
        self.placeholder = None;
    }

    /// What the first process has to write, and where, for the limit of processes to hold; `None` where it holds already. Until then there is
    /// room for helpers.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn process_limit(&self) -> Result<Option<(OwnedFd, Vec<u8>)>> {
        let (Some(limit), Some(group)) = (self.pids_limit, self.of(Controller::Pids)) else { return Ok(None) };
        let file = open_file(&group.dir.join("pids.max"), OFlags::WRONLY)?;
        Ok(Some((file, limit.to_string().into_bytes())))
    }

    /// Makes the group at `path` in every tree, without limits: a parent of containers' groups.
    ///
    /// # Errors
    /// An impossible path, or mkdir(2)'s; what was made is removed again.
    pub fn ensure(hierarchies: &Hierarchies, path: &str) -> Result<Self> {
        let mut cgroup = Self::of_groups(Vec::with_capacity(hierarchies.iter().len()));
        let relative = path::relative(path)?;
        for hierarchy in hierarchies.iter() {
            let group = Group { hierarchy: hierarchy.clone(), dir: hierarchy.base.join(&relative) };
            if let Err(error) = cgroup.make(&group) {
                let _ = cgroup.remove();
                return Err(error);
            }
            cgroup.groups.push(group);
        }
        Ok(cgroup)
    }

    /// The group at `path`, which someone has made.
    ///
    /// # Errors
    /// An impossible path.
    pub fn open(hierarchies: &Hierarchies, path: &str) -> Result<Self> {
        let relative = path::relative(path)?;
        let group = |hierarchy: &Hierarchy| Group { hierarchy: hierarchy.clone(), dir: hierarchy.base.join(&relative) };
        Ok(Self::of_groups(hierarchies.iter().map(group).collect()))
    }

    fn of_groups(groups: Vec<Group>) -> Self {
        Self {
            groups,
            warnings: Vec::new(),
            scope: None,
            placeholder: None,
            kernel_log: None,
            first: None,
            pids_limit: None,
        }
    }

    /// What could not be had as asked for, one sentence each, since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The `tasks` file of each v1 tree, for writing: a child of one thread joins by writing `0` into each. Empty on v2.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn join_fds(&self) -> Result<Vec<OwnedFd>> {
        let v1 = self.groups.iter().filter(|g| !g.hierarchy.unified);
        v1.map(|group| open_file(&group.dir.join("tasks"), OFlags::WRONLY)).collect()
    }

    /// The folder in the v2 tree, if there is one, for [`clone3`](naru_sys::clone::clone3) to put the child into.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn v2_dir(&self) -> Result<Option<OwnedFd>> {
        self.unified().map(|group| open_file(&group.dir, OFlags::PATH | OFlags::DIRECTORY)).transpose()
    }

    /// As [`Cgroup::v2_dir`], of the group within this one that the process `pid` is in.
    ///
    /// # Errors
    /// It is in none, or open(2)'s.
    pub fn v2_dir_of(&self, pid: Pid) -> Result<OwnedFd> {
        let text = file::read(Path::new(&format!("/proc/{}/cgroup", pid.as_raw_nonzero())))?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let within = |group: &&Group| group.hierarchy.mount.join(own).starts_with(&group.dir);
        let group =
            self.unified().filter(within).ok_or_else(|| Error::conflict("the container has left its cgroup"))?;
        open_file(&group.hierarchy.mount.join(own), OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The group's folder in each tree.
    pub fn dirs(&self) -> impl ExactSizeIterator<Item = (&Hierarchy, &Path)> {
        self.groups.iter().map(|group| (&group.hierarchy, group.dir.as_path()))
    }

    /// Changes the limits that `resources` has; device rules are left as they are.
    ///
    /// # Errors
    /// A value that the kernel (or systemd) refuses; limits before it in the table have been changed then.
    pub fn update(&mut self, resources: &Resources) -> Result<()> {
        if let Some(scope) = &self.scope {
            Manager::connect()?.set(scope, resources)?;
        }
        self.apply_limits(resources, true)
    }

    fn limit(&mut self, resources: &Resources) -> Result<()> {
        devices::apply(self, &resources.devices)?;
        self.apply_limits(resources, false)?;
        self.make_room_for_helpers(resources.pids_limit);
        Ok(())
    }

    /// The placeholder counts as well, and so does who makes the first process in its user namespace.
    fn make_room_for_helpers(&mut self, limit: Option<i64>) {
        let Some(limit @ 1..) = limit.filter(|limit| *limit <= HELPERS || self.placeholder.is_some()) else { return };
        let raised = limit.saturating_add(HELPERS).to_string();
        // Where there is no such file there is no limit: that has been said.
        if let Some(group) = self.of(Controller::Pids)
            && file::write_raw(&group.dir.join("pids.max"), &raised).is_ok()
        {
            self.pids_limit = Some(limit);
        }
    }

    fn apply_limits(&mut self, resources: &Resources, existing: bool) -> Result<()> {
        let mut current = Current::default();
        if existing && let Some(group) = self.of(Controller::Memory).filter(|g| !g.hierarchy.unified) {
            current.memory = file::number(&file::read(&group.dir.join("memory.limit_in_bytes"))?);
        }
        let v1 = limits::v1(resources, current).into_iter().map(|setting| (false, setting));
        let v2 = limits::v2(resources).into_iter().map(|setting| (true, setting));
        // Some values are refused only as long as another one isn't written (a period before its quota).
        let mut refused = Vec::new();
        for (unified, setting) in v1.chain(v2) {
            if self.of(setting.controller).is_some_and(|g| g.hierarchy.unified) == unified {
                match self.set(&setting)? {
                    Outcome::Done => {}
                    Outcome::Invalid(path, value) => refused.push((path, value)),
                }
            }
        }
        refused.iter().try_for_each(|(path, value)| file::write(path, value))
    }

    /// Writes one value; without a file for it, warns.
    fn set(&mut self, setting: &Setting) -> Result<Outcome> {
        let choices = setting.files.iter().map(|name| (*name, setting.value.as_str()));
        let otherwise = setting.otherwise.iter().map(|(name, value)| (*name, value.as_str()));
        let dir = self.of(setting.controller).map(|group| group.dir.as_path());
        for (name, value) in choices.chain(otherwise) {
            let Some(path) = dir.map(|dir| dir.join(name)) else { break };
            match file::write_raw(&path, value) {
                Ok(()) => return Ok(Outcome::Done),
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(Errno::INVAL) => return Ok(Outcome::Invalid(path, value.to_owned())),
                Err(error) => return Err(file::write_error(&path, value, error)),
            }
        }
        self.warn(setting.unsupported.to_owned());
        Ok(Outcome::Done)
    }

    pub(super) fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// The group where `controller` is.
    pub(super) fn of(&self, controller: Controller) -> Option<&Group> {
        let v1 = self.groups.iter().find(|g| !g.hierarchy.unified && g.hierarchy.has(controller));
        v1.or_else(|| self.groups.iter().find(|g| g.hierarchy.unified && g.hierarchy.has(controller)))
    }

    /// The v2 group.
    pub(super) fn unified(&self) -> Option<&Group> {
        self.groups.iter().find(|g| g.hierarchy.unified)
    }

    /// Makes one group and what is missing above it.
    fn make(&mut self, group: &Group) -> Result<()> {
        let hierarchy = &group.hierarchy;
        if hierarchy.delegated().next().is_some() {
            self.delegate(group)?;
        }
        match mkdir(&group.dir, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(Errno::NOENT) => make_with_parents(&group.dir, &hierarchy.base)?,
            Err(error) => return Err(mkdir_error(&group.dir, error)),
        }
        if hierarchy.has(Controller::Cpuset) && !hierarchy.unified {
            fill_cpuset(&group.dir, &hierarchy.base)?;
        }
        Ok(())
    }

    /// v2: switches our controllers on for the children of every group between the base and `group`.
    fn delegate(&mut self, group: &Group) -> Result<()> {
        let base = &group.hierarchy.base;
        let mut above: Vec<&Path> = group.dir.ancestors().skip(1).take_while(|dir| dir.starts_with(base)).collect();
        above.reverse();
        for dir in above {
            if dir != base {
                make_one(dir)?;
            }
            let control = dir.join("cgroup.subtree_control");
            let on = file::read(&control)?;
            for name in group.hierarchy.delegated().filter(|name| !on.split_whitespace().any(|o| o == *name)) {
                // Refused where processes live (EBUSY) or where the parent doesn't have it: its limits then warn by themselves.
                if let Err(error) = file::write_raw(&control, &format!("+{name}")) {
                    self.warn(format!("{}", naru_fs::Error::new("switch controller on in", &control, error)));
                }
            }
        }
        Ok(())
    }
}

enum Outcome {
    Done,
    Invalid(PathBuf, String),
}

fn open_file(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| naru_fs::Error::new("open", path, e).into())
}

fn mkdir_error(path: &Path, error: Errno) -> Error {
    naru_fs::Error::new("make cgroup", path, error).into()
}

fn make_one(dir: &Path) -> Result<()> {
    match mkdir(dir, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(mkdir_error(dir, error)),
    }
}

fn make_with_parents(dir: &Path, base: &Path) -> Result<()> {
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|a| *a != base).collect();
    missing.reverse();
    missing.into_iter().try_for_each(make_one)
}

/// v1: a group takes no process until it has processors and memory nodes (`ENOSPC`), and a new one has none.
fn fill_cpuset(dir: &Path, base: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        fill_cpuset_file(dir, base, name)?;
    }
    Ok(())
}

fn fill_cpuset_file(dir: &Path, base: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    let own = file::read(&path)?.trim().to_owned();
    let Some(parent) = dir.parent().filter(|_| own.is_empty() && dir != base) else { return Ok(own) };
    let inherited = fill_cpuset_file(parent, base, name)?;
    if !inherited.is_empty() {
        file::write(&path, &inherited)?;
    }
    Ok(inherited)
}
