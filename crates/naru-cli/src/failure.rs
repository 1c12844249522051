//! How a command ends: an exit code, or a message with one.

use naru_client::Error;

/// A command's result: its exit code.
pub type Outcome = Result<i32, Failure>;

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is printed on stderr; nothing when empty.
    pub message: String,
    /// The exit code.
    pub code: i32,
    /// The HTTP status, when the engine refused.
    pub status: Option<u16>,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, status: None }
    }

    /// An exit code without a word.
    pub fn silent(code: i32) -> Self {
        Self { message: String::new(), code, status: None }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    /// Docker's form for `run`, `create` and `exec`: `docker: … Run 'docker run --help' for more information`.
    #[must_use]
    pub fn with_help(self, program: &str, command: &str) -> Self {
        if self.message.is_empty() {
            return self;
        }
        let message = format!(
            "{program}: {}\n\nRun '{program} {command} --help' for more information",
            self.message.trim_end_matches('.')
        );
        Self { message, ..self }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self { message: e.to_string(), code: 1, status: e.status() }
    }
}

impl From<naru_base::Error> for Failure {
    fn from(e: naru_base::Error) -> Self {
        Self::new(e.message())
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// Standard output that nobody reads ends the command without a word, as SIGPIPE would.
impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::BrokenPipe => Self::silent(128 + 13),
            _ => Self::new(e.to_string()),
        }
    }
}

/// The failure of a command over several targets: one line each.
pub fn joined(failures: Vec<Failure>) -> Outcome {
    if failures.is_empty() {
        return Ok(0);
    }
    let lines: Vec<_> = failures.into_iter().map(|f| f.message).collect();
    Err(Failure::new(lines.join("\n")))
}
