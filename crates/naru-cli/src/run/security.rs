//! `--security-opt` as the API takes it: profiles are sent by value.

/// What the options come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// For the engine.
    pub options: Vec<String>,
    /// `systempaths=unconfined`: nothing is masked or made read-only.
    pub unconfined_paths: bool,
}

/// Reads the options; a seccomp profile's file is put in place of its name.
///
/// # Errors
/// For an option without a value, and a profile that cannot be read.
pub fn parse(options: &[&str]) -> Result<Security, String> {
    let mut out = Security::default();
    for option in options {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, value),
            // The old form with a colon.
            None => match option.split_once(':') {
                Some((key, value)) => (key, value),
                None if *option == "no-new-privileges" => (*option, ""),
                None => return Err(format!("Invalid --security-opt: {}", naru_base::human::go_quote(option))),
            },
        };
        match (key, value) {
            ("systempaths", "unconfined") => out.unconfined_paths = true,
            ("seccomp", file) if file != "unconfined" && file != "builtin" => {
                out.options.push(format!("seccomp={}", profile(file)?));
            }
            _ => out.options.push((*option).to_owned()),
        }
    }
    Ok(out)
}

fn profile(file: &str) -> Result<String, String> {
    let text = std::fs::read(file)
        .map_err(|e| format!("opening seccomp profile ({file}) failed: open {file}: {}", crate::commands::go_io(&e)))?;
    let json: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| format!("compacting json for seccomp profile ({file}) failed: {e}"))?;
    Ok(json.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let s = parse(&["apparmor=x", "systempaths=unconfined", "no-new-privileges", "seccomp=unconfined"]).unwrap();
        assert_eq!(s.options, ["apparmor=x", "no-new-privileges", "seccomp=unconfined"]);
        assert!(s.unconfined_paths);
        assert!(parse(&["nonsense"]).is_err() && parse(&["seccomp=/nonexistent"]).is_err());
    }
}
