//! Ports of a bridge that get back what they sent.

use super::Rtnl;
use super::link::{self, IFLA_IFNAME, IFLA_LINKINFO};
use crate::Result;
use crate::netlink::{ACK, Batch};

const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_MODE: u16 = 4;

impl Rtnl {
    /// Lets a bridge send a frame out by the port that it came in by, when its destination has been rewritten to what is there.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface.
    pub fn set_hairpin(&mut self, name: &str) -> Result<()> {
        let mut batch = Batch::new();
        batch.push("set up port of bridge", link::RTM_NEWLINK, ACK, &link::header(0, 0, 0), |a| {
            a.text(IFLA_IFNAME, name);
            a.nest(IFLA_LINKINFO, |a| {
                a.text(INFO_SLAVE_KIND, "bridge");
                a.nest(INFO_SLAVE_DATA, |a| a.u8(BRPORT_MODE, 1));
            });
        });
        self.socket.send(batch).map_err(|e| e.about(name))
    }
}
