//! A token service and the registry that asks for its tokens: a proxy that lets through what has one.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};

use crate::engine::Engine;
use crate::server::{Message, Server, write_answer};

/// `joe` with the password `secret`, as Basic wants it.
const ACCOUNT: &str = "Basic am9lOnNlY3JldA==";
/// What `joe` may renew tokens with.
const IDENTITY: &str = "identity-of-joe";

/// A registry behind a token service, in the engine's network namespace. `joe` with the password `secret` gets any token.
pub struct Tokens {
    server: Server,
    state: Arc<State>,
}

struct State {
    port: u16,
    upstream: u16,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// How often each token can still be used.
    left: HashMap<String, (String, usize)>,
    /// The requests for tokens that were granted: the way (`basic`, `refresh`) and the scope.
    granted: Vec<String>,
    uses: Option<usize>,
    identity: bool,
}

impl Tokens {
    /// Starts one on `port` of the engine's loopback, in front of the registry at `upstream`.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn start(engine: &Engine, port: u16, upstream: u16) -> Result<Tokens> {
        let state = Arc::new(State { port, upstream, log: Mutex::default() });
        let shared = Arc::clone(&state);
        let server = Server::start(engine, port, Arc::default(), move |stream| shared.serve(stream))?;
        Ok(Tokens { server, state })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Forgets all tokens and what was granted; from now on a token holds for `uses` requests, and a login gets an identity token or not.
    ///
    /// # Errors
    /// When a serving thread panicked.
    pub fn begin(&self, uses: Option<usize>, identity: bool) -> Result<()> {
        let mut log = self.state.log.lock().map_err(|_| anyhow!("the token service panicked"))?;
        *log = Log { uses, identity, ..Log::default() };
        Ok(())
    }

    /// What was granted: `basic` or `refresh`, and the scope.
    ///
    /// # Errors
    /// When a serving thread panicked.
    pub fn granted(&self) -> Result<Vec<String>> {
        Ok(self.state.log.lock().map_err(|_| anyhow!("the token service panicked"))?.granted.clone())
    }
}

fn say(client: &mut TcpStream, status: &str, header: &str, body: &serde_json::Value) -> Result<()> {
    let body = body.to_string();
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

impl State {
    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let request = Message::request(&client)?;
        let mut words = request.head[0].split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let authorization = request
            .head
            .iter()
            .find(|line| line.to_ascii_lowercase().starts_with("authorization:"))
            .and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim());
        if let Some(query) = target.strip_prefix("/token") {
            return self.token(&mut client, query, authorization, &String::from_utf8_lossy(&request.body));
        }
        if !self.admits(method, target, authorization)? {
            return self.challenge(&mut client, method, target);
        }
        let answer = request.forward(self.upstream)?;
        let (behind, own) = (format!("127.0.0.1:{}", self.upstream), format!("127.0.0.1:{}", self.port));
        let head: Vec<_> = answer.head.iter().map(|line| line.replace(&behind, &own)).collect();
        write_answer(&mut client, &head, answer.body.len(), &answer.body)
    }

    fn admits(&self, method: &str, target: &str, authorization: &str) -> Result<bool> {
        let mut log = self.log.lock().map_err(|_| anyhow!("the token service panicked"))?;
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let Some((scope, left)) = log.left.get_mut(token) else { return Ok(false) };
        let action = if ["GET", "HEAD"].contains(&method) { "pull" } else { "push" };
        let named = scope.split(' ').any(|one| match one.split(':').collect::<Vec<_>>()[..] {
            ["repository", name, actions] => {
                target.starts_with(&format!("/v2/{name}/")) && actions.split(',').any(|a| a == action)
            }
            _ => false,
        });
        if *left == 0 || !(named || target == "/v2/") {
            return Ok(false);
        }
        *left -= 1;
        Ok(true)
    }

    fn challenge(&self, client: &mut TcpStream, method: &str, target: &str) -> Result<()> {
        let actions = if ["GET", "HEAD"].contains(&method) { "pull" } else { "pull,push" };
        let name = ["/blobs/", "/manifests/", "/tags/"]
            .iter()
            .find_map(|part| target.strip_prefix("/v2/")?.split_once(part))
            .map(|(name, _)| format!(",scope=\"repository:{name}:{actions}\""));
        let header = format!(
            "Docker-Distribution-Api-Version: registry/2.0\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:{}/token\",\
             service=\"kit\"{}\r\n",
            self.port,
            name.unwrap_or_default()
        );
        let body = serde_json::json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
        if method == "HEAD" {
            write!(client, "HTTP/1.1 401 Unauthorized\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n")?;
            return Ok(());
        }
        say(client, "401 Unauthorized", &header, &body)
    }

    fn token(&self, client: &mut TcpStream, query: &str, authorization: &str, form: &str) -> Result<()> {
        let refresh = form.contains(&format!("refresh_token={IDENTITY}"));
        if authorization != ACCOUNT && !refresh {
            return say(
                client,
                "401 Unauthorized",
                "",
                &serde_json::json!({"details": "incorrect username or password"}),
            );
        }
        let asked = if refresh { form } else { query.trim_start_matches('?') };
        let plain = |text: &str| {
            text.replace("%3A", ":").replace("%2C", ",").replace("%2F", "/").replace("%20", " ").replace('+', " ")
        };
        let scopes: Vec<_> = asked.split('&').filter_map(|pair| pair.strip_prefix("scope=")).map(plain).collect();
        let scope = scopes.join(" ");
        let mut log = self.log.lock().map_err(|_| anyhow!("the token service panicked"))?;
        let token = format!("token-{}", log.granted.len());
        log.granted.push(format!("{} {scope}", if refresh { "refresh" } else { "basic" }));
        let uses = log.uses.unwrap_or(usize::MAX);
        log.left.insert(token.clone(), (scope, uses));
        let mut answer = serde_json::json!({"token": token, "access_token": token, "expires_in": 3600});
        if log.identity && asked.contains("offline_token=true") {
            answer["refresh_token"] = IDENTITY.into();
        }
        drop(log);
        say(client, "200 OK", "", &answer)
    }
}
