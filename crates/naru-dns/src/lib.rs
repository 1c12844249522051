//! The name server that containers on user-defined networks have at 127.0.0.11.
//!
//! It knows the names of the containers on the networks that its own container is on, and forwards every other question. It runs in
//! the container's monitor, as one more thing in its poll loop: no thread, no async runtime, and it goes on without an engine.
//!
//! - [`message`] reads questions and writes answers (RFC 1035, 6891). What arrives is hostile: from containers, and from servers.
//! - [`names`] is the file of one network's names. An engine writes it; a server reads it for each question, so that a change is
//!   seen by the next one, and there is nothing to be told or remembered.
//! - [`zone`] answers out of such files.
//! - [`server`] is the sockets: questions in, answers out, and what is forwarded in between.
//!
//! Knows no container, engine or monitor.

pub mod message;
pub mod names;
mod pending;
mod server;
mod stream;
mod zone;

pub use server::{ADDRESS, Server, Sockets, Source};
pub use zone::{Link, Resolver, Upstream};
