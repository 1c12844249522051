//! The runtime: namespaces, cgroups v1 and v2, mounts, seccomp, capabilities. It makes what a [`plan::Plan`] says.
//!
//! Two entries: [`prepare`] and then [`Prepared::start`] for a container, [`exec`] for a further process in one. Everything
//! that can be decided or allocated is, before the child exists; the child makes system calls on prepared data and reports
//! a failure as numbers (`report`). The caller is single-threaded; this crate makes no threads and prints nothing.

pub mod capabilities;
pub mod cgroup;
pub mod defaults;
mod error;
mod exec;
pub mod plan;
pub mod seccomp;
mod start;

pub use error::StartError;
pub use exec::{ExecTarget, exec};
pub use start::{Prepared, Started, Stdio, prepare};
