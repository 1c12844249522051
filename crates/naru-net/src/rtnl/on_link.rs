//! Interfaces on top of others: macvlan, ipvlan, VLANs; and dummies, which stand for another (linux/if_link.h).

use super::Rtnl;
use super::link::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_MTU, INFO_DATA, INFO_KIND, RTM_NEWLINK,
    RTM_SETLINK, header, no_ipv6_address,
};
use crate::netlink::{ACK, Batch, CREATE, EXCL};
use crate::{Error, Mac, Result};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

const IFLA_LINK: u16 = 5;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

/// What an interface on another's link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// With an Ethernet address of its own.
    Macvlan {
        /// `macvlan_mode`: private 1, vepa 2, bridge 4, passthru 8.
        mode: u32,
        /// The address; with passthru the parent's holds.
        mac: Mac,
    },
    /// With the parent's Ethernet address.
    Ipvlan {
        /// `ipvlan_mode`: l2 0, l3 1, l3s 2.
        mode: u16,
        /// `IPVLAN_F_*`: private 1, vepa 2.
        flags: u16,
    },
}

impl LinkKind {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
        }
    }
}

/// An interface in another network namespace that shares the link of one here.
#[derive(Debug, Clone)]
pub struct OnLink<'a> {
    /// What it is.
    pub kind: LinkKind,
    /// The interface here.
    pub parent: u32,
    /// The namespace of the new one.
    pub netns: BorrowedFd<'a>,
    /// Its name.
    pub name: &'a str,
    /// Its MTU in bytes; `None` for the parent's.
    pub mtu: Option<u32>,
}

/// An interface that is made for a network to be on.
#[derive(Debug, Clone)]
pub struct ParentOptions<'a> {
    /// Its name.
    pub name: &'a str,
    /// Free text for it, by which its owner knows it again.
    pub alias: &'a str,
    /// VLAN number and the interface that carries it; none for a dummy.
    pub vlan: Option<(u16, u32)>,
    /// Give it no IPv6 link-local address. Only where the kernel has IPv6.
    pub no_ipv6_address: bool,
}

impl Rtnl {
    /// Makes an interface on another's link, down, in its namespace.
    ///
    /// # Errors
    /// `EBUSY` when another kind of interface sits on the parent, `EOPNOTSUPP` when the kernel hasn't this kind, `EINVAL` when somebody has a
    /// parent to itself.
    pub fn create_on_link(&mut self, wanted: &OnLink<'_>) -> Result<()> {
        let mut batch = Batch::new();
        batch.push("create interface", RTM_NEWLINK, ACK | CREATE | EXCL, &header(0, 0, 0), |a| {
            a.text(IFLA_IFNAME, wanted.name);
            a.u32(IFLA_LINK, wanted.parent);
            if let LinkKind::Macvlan { mac, .. } = wanted.kind {
                a.bytes(IFLA_ADDRESS, &mac.octets());
            }
            a.u32(IFLA_NET_NS_FD, wanted.netns.as_raw_fd().cast_unsigned());
            if let Some(mtu) = wanted.mtu {
                a.u32(IFLA_MTU, mtu);
            }
            a.nest(IFLA_LINKINFO, |a| {
                a.text(INFO_KIND, wanted.kind.name());
                a.nest(INFO_DATA, |a| match wanted.kind {
                    LinkKind::Macvlan { mode, .. } => a.u32(IFLA_MACVLAN_MODE, mode),
                    LinkKind::Ipvlan { mode, flags } => {
                        a.bytes(IFLA_IPVLAN_MODE, &mode.to_ne_bytes());
                        a.bytes(IFLA_IPVLAN_FLAGS, &flags.to_ne_bytes());
                    }
                });
            });
        });
        self.socket.send(batch).map_err(|e| e.about(wanted.name))
    }

    /// Whether the kernel has a kind of interface that sits on another's link; its module is loaded for the question.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn has_kind_on_link(&mut self, kind: &str) -> Result<bool> {
        let mut batch = Batch::new();
        // Without a parent: a kind that is known refuses that.
        batch.push("ask for a kind of interface", RTM_NEWLINK, ACK | CREATE | EXCL, &header(0, 0, 0), |a| {
            a.nest(IFLA_LINKINFO, |a| a.text(INFO_KIND, kind));
        });
        match self.socket.send(batch) {
            Err(e) if e.errno() == Some(Errno::OPNOTSUPP) => Ok(false),
            Err(e) if e.errno() == Some(Errno::INVAL) => Ok(true),
            Ok(()) => Err(Error::Malformed("an interface on no link was made")),
            Err(e) => Err(e.about(kind)),
        }
    }

    /// Makes an interface for a network to be on, and sets it up.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EOPNOTSUPP` when the kernel hasn't its kind.
    pub fn create_parent(&mut self, options: &ParentOptions<'_>) -> Result<()> {
        let mut batch = Batch::new();
        batch.push("create interface", RTM_NEWLINK, ACK | CREATE | EXCL, &header(0, 0, 0), |a| {
            a.text(IFLA_IFNAME, options.name);
            if let Some((_, carrier)) = options.vlan {
                a.u32(IFLA_LINK, carrier);
            }
            a.nest(IFLA_LINKINFO, |a| match options.vlan {
                Some((id, _)) => {
                    a.text(INFO_KIND, "vlan");
                    a.nest(INFO_DATA, |a| a.bytes(IFLA_VLAN_ID, &id.to_ne_bytes()));
                }
                None => a.text(INFO_KIND, "dummy"),
            });
        });
        batch.push("set up interface", RTM_SETLINK, ACK, &header(0, IFF_UP, IFF_UP), |a| {
            a.text(IFLA_IFNAME, options.name);
            a.text(IFLA_IFALIAS, options.alias);
            if options.no_ipv6_address {
                no_ipv6_address(a);
            }
        });
        self.socket.send(batch).map_err(|e| e.about(options.name))
    }

    /// Gives an interface another Ethernet address.
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `EOPNOTSUPP` when it can't have another.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> Result<()> {
        let mut batch = Batch::new();
        batch.push("set Ethernet address", RTM_SETLINK, ACK, &header(index, 0, 0), |a| {
            a.bytes(IFLA_ADDRESS, &mac.octets());
        });
        self.socket.send(batch).map_err(|e| e.about(&mac.to_string()))
    }
}
