//! A small blocking client of the Engine API.
//!
//! One process runs one command, so there is no async runtime here: a request is written, an answer is read, and the
//! connection is kept for the next request. What streams (logs, builds, attach) is a [`std::io::Read`] or, after an upgrade,
//! the raw socket. The version in the path is a guess until the engine refuses it: only then is it lowered and the request
//! repeated, so that talking to an engine of our own age costs no extra round trip.
//!
//! This crate prints nothing and knows no command.

mod api;
mod body;
mod client;
mod endpoint;
mod error;
mod http;
mod query;

pub use api::Version;
pub use body::BodyReader;
pub use client::{Client, ClientSpec, Hijacked, Response};
pub use endpoint::{Endpoint, Stream};
pub use error::{Error, Result};
pub use http::{Body, Method, Request};
pub use query::{Query, escape_path};

/// The newest API version that this client speaks.
pub const API_VERSION: &str = "1.50";
