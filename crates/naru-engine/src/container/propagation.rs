//! What of a bind and of the host's mounts below it reaches the other (mount_namespaces(7), "Shared subtrees").

use super::ResolvedMount;
use crate::types::MountKind;
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use naru_runtime::plan::Propagation;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::path::Path;

/// A bind that is shared with the host needs the root to be so (runc's rule).
pub(crate) fn of_root(mounts: &[ResolvedMount]) -> Propagation {
    let any = |wanted: fn(Propagation) -> bool| binds(mounts).any(|(_, p)| wanted(p));
    if any(is_shared) {
        Propagation::Rshared
    } else if any(is_slave) {
        Propagation::Rslave
    } else {
        Propagation::Rprivate
    }
}

/// That the host's mounts below the binds can propagate as asked for. Like docker it lets pass a bind that has the engine's own files, or lies among
/// them: `-v /:/host:rslave` is to work on every host.
///
/// # Errors
/// docker's texts: a source on a mount that is private.
pub(crate) fn check(mounts: &[ResolvedMount], data_root: &Path) -> Result<()> {
    for (source, propagation) in binds(mounts) {
        let (wanted, fields): (_, &[&str]) = match propagation {
            p if is_shared(p) => ("shared", &["shared:"]),
            p if is_slave(p) && !source.starts_with(data_root) && !data_root.starts_with(source) => {
                ("shared or slave", &["shared:", "master:"])
            }
            _ => continue,
        };
        let table = std::fs::read_to_string("/proc/self/mountinfo").system("cannot read the mounts of the host")?;
        let Some(mount) = mount_id(source).and_then(|id| find(&table, id)) else { continue };
        if !mount.fields.iter().any(|field| fields.iter().any(|f| field.starts_with(f))) {
            return Err(Error::system(format!(
                "path {} is mounted on {} but it is not a {wanted} mount",
                source.display(),
                mount.point
            )));
        }
    }
    Ok(())
}

fn is_shared(propagation: Propagation) -> bool {
    matches!(propagation, Propagation::Shared | Propagation::Rshared)
}

fn is_slave(propagation: Propagation) -> bool {
    matches!(propagation, Propagation::Slave | Propagation::Rslave)
}

fn binds(mounts: &[ResolvedMount]) -> impl Iterator<Item = (&Path, Propagation)> {
    mounts.iter().filter_map(|m| match m.kind {
        MountKind::Bind { propagation, .. } => Some((m.source.as_path(), propagation)),
        _ => None,
    })
}

/// The mount that a path is on (statx(2), `STATX_MNT_ID`); `None` where it can't be told, and the kernel decides.
fn mount_id(path: &Path) -> Option<u64> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    /// As it stands there, with octal escapes.
    point: &'a str,
    /// The optional fields, which tell of peers and masters.
    fields: Vec<&'a str>,
}

/// The line of that mount (proc_pid_mountinfo(5)).
fn find(table: &str, id: u64) -> Option<Found<'_>> {
    table.lines().find_map(|line| {
        let mut words = line.split(' ');
        if words.next()?.parse() != Ok(id) {
            return None;
        }
        let point = words.nth(3)?;
        Some(Found { point, fields: words.skip(1).take_while(|word| *word != "-").collect() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_with_their_optional_fields() {
        let table = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n\
                     36 24 0:40 /x /mnt\\040a rw master:7 propagate_from:2 - tmpfs t rw\n\
                     37 24 0:41 / /run rw - tmpfs t rw\n";
        let of = |id| find(table, id);
        assert_eq!(of(24), Some(Found { point: "/", fields: vec!["shared:1"] }));
        assert_eq!(of(36), Some(Found { point: "/mnt\\040a", fields: vec!["master:7", "propagate_from:2"] }));
        assert_eq!(of(37), Some(Found { point: "/run", fields: Vec::new() }));
        assert_eq!(of(2), None);
    }

    #[test]
    fn this_machines_mounts_are_found() {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let proc = mount_id(Path::new("/proc/self")).and_then(|id| find(&table, id));
        assert_eq!(proc.map(|found| found.point), Some("/proc"));
    }
}
