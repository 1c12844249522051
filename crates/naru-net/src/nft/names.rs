//! A container's own table, in its own network namespace, for one that serves names itself: port 53 is then its own, and its name server
//! listens at another port, to which questions for 53 are led.

use super::Nft;
use super::transaction::{Element, Family, Hook, Set, Transaction, Type};
use crate::Result;
use crate::nft::expression::Rule;
use std::net::Ipv4Addr;

const TABLE: &str = "naru-names";
/// `NF_INET_LOCAL_OUT`, at the usual priority of destination translation.
const OUTPUT: Hook = Hook { kind: "nat", number: 3, priority: -100 };
const SERVERS: Set = Set {
    name: "servers",
    key: &[Type::Ipv4, Type::Protocol, Type::Port],
    data: Some(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const DNS_PORT: u16 = 53;
/// TCP and UDP.
const PROTOCOLS: [u8; 2] = [6, 17];

impl Nft {
    /// Leads what goes to `server` at port 53 to its port `port` instead, in the socket's namespace. May be done again.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn redirect_names(&mut self, server: Ipv4Addr, port: u16) -> Result<()> {
        let mut transaction = Transaction::new(TABLE);
        transaction.add_table();
        transaction.delete_table();
        transaction.add_table();
        transaction.add_set(&SERVERS);
        transaction.add_chain("output", Some(OUTPUT));
        transaction.add_rule("output", &Rule::new().ipv4().redirect_by_address(Family::V4, SERVERS.name));
        let elements: Vec<Element> = PROTOCOLS
            .iter()
            .map(|protocol| Element {
                key: [server.octets(), [*protocol, 0, 0, 0], padded(DNS_PORT)].concat(),
                data: Some([server.octets(), padded(port)].concat()),
                end: false,
            })
            .collect();
        transaction.add_elements(SERVERS.name, &elements);
        transaction.commit(self)
    }
}

/// A port in network byte order, filled up to 4 bytes.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
