//! Security options.

use crate::dto::host_config::HostConfig;
use naru_base::human::go_quote;
use naru_base::{Error, Result, capability};
use naru_engine::types::SeccompChoice;

/// What the options of `--security-opt` come to.
#[derive(Debug, Default)]
pub(crate) struct Security {
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: SeccompChoice,
    pub(crate) apparmor: Option<String>,
    /// What is said about SELinux labels.
    pub(crate) labels: Vec<String>,
    /// Nothing of /proc and /sys is hidden or read-only.
    pub(crate) open_system_paths: bool,
}

/// Reads them.
///
/// # Errors
/// With docker's texts.
pub(crate) fn options(host: &HostConfig) -> Result<Security> {
    let mut security = Security::default();
    for option in host.security_opt.iter().flatten() {
        if option == "no-new-privileges" {
            security.no_new_privileges = true;
            continue;
        }
        if option == "disable" {
            security.labels.push(option.clone());
            continue;
        }
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let Some((key, value)) = pair else {
            return Err(Error::invalid(format!("invalid --security-opt 1: {}", go_quote(option))));
        };
        let bad = || Error::invalid(format!("invalid --security-opt 2: {}", go_quote(option)));
        match key {
            "label" => security.labels.push(value.to_owned()),
            "apparmor" => security.apparmor = Some(value.to_owned()),
            "seccomp" => security.seccomp = seccomp(value)?,
            "no-new-privileges" => security.no_new_privileges = go_bool(value).ok_or_else(bad)?,
            "systempaths" if value == "unconfined" => security.open_system_paths = true,
            _ => return Err(bad()),
        }
    }
    Ok(security)
}

fn seccomp(value: &str) -> Result<SeccompChoice> {
    match value {
        "unconfined" => Ok(SeccompChoice::Unconfined),
        "" | "builtin" => Ok(SeccompChoice::Default),
        profile => match serde_json::from_str::<serde_json::Value>(profile) {
            Ok(serde_json::Value::Object(_)) => Ok(SeccompChoice::Profile(profile.to_owned())),
            Ok(_) => Err(Error::invalid("Decoding seccomp profile failed: it is no JSON object")),
            Err(e) => Err(Error::invalid(format!("Decoding seccomp profile failed: {e}"))),
        },
    }
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Checks names of capabilities, with or without `CAP_`.
///
/// # Errors
/// With docker's text.
pub(crate) fn capabilities(member: &str, names: Option<&Vec<String>>) -> Result<Vec<String>> {
    let names = names.cloned().unwrap_or_default();
    for name in &names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare != "ALL" && !capability::NAMES.contains(&bare) {
            return Err(Error::invalid(format!("invalid {member}: unknown capability: \"CAP_{bare}\"")));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Result<Security> {
        let list = options.iter().map(|o| (*o).to_owned()).collect();
        super::options(&HostConfig { security_opt: Some(list), ..HostConfig::default() })
    }

    #[test]
    fn options_are_understood() {
        let got = read(&["no-new-privileges", "label=disable", "apparmor=x", "seccomp=unconfined"]).unwrap();
        assert!(got.no_new_privileges);
        assert_eq!(got.apparmor.as_deref(), Some("x"));
        assert_eq!(got.labels, ["disable"]);
        assert_eq!(got.seccomp, SeccompChoice::Unconfined);
        assert!(!read(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        assert!(read(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        assert_eq!(read(&["seccomp={\"a\":1}"]).unwrap().seccomp, SeccompChoice::Profile("{\"a\":1}".into()));
        assert!(read(&["systempaths=unconfined"]).unwrap().open_system_paths);
    }

    #[test]
    fn others_are_refused_in_dockers_words() {
        assert_eq!(read(&["bla"]).unwrap_err().message(), "invalid --security-opt 1: \"bla\"");
        assert_eq!(read(&["bla=x"]).unwrap_err().message(), "invalid --security-opt 2: \"bla=x\"");
        assert_eq!(
            read(&["no-new-privileges=x"]).unwrap_err().message(),
            "invalid --security-opt 2: \"no-new-privileges=x\""
        );
        assert!(read(&["seccomp=/a/path"]).unwrap_err().message().starts_with("Decoding seccomp profile failed: "));
    }

    #[test]
    fn capabilities_are_known() {
        let check = |n: &str| capabilities("CapAdd", Some(&vec![n.to_owned()]));
        assert!(check("all").is_ok() && check("cap_net_raw").is_ok() && check("SYS_ADMIN").is_ok());
        assert_eq!(check("bla").unwrap_err().message(), "invalid CapAdd: unknown capability: \"CAP_BLA\"");
    }
}
