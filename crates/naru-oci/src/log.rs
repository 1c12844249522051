//! Messages: one line each, to standard error or to the caller's file, as text or as JSON (runc's form, which conmon and containerd read).

use crate::global::Global;
use naru_base::Error;
use std::fs::OpenOptions;
use std::io::Write;

/// Tells why a command failed, and returns `code`.
pub(crate) fn fail(global: &Global, error: &Error, code: i32) -> i32 {
    write(global, "error", error.message());
    if global.log.is_some() {
        to_standard_error(error.message());
    }
    code
}

/// Tells what could not be had as asked for.
pub(crate) fn warn(global: &Global, message: &str) {
    write(global, "warning", message);
}

fn write(global: &Global, level: &str, message: &str) {
    let time = jiff::Timestamp::now();
    let line = if global.json {
        serde_json::json!({ "level": level, "msg": message, "time": format!("{time:.0}") }).to_string()
    } else if global.log.is_none() && !global.debug {
        format!("naru oci: {level}: {message}")
    } else {
        format!("time=\"{time:.0}\" level={level} msg={message:?}")
    };
    let file = global.log.as_ref().and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    match file {
        // One write: several processes may have the file open.
        Some(mut file) => drop(file.write_all(format!("{line}\n").as_bytes())),
        None => to_standard_error(&line),
    }
}

#[expect(clippy::print_stderr, reason = "the messages of a command-line program")]
fn to_standard_error(line: &str) {
    eprintln!("{line}");
}
