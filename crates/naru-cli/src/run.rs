//! The options of `run` and `create`: their value forms and the one request body that they become.

pub mod body;
pub mod check;
pub mod devices;
pub mod environment;
pub mod mounts;
pub mod networks;
pub mod ports;
pub mod security;

pub use body::{Create, build};
