//! Test support for the black-box suite: no shipped code.
//!
//! Everything a test touches is its own. A [`World`] is a private set of mount, network, pid and cgroup namespaces with
//! a folder of its own; an [`Engine`] is an engine that runs in one, be it Naru or Debian's dockerd ([`Target`]); a
//! [`Client`] is a command line that speaks to it, also under a pseudo-terminal ([`Pty`]); [`http`] speaks to its socket
//! byte by byte; [`image`] makes images without a network; [`Registry`] and [`Faults`] serve them on the engine's own
//! loopback.
//!
//! Waits are on levels with a deadline ([`eventually`]), never plain sleeps, and nothing asserts how long something took.

mod client;
mod engine;
mod faults;
pub mod http;
mod hub;
pub mod image;
pub mod invariants;
mod phases;
mod proxy;
mod pty;
mod registry;
mod server;
mod tar;
mod tokens;
mod wait;
mod world;

pub use client::{Client, Done, Running};
pub use engine::{Engine, EngineOptions, Target, naru_binary, shared};
pub use faults::{Fault, Faults};
pub use hub::HubSearch;
pub use phases::{Phase, Phases, Spoil};
pub use proxy::{Asked, Proxy};
pub use pty::Pty;
pub use registry::{Registry, Wants};
pub use tar::Tar;
pub use tokens::Tokens;
pub use wait::{PATIENCE, eventually, unique};
pub use world::World;
