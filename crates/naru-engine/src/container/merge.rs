//! What the caller asked for and what the image says, made one; and Dockerfile instructions applied to a configuration.

use crate::types::{ContainerConfig, Healthcheck};
use naru_base::{Error, Result};

/// Fills in from the image what the caller left open, with docker's rules.
///
/// # Errors
/// When there is no command in the end.
pub(crate) fn with_image(mut asked: ContainerConfig, image: &ContainerConfig) -> Result<ContainerConfig> {
    let cleared = asked.entrypoint.as_deref().is_some_and(|e| matches!(e, [one] if one.is_empty()));
    match asked.entrypoint.as_deref() {
        // No entrypoint of the caller's own: the image's, and its command where the caller gives none.
        None | Some([]) => {
            if asked.cmd.as_ref().is_none_or(Vec::is_empty) {
                asked.cmd.clone_from(&image.cmd);
            }
            if asked.entrypoint.is_none() {
                asked.entrypoint.clone_from(&image.entrypoint);
            }
        }
        Some(_) if cleared => asked.entrypoint = None,
        Some(_) => {}
    }
    if asked.user.is_empty() {
        asked.user.clone_from(&image.user);
    }
    if asked.working_dir.is_empty() {
        asked.working_dir.clone_from(&image.working_dir);
    }
    if asked.stop_signal.is_none() {
        asked.stop_signal.clone_from(&image.stop_signal);
    }
    if asked.shell.is_none() {
        asked.shell.clone_from(&image.shell);
    }
    let key = |e: &str| e.split_once('=').map_or(e, |(k, _)| k).to_owned();
    let given: Vec<String> = asked.env.iter().map(|e| key(e)).collect();
    asked.env.extend(image.env.iter().filter(|e| !given.contains(&key(e))).cloned());
    for (name, value) in &image.labels {
        asked.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    asked.exposed_ports.extend(image.exposed_ports.iter().cloned());
    asked.volumes.extend(image.volumes.iter().cloned());
    asked.healthcheck = merge_healthcheck(asked.healthcheck, image.healthcheck.as_ref());
    if command(&asked).is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    Ok(asked)
}

/// Entrypoint and command in a row.
pub(crate) fn command(config: &ContainerConfig) -> Vec<String> {
    let both = [&config.entrypoint, &config.cmd];
    both.iter().filter_map(|p| p.as_ref()).flatten().cloned().collect()
}

fn merge_healthcheck(asked: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (Some(mut own), Some(base)) = (asked.clone(), image) else { return asked.or_else(|| image.cloned()) };
    if own.test.is_empty() {
        own.test.clone_from(&base.test);
    }
    for (mine, theirs) in [
        (&mut own.interval, base.interval),
        (&mut own.timeout, base.timeout),
        (&mut own.start_period, base.start_period),
        (&mut own.start_interval, base.start_interval),
        (&mut own.retries, base.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
    Some(own)
}

/// Applies `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `ONBUILD`, `USER`, `VOLUME`, `WORKDIR`, `STOPSIGNAL` and `SHELL` lines to a
/// configuration (`commit -c`, `import -c`).
///
/// # Errors
/// For other instructions, and malformed ones; the text names the line.
pub(crate) fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    for line in changes.iter().flat_map(|c| c.lines()).map(str::trim).filter(|l| !l.is_empty()) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        apply(config, &word.to_ascii_uppercase(), rest.trim())
            .map_err(|why| Error::invalid(format!("{why}: {line:?}")))?;
    }
    Ok(())
}

fn apply(config: &mut ContainerConfig, word: &str, rest: &str) -> std::result::Result<(), String> {
    if rest.is_empty() && !matches!(word, "CMD" | "ENTRYPOINT") {
        return Err(format!("{word} requires at least one argument"));
    }
    match word {
        "CMD" => config.cmd = Some(exec_or_shell(rest, config.shell.as_deref())),
        "ENTRYPOINT" => config.entrypoint = Some(exec_or_shell(rest, config.shell.as_deref())),
        "SHELL" => config.shell = Some(json_words(rest).ok_or("SHELL requires the arguments to be in JSON form")?),
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = join_workdir(&config.working_dir, rest),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "VOLUME" => config.volumes.extend(json_words(rest).unwrap_or_else(|| plain_words(rest))),
        "EXPOSE" => config.exposed_ports.extend(rest.split_whitespace().map(with_protocol)),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                config.env.retain(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k) != key);
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest, config.shell.as_deref())?),
        other => return Err(format!("{} is not a valid change command", other.to_ascii_lowercase())),
    }
    Ok(())
}

fn exec_or_shell(rest: &str, shell: Option<&[String]>) -> Vec<String> {
    if rest.is_empty() {
        return Vec::new();
    }
    json_words(rest).unwrap_or_else(|| {
        let mut out = shell.map_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()], <[String]>::to_vec);
        out.push(rest.to_owned());
        out
    })
}

