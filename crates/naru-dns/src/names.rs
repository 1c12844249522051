//! The file of one network's names: a line for each container on it, with its addresses and its names, the first of which is its own.
//!
//! ```text
//! naru-names 1 harbour
//! 10.77.0.2,fd00::2<tab>web<tab>www<tab>0123456789ab
//! ```
//!
//! It is written whole and renamed into place, so a reader sees one state. A reader of an older version leaves what it doesn't know.

use std::net::IpAddr;

const MAGIC: &str = "naru-names";
const VERSION: u32 = 1;

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// Its names there, its own first.
    pub names: Vec<String>,
}

/// The file's text. What can't be a name of the DNS is left out.
pub fn write(network: &str, entries: &[Entry]) -> String {
    let mut text = format!("{MAGIC} {VERSION} {}\n", if is_plain(network) { network } else { "" });
    for entry in entries {
        let mut names = entry.names.iter().filter(|n| is_plain(n)).peekable();
        if names.peek().is_none() || entry.addresses.is_empty() {
            continue;
        }
        let addresses: Vec<String> = entry.addresses.iter().map(ToString::to_string).collect();
        text.push_str(&addresses.join(","));
        names.for_each(|name| text.extend(["\t", name]));
        text.push('\n');
    }
    text
}

/// Whether a name stays one field, and has a form that can be asked for.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

/// A file, read.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The network's name; empty for one that can't be asked for.
    pub network: &'a str,
    lines: &'a str,
}

/// A line of it.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    addresses: &'a str,
    names: &'a str,
}

impl<'a> Names<'a> {
    /// Reads a file; none for one that is none, or of another version.
    pub fn read(text: &'a str) -> Option<Self> {
        let (first, lines) = text.split_once('\n')?;
        let mut words = first.split(' ');
        let known = words.next() == Some(MAGIC) && words.next()?.parse() == Ok(VERSION);
        known.then_some(Self { network: words.next().unwrap_or_default(), lines })
    }

    fn lines(self) -> impl Iterator<Item = Line<'a>> {
        self.lines.lines().filter_map(|line| line.split_once('\t')).map(|(addresses, names)| Line { addresses, names })
    }

    /// The containers that have a name there, in the case of any of its letters.
    pub fn of_name(self, name: &str) -> impl Iterator<Item = Line<'a>> {
        self.lines().filter(move |line| line.names.split('\t').any(|n| n.eq_ignore_ascii_case(name)))
    }

    /// The container that has an address there.
    pub fn of_address(self, address: IpAddr) -> Option<Line<'a>> {
        let text = address.to_string();
        self.lines().find(|line| line.addresses.split(',').any(|a| a == text))
    }
}

impl<'a> Line<'a> {
    /// Its addresses.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> + 'a {
        self.addresses.split(',').filter_map(|a| a.parse().ok())
    }

    /// Its own name.
    pub fn own_name(self) -> &'a str {
        self.names.split('\t').next().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn entry(addresses: &[&str], names: &[&str]) -> Entry {
        Entry {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    #[test]
    fn there_and_back() {
        let entries = [
            entry(&["10.0.0.2", "fd00::2"], &["web", "www", "0123"]),
            entry(&["10.0.0.3"], &["db", "www", "with space", "tab\t"]),
            entry(&[], &["gone"]),
        ];
        let text = write("harbour", &entries);
        assert_eq!(text, "naru-names 1 harbour\n10.0.0.2,fd00::2\tweb\twww\t0123\n10.0.0.3\tdb\twww\n");
        let names = Names::read(&text).unwrap();
        assert_eq!(names.network, "harbour");
        assert_eq!(names.of_name("WWW").map(Line::own_name).collect::<Vec<_>>(), ["web", "db"]);
        assert_eq!(names.of_name("web").flat_map(Line::addresses).count(), 2);
        assert_eq!(names.of_address("fd00::2".parse().unwrap()).unwrap().own_name(), "web");
        assert!(names.of_address("10.0.0.22".parse().unwrap()).is_none());
        assert!(Names::read("naru-names 2 x\n").is_none() && Names::read("").is_none());
    }

    proptest! {
        #[test]
        fn a_name_never_makes_a_line_or_a_field(name in "\\PC*|[a-z\\t\\n ]*") {
            let text = write("n", &[entry(&["10.0.0.2"], &["own", &name])]);
            prop_assert_eq!(text.lines().count(), 2);
            prop_assert!(text.lines().nth(1).unwrap().split('\t').count() <= 3);
        }
    }
}
