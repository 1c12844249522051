//! The supervisor of one container and the spawner that starts supervisors.
