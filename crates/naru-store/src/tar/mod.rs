//! Tar archives: a strict reader that is pushed bytes, and a writer of PAX archives.

mod error;
mod reader;
mod writer;

pub use error::{Error, Result};
pub use reader::{Entry, Kind, Limits, Reader, Sink, Time};
pub use writer::{Header, Writer};
