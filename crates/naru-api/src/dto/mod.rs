//! docker's JSON, as our own types: what dockerd prints explicitly (`null`, `""`, `[]`, `{}`) is printed here too.

pub(crate) mod auth;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod container_list;
pub(crate) mod disk_usage;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod host_config;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod version;
pub(crate) mod volume;

#[cfg(test)]
mod golden;
