//! Names on the host that belong to one engine.

use naru_base::id::hex;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Which engine this is, as far as names on the host go: two with different roots never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Empty for the default engine, else 8 hexadecimal digits.
    name: String,
}

impl Instance {
    /// The engine with docker's kind of default roots.
    pub fn main() -> Self {
        Self { name: String::new() }
    }

    /// The engine whose data lies under `data_root`, which is `default_root` for [`Instance::main`].
    ///
    /// The path is taken as it is: give an absolute one without symbolic links.
    pub fn for_root(data_root: &Path, default_root: &Path) -> Self {
        if data_root == default_root {
            return Self::main();
        }
        let digest = Sha256::digest(data_root.as_os_str().as_encoded_bytes());
        Self { name: hex(&digest[..4]) }
    }

    /// Empty for the default engine, else 8 hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The default network's bridge: `naru0`, or `nr-<name>`.
    pub fn default_bridge(&self) -> String {
        if self.name.is_empty() { "naru0".into() } else { format!("nr-{}", self.name) }
    }

    /// The bridge of another network, as docker names it.
    pub fn bridge_of(&self, network_id: &str) -> String {
        format!("br-{}", network_id.get(..12).unwrap_or(network_id))
    }

    /// The nftables table: `naru`, or `naru-<name>`.
    pub fn table(&self) -> String {
        if self.name.is_empty() { "naru".into() } else { format!("naru-{}", self.name) }
    }

    /// The cgroup that all containers' groups are below: `naru`, or `naru-<name>`.
    pub fn cgroup(&self) -> String {
        self.table()
    }

    /// The interface on which first packets from outside come back to the host once its own rules have let them in (see
    /// `host::gate`): `naru-gate`, or `nrgate-<name>`.
    pub fn gate(&self) -> String {
        if self.name.is_empty() { "naru-gate".into() } else { format!("nrgate-{}", self.name) }
    }

    /// The other end of the pair, into which they are sent: `naru-gate-in`, or `nrgin-<name>`.
    pub fn gate_in(&self) -> String {
        if self.name.is_empty() { "naru-gate-in".into() } else { format!("nrgin-{}", self.name) }
    }

    /// The mark of packets that come out of the gate, and the number of the routing table that is asked with it: nobody else's.
    pub fn gate_mark(&self) -> u32 {
        // "naru".
        u32::from_str_radix(&self.name, 16).map_or(0x6e61_7275, |name| name | 0x4000_0000)
    }

    /// What stands in the alias of this engine's bridges, before the network's id.
    pub(crate) fn alias_prefix(&self) -> String {
        format!("naru:{}:", self.name)
    }

    /// The alias of the bridge of `network_id`.
    pub(crate) fn alias(&self, network_id: &str) -> String {
        format!("{}{network_id}", self.alias_prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_with_different_roots_share_no_name() {
        let default = Path::new("/var/lib/naru");
        let main = Instance::for_root(default, default);
        let one = Instance::for_root(Path::new("/tmp/a"), default);
        let two = Instance::for_root(Path::new("/tmp/b"), default);
        assert_eq!((main.default_bridge(), main.table()), ("naru0".into(), "naru".into()));
        for (a, b) in [(&main, &one), (&one, &two), (&main, &two)] {
            assert_ne!(a.default_bridge(), b.default_bridge());
            assert_ne!(a.table(), b.table());
            assert_ne!(a.gate(), b.gate());
            assert_ne!(a.gate_mark(), b.gate_mark());
            assert!(a.gate().len() <= 15 && a.gate_in().len() <= 15 && a.gate() != a.gate_in());
            assert!(!a.alias("x").starts_with(&b.alias_prefix()));
        }
        assert_eq!(one.default_bridge().len(), 11);
        assert_eq!(one, Instance::for_root(Path::new("/tmp/a"), default));
    }
}
