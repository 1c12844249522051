//! The sockets of ports that a monitor serves, as they come, and where each of them leads.

use crate::protocol::{ForwardTo, ServedPorts};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;

/// Descriptors of one message: `SCM_MAX_FD` in the kernel.
const TOGETHER: usize = 253;

/// Where each port leads, by its place.
#[derive(Debug, Default)]
pub(crate) struct Targets(Vec<ServedPorts>);

impl Targets {
    pub(crate) fn new(ranges: Vec<ServedPorts>) -> Self {
        Self(ranges)
    }

    /// How many ports there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|range| usize::from(range.count)).sum()
    }

    /// Where the port at this place leads.
    pub(crate) fn get(&self, place: usize) -> Option<ForwardTo> {
        let mut before = place;
        for range in &self.0 {
            match u16::try_from(before) {
                Ok(behind) if behind < range.count => {
                    let mut address = range.first;
                    address.set_port(address.port().checked_add(behind)?);
                    return Some(ForwardTo { transport: range.transport, address });
                }
                _ => before -= usize::from(range.count),
            }
        }
        None
    }
}

impl From<Vec<ForwardTo>> for Targets {
    fn from(all: Vec<ForwardTo>) -> Self {
        Self(ServedPorts::of(all))
    }
}

/// Takes `count` sockets out of the queue of a unix socket.
///
/// # Errors
/// As recvmsg(2); `EBADMSG` when there are not so many, or this process may not open them.
pub(crate) fn take_sockets(queue: &OwnedFd, count: usize) -> Result<Vec<OwnedFd>, Errno> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TOGETHER))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let had = sockets.len();
        match rustix::net::recvmsg(queue, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Err(Errno::BADMSG),
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = part {
                sockets.extend(more);
            }
        }
        if sockets.len() == had {
            return Err(Errno::BADMSG);
        }
    }
    if sockets.len() == count { Ok(sockets) } else { Err(Errno::BADMSG) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Transport;

    fn to(transport: Transport, port: u16) -> ForwardTo {
        ForwardTo { transport, address: ([172, 17, 0, 2], port).into() }
    }

    #[test]
    fn a_range_of_ports_is_one_entry() {
        let mut all: Vec<ForwardTo> = (7000..8000).map(|port| to(Transport::Tcp, port)).collect();
        assert_eq!(ServedPorts::of(all.clone()).len(), 1);
        all.extend([to(Transport::Udp, 8000), to(Transport::Udp, 8000), to(Transport::Udp, u16::MAX)]);
        let ranges = ServedPorts::of(all.clone());
        assert_eq!(ranges.iter().map(|r| r.count).collect::<Vec<_>>(), [1000, 1, 1, 1]);
        let targets = Targets::new(ranges);
        assert_eq!(targets.count(), all.len());
        for (place, expected) in all.iter().enumerate() {
            assert_eq!(targets.get(place), Some(*expected));
        }
        assert_eq!(targets.get(all.len()), None);
        assert_eq!(Targets::default().get(0), None);
    }
}
