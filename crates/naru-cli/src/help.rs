//! Help texts, laid out as docker's are.

use crate::flag::{Flag, Kind, flag};
use crate::spec::{self, Command, FAMILIES};
use std::fmt::Write;

/// The flags before the command.
pub static GLOBAL: &[&[Flag]] = &[&[
    flag("config", Kind::Str, "Location of client config files"),
    flag("context", Kind::Str, "Name of the context to use to connect to the daemon").short('c'),
    flag("debug", Kind::Bool, "Enable debug mode").short('D'),
    flag("host", Kind::List, "Daemon socket to connect to").short('H'),
    flag("log-level", Kind::Str, "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("info"),
    flag("version", Kind::Bool, "Print version information and quit").short('v'),
]];

/// The commands that a newcomer needs first.
const COMMON: &[&str] =
    &["run", "exec", "ps", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// A usage line: `Usage:  docker ps [OPTIONS]`.
pub fn usage_line(program: &str, command: &Command, called: &str) -> String {
    let path = command.shown(called);
    let line = format!("Usage:  {program} {path} {}", command.usage);
    match path.rsplit(' ').next() {
        Some("cp") => format!("{}\n\t{program} {path} [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH", line.trim_end()),
        _ => line.trim_end().to_owned(),
    }
}

/// The help of one command.
pub fn command(program: &str, command: &Command, called: &str, width: usize) -> String {
    let mut out = format!("{}\n\n{}\n", usage_line(program, command, called), command.about);
    if command.paths.len() > 1 {
        let all: Vec<_> = command.paths.iter().map(|p| format!("{program} {p}")).collect();
        let _ = write!(out, "\nAliases:\n  {}\n", all.join(", "));
    }
    let flags = command.sorted_flags();
    if !flags.is_empty() {
        out.push_str("\nOptions:\n");
        out.push_str(&options(&flags, width));
    }
    out
}

/// The help of a family.
pub fn family(program: &str, family: &str) -> String {
    let about = FAMILIES.iter().find(|(f, _)| *f == family).map_or("", |(_, a)| a);
    let prefix = format!("{family} ");
    let mut rows: Vec<_> =
        spec::commands().filter_map(|c| c.paths[0].strip_prefix(&prefix).map(|name| (name, c.about))).collect();
    rows.sort_unstable();
    format!(
        "Usage:  {program} {family} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{program} {family} COMMAND --help' for more information on a command.\n",
        listing(&rows)
    )
}

/// The help of the program.
pub fn program(program: &str, width: usize) -> String {
    let top = |c: &'static Command| c.paths.iter().find(|p| !p.contains(' ')).map(|p| (*p, c.about));
    let mut rows: Vec<_> = spec::commands().filter_map(top).collect();
    rows.sort_unstable();
    let common: Vec<_> = COMMON.iter().filter_map(|n| rows.iter().find(|(p, _)| p == n).copied()).collect();
    rows.retain(|(p, _)| !COMMON.contains(p));
    let flags: Vec<_> = GLOBAL.iter().flat_map(|l| l.iter()).collect();
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        listing(&common),
        listing(FAMILIES),
        listing(&rows),
        options(&flags, width)
    )
}

fn listing(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(n, _)| n.len()).max().unwrap_or(0).max(11);
    rows.iter().fold(String::new(), |mut out, (name, about)| {
        let _ = writeln!(out, "  {name:width$} {about}");
        out
    })
}

fn options(flags: &[&Flag], width: usize) -> String {
    let left: Vec<_> = flags
        .iter()
        .map(|f| {
            let letter = f.short.map_or_else(|| "      ".to_owned(), |c| format!("  -{c}, "));
            format!("{letter}--{} {}", f.long, f.type_name()).trim_end().to_owned()
        })
        .collect();
    let column = left.iter().map(String::len).max().unwrap_or(0) + 3;
    let room = width.saturating_sub(column + 1).max(24);
    flags.iter().zip(left).fold(String::new(), |mut out, (f, left)| {
        let mut help = f.help.to_owned();
        if !f.default.is_empty() {
            let quoted = if matches!(f.kind, Kind::Str) { format!("{:?}", f.default) } else { f.default.to_owned() };
            let _ = write!(help, " (default {quoted})");
        }
        let _ = write!(out, "{left:column$}");
        for (i, line) in wrap(&help, room).iter().enumerate() {
            let indent = if i == 0 { 0 } else { column };
            let _ = writeln!(out, "{:indent$}{line}", "");
        }
        out
    })
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Found;

    #[test]
    fn help_of_a_command() {
        let Found::Command(c, path, _) = spec::find(&["rm".to_owned()]) else { panic!() };
        let text = command("docker", c, path, 80);
        assert!(
            text.starts_with("Usage:  docker rm [OPTIONS] CONTAINER [CONTAINER...]\n\nRemove one or more containers\n")
        );
        assert!(text.contains("\nAliases:\n  docker container rm, docker container remove, docker rm\n"));
        assert!(text.contains("  -f, --force     Force the removal of a running container (uses SIGKILL)\n"), "{text}");
    }

    #[test]
    fn lines_fit() {
        let Found::Command(c, path, _) = spec::find(&["run".to_owned()]) else { panic!() };
        let long: Vec<_> = command("docker", c, path, 80).lines().filter(|l| l.len() > 80).map(str::to_owned).collect();
        assert!(long.is_empty(), "{long:?}");
    }
}
