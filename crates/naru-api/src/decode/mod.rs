//! From docker's JSON to the engine's own types, checked with docker's texts.

pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod devices;
pub(crate) mod endpoint;
pub(crate) mod host;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod namespaces;
pub(crate) mod ports;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod tolerant;
