//! What keeps a container from being somebody else on its bridge: ports that take frames of one Ethernet address only, and neighbour
//! entries that nobody's word changes (linux/if_link.h, linux/neighbour.h).

use super::Rtnl;
use super::address::{AF_INET, AF_INET6};
use crate::netlink::{ACK, Batch, CREATE, REPLACE, attribute, read_u32};
use crate::{Mac, Result};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWLINK: u16 = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_ISOLATED: u16 = 33;
const BRPORT_LOCKED: u16 = 39;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// `NUD_PERMANENT`.
const PERMANENT: u16 = 0x80;

/// `struct ndmsg`.
fn header(address: IpAddr, index: u32, state: u16) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl Rtnl {
    /// Lets a bridge port take only frames whose source address the bridge has been told to be there (Linux 5.18), or any again.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn lock_port(&mut self, name: &str, locked: bool) -> Result<()> {
        self.set_port("lock bridge port", name, BRPORT_LOCKED, locked)
    }

    /// Keeps a bridge port from talking to other such ports, or lets it again.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn isolate_port(&mut self, name: &str, isolated: bool) -> Result<()> {
        self.set_port("isolate bridge port", name, BRPORT_ISOLATED, isolated)
    }

    fn set_port(&mut self, operation: &'static str, name: &str, setting: u16, value: bool) -> Result<()> {
        let mut batch = Batch::new();
        // `struct ifinfomsg` of an interface that goes by its name.
        batch.push(operation, RTM_NEWLINK, ACK, &[0; 16], |a| {
            a.text(IFLA_IFNAME, name);
            a.nest(IFLA_LINKINFO, |a| {
                a.text(INFO_SLAVE_KIND, "bridge");
                a.nest(INFO_SLAVE_DATA, |a| a.u8(setting, u8::from(value)));
            });
        });
        self.send(batch).map_err(|e| e.about(name))
    }

    /// Notes for good which Ethernet address some addresses have behind an interface.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn pin_neighbours(&mut self, index: u32, addresses: &[IpAddr], mac: Mac) -> Result<()> {
        if addresses.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for address in addresses {
            let header = header(*address, index, PERMANENT);
            batch.push("pin neighbour", RTM_NEWNEIGH, ACK | CREATE | REPLACE, &header, |a| {
                a.bytes(NDA_DST, &octets(*address));
                a.bytes(NDA_LLADDR, &mac.octets());
            });
        }
        self.send(batch)
    }

    /// Forgets such notes; one that is not there is no error.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn forget_neighbours(&mut self, index: u32, addresses: &[IpAddr]) -> Result<()> {
        for address in addresses {
            let mut batch = Batch::new();
            batch.push("forget neighbour", RTM_DELNEIGH, ACK, &header(*address, index, 0), |a| {
                a.bytes(NDA_DST, &octets(*address));
            });
            match self.send(batch) {
                Err(e) if !matches!(e.errno(), Some(Errno::NOENT | Errno::NODEV | Errno::NXIO)) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// All such notes, with their interfaces.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn pinned_neighbours(&mut self) -> Result<Vec<(u32, IpAddr)>> {
        let any = header(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, 0);
        let mut all = self.socket.dump("list neighbours", RTM_GETNEIGH, &any, read_pinned)?;
        let any = header(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0, 0);
        all.extend(self.socket.dump("list neighbours", RTM_GETNEIGH, &any, read_pinned)?);
        Ok(all)
    }
}

fn read_pinned(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let attributes = payload.get(12..)?;
    let state = u16::from_ne_bytes(*payload.get(8..)?.first_chunk::<2>()?);
    let address = attribute(attributes, NDA_DST)?;
    let address = match payload[0] {
        AF_INET => IpAddr::from(*address.first_chunk::<4>()?),
        AF_INET6 => IpAddr::from(*address.first_chunk::<16>()?),
        _ => return None,
    };
    (state & PERMANENT != 0).then_some((read_u32(&payload[4..])?, address))
}
