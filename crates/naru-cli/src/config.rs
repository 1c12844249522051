//! The client's configuration file (`~/.docker/config.json`) and the credentials in it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The key under which Docker Hub's credentials stand.
pub const HUB: &str = "https://index.docker.io/v1/";

/// The configuration file, kept whole: what we don't know is written back as it was.
#[derive(Debug, Default)]
pub struct Config {
    path: PathBuf,
    data: Map<String, Value>,
}

/// A user's credentials for one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password, unless there is a token.
    pub password: String,
    /// An identity token in place of a password.
    pub identity_token: String,
}

impl Config {
    /// Reads `config.json` in `folder`; a missing or broken file is an empty one.
    pub fn load(folder: &Path) -> Self {
        let path = folder.join("config.json");
        let data = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path, data }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text setting such as `psFormat` or `detachKeys`; empty without one.
    pub fn text(&self, key: &str) -> &str {
        self.data.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The headers that go out with every request.
    pub fn headers(&self) -> Vec<(String, String)> {
        let map = self.data.get("HttpHeaders").and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    /// The proxy variables for containers of the engine at `host`: `HTTP_PROXY`, `http_proxy`, … with their values.
    pub fn proxies(&self, host: &str) -> Vec<(String, String)> {
        const KEYS: [(&str, &str); 5] = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        let Some(all) = self.data.get("proxies") else { return Vec::new() };
        let Some(chosen) = all.get(host).or_else(|| all.get("default")) else { return Vec::new() };
        let mut out = Vec::new();
        for (key, variable) in KEYS {
            if let Some(value) = chosen.get(key).and_then(Value::as_str).filter(|v| !v.is_empty()) {
                out.push((variable.to_owned(), value.to_owned()));
                out.push((variable.to_ascii_lowercase(), value.to_owned()));
            }
        }
        out
    }

    /// The credential helper that keeps `registry`'s credentials, if any.
    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.data.get("credHelpers").and_then(|h| h.get(registry)).and_then(Value::as_str);
        own.or_else(|| self.data.get("credsStore").and_then(Value::as_str)).filter(|h| !h.is_empty())
    }

    /// Whether credentials would be kept in the file itself, for all to read who can read it.
    pub fn keeps_plain(&self, registry: &str) -> bool {
        self.helper(registry).is_none()
    }

    /// The credentials for `registry` (a domain, or [`HUB`]).
    pub fn credentials(&self, registry: &str) -> Option<Credentials> {
        if let Some(helper) = self.helper(registry) {
            return helper_get(helper, registry);
        }
        let auths = self.data.get("auths")?.as_object()?;
        let entry = auths
            .get(registry)
            .or_else(|| auths.iter().find(|(key, _)| host_of(key) == host_of(registry)).map(|(_, entry)| entry))?;
        let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut found = Credentials {
            username: field("username"),
            password: field("password"),
            identity_token: field("identitytoken"),
        };
        let auth = field("auth");
        if !auth.is_empty() {
            let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            found.username = user.to_owned();
            found.password = password.trim_end_matches('\0').to_owned();
        }
        Some(found)
    }

    /// Keeps credentials.
    ///
    /// # Errors
    /// When the helper or the file refuses.
    pub fn store(&mut self, registry: &str, credentials: &Credentials) -> Result<(), String> {
        if let Some(helper) = self.helper(registry) {
            let secret =
                if credentials.identity_token.is_empty() { &credentials.password } else { &credentials.identity_token };
            let user = if credentials.identity_token.is_empty() { credentials.username.as_str() } else { "<token>" };
            let request = json!({"ServerURL": registry, "Username": user, "Secret": secret}).to_string();
            helper_call(helper, "store", &request)?;
            self.auths().insert(registry.to_owned(), json!({}));
            return self.save();
        }
        let mut entry = Map::new();
        let auth = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
        entry.insert("auth".into(), auth.into());
        if !credentials.identity_token.is_empty() {
            entry.insert("identitytoken".into(), credentials.identity_token.clone().into());
        }
        self.auths().insert(registry.to_owned(), entry.into());
        self.save()
    }

    /// Forgets credentials; says whether there were any.
    ///
    /// # Errors
    /// When the helper or the file refuses.
    pub fn erase(&mut self, registry: &str) -> Result<bool, String> {
        let known = self.data.get("auths").and_then(|a| a.get(registry)).is_some();
        if let Some(helper) = self.helper(registry) {
            helper_call(helper, "erase", registry)?;
        }
        if known {
            self.auths().remove(registry);
            self.save()?;
        }
        Ok(known)
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let slot = self.data.entry("auths").or_insert_with(|| json!({}));
        if !slot.is_object() {
            *slot = json!({});
        }
        match slot {
            Value::Object(map) => map,
            _ => unreachable!("it was made an object above"),
        }
    }

    /// Writes a new file beside the old one and renames it, readable by its owner only.
    fn save(&self) -> Result<(), String> {
        use std::os::unix::fs::OpenOptionsExt;
        let problem = |e: std::io::Error| format!("error saving credentials: {}: {e}", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(problem)?;
        let temp = folder.join(format!(".config.json.{}", std::process::id()));
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&self.data, &mut serializer).map_err(|e| e.to_string())?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temp)
            .map_err(problem)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(problem)?;
        // A link to the real file stays a link.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        std::fs::rename(&temp, target).map_err(problem)
    }
}

