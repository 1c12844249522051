//! System call filters: from docker's JSON profiles to classic BPF.
//!
//! ```text
//! JSON ─ profile ─▶ rules that hold for these capabilities and this kernel ─ rules ─▶ per architecture: number → what to do
//!      ─ tree ─▶ ranges of equal numbers, a balanced tree of comparisons ─ compile ─▶ one program, a block per architecture
//! ```
//! The kernel tries a new filter on every system call number, so the depth of the tree is what loading costs: 0.1 ms instead of
//! 0.7 ms for a list.

mod arch;
mod bpf;
mod compile;
mod kernel_version;
mod profile;
mod rules;
mod tree;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod linear;
#[cfg(test)]
mod oracle_tests;

pub use compile::{compile, instructions};
pub use kernel_version::KernelVersion;
pub use profile::Profile;
