//! The only crate with `unsafe` code: system calls that rustix lacks, on owned and borrowed descriptors.
//!
//! Nothing here knows containers. Functions marked "after clone" neither allocate nor lock, so that a child made by
//! [`clone3`](clone::clone3) may call them between its birth and `execve`.
#![allow(unsafe_code, reason = "this crate is where the workspace keeps its unsafe code")]

pub mod bpf;
mod call;
pub mod clone;
pub mod credentials;
pub mod datagram;
pub mod execve;
pub mod fault;
pub mod fds;
pub mod interface;
pub mod keyring;
pub mod memory;
pub mod mount_attr;
pub mod namespace;
pub mod pidfd;
pub mod process;
pub mod quota;
pub mod scheduling;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod sockopt;
