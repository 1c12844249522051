//! The runtime: namespaces, cgroups v1 and v2, mounts, seccomp, capabilities. It makes what a [`plan::Plan`] says.
//!
//! Two entries: [`prepare`] and then [`Prepared::start`] for a container, [`exec`] for a further process in one. Everything
//! that can be decided or allocated is, before the child exists; the child makes system calls on prepared data and reports
//! a failure as numbers (`report`). The caller is single-threaded; this crate makes no threads and prints nothing.

pub mod capabilities;
pub mod cgroup;
mod cgroup_view;
mod child;
mod console;
mod copy_up;
mod credentials;
pub mod defaults;
mod describe;
mod devices;
mod error;
mod exec;
mod gate;
mod hidden_paths;
mod hooks;
mod identity;
mod idmap;
mod init;
mod inside;
mod lent;
mod listener;
mod mount_maps;
mod mount_spaces;
mod mounts;
mod namespaces;
mod options;
mod overlay;
pub mod own_binary;
pub mod plan;
mod private_table;
mod process;
mod program;
mod report;
mod rlimits;
pub mod seccomp;
mod start;
mod steps;
mod sysctls;

pub use error::StartError;
pub use exec::{ExecTarget, exec, exec_with};
pub use gate::open_gate;
pub use hooks::{Hook, Hooks, StateText, run_hooks};
pub use idmap::{AsContainerRoot, UserSpace, can_map_ids, ids_of_namespace};
pub use listener::ListenerReceiver;
pub use mount_spaces::{MountSpaces, MountTemplates};
pub use options::{MountMap, ProcessOptions, StartOptions};
pub use overlay::{mount_image, mount_root, try_mapped_root};
pub use rlimits::open_more_files;
pub use start::{Prepared, Started, Stdio, prepare, prepare_with, start_time_of};
