//! What commands there are.

pub mod container;
pub mod create_flags;
pub mod image;
pub mod manifest;
pub mod network;
pub mod system;
pub mod volume;

use crate::spec::Command;

/// Every family's commands.
pub static ALL: &[&[Command]] =
    &[container::COMMANDS, image::COMMANDS, manifest::COMMANDS, network::COMMANDS, system::COMMANDS, volume::COMMANDS];
