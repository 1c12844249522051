//! What every command works with: the program's name, the settings, the client, the printer.

use crate::config::Config;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::{DEFAULT_SOCKET, Hooks};
use naru_client::{Client, Endpoint, Request, Response, Version};
use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a started engine may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The settings from before the command and from the environment.
#[derive(Debug, Default)]
pub struct Settings {
    /// `-H` or `DOCKER_HOST`; `None` for the engine's own socket.
    pub host: Option<String>,
    /// `DOCKER_API_VERSION`.
    pub api_version: Option<Version>,
    /// The folder of the configuration file.
    pub config: PathBuf,
    /// `--debug`.
    pub debug: bool,
}

/// The context of one command.
pub struct Context {
    /// `docker` or `naru`, as the program was called.
    pub program: &'static str,
    /// The path of the command that runs, for messages.
    pub command: &'static str,
    /// The settings.
    pub settings: Settings,
    /// Standard output and error.
    pub printer: Printer,
    hooks: Hooks,
    config: OnceCell<Config>,
    client: OnceCell<Client>,
}

impl Context {
    /// A context that has neither read a file nor opened a connection yet.
    pub fn new(program: &'static str, settings: Settings, hooks: Hooks) -> Self {
        Self {
            program,
            command: "",
            settings,
            printer: Printer::default(),
            hooks,
            config: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// The configuration file.
    pub fn config(&self) -> &Config {
        self.config.get_or_init(|| Config::load(&self.settings.config))
    }

    /// The configuration file, to be changed.
    pub fn config_mut(&mut self) -> &mut Config {
        if self.config.get().is_none() {
            let _ = self.config.set(Config::load(&self.settings.config));
        }
        match self.config.get_mut() {
            Some(config) => config,
            None => unreachable!("it was set above"),
        }
    }

    /// `--format`, or the configuration file's word for this command.
    pub fn format(&self, given: &str, setting: &str) -> String {
        if given.is_empty() { self.config().text(setting).to_owned() } else { given.to_owned() }
    }

    /// The client of the engine; the first call opens it, and starts the engine when the default one isn't there.
    ///
    /// # Errors
    /// When the endpoint is malformed or the engine does not start.
    pub fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let endpoint = match &self.settings.host {
            Some(host) => Endpoint::parse(host)?,
            None => Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET)),
        };
        let agent = concat!("naru/", env!("CARGO_PKG_VERSION"), " (linux)");
        let client = Client::new(endpoint, agent, self.settings.api_version).with_headers(self.config().headers());
        if self.settings.host.is_none() {
            self.ensure_engine(&client)?;
        }
        Ok(self.client.get_or_init(|| client))
    }

    /// Starts the engine when nothing listens on the default socket. The connection that finds out is kept for the request.
    fn ensure_engine(&self, client: &Client) -> Result<(), Failure> {
        let Some(start) = self.hooks.start_engine else { return Ok(()) };
        match client.open() {
            Err(e) if e.is_connect() => {}
            Err(e) => return Err(e.into()),
            Ok(()) => return Ok(()),
        }
        let socket = client.endpoint().socket().unwrap_or(std::path::Path::new(DEFAULT_SOCKET));
        start(socket).map_err(|e| Failure::new(format!("cannot start the engine: {e}")))?;
        let until = Instant::now() + START_LIMIT;
        loop {
            match client.open() {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() >= until => return Err(e.into()),
                Err(_) => std::thread::sleep(Duration::from_micros(500)),
            }
        }
    }

    /// The names of the running command's flags.
    pub fn command_flags(&self) -> impl Iterator<Item = &'static str> {
        let command = crate::spec::commands().find(|c| c.paths.contains(&self.command));
        command.into_iter().flat_map(|c| c.flags.iter()).flat_map(|l| l.iter()).map(|f| f.long)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the engine is not there or refuses.
    pub fn send(&self, request: Request<'_>) -> Result<Response, Failure> {
        Ok(self.client()?.send(request)?)
    }

    /// Sends a request and forgets the answer's body.
    ///
    /// # Errors
    /// As [`Context::send`].
    pub fn call(&self, request: Request<'_>) -> Result<Vec<u8>, Failure> {
        Ok(self.client()?.call(request)?)
    }

    /// GET, and the JSON answer.
    ///
    /// # Errors
    /// As [`Context::send`].
    pub fn get<T: serde::de::DeserializeOwned>(&self, path: impl Into<String>) -> Result<T, Failure> {
        Ok(self.client()?.get_json(path)?)
    }
}
