//! Signal names and numbers (signal(7)).

use crate::{Error, Result};

/// Names without `SIG`, with their numbers on x86-64 and aarch64.
pub const NAMES: &[(&str, i32)] = &[
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
];

/// The largest signal number (SIGRTMAX).
pub const MAX: i32 = 64;

/// Reads `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3` or `RTMAX-1`.
///
/// # Errors
/// `invalid signal: X`, docker's words.
pub fn parse(text: &str) -> Result<i32> {
    let bad = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(n) = text.parse::<i32>() {
        return if (1..=MAX).contains(&n) { Ok(n) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, n)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*n);
    }
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(34),
        (Some(rest), _) => rest.strip_prefix('+').and_then(|d| d.parse::<i32>().ok()).and_then(|d| d.checked_add(34)),
        (_, Some("")) => Some(MAX),
        (_, Some(rest)) => rest.strip_prefix('-').and_then(|d| d.parse::<i32>().ok()).map(|d| MAX - d.min(MAX)),
        _ => None,
    };
    real_time.filter(|n| (34..=MAX).contains(n)).ok_or_else(bad)
}

/// The name with `SIG`, where the number has one.
pub fn name(number: i32) -> Option<String> {
    NAMES.iter().find(|(_, n)| *n == number).map(|(name, _)| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, n) in [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+1", 35), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(parse(text).unwrap(), n, "{text}");
        }
        for bad in ["", "0", "65", "SIGNOPE", "RTMIN+40", "-1", "RTMAX-99"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(name(15).as_deref(), Some("SIGTERM"));
    }
}
