//! Networks on the link of one of the host's interfaces (macvlan, ipvlan): their modes, and the interface that is their parent.

use crate::{Driver, Instance, NetworkSpec};
use naru_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the interfaces of a [`Driver::Macvlan`] network go together (`macvlan_mode` in linux/if_link.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// They reach each other on the host.
    #[default]
    Bridge,
    /// They never reach each other.
    Private,
    /// They reach each other if the switch sends back what it gets.
    Vepa,
    /// One container has the parent to itself, with its Ethernet address.
    Passthru,
}

impl MacvlanMode {
    /// docker's name of it, which is the kernel's.
    ///
    /// # Errors
    /// docker's text.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "" | "bridge" => Ok(Self::Bridge),
            "private" => Ok(Self::Private),
            "vepa" => Ok(Self::Vepa),
            "passthru" => Ok(Self::Passthru),
            _ => Err(Error::invalid(format!(
                "requested macvlan mode '{name}' is not valid, 'bridge' mode is the macvlan driver default"
            ))),
        }
    }

    /// As the kernel has it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

/// Where a [`Driver::Ipvlan`] network decides about a packet's way (`enum ipvlan_mode` in linux/if_link.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// By Ethernet address: containers are neighbours of the machines on the link.
    #[default]
    L2,
    /// By IP address: the host routes, and no broadcast gets in or out.
    L3,
    /// As [`IpvlanMode::L3`], and through the host's firewall.
    L3s,
}

impl IpvlanMode {
    /// docker's name of it.
    ///
    /// # Errors
    /// docker's text.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "" | "l2" => Ok(Self::L2),
            "l3" => Ok(Self::L3),
            "l3s" => Ok(Self::L3s),
            _ => Err(Error::invalid(format!(
                "requested ipvlan mode '{name}' is not valid, 'l2' mode is the ipvlan driver default"
            ))),
        }
    }

    /// As the kernel has it.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::L2 => 0,
            Self::L3 => 1,
            Self::L3s => 2,
        }
    }
}

/// Whom the containers of a [`Driver::Ipvlan`] network reach on the host (`IPVLAN_F_*` in linux/if_link.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// Each other.
    #[default]
    Bridge,
    /// Nobody.
    Private,
    /// Each other if the switch sends back what it gets.
    Vepa,
}

impl IpvlanFlag {
    /// docker's name of it.
    ///
    /// # Errors
    /// docker's text.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "" | "bridge" => Ok(Self::Bridge),
            "private" => Ok(Self::Private),
            "vepa" => Ok(Self::Vepa),
            _ => Err(Error::invalid(format!(
                "requested ipvlan flag '{name}' is not valid, 'bridge' is the ipvlan driver default"
            ))),
        }
    }

    /// As the kernel has it.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Bridge => 0,
            Self::Private => 1,
            Self::Vepa => 2,
        }
    }
}

/// The 802.1Q interface that a name like `eth0.50` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vlan<'a> {
    /// The interface that carries it.
    pub carrier: &'a str,
    /// The VLAN's number.
    pub id: u16,
}

impl<'a> Vlan<'a> {
    /// # Errors
    /// docker's texts.
    pub(crate) fn parse(name: &'a str) -> Result<Self> {
        let Some((carrier, id)) = name.split_once('.') else {
            return Err(Error::invalid(format!(
                "the host has no interface {name}: invalid subinterface vlan name {name}, example formatting is eth0.10"
            )));
        };
        if id.contains('.') {
            return Err(Error::invalid(format!(
                "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
            )));
        }
        let number: i64 = id.parse().map_err(|_| {
            Error::invalid(format!("unable to parse a valid vlan id from: {id} (ex. eth0.10 for vlan 10)"))
        })?;
        match u16::try_from(number) {
            Ok(id) if (1..=4094).contains(&id) => Ok(Self { carrier, id }),
            _ => Err(Error::invalid(format!("vlan id must be between 1-4094, received: {number}"))),
        }
    }
}

impl Instance {
    /// The parent of a network on a link that has none of the host's: docker's name for it.
    pub fn dummy_of(&self, network_id: &str) -> String {
        format!("dm-{}", network_id.get(..12).unwrap_or(network_id))
    }
}

impl NetworkSpec {
    /// Whether its containers route by the interface itself, over no gateway.
    pub fn routes_directly(&self) -> bool {
        self.driver == Driver::Ipvlan && self.ipvlan_mode != IpvlanMode::L2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sub_interfaces() {
        assert_eq!(Vlan::parse("eth0.50").unwrap(), Vlan { carrier: "eth0", id: 50 });
        for (name, text) in [
            ("eth0", "invalid subinterface vlan name eth0, example formatting is eth0.10"),
            ("eth0.1.2", "required interface name format is: name.vlan_id"),
            ("eth0.x", "unable to parse a valid vlan id from: x"),
            ("eth0.0", "vlan id must be between 1-4094, received: 0"),
            ("eth0.4095", "vlan id must be between 1-4094, received: 4095"),
        ] {
            let said = Vlan::parse(name).unwrap_err();
            assert!(said.message().contains(text), "{name}: {said}");
        }
    }

    #[test]
    fn dockers_names_of_modes() {
        assert_eq!(IpvlanMode::from_name("").unwrap(), IpvlanMode::L2);
        assert_eq!(IpvlanMode::from_name("l3s").unwrap().number(), 2);
        assert_eq!(IpvlanFlag::from_name("private").unwrap().number(), 1);
        assert_eq!(MacvlanMode::from_name("passthru").unwrap().number(), 8);
        let said = IpvlanMode::from_name("l4").unwrap_err();
        assert_eq!(said.message(), "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default");
        let said = IpvlanFlag::from_name("x").unwrap_err();
        assert_eq!(said.message(), "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default");
    }
}
