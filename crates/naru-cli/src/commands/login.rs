//! `login`: credentials for a registry, checked by it and kept.

use crate::config::{Credentials, HUB};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::term::{self, NoEcho};
use naru_client::Request;
use serde_json::json;
use std::io::Read;

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    status: String,
    identity_token: String,
}

/// The key of a registry in the configuration file.
pub fn registry_key(server: &str) -> &str {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match bare.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    }
}

/// Runs the command.
pub fn login(context: &mut Context, m: &Matches) -> Outcome {
    let registry = registry_key(m.arg(0)).to_owned();
    let mut username = m.str("username").to_owned();
    let mut password = m.str("password").to_owned();
    if m.given("password") {
        context.printer.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if m.bool("password-stdin") {
            return Err(Failure::new("--password and --password-stdin are mutually exclusive"));
        }
    }
    if m.bool("password-stdin") {
        if username.is_empty() {
            return Err(Failure::new("the --password-stdin option requires --username to be set"));
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        password = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)).to_owned();
    }
    let stored = context.config().credentials(&registry);
    if username.is_empty()
        && password.is_empty()
        && let Some(stored) = &stored
    {
        context.printer.err(format!("Authenticating with existing credentials... [Username: {}]", stored.username));
        if let Ok(answer) = check(context, &registry, stored) {
            return succeed(context, &registry, stored.clone(), &answer);
        }
    }
    prompt(context, stored.as_ref(), &mut username, &mut password)?;
    let credentials = Credentials { username, password, identity_token: String::new() };
    let answer = check(context, &registry, &credentials)?;
    succeed(context, &registry, credentials, &answer)
}

fn prompt(
    context: &mut Context,
    stored: Option<&Credentials>,
    username: &mut String,
    password: &mut String,
) -> Result<(), Failure> {
    if (username.is_empty() || password.is_empty()) && !term::stdin_is_terminal() {
        return Err(Failure::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if username.is_empty() {
        let before = stored.map(|s| s.username.as_str()).filter(|u| !u.is_empty());
        let hint = before.map(|u| format!(" ({u})")).unwrap_or_default();
        context.printer.now(format!("Username{hint}: ").as_bytes())?;
        *username = read_line()?;
        if username.is_empty() {
            *username = before.unwrap_or_default().to_owned();
        }
        if username.is_empty() {
            return Err(Failure::new("error: username is required"));
        }
    }
    if password.is_empty() {
        context.printer.now(b"Password: ")?;
        let typed = {
            let _quiet = NoEcho::enter();
            read_line()?
        };
        context.printer.now(b"\n")?;
        if typed.is_empty() {
            return Err(Failure::new("error: password is required"));
        }
        *password = typed;
    }
    Ok(())
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).trim().to_owned())
}

fn check(context: &Context, registry: &str, c: &Credentials) -> Result<Answer, Failure> {
    let mut body = json!({"username": c.username, "password": c.password, "serveraddress": registry});
    if !c.identity_token.is_empty() {
        body["identitytoken"] = c.identity_token.clone().into();
    }
    Ok(context.send(Request::post("/auth").json(&body))?.json()?)
}

fn succeed(context: &mut Context, registry: &str, mut credentials: Credentials, answer: &Answer) -> Outcome {
    if !answer.identity_token.is_empty() {
        credentials.password = String::new();
        credentials.identity_token.clone_from(&answer.identity_token);
    }
    let config = context.config_mut();
    let plain = config.keeps_plain(registry);
    config.store(registry, &credentials)?;
    let path = config.path().display().to_string();
    if plain {
        context.printer.err(format!(
            "\nWARNING! Your credentials are stored unencrypted in '{path}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n"
        ));
    }
    if !answer.status.is_empty() {
        context.printer.line(&answer.status)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(registry_key(""), HUB);
        assert_eq!(registry_key("docker.io"), HUB);
        assert_eq!(registry_key("https://r.example:5000/v2/"), "r.example:5000");
    }
}
