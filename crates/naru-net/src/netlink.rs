//! Netlink: messages, attributes and a blocking socket that sends several requests at once (netlink(7)).

mod decode;
mod encode;
mod socket;

pub use decode::{Attributes, Frame, Frames, attribute, read_u16, read_u32, text};
pub use encode::{Attrs, Batch};
pub use socket::Socket;

/// The request has an answer of several messages (dump).
pub const DUMP: u16 = 0x300;
/// Answer with an acknowledgement.
pub const ACK: u16 = 0x4;
/// Make the object.
pub const CREATE: u16 = 0x400;
/// Fail when the object exists.
pub const EXCL: u16 = 0x200;
/// Replace the object.
pub const REPLACE: u16 = 0x100;
/// Add behind what is there.
pub const APPEND: u16 = 0x800;
