//! The commands, with runc's names and flags.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod start;
mod state;
mod template;
mod update;

use crate::args::{Flag, Parsed, switch};
use crate::global::{self, Global};
use naru_base::{Error, Result};
use std::io::Write;

/// One command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub name: &'static str,
    /// Its arguments, as help shows them.
    pub arguments: &'static str,
    pub about: &'static str,
    pub flags: &'static [Flag],
    /// Whether its process, or a child of it, is ever inside a container.
    pub enters_containers: bool,
    /// Whether what follows the id is a program with flags of its own.
    pub ends_with_a_program: bool,
    pub run: fn(&Global, &Parsed) -> Result<i32>,
}

const fn plain(
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    run: fn(&Global, &Parsed) -> Result<i32>,
) -> Command {
    Command { name, arguments, about, flags, enters_containers: false, ends_with_a_program: false, run }
}

const fn entering(command: Command) -> Command {
    Command { enters_containers: true, ..command }
}

const COMMANDS: &[Command] = &[
    plain("checkpoint", "ID", "not supported", &[], no_checkpoint),
    entering(plain("create", "ID", "make a container, whose program waits for `start`", create::FLAGS, create::run)),
    plain("delete", "ID", "remove a container", delete::FLAGS, delete::run),
    plain("events", "ID", "tell what a container uses, again and again or once", events::FLAGS, events::run),
    Command {
        ends_with_a_program: true,
        ..entering(plain("exec", "ID COMMAND...", "run a further process in a container", exec::FLAGS, exec::run))
    },
    plain("features", "", "tell what this runtime can do", &[], features::run),
    plain("kill", "ID [SIGNAL]", "send a signal (TERM) to a container's first process", kill::FLAGS, kill::run),
    plain("list", "", "list containers", list::FLAGS, list::run),
    plain("pause", "ID", "stop all processes of a container for a while", &[], pause::pause),
    plain("ps", "ID [PS-OPTIONS...]", "list a container's processes", ps::FLAGS, ps::run),
    plain("restore", "ID", "not supported", &[], no_checkpoint),
    plain("resume", "ID", "let all processes of a container go on", &[], pause::resume),
    entering(plain("run", "ID", "make a container and start it", run::FLAGS, run::run)),
    plain("spec", "", "write a config.json to begin with", template::FLAGS, template::run),
    plain("start", "ID", "execute the program of a container that has been made", &[], start::run),
    plain("state", "ID", "tell the state of a container", &[], state::run),
    plain("update", "ID", "change the limits of a container", update::FLAGS, update::run),
    plain("version", "", "tell the version", &[], version),
];

/// # Errors
/// There is no such command.
pub(crate) fn find(name: &str) -> Result<&'static Command> {
    let unknown = || Error::invalid(format!("unknown command {name:?}: naru oci --help lists them"));
    COMMANDS.iter().find(|command| command.name == name).ok_or_else(unknown)
}

fn no_checkpoint(_: &Global, _: &Parsed) -> Result<i32> {
    Err(Error::not_implemented("checkpoint and restore are not supported by this runtime"))
}

fn version(_: &Global, _: &Parsed) -> Result<i32> {
    print(&format!("naru-oci version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), crate::OCI_VERSION))
}

/// Help for all commands; its exit code.
pub(crate) fn help(asked: bool) -> i32 {
    let mut text = String::from(
        "Usage: naru oci [OPTIONS] COMMAND [ARGUMENTS]\n\nAn OCI runtime with runc's arguments.\n\nCommands:\n",
    );
    for command in COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.about));
    }
    text.push_str(&format!("\nOptions:\n{}", flags_text(global::FLAGS)));
    let _ = print(&text);
    if asked { 0 } else { 1 }
}

/// Help for one command; its exit code.
pub(crate) fn usage(command: &Command) -> i32 {
    let flags = [command.flags, &[switch("help", "print this")]].concat();
    let text = format!(
        "Usage: naru oci {} [OPTIONS] {}\n\n{}\n\nOptions:\n{}",
        command.name,
        command.arguments,
        command.about,
        flags_text(&flags)
    );
    print(&text).unwrap_or(1)
}

fn flags_text(flags: &[Flag]) -> String {
    flags
        .iter()
        .map(|flag| {
            let short = flag.short.map(|short| format!(", -{short}")).unwrap_or_default();
            let name = format!("--{}{short}{}", flag.name, if flag.value { " VALUE" } else { "" });
            format!("  {name:<30} {}\n", flag.help)
        })
        .collect()
}

/// Writes to standard output; the exit code of a command that does nothing more.
///
/// # Errors
/// write(2)'s.
pub(crate) fn print(text: &str) -> Result<i32> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| Error::system(format!("write to standard output: {e}")))?;
    Ok(0)
}

/// Prints a document.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &serde_json::Value) -> Result<i32> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_letters_are_unique() {
        let mut names: Vec<_> = COMMANDS.iter().map(|c| c.name).collect();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
        for command in COMMANDS {
            let mut words: Vec<_> = command.flags.iter().flat_map(|f| [Some(f.name), f.short]).flatten().collect();
            let all = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), all, "{}", command.name);
        }
    }
}
