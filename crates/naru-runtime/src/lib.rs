//! The runtime: namespaces, cgroups v1 and v2, mounts, seccomp, capabilities; runs a plan.
