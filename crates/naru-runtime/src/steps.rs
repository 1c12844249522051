//! The steps that a child goes through, by number; the tables say their order.

use crate::child::State;
use crate::report::Failure;

/// Steps in their order: each a small function on prepared data.
pub(crate) type Table<S> = &'static [(Step, fn(&S, &mut State<'_>) -> Result<(), Failure>)];

macro_rules! steps {
    ($($name:ident),+ $(,)?) => {
        /// A step, as it is named in reports and texts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Step { $($name),+ }

        const ALL: &[Step] = &[$(Step::$name),+];
    };
}

steps! {
    Hide, UserNamespace, Cgroup, OomScore, Join, CgroupNamespace, TimeNamespace, Loopback, Propagation, SystemMounts, Root, Mounts, Devices,
    DeviceLinks, Console, RuntimeHooks, ContainerHooks, Sysctls, MaskedPaths, ReadonlyPaths, WorkingFolder, ReadonlyRoot, Pivot, RootPropagation, HostName,
    Enter, OpenDirectory,
    Session, Keyring, Stdio, Limits, Scheduling, WorkingDirectory, Label, Bounding, Ids, WorkingDirectoryAsUser, CloseOnExec, Signals,
    ParentDeath, FindProgram, Gate,
    NoNewPrivileges, Filter, Capabilities, StartHooks, Program,
}

impl Step {
    /// The step of a number that came over the pipe.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{child, exec, process};

    fn names<S>(table: Table<S>) -> Vec<Step> {
        table.iter().map(|(step, _)| *step).collect()
    }

    #[test]
    fn numbers_come_back() {
        for step in ALL {
            assert_eq!(Step::from_number(*step as u8), Some(*step));
        }
        assert_eq!(Step::from_number(ALL.len() as u8), None);
    }

    /// The orders that security or the kernel depend on. A change here is a decision, not a detail.
    #[test]
    fn order_is_pinned() {
        use Step::*;
        assert_eq!(
            names(child::STEPS),
            [
                Hide,
                UserNamespace,
                Cgroup,
                OomScore,
                Join,
                CgroupNamespace,
                TimeNamespace,
                Loopback,
                Propagation,
                SystemMounts,
                Root,
                Mounts,
                Devices,
                DeviceLinks,
                Console,
                RuntimeHooks,
                ContainerHooks,
                Sysctls,
                MaskedPaths,
                ReadonlyPaths,
                WorkingFolder,
                ReadonlyRoot,
                Pivot,
                RootPropagation,
                HostName,
            ]
        );
        assert_eq!(
            names(child::OUTSIDE_STEPS),
            [Hide, Cgroup, OomScore, Limits, WorkingFolder, Propagation, UserNamespace, SystemMounts]
        );
        assert_eq!(names(exec::STEPS), [Hide, Cgroup, OomScore, Limits, Enter, OpenDirectory]);
        assert_eq!(
            names(process::STEPS),
            [
                Session,
                Keyring,
                Stdio,
                Limits,
                Scheduling,
                WorkingDirectory,
                Label,
                Bounding,
                Ids,
                WorkingDirectoryAsUser,
                CloseOnExec,
                Signals,
                ParentDeath,
                FindProgram,
                Gate,
            ]
        );
        assert_eq!(names(process::LAST_STEPS), [NoNewPrivileges, Filter, Capabilities, StartHooks, Program]);
    }
}