fn json_words(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

fn plain_words(rest: &str) -> Vec<String> {
    rest.split_whitespace().map(str::to_owned).collect()
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

fn join_workdir(current: &str, given: &str) -> String {
    if given.starts_with('/') { given.to_owned() } else { format!("{}/{given}", current.trim_end_matches('/')) }
}

fn healthcheck(rest: &str, shell: Option<&[String]>) -> std::result::Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (word, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (key, value) = word.split_once('=').ok_or(format!("missing value of --{word}"))?;
        let nanos = || naru_base::duration::parse(value).map_err(|e| e.to_string());
        match key {
            "interval" => check.interval = nanos()?,
            "timeout" => check.timeout = nanos()?,
            "start-period" => check.start_period = nanos()?,
            "start-interval" => check.start_interval = nanos()?,
            "retries" => check.retries = value.parse().map_err(|_| format!("invalid --retries={value}"))?,
            _ => return Err(format!("unknown flag: {key}")),
        }
        rest = after.trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match word.to_ascii_uppercase().as_str() {
        "NONE" => vec!["NONE".into()],
        "CMD" => match json_words(command.trim()) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".into(), exec_or_shell(command.trim(), shell).pop().unwrap_or_default()],
        },
        other => return Err(format!("unknown type {other:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// `key=value key2="a b"` or the old form `key rest of line`.
fn pairs(rest: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let words = shell_words(rest)?;
    if let Some(first) = words.first()
        && !first.contains('=')
    {
        let (key, value) = rest.split_once(char::is_whitespace).ok_or("must have two arguments")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|w| match w.split_once('=') {
            Some(("", _)) => Err("names can not be blank".to_owned()),
            Some((k, v)) => Ok((k.to_owned(), v.to_owned())),
            None => Err(format!("can't find = in {w:?}. Must be of the form: name=value")),
        })
        .collect()
}

/// Words as a shell splits them: quotes and backslashes.
fn shell_words(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("unexpected end of statement while looking for matching quote".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|s| (*s).to_owned()).collect())
    }

    fn image() -> ContainerConfig {
        ContainerConfig {
            entrypoint: words(&["/entry"]),
            cmd: words(&["default"]),
            env: vec!["A=1".into(), "B=2".into()],
            user: "app".into(),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn command_and_entrypoint_follow_docker() {
        let merged = |entrypoint, cmd| {
            let asked = ContainerConfig { entrypoint, cmd, ..ContainerConfig::default() };
            with_image(asked, &image()).map(|c| command(&c))
        };
        assert_eq!(merged(None, None).unwrap(), ["/entry", "default"]);
        assert_eq!(merged(None, words(&["x"])).unwrap(), ["/entry", "x"]);
        assert_eq!(merged(words(&["/other"]), words(&["y"])).unwrap(), ["/other", "y"]);
        assert_eq!(merged(words(&["/other"]), None).unwrap(), ["/other"]);
        assert_eq!(merged(words(&[""]), words(&["sh"])).unwrap(), ["sh"]);
        assert_eq!(merged(words(&[""]), None).unwrap_err().message(), "no command specified");
    }

    #[test]
    fn environment_of_the_caller_wins() {
        let asked = ContainerConfig { env: vec!["B=9".into(), "C=3".into()], ..ContainerConfig::default() };
        assert_eq!(with_image(asked, &image()).unwrap().env, ["B=9", "C=3", "A=1"]);
    }

    #[test]
    fn changes_are_applied() {
        let mut config = image();
        let lines = [
            "CMD [\"a\", \"b\"]",
            "ENTRYPOINT run it",
            "ENV A=x D=\"q r\"",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "USER u",
            "WORKDIR /w",
            "VOLUME /v",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=5s CMD true",
        ];
        apply_changes(&mut config, &lines.map(str::to_owned)).unwrap();
        assert_eq!(config.cmd, words(&["a", "b"]));
        assert_eq!(config.entrypoint, words(&["/bin/sh", "-c", "run it"]));
        assert_eq!(config.env, ["B=2", "A=x", "D=q r"]);
        assert!(config.exposed_ports.contains("53/udp") && config.exposed_ports.contains("80/tcp"));
        assert_eq!(config.healthcheck.unwrap().test, ["CMD-SHELL", "true"]);
    }

    #[test]
    fn bad_changes_are_named() {
        for bad in ["FROM x", "ENV", "ENV =x", "LABEL a=1 b", "ENV A=\"x", "SHELL sh"] {
            let error = apply_changes(&mut image(), &[bad.to_owned()]).unwrap_err();
            assert!(error.message().contains(&format!("{bad:?}")), "{bad}: {error}");
        }
    }
}
