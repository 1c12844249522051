//! Directory-descriptor IO: resolve inside a root, durable writes, safe removal.
//!
//! Invariants: a path that comes from a container, an image or a request is resolved by the kernel below a directory
//! descriptor ([`Root`]) and never joined to a host path as text; state is written by [`durable`] and by nothing else;
//! removal ([`remove_tree`]) never follows a link and never crosses a mount. Nothing here knows what a container is.

pub mod copy;
pub mod durable;
mod error;
mod records;
mod remove;
mod root;
mod spread;
#[cfg(test)]
mod testing;
pub mod xattr;

pub use durable::Durability;
pub use error::{Error, Result};
pub use records::Records;
pub use remove::{remove_contents, remove_tree};
pub use root::{Root, open_beneath, open_retry};
pub use spread::spread_folders;
