//! Ids, names, references, digests, sizes, signals and the error class: what every layer speaks, without IO.
//!
//! Invariants: nothing here opens a file, a socket or a clock (random bytes for ids excepted), and nothing here knows what
//! a container is made of. Every parser takes hostile input and returns an [`Error`] that names it.

pub mod capability;
pub mod digest;
pub mod duration;
pub mod error;
pub mod human;
pub mod id;
pub mod name;
pub mod platform;
pub mod reference;
pub mod signal;
pub mod size;
pub mod ulimit;

pub use digest::Digest;
pub use error::{Class, Error, Result};
pub use id::Id;
pub use platform::Platform;
pub use reference::Reference;
