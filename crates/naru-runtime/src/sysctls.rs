//! Kernel settings of the container's own namespaces, written through its own procfs.

use crate::StartError;
use crate::mounts::c_path;
use crate::report::{At, Failure, Op, errno_text};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::BTreeMap;
use std::ffi::CString;

/// Path below `/proc/sys` and value of each setting.
#[derive(Debug, Default)]
pub(crate) struct Sysctls(Vec<(CString, CString)>);

/// Turns names into paths.
pub(crate) fn prepare(settings: &BTreeMap<String, String>) -> Result<Sysctls, StartError> {
    settings
        .iter()
        .map(|(key, value)| {
            let path = path_of(key).ok_or_else(|| StartError::invalid(format!("invalid sysctl name \"{key}\"")))?;
            Ok((c_path(path.as_bytes())?, c_path(value.as_bytes())?))
        })
        .collect::<Result<_, _>>()
        .map(Sysctls)
}

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding` (sysctl(8)): whichever separator comes first separates.
fn path_of(key: &str) -> Option<String> {
    let separator = key.chars().find(|c| matches!(c, '.' | '/'))?;
    let path: String = match separator {
        '/' => key.to_owned(),
        _ => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let ordinary = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    ordinary.then(|| format!("sys/{path}"))
}

/// Writes them all; `proc` is the procfs that was just made, so nothing else can be in its place. After clone.
pub(crate) fn write(proc: Option<BorrowedFd<'_>>, settings: &Sysctls) -> Result<(), Failure> {
    if settings.0.is_empty() {
        return Ok(());
    }
    let own;
    let proc = match proc {
        Some(proc) => proc,
        None => {
            own = crate::mounts::private_proc()?;
            own.as_fd()
        }
    };
    for (index, (path, value)) in settings.0.iter().enumerate() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file =
            openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).at(Op::OpenFile, index)?;
        rustix::io::write(&file, value.to_bytes()).at(Op::Write, index)?;
    }
    Ok(())
}

/// What failed.
pub(crate) fn describe(settings: &BTreeMap<String, String>, failure: Failure) -> StartError {
    let name = settings.keys().nth(failure.index as usize).map_or("", String::as_str);
    let what = if failure.op == Op::Write { "write" } else { "open" };
    StartError::system(format!("{what} sysctl {name}: {}", errno_text(failure.errno)))
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn names_become_paths() {
        assert_eq!(path_of("net.ipv4.ip_forward").as_deref(), Some("sys/net/ipv4/ip_forward"));
        assert_eq!(path_of("net.ipv4.conf.eth0/1.forwarding").as_deref(), Some("sys/net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(path_of("net/ipv4/conf/eth0.1/x").as_deref(), Some("sys/net/ipv4/conf/eth0.1/x"));
        for bad in ["", "net", "net..x", "net/../x", "/net/x", "net.ipv4."] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }
}
