//! A small D-Bus client (D-Bus Specification 0.43): values, messages, and a blocking connection with deadlines. No threads, no async
//! runtime, no code generation: who has one call to make to systemd needs no more.
//!
//! What is not here: serving calls, passing descriptors, other transports than unix sockets, other ways to prove who one is than the
//! kernel's word (`EXTERNAL`).

mod connection;
mod error;
mod message;
mod read;
mod signature;
mod value;
mod write;

pub use connection::{Call, Connection};
pub use error::{Error, Result};
pub use message::{Kind, MESSAGE_LIMIT, Message};
pub use value::Value;
