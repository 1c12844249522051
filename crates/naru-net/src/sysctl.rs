//! Kernel settings under /proc/sys/net. They are those of the calling thread's network namespace.

use crate::{Error, Result};
use std::path::Path;

const ROOT: &str = "/proc/sys/net";

/// Whether this kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").exists()
}

/// Writes `value` to `/proc/sys/net/<key>` (`ipv4/ip_forward`).
pub(crate) fn write(key: &str, value: &str) -> Result<()> {
    let path = format!("{ROOT}/{key}");
    naru_sys::fault::point();
    std::fs::write(&path, value).map_err(|source| Error::Sysctl { path, source })
}

/// Reads `/proc/sys/net/<key>`, trimmed.
pub(crate) fn read(key: &str) -> Result<String> {
    let path = format!("{ROOT}/{key}");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(Error::Sysctl { path, source }),
    }
}

/// Writes `value` unless the setting has it already; true when it had to.
pub(crate) fn ensure(key: &str, value: &str) -> Result<bool> {
    if read(key)? == value {
        return Ok(false);
    }
    write(key, value).map(|()| true)
}

/// Interfaces that have IPv6 settings, without `all` and `default`.
pub(crate) fn ipv6_interfaces() -> Result<Vec<String>> {
    let path = format!("{ROOT}/ipv6/conf");
    let listed = std::fs::read_dir(&path).map_err(|source| Error::Sysctl { path, source })?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|n| n != "all" && n != "default").collect())
}
