//! A veth pair with both ends here, through which packets come back to the host.

use super::Rtnl;
use super::link::{self, IFF_UP, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_MTU};
use crate::netlink::{ACK, Attrs, Batch, CREATE, EXCL, REPLACE};
use crate::{Error, Result};
use std::net::Ipv4Addr;

const IFF_NOARP: u32 = 0x80;
/// Both ends have the same Ethernet address: without ARP, a frame is addressed to the sender's own.
const ADDRESS: [u8; 6] = [0x02, 0x6e, 0x61, 0x72, 0x75, 0x00];
/// The most that a veth takes: a packet that was put together from fragments fits.
const MTU: u32 = 65535;
/// An interface without an address is one that the kernel lets no foreign source come from. This is the one for an interface
/// that needs some address (RFC 7600).
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const RTM_NEWADDR: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const SCOPE_HOST: u8 = 254;

impl Rtnl {
    /// Makes a pair of interfaces, up and without ARP, of which `out` accepts packets from anywhere; their numbers.
    ///
    /// # Errors
    /// `EEXIST` when one of the names is taken.
    pub fn create_gate(&mut self, into: &str, out: &str, alias: &str) -> Result<(u32, u32)> {
        let end = |a: &mut Attrs<'_>, name: &str| {
            a.text(IFLA_IFNAME, name);
            a.u32(IFLA_MTU, MTU);
            a.bytes(IFLA_ADDRESS, &ADDRESS);
        };
        let mut batch = Batch::new();
        batch.push("create veth", link::RTM_NEWLINK, ACK | CREATE | EXCL, &link::header(0, 0, 0), |a| {
            end(a, into);
            a.nest(IFLA_LINKINFO, |a| {
                a.text(link::INFO_KIND, "veth");
                a.nest(link::INFO_DATA, |a| {
                    a.nest(link::VETH_INFO_PEER, |a| {
                        a.raw(&link::header(0, 0, 0));
                        end(a, out);
                    });
                });
            });
        });
        self.socket.send(batch).map_err(|e| e.about(into))?;
        let index = self.link(into)?.ok_or(Error::Malformed("a new interface is not there"))?.index;
        match self.settle_gate(into, out, alias) {
            Ok(outer) => Ok((index, outer)),
            Err(error) => {
                // The error that led here is the one to tell.
                let _ = self.delete_links(&[index]);
                Err(error)
            }
        }
    }

    /// The number of `out`.
    fn settle_gate(&mut self, into: &str, out: &str, alias: &str) -> Result<u32> {
        let flags = IFF_UP | IFF_NOARP;
        let mut indices = [0; 2];
        for (place, name) in indices.iter_mut().zip([into, out]) {
            let index = self.link(name)?.ok_or(Error::Malformed("a new interface is not there"))?.index;
            let mut batch = Batch::new();
            batch.push("set up interface", link::RTM_SETLINK, ACK, &link::header(index, flags, flags), |a| {
                a.text(IFLA_IFALIAS, alias);
            });
            if name == out {
                let mut header = [2, 32, 0, SCOPE_HOST, 0, 0, 0, 0];
                header[4..].copy_from_slice(&index.to_ne_bytes());
                batch.push("add address", RTM_NEWADDR, ACK | CREATE | REPLACE, &header, |a| {
                    a.bytes(IFA_LOCAL, &DUMMY.octets());
                    a.bytes(IFA_ADDRESS, &DUMMY.octets());
                });
            }
            self.socket.send(batch).map_err(|e| e.about(name))?;
            *place = index;
        }
        // Each has a carrier only now that both are up.
        indices.into_iter().try_for_each(|index| self.settle(index))?;
        Ok(indices[1])
    }
}
