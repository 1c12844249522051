//! What is said before the command: where state is kept, and where messages go.

use crate::args::{Flag, Parsed, switch, value};
use naru_base::{Error, Result};
use std::path::PathBuf;

/// runc's global flags, and crun's that Podman may add.
pub(crate) const FLAGS: &[Flag] = &[
    value("root", "root folder for the state of containers"),
    value("log", "file for messages, instead of standard error"),
    value("log-format", "format of messages: text or json"),
    switch("debug", "tell more"),
    switch("systemd-cgroup", "have systemd make cgroups; cgroupsPath is slice:prefix:name"),
    value("rootless", "true, false or auto: ignored, this runtime needs root"),
    value("cgroup-manager", "cgroupfs, or systemd"),
    value("criu", "ignored"),
    switch("version", "print the version").or("v"),
];

/// Where state is kept unless `--root` says otherwise.
const ROOT: &str = "/run/naru-oci";

/// The settings of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Global {
    /// Folder with one folder per container.
    pub root: PathBuf,
    /// Where messages go.
    pub log: Option<PathBuf>,
    /// Whether they are JSON.
    pub json: bool,
    /// Whether debug messages are told.
    pub debug: bool,
    /// systemd makes the cgroups.
    pub systemd: bool,
    help: bool,
}

impl Global {
    /// Reads what is before the command; the rest begins with the command's name.
    ///
    /// # Errors
    /// An unknown flag or format.
    pub(crate) fn parse(args: Vec<String>) -> Result<(Self, Vec<String>)> {
        let parsed = Parsed::parse("oci", FLAGS, args, false)?;
        let json = match parsed.get("log-format") {
            None | Some("" | "text") => false,
            Some("json") => true,
            Some(other) => return Err(Error::invalid(format!("invalid log format {other:?}: text or json"))),
        };
        let path = |name: &str| parsed.get(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let global = Self {
            root: path("root").unwrap_or_else(|| ROOT.into()),
            log: path("log").filter(|path| path.as_os_str() != "/dev/stderr"),
            json,
            debug: parsed.has("debug"),
            systemd: parsed.has("systemd-cgroup") || parsed.get("cgroup-manager") == Some("systemd"),
            help: parsed.has("help"),
        };
        if parsed.has("version") {
            return Ok((global, vec!["version".to_owned()]));
        }
        Ok((global, parsed.rest))
    }

    pub(crate) fn asks_for_help(&self) -> bool {
        self.help
    }
}
