//! Which subnet a network gets, and which address a container.

mod candidates;
mod leases;

pub use candidates::{InUse, choose, default_pools, unique_local};
pub use leases::{Block, Leases};
