//! Network interfaces: bridges and veth pairs (linux/if_link.h).

use super::Rtnl;
use crate::netlink::{ACK, Attrs, Batch, CREATE, EXCL, REPLACE, attribute, read_u32, text};
use crate::{Error, Mac, Result};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(super) const INFO_KIND: u16 = 1;
pub(super) const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
pub(super) const VETH_INFO_PEER: u16 = 1;
const BR_FORWARD_DELAY: u16 = 1;
const BRPORT_ISOLATED: u16 = 33;
const AF_INET6: u16 = 10;
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
pub(super) const IFF_UP: u32 = 1;
const RTM_NEWNEIGH: u16 = 28;
const NDA_LLADDR: u16 = 2;
const AF_BRIDGE: u8 = 7;
/// A static entry: one that ages could only be added to a port that has a carrier.
const NUD_NOARP: u16 = 0x40;
const NTF_MASTER: u8 = 0x04;
/// What the requests behind the one that makes a veth pair do.
const ATTACH_VETH: &str = "attach veth";
/// `IFNAMSIZ` without the terminating zero byte.
const NAME_MAX: usize = 15;

/// A network interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// The bridge that it is a port of; 0 for none.
    pub master: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address, when it has one.
    pub mac: Option<Mac>,
    /// Free text on it.
    pub alias: String,
    /// Counters.
    pub stats: LinkStats,
}

/// Counters of an interface (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Received packets.
    pub rx_packets: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Good packets dropped on the way in.
    pub rx_dropped: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

/// How a bridge is made.
#[derive(Debug, Clone)]
pub struct BridgeOptions<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its own Ethernet address: without one it changes with its ports.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Free text for it, by which its owner knows it again.
    pub alias: &'a str,
    /// Give it no IPv6 link-local address. Only where the kernel has IPv6.
    pub no_ipv6_address: bool,
}

/// A veth pair: one end a port of a bridge here, the other in another network namespace.
#[derive(Debug, Clone)]
pub struct VethPair<'a> {
    /// Name of the end here.
    pub name: &'a str,
    /// The bridge that it becomes a port of.
    pub master: u32,
    /// The namespace of the other end.
    pub peer_netns: BorrowedFd<'a>,
    /// The other end's name.
    pub peer_name: &'a str,
    /// The other end's Ethernet address.
    pub peer_mac: Mac,
    /// MTU of both in bytes.
    pub mtu: u32,
    /// The port may not talk to other such ports of the bridge.
    pub isolated: bool,
    /// Give the end here no IPv6 link-local address. Only where the kernel has IPv6.
    pub no_ipv6_address: bool,
}

/// `struct ifinfomsg`.
pub(super) fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// Whether `name` can name an interface (`dev_valid_name` in net/core/dev.c).
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && !name.bytes().any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace() || b == 0x0b)
}

pub(super) fn no_ipv6_address(attributes: &mut Attrs<'_>) {
    attributes.nest(IFLA_AF_SPEC, |a| a.nest(AF_INET6, |a| a.u8(INET6_ADDR_GEN_MODE, ADDR_GEN_NONE)));
}

impl Rtnl {
    /// Makes a bridge without a forwarding delay, sets it up, and returns its number.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken.
    pub fn create_bridge(&mut self, options: &BridgeOptions<'_>) -> Result<u32> {
        let mut batch = Batch::new();
        batch.push("create bridge", RTM_NEWLINK, ACK | CREATE | EXCL, &header(0, 0, 0), |a| {
            a.text(IFLA_IFNAME, options.name);
            a.u32(IFLA_MTU, options.mtu);
            a.bytes(IFLA_ADDRESS, &options.mac.octets());
            a.nest(IFLA_LINKINFO, |a| {
                a.text(INFO_KIND, "bridge");
                a.nest(INFO_DATA, |a| a.u32(BR_FORWARD_DELAY, 0));
            });
        });
        batch.push("set up bridge", RTM_SETLINK, ACK, &header(0, IFF_UP, IFF_UP), |a| {
            a.text(IFLA_IFNAME, options.name);
            a.text(IFLA_IFALIAS, options.alias);
            if options.no_ipv6_address {
                no_ipv6_address(a);
            }
        });
        self.socket.send(batch).map_err(|e| e.about(options.name))?;
        self.link(options.name)?.map(|l| l.index).ok_or(Error::Malformed("a new bridge is not there"))
    }

