//! /etc/hosts and /etc/hostname.

use naru_base::{Error, Result};
use std::fmt::Write as _;
use std::net::IpAddr;

/// The word that stands for the host's address in `--add-host name:host-gateway`.
const HOST_GATEWAY: &str = "host-gateway";

const IPV4: &str = "127.0.0.1\tlocalhost\n";
const IPV6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// A record of `--add-host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// What /etc/hosts holds.
#[derive(Debug, Clone, Default)]
pub struct HostsFile<'a> {
    /// With the records of `::1` and the multicast groups.
    pub ipv6: bool,
    /// Records of `--add-host`.
    pub extra: &'a [ExtraHost],
    /// The container's own addresses.
    pub own: &'a [IpAddr],
    /// The container's host name.
    pub hostname: &'a str,
    /// Its domain name, or empty.
    pub domainname: &'a str,
}

impl HostsFile<'_> {
    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = String::from(IPV4);
        if self.ipv6 {
            text.push_str(IPV6);
        }
        for host in self.extra {
            line(&mut text, host.address, &host.name);
        }
        for address in self.own {
            line(&mut text, *address, &self.names());
        }
        text
    }

    /// `host.domain host`, or the host name alone. A host name that has a domain in it is followed by its first label.
    pub fn names(&self) -> String {
        let full = if self.domainname.is_empty() {
            self.hostname.to_owned()
        } else {
            format!("{}.{}", self.hostname, self.domainname)
        };
        match full.split_once('.') {
            Some((short, _)) if !short.is_empty() => format!("{full} {short}"),
            _ => full,
        }
    }
}

fn line(text: &mut String, address: IpAddr, names: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{address}\t{names}");
}

/// The text of /etc/hostname.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// Reads `name:address`, also `name=address` and an IPv6 address in brackets; `host-gateway` becomes one record for each of
/// `gateways`.
///
/// # Errors
/// Invalid parameter, with docker's text, for anything else, and for `host-gateway` when there is no gateway.
pub fn parse_extra_host(text: &str, gateways: &[IpAddr]) -> Result<Vec<ExtraHost>> {
    let bad = || Error::invalid(format!("bad format for add-host: {text:?}"));
    let at = text.find([':', '=']).ok_or_else(bad)?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    // A line of the file must stay one record.
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(bad());
    }
    let record = |address: IpAddr| ExtraHost { name: name.to_owned(), address };
    if address == HOST_GATEWAY {
        if gateways.is_empty() {
            return Err(Error::invalid("unable to derive the IP value for host-gateway"));
        }
        return Ok(gateways.iter().copied().map(record).collect());
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let parsed = bare.parse().map_err(|_| Error::invalid(format!("invalid IP address in add-host: {address:?}")))?;
    Ok(vec![record(parsed)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn dockers_file() {
        let extra = parse_extra_host("db:10.0.0.9", &[]).unwrap();
        let file = HostsFile { ipv6: true, extra: &extra, own: &[ip("172.17.0.2")], hostname: "abc", domainname: "" };
        assert_eq!(
            file.render(),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.9\tdb\n172.17.0.2\tabc\n"
        );
        assert_eq!(HostsFile::default().render(), "127.0.0.1\tlocalhost\n");
        assert_eq!(hostname("abc"), "abc\n");
    }

    #[test]
    fn a_domain_adds_the_first_label() {
        let own = [ip("172.17.0.2")];
        let line = |hostname, domainname| {
            let text = HostsFile { own: &own, hostname, domainname, ..HostsFile::default() }.render();
            text.lines().last().unwrap().to_owned()
        };
        assert_eq!(line("a", "example.org"), "172.17.0.2\ta.example.org a");
        assert_eq!(line("a.example.org", ""), "172.17.0.2\ta.example.org a");
        assert_eq!(line("a", ""), "172.17.0.2\ta");
    }

    #[test]
    fn extra_hosts() {
        let one = |text| parse_extra_host(text, &[ip("172.17.0.1")]).map(|h| (h[0].name.clone(), h[0].address));
        assert_eq!(one("a:1.2.3.4").unwrap(), ("a".into(), ip("1.2.3.4")));
        assert_eq!(one("a=::1").unwrap(), ("a".into(), ip("::1")));
        assert_eq!(one("a:::1").unwrap(), ("a".into(), ip("::1")));
        assert_eq!(one("a:[fe80::1]").unwrap(), ("a".into(), ip("fe80::1")));
        assert_eq!(one("a:host-gateway").unwrap(), ("a".into(), ip("172.17.0.1")));
        let both = parse_extra_host("a:host-gateway", &[ip("172.17.0.1"), ip("fd00::1")]).unwrap();
        assert_eq!(both.len(), 2);
        assert!(parse_extra_host("a:host-gateway", &[]).is_err());
        for bad in ["", "a", ":1.2.3.4", "a:", "a:b", "a b:1.2.3.4", "a\n6.6.6.6 b:1.2.3.4", "a:1.2.3.4\n6.6.6.6 b"] {
            assert!(one(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_record_is_always_one_line(text in "\\PC*|[a-z:= \\n\\t#0-9.]*") {
            if let Ok(extra) = parse_extra_host(&text, &[]) {
                let file = HostsFile { extra: &extra, ..HostsFile::default() }.render();
                prop_assert_eq!(file.lines().count(), 2);
            }
        }
    }
}
