//! Capabilities by name and number, and docker's rules for adding and dropping them.
//!
//! Sources: capabilities(7), linux/capability.h; moby `daemon/pkg/oci/caps` (`NormalizeLegacyCapabilities`, `TweakCapabilities`).

use naru_base::capability::NAMES;
pub use naru_base::capability::{bit, name};
use naru_base::{Error, Result};
use std::sync::OnceLock;

/// Every capability that has a name.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// What a container has unless told otherwise: CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, NET_RAW, SETGID, SETUID, SETFCAP,
/// SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, KILL, AUDIT_WRITE.
pub const DEFAULT: u64 = 0xa804_25fb;

/// The names in `set` with `CAP_`, in the order of their numbers.
pub fn names(set: u64) -> Vec<String> {
    (0..u64::BITS).filter(|bit| set >> bit & 1 == 1).filter_map(name).map(|name| format!("CAP_{name}")).collect()
}

/// The capabilities that this process can give: those with a name in its own bounding set.
pub fn available() -> u64 {
    static AVAILABLE: OnceLock<u64> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        (0..NAMES.len() as u32)
            .filter(|bit| naru_sys::credentials::bounding_contains(*bit).unwrap_or(false))
            .fold(0, |set, bit| set | 1 << bit)
    })
}

/// The set that a container's processes have, by docker's rules: `privileged` gives all; `ALL` in `add` gives all but `drop`; `ALL`
/// in `drop` gives exactly `add`; otherwise the default set without `drop` and with `add`. Never more than [`available`].
///
/// # Errors
/// [`Class::InvalidParameter`](naru_base::Class) for an unknown name, or one in `add` or `drop` that this host can't give.
pub fn effective_set(add: &[impl AsRef<str>], drop: &[impl AsRef<str>], privileged: bool) -> Result<u64> {
    let available = available();
    let add = parse(add, "CapAdd", available)?;
    let drop = parse(drop, "CapDrop", available)?;
    Ok(combine(&add, &drop, privileged) & available)
}

/// A list of names, read.
#[derive(Debug, Default)]
struct Listed {
    all: bool,
    set: u64,
}

fn parse(list: &[impl AsRef<str>], field: &str, available: u64) -> Result<Listed> {
    let mut listed = Listed::default();
    for name in list {
        let name = name.as_ref().to_ascii_uppercase();
        if name == "ALL" {
            listed.all = true;
            continue;
        }
        let full = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
        let Some(bit) = bit(&full) else {
            return Err(Error::invalid(format!("invalid {field}: unknown capability: \"{full}\"")));
        };
        if available >> bit & 1 == 0 {
            return Err(Error::invalid(format!(
                "invalid {field}: capability not supported by your kernel or not available in the current environment: \"{full}\""
            )));
        }
        listed.set |= 1 << bit;
    }
    Ok(listed)
}

fn combine(add: &Listed, drop: &Listed, privileged: bool) -> u64 {
    match (privileged, add.all, drop.all) {
        (true, ..) => ALL,
        (_, true, _) => ALL & !drop.set,
        (_, _, true) => add.set,
        _ => DEFAULT & !drop.set | add.set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(add: &[&str], drop: &[&str], privileged: bool) -> u64 {
        combine(&parse(add, "CapAdd", ALL).unwrap(), &parse(drop, "CapDrop", ALL).unwrap(), privileged)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!((bit("CAP_CHOWN"), bit("sys_admin"), bit("cap_checkpoint_restore")), (Some(0), Some(21), Some(40)));
        assert_eq!((bit("nope"), bit(""), bit("CAP_"), bit("CAP_CAP_KILL")), (None, None, None, None));
        assert_eq!((name(38), name(41)), (Some("PERFMON"), None));
        let listed = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL \
                      AUDIT_WRITE";
        assert_eq!(listed.split_whitespace().fold(0, |set, name| set | 1 << bit(name).unwrap()), DEFAULT);
        assert_eq!(names(DEFAULT).len(), 14);
        assert_eq!(names(1 << 21 | 1), ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn dockers_rules() {
        let net_admin = 1 << bit("NET_ADMIN").unwrap();
        let chown = 1;
        assert_eq!(combined(&[], &[], false), DEFAULT);
        assert_eq!(combined(&["net_admin"], &["CAP_CHOWN"], false), DEFAULT & !chown | net_admin);
        assert_eq!(combined(&["ALL"], &["chown"], false), ALL & !chown);
        assert_eq!(combined(&["NET_ADMIN", "chown"], &["all"], false), net_admin | chown);
        assert_eq!(combined(&["all"], &["all"], false), ALL);
        assert_eq!(combined(&[], &["ALL"], true), ALL);
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        let error = effective_set(&["x"], &[] as &[&str], false).unwrap_err();
        assert_eq!(error.class(), naru_base::Class::InvalidParameter);
        assert_eq!(error.message(), "invalid CapAdd: unknown capability: \"CAP_X\"");
        let error = effective_set(&[] as &[&str], &["CAP_Y"], true).unwrap_err();
        assert_eq!(error.message(), "invalid CapDrop: unknown capability: \"CAP_Y\"");
        assert!(
            parse(&["KILL"], "CapAdd", ALL & !(1 << 5)).unwrap_err().message().contains("not available in the current")
        );
    }

    #[test]
    fn never_more_than_this_host_has() {
        let set = effective_set(&["ALL"], &[] as &[&str], false).unwrap();
        assert_eq!(set & !available(), 0);
        assert_ne!(set, 0);
    }
}
