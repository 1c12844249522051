//! The supervisor of one container (the monitor) and the spawner that starts supervisors.
//!
//! A monitor is one process with one thread. It owns the streams of its container, writes the log, serves clients that an engine hands
//! over, runs further processes, and writes down how the container ended before it tells anyone. It outlives the engine: a later one
//! finds it by its socket. What engine, spawner and monitor say to each other is [`protocol`], on [`wire`].
//!
//! No async runtime, and nothing allocated before it is needed: a thousand monitors are to fit into memory. The only other threads are those
//! of a log (`naru-log`): one that compresses an older file, one that writes in the non-blocking mode.

mod client;
mod container;
mod detach;
mod exits;
mod forward;
mod health;
mod health_probe;
mod health_state;
mod hook_plan;
mod listener;
mod memory;
mod monitor;
mod peer;
pub mod protocol;
mod requests;
mod served;
mod session;
mod spawner;
mod streams;
pub mod wire;

pub use monitor::monitor_main;
pub use spawner::{Spawner, spawner_main, spawner_process, start_spawner};
