//! Answers out of the names of a container's networks.

use crate::message::{Kind, Query, Record};
use crate::names::Names;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// No file of names is larger.
const FILE_LIMIT: u64 = 16 << 20;

/// What one container's server knows and may ask. Sent to it by its engine, whenever the container's networks change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// Files of the names of its networks; the first one that has a name has it.
    pub networks: Vec<PathBuf>,
    /// Names that only this container knows.
    pub links: Vec<Link>,
    /// Who is asked what none of them has, in this order.
    pub upstreams: Vec<Upstream>,
    /// A single word that is no name here is nobody's: the container said how many dots make a name (`ndots`).
    pub words_are_local: bool,
    /// The port that it listens at, when that isn't 53; only of meaning when it begins.
    pub port: Option<u16>,
}

/// A name for another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The name.
    pub alias: String,
    /// The other's name on a network of the container.
    pub target: String,
}

/// Another name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Where it is.
    pub address: SocketAddr,
    /// Asked out of the container's network rather than the host's.
    pub inside: bool,
}

/// What a resolver makes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is about a name of ours: these records, perhaps none.
    Known(Vec<Record>),
    /// Somebody else knows.
    Forward,
}

impl Resolver {
    /// Looks a question up.
    pub(crate) fn look_up(&self, query: &Query) -> Verdict {
        if !query.internet {
            return Verdict::Forward;
        }
        if let Some(address) = query.reverse_address().filter(|_| query.kind == Kind::Ptr) {
            return self.name_of(address).map_or(Verdict::Forward, |name| Verdict::Known(vec![Record::Name(name)]));
        }
        let link = self.links.iter().find(|link| link.alias.eq_ignore_ascii_case(&query.name));
        let found = self.addresses_of(link.map_or(query.name.as_str(), |link| link.target.as_str()));
        match found {
            Some(addresses) => Verdict::Known(
                addresses.into_iter().filter(|a| is_asked_for(*a, query.kind)).map(Record::Address).collect(),
            ),
            None if self.words_are_local && is_word(query) => Verdict::Known(Vec::new()),
            None => Verdict::Forward,
        }
    }

    /// The addresses of a name; none when no network has it.
    fn addresses_of(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.each_network(|names| {
            let mut found: Vec<_> = names.of_name(name).collect();
            if found.is_empty() && !names.network.is_empty() {
                // As the network's own: `web.harbour`.
                let bare = name.get(..name.len().checked_sub(names.network.len() + 1)?)?;
                let (dot, network) = name.get(bare.len()..)?.split_at_checked(1)?;
                if dot == "." && network.eq_ignore_ascii_case(names.network) {
                    found = names.of_name(bare).collect();
                }
            }
            (!found.is_empty()).then(|| found.into_iter().flat_map(|line| line.addresses()).collect())
        })
    }

    /// The whole name of an address.
    fn name_of(&self, address: IpAddr) -> Option<String> {
        self.each_network(|names| {
            let own = names.of_address(address)?.own_name();
            Some(if names.network.is_empty() { own.to_owned() } else { format!("{own}.{}", names.network) })
        })
    }

    /// What the first network says that says something. A file that is not there, or no such file, says nothing.
    fn each_network<T>(&self, look: impl Fn(Names<'_>) -> Option<T>) -> Option<T> {
        self.networks.iter().find_map(|path| {
            let small = std::fs::metadata(path).is_ok_and(|m| m.len() <= FILE_LIMIT);
            let text = std::fs::read_to_string(path).ok().filter(|_| small)?;
            look(Names::read(&text)?)
        })
    }
}

fn is_asked_for(address: IpAddr, kind: Kind) -> bool {
    match kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        Kind::Ptr | Kind::Other(_) => false,
    }
}

/// Whether an address is asked for by a name without a dot.
fn is_word(query: &Query) -> bool {
    matches!(query.kind, Kind::A | Kind::Aaaa) && !query.name.is_empty() && !query.name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::question;
    use crate::names::tests::entry;
    use crate::names::write;

    /// A resolver of a container on two networks.
    fn resolver(folder: &std::path::Path) -> Resolver {
        let harbour =
            [entry(&["10.0.0.2", "fd00::2"], &["web", "www", "0123456789ab"]), entry(&["10.0.0.3"], &["db", "www"])];
        let pier = [entry(&["10.1.0.9"], &["web"])];
        std::fs::write(folder.join("a"), write("harbour", &harbour)).unwrap();
        std::fs::write(folder.join("b"), write("pier", &pier)).unwrap();
        Resolver {
            networks: vec![folder.join("missing"), folder.join("a"), folder.join("b")],
            links: vec![Link { alias: "store".into(), target: "db".into() }],
            ..Resolver::default()
        }
    }

    #[test]
    fn what_is_known_and_what_is_forwarded() {
        let folder = std::env::temp_dir().join(format!("naru-dns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut resolver = resolver(&folder);
        let known = |resolver: &Resolver, name: &str, kind| match resolver
            .look_up(&Query::read(&question(1, name, kind, None)).unwrap())
        {
            Verdict::Forward => None,
            Verdict::Known(records) => Some(
                records
                    .into_iter()
                    .map(|r| match r {
                        Record::Address(a) => a.to_string(),
                        Record::Name(n) => n,
                    })
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
        };
        for (name, kind, expected) in [
            ("web", 1, Some("10.0.0.2")),
            ("WEB", 28, Some("fd00::2")),
            ("www", 1, Some("10.0.0.2 10.0.0.3")),
            ("0123456789ab", 1, Some("10.0.0.2")),
            ("web.harbour", 1, Some("10.0.0.2")),
            ("web.Pier", 1, Some("10.1.0.9")),
            ("db.pier", 1, None),
            ("store", 1, Some("10.0.0.3")),
            ("db", 28, Some("")),
            ("web", 15, Some("")),
            ("example.org", 1, None),
            ("nobody", 1, None),
            ("2.0.0.10.in-addr.arpa", 12, Some("web.harbour")),
            ("7.0.0.10.in-addr.arpa", 12, None),
        ] {
            assert_eq!(known(&resolver, name, kind).as_deref(), expected, "{name} {kind}");
        }
        resolver.words_are_local = true;
        assert_eq!(known(&resolver, "nobody", 1).as_deref(), Some(""));
        assert_eq!(known(&resolver, "nobody", 15), None);
        assert_eq!(known(&resolver, "example.org", 1), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
