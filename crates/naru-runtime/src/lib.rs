//! The runtime: namespaces, cgroups v1 and v2, mounts, seccomp, capabilities. It makes what a [`plan::Plan`] says.

pub mod plan;
