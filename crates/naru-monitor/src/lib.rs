//! The supervisor of one container (the monitor) and the spawner that starts supervisors.

pub mod protocol;
pub mod wire;