    /// Makes a veth pair with one end, up, as a port of a bridge here and the other, down, in its namespace; the
    /// number of the end here.
    ///
    /// # Errors
    /// `EEXIST` when a name is taken on either side, `ENODEV` when the bridge is gone.
    pub fn create_veth(&mut self, pair: &VethPair<'_>) -> Result<u32> {
        let mut batch = Batch::new();
        batch.push("create veth", RTM_NEWLINK, ACK | CREATE | EXCL, &header(0, 0, 0), |a| {
            a.text(IFLA_IFNAME, pair.name);
            a.u32(IFLA_MTU, pair.mtu);
            // One queue: veth takes no lock to send, so more only cost their sysfs folders, one per possible CPU.
            a.u32(IFLA_NUM_TX_QUEUES, 1);
            a.u32(IFLA_NUM_RX_QUEUES, 1);
            a.nest(IFLA_LINKINFO, |a| {
                a.text(INFO_KIND, "veth");
                a.nest(INFO_DATA, |a| a.nest(VETH_INFO_PEER, |a| peer(a, pair)));
            });
        });
        batch.push(ATTACH_VETH, RTM_NEWLINK, ACK, &header(0, IFF_UP, IFF_UP), |a| {
            a.text(IFLA_IFNAME, pair.name);
            a.u32(IFLA_MASTER, pair.master);
            if pair.no_ipv6_address {
                no_ipv6_address(a);
            }
        });
        if pair.isolated {
            // Of its own: the settings of a port are taken before those of the link, so before it is a port.
            batch.push(ATTACH_VETH, RTM_NEWLINK, ACK, &header(0, 0, 0), |a| {
                a.text(IFLA_IFNAME, pair.name);
                a.nest(IFLA_LINKINFO, |a| {
                    a.text(INFO_SLAVE_KIND, "bridge");
                    a.nest(INFO_SLAVE_DATA, |a| a.u8(BRPORT_ISOLATED, 1));
                });
            });
        }
        let made = self.socket.send(batch).and_then(|()| self.learn(pair));
        made.map_err(|e| {
            if matches!(e, Error::Refused { operation: ATTACH_VETH, .. }) {
                self.undo_veth(pair.name);
            }
            e.about(pair.name)
        })
    }

    /// Tells the bridge where the peer's Ethernet address is. The last owner of the address may have left a port that the
    /// kernel has not yet removed, and the bridge would send there until the new owner speaks.
    fn learn(&mut self, pair: &VethPair<'_>) -> Result<u32> {
        let link = self.link(pair.name)?.ok_or(Error::Malformed("a new interface is not there"))?;
        let mut neighbour = [0; 12];
        neighbour[0] = AF_BRIDGE;
        neighbour[4..8].copy_from_slice(&link.index.to_ne_bytes());
        neighbour[8..10].copy_from_slice(&NUD_NOARP.to_ne_bytes());
        neighbour[10] = NTF_MASTER;
        let mut batch = Batch::new();
        batch.push(ATTACH_VETH, RTM_NEWNEIGH, ACK | CREATE | REPLACE, &neighbour, |a| {
            a.bytes(NDA_LLADDR, &pair.peer_mac.octets());
        });
        self.socket.send(batch).map(|()| link.index)
    }

