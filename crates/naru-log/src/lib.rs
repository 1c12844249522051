//! Log drivers: how a container's output is kept in files, and read again.
//!
//! A monitor writes with [`Log`], an engine reads with [`Reader`], and neither needs the other: a reader finds its way over files that
//! are rotated, compressed or cut off while it reads. A [`Driver`] is a form of records; what files are and when they are rotated is the
//! same for all of them. The suite in `suite.rs` is what each driver passes.

mod driver;
mod entry;
mod files;
mod json_file;
mod json_text;
mod last;
mod lines;
mod local;
mod options;
mod reader;
mod ring;
#[cfg(test)]
mod suite;
pub mod timestamp;
mod writer;

pub use driver::{DRIVERS, Driver, Step, find, names};
pub use entry::{Entry, Partial, Stream};
pub use last::last_entry;
pub use lines::LINE_LIMIT;
pub use options::{Choice, LogConfig, parse};
pub use reader::{Position, Reader};
pub use writer::{Log, Lost};