/// The `X-Registry-Auth` header's value.
pub fn encode_auth(registry: &str, credentials: Option<&Credentials>) -> String {
    let mut object = Map::new();
    if let Some(c) = credentials {
        for (key, value) in [("username", &c.username), ("password", &c.password), ("identitytoken", &c.identity_token)]
        {
            if !value.is_empty() {
                object.insert(key.into(), value.clone().into());
            }
        }
        object.insert("serveraddress".into(), registry.into());
    }
    URL_SAFE.encode(Value::Object(object).to_string())
}

/// The host of a key such as `https://index.docker.io/v1/`.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

fn helper_call(helper: &str, action: &str, input: &str) -> Result<String, String> {
    let program = format!("docker-credential-{helper}");
    let problem = |e: std::io::Error| format!("error getting credentials - err: exec: {program:?}: {e}");
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(problem)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(problem)?;
    }
    let output = child.wait_with_output().map_err(problem)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("error getting credentials - err: {program}: {text}")) }
}

fn helper_get(helper: &str, registry: &str) -> Option<Credentials> {
    let answer: Value = serde_json::from_str(&helper_call(helper, "get", registry).ok()?).ok()?;
    let field = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if field("Username") == "<token>" {
        return Some(Credentials { identity_token: field("Secret"), ..Credentials::default() });
    }
    Some(Credentials { username: field("Username"), password: field("Secret"), identity_token: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("naru-cli-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn credentials_are_kept_and_forgotten() {
        let folder = scratch("auths");
        std::fs::write(
            folder.join("config.json"),
            r#"{"psFormat":"x","auths":{"https://a.example/v1/":{"auth":"dTpwOnE="}}}"#,
        )
        .unwrap();
        let mut config = Config::load(&folder);
        let found = config.credentials("a.example").unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p:q"));
        config
            .store("b.example", &Credentials { username: "n".into(), password: "s".into(), ..Default::default() })
            .unwrap();
        let mut again = Config::load(&folder);
        assert_eq!(again.text("psFormat"), "x");
        assert_eq!(again.credentials("b.example").unwrap().password, "s");
        assert!(again.erase("b.example").unwrap() && !again.erase("b.example").unwrap());
        assert!(Config::load(&folder).credentials("b.example").is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn proxies_for_containers() {
        let data =
            serde_json::from_str(r#"{"proxies":{"default":{"httpProxy":"http://p"},"tcp://x":{"noProxy":"n"}}}"#)
                .unwrap();
        let config = Config { path: PathBuf::new(), data };
        assert_eq!(config.proxies("unix:///s").len(), 2);
        assert_eq!(config.proxies("tcp://x")[1], ("no_proxy".to_owned(), "n".to_owned()));
    }

    #[test]
    fn auth_header() {
        assert_eq!(encode_auth("r", None), "e30=");
        let c = Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
        let text = URL_SAFE.decode(encode_auth("r", Some(&c))).unwrap();
        assert_eq!(text, br#"{"username":"u","password":"p","serveraddress":"r"}"#);
    }
}
