//! Confinement by AppArmor: which profile a container has, and the profile of those that name none.
//!
//! The kernel takes compiled profiles only, so the default one is loaded by the host's `apparmor_parser`, once per boot. Where that can't be
//! done, containers that name no profile are not confined, which the engine says when it starts.

use crate::types::HostSettings;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The name of the default profile.
pub(crate) const DEFAULT: &str = "naru-default";
const PROFILE: &str = include_str!("naru-default.apparmor");
/// Where distributions have it.
const PARSERS: [&str; 4] =
    ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser", "/bin/apparmor_parser"];
/// The text that was loaded last, below the engine's folder for what a reboot removes.
const LOADED: &str = "apparmor-profile";

/// What the engine knows of AppArmor on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppArmor {
    /// The kernel doesn't have it, or it is off.
    Absent,
    /// Profiles confine; why there is no default one.
    WithoutDefault(String),
    /// Profiles confine, the default one too.
    Ready,
}

impl AppArmor {
    /// Looks, and loads the default profile if that isn't there yet.
    pub(crate) fn set_up(exec_root: &Path) -> Self {
        if !is_enabled() {
            return Self::Absent;
        }
        let mark = exec_root.join(LOADED);
        if is_loaded(DEFAULT) && std::fs::read_to_string(&mark).is_ok_and(|text| text == PROFILE) {
            return Self::Ready;
        }
        if let Err(why) = load(PROFILE) {
            return Self::WithoutDefault(why);
        }
        // Without the mark it is loaded once more, which harms nothing.
        let _ = std::fs::write(&mark, PROFILE);
        Self::Ready
    }

    /// Whether profiles confine on this host.
    pub(crate) fn is_active(&self) -> bool {
        *self != Self::Absent
    }

    /// The profile of a process, `None` for none.
    pub(crate) fn profile<'a>(&self, host: &'a HostSettings, privileged: bool) -> Option<&'a str> {
        match asked_for(host) {
            _ if !self.is_active() => None,
            Some("unconfined") => None,
            Some(name) => Some(name),
            None => (*self == Self::Ready && !privileged).then_some(DEFAULT),
        }
    }

    /// What `inspect` shows.
    pub(crate) fn shown(&self, host: &HostSettings) -> String {
        match self {
            Self::Absent => host.apparmor.clone().unwrap_or_default(),
            _ => self.profile(host, host.privileged).unwrap_or("unconfined").to_owned(),
        }
    }

    /// A sentence for the user who asked for a profile that can't be had.
    pub(crate) fn warning(&self, host: &HostSettings) -> Option<String> {
        let name = asked_for(host).filter(|name| *name != "unconfined" && !self.is_active())?;
        Some(format!("AppArmor is not active on this host: the profile {name} has no effect"))
    }
}

/// What `--security-opt apparmor=` says.
fn asked_for(host: &HostSettings) -> Option<&str> {
    host.apparmor.as_deref().filter(|name| !name.is_empty())
}

fn is_enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether the kernel has a profile of that name (`name (mode)` in each line).
fn is_loaded(name: &str) -> bool {
    let list = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    list.lines().any(|line| line.split(' ').next() == Some(name))
}

/// Compiles and loads `profile`, in the place of one with its name.
fn load(profile: &str) -> Result<(), String> {
    let program = PARSERS
        .iter()
        .find(|path| Path::new(path).exists())
        .ok_or("the program apparmor_parser, which loads profiles, is not installed")?;
    let fail = |e: std::io::Error| format!("{program}: {e}");
    let mut child = Command::new(program)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it reads nothing, it says why itself.
        let _ = stdin.write_all(profile.as_bytes());
    }
    let output = child.wait_with_output().map_err(fail)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} failed ({}): {}", output.status, said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_confined_by_what() {
        let host = |apparmor: &str| HostSettings {
            apparmor: Some(apparmor.to_owned()).filter(|a| !a.is_empty()),
            ..HostSettings::default()
        };
        let without = AppArmor::WithoutDefault("x".into());
        assert_eq!(AppArmor::Ready.profile(&host(""), false), Some(DEFAULT));
        assert_eq!(AppArmor::Ready.profile(&host(""), true), None);
        assert_eq!(AppArmor::Ready.profile(&host("own"), true), Some("own"));
        assert_eq!(AppArmor::Ready.profile(&host("unconfined"), false), None);
        assert_eq!((without.profile(&host(""), false), without.profile(&host("own"), false)), (None, Some("own")));
        assert_eq!((without.shown(&host("")), AppArmor::Absent.shown(&host(""))), ("unconfined".into(), String::new()));
        assert_eq!(AppArmor::Absent.profile(&host("own"), false), None);
        assert!(AppArmor::Absent.warning(&host("own")).is_some_and(|text| text.contains("own")));
        assert_eq!(AppArmor::Ready.warning(&host("own")), None);
    }

    #[test]
    fn the_profile_has_its_name() {
        assert!(PROFILE.contains(&format!("profile {DEFAULT} ")));
    }
}
