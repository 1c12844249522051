//! Why a container or an exec did not start, in docker's words and with docker's exit codes.

use naru_base::{Class, Error};

/// A failed start. Exit codes are docker's: 127 when the program is not there, 126 when it can't be executed, 128 otherwise.
#[derive(Debug, Clone)]
pub struct StartError {
    /// Kind of failure.
    pub class: Class,
    /// The whole text.
    pub message: String,
    /// 126, 127 or 128.
    pub exit_code: i32,
}

impl StartError {
    /// An error whose exit code follows from its text, as docker has it.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        let message = message.into();
        let exit_code = exit_code_of(&message);
        Self { class, message, exit_code }
    }

    /// A failure of the host, or a defect of ours.
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Class::System, message)
    }

    /// Something wrong in what the caller asked for.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::InvalidParameter, message)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::new(error.class(), error.message())
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        Self::new(error.class, error.message)
    }
}

/// moby's table (daemon/start.go, `setExitCodeFromError`).
fn exit_code_of(message: &str) -> i32 {
    const NOT_FOUND: [&str; 3] = ["executable file not found", "no such file or directory", "not a directory"];
    const NOT_EXECUTABLE: [&str; 2] = ["permission denied", "is a directory"];
    let message = message.to_ascii_lowercase();
    if NOT_FOUND.iter().any(|text| message.contains(text)) {
        127
    } else if NOT_EXECUTABLE.iter().any(|text| message.contains(text)) {
        126
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_dockers_table() {
        let code = |text: &str| StartError::system(text).exit_code;
        assert_eq!(code("exec: \"nope\": executable file not found in $PATH"), 127);
        assert_eq!(code("exec: \"/nope\": stat /nope: no such file or directory"), 127);
        assert_eq!(code("exec: \"/etc\": is a directory"), 126);
        assert_eq!(code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(code("exec /x: exec format error"), 128);
    }
}