    /// Deletes a pair that could not be attached.
    fn undo_veth(&mut self, name: &str) {
        if let Ok(Some(link)) = self.link(name) {
            // The attach's own error is the one to tell; a reconcile finds what is left.
            let _ = self.delete_links(&[link.index]);
        }
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<()> {
        let mut batch = Batch::new();
        push_up(&mut batch, index, up);
        self.socket.send(batch)
    }

    /// Sets the MTU and the alias of an interface, and sets it up.
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `EINVAL` for an MTU that it can't have.
    pub fn adjust(&mut self, index: u32, mtu: u32, alias: &str) -> Result<()> {
        let mut batch = Batch::new();
        batch.push("adjust interface", RTM_SETLINK, ACK, &header(index, IFF_UP, IFF_UP), |a| {
            a.u32(IFLA_MTU, mtu);
            a.text(IFLA_IFALIAS, alias);
        });
        self.socket.send(batch)
    }

    /// Deletes interfaces. This waits for the kernel: 16 to 40 ms each, so never on the way of a request. One that is gone
    /// already is no error.
    ///
    /// # Errors
    /// The first refusal; the others have been deleted.
    pub fn delete_links(&mut self, indices: &[u32]) -> Result<()> {
        let mut failure = None;
        for index in indices {
            let mut batch = Batch::new();
            batch.push("delete interface", RTM_DELLINK, ACK, &header(*index, 0, 0), |_| {});
            match self.socket.send(batch) {
                Err(e) if e.errno() != Some(Errno::NODEV) => failure = failure.or(Some(e.about(&index.to_string()))),
                _ => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The interface called `name`.
    ///
    /// # Errors
    /// Any refusal but "no such device".
    pub fn link(&mut self, name: &str) -> Result<Option<LinkInfo>> {
        let mut batch = Batch::new();
        batch.push("look up interface", RTM_GETLINK, 0, &header(0, 0, 0), |a| a.text(IFLA_IFNAME, name));
        self.get_link(batch, name)
    }

    /// Makes what follows from an interface's carrier true now: the bridge port forwards, the interface sends. Else a worker of
    /// the kernel does it some time later, after any namespace that is just being torn down, and the first packets are lost,
    /// which costs their sender a second. Asking for the interface does so since Linux 6.8 (`rtnl_getlink`); on an older kernel
    /// it changes nothing.
    ///
    /// # Errors
    /// Any refusal but "no such device".
    pub fn settle(&mut self, index: u32) -> Result<()> {
        self.link_by_index(index).map(drop)
    }

    /// The interface numbered `index`.
    ///
    /// # Errors
    /// Any refusal but "no such device".
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<LinkInfo>> {
        let mut batch = Batch::new();
        batch.push("look up interface", RTM_GETLINK, 0, &header(index, 0, 0), |_| {});
        self.get_link(batch, &index.to_string())
    }

    fn get_link(&mut self, batch: Batch, subject: &str) -> Result<Option<LinkInfo>> {
        match self.socket.get(batch, |payload| read_link(payload).ok_or(Error::Malformed("interface"))) {
            Ok(link) => Ok(Some(link)),
            Err(e) if e.errno() == Some(Errno::NODEV) => Ok(None),
            Err(e) => Err(e.about(subject)),
        }
    }

    /// All interfaces.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn links(&mut self) -> Result<Vec<LinkInfo>> {
        self.socket.dump("list interfaces", RTM_GETLINK, &header(0, 0, 0), read_link)
    }
}

/// The nested description of a veth's other end.
fn peer(attributes: &mut Attrs<'_>, pair: &VethPair<'_>) {
    attributes.raw(&header(0, 0, 0));
    attributes.text(IFLA_IFNAME, pair.peer_name);
    attributes.u32(IFLA_MTU, pair.mtu);
    attributes.bytes(IFLA_ADDRESS, &pair.peer_mac.octets());
    attributes.u32(IFLA_NUM_TX_QUEUES, 1);
    attributes.u32(IFLA_NUM_RX_QUEUES, 1);
    attributes.u32(IFLA_NET_NS_FD, pair.peer_netns.as_raw_fd().cast_unsigned());
}

/// Appends the request that sets an interface up or down.
pub(super) fn push_up(batch: &mut Batch, index: u32, up: bool) {
    let flags = if up { IFF_UP } else { 0 };
    batch.push("set interface up or down", RTM_SETLINK, ACK, &header(index, flags, IFF_UP), |_| {});
}

fn read_link(payload: &[u8]) -> Option<LinkInfo> {
    let attributes = payload.get(16..)?;
    let find = |kind| attribute(attributes, kind);
    let info = find(IFLA_LINKINFO).unwrap_or(&[]);
    Some(LinkInfo {
        index: read_u32(&payload[4..])?,
        up: read_u32(&payload[8..])? & IFF_UP != 0,
        name: text(find(IFLA_IFNAME)?),
        kind: attribute(info, INFO_KIND).map(text).unwrap_or_default(),
        master: find(IFLA_MASTER).and_then(read_u32).unwrap_or(0),
        mtu: find(IFLA_MTU).and_then(read_u32).unwrap_or(0),
        mac: find(IFLA_ADDRESS).and_then(|a| <[u8; 6]>::try_from(a).ok()).map(Mac::from_octets),
        alias: find(IFLA_IFALIAS).map(text).unwrap_or_default(),
        stats: find(IFLA_STATS64).map(read_stats).unwrap_or_default(),
    })
}

fn read_stats(bytes: &[u8]) -> LinkStats {
    let field =
        |n: usize| bytes.get(n * 8..).and_then(<[u8]>::first_chunk).map(|b| u64::from_ne_bytes(*b)).unwrap_or_default();
    LinkStats {
        rx_packets: field(0),
        tx_packets: field(1),
        rx_bytes: field(2),
        tx_bytes: field(3),
        rx_errors: field(4),
        tx_errors: field(5),
        rx_dropped: field(6),
        tx_dropped: field(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_the_kernel_would_refuse() {
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-letters-", "tab\t"] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
        assert!(is_valid_name("fifteen-letters"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_link_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read_link(&bytes);
            let _ = read_stats(&bytes);
        }
    }
}
