//! The tree of commands: one definition that drives parsing, help and completion.

use crate::context::Context;
use crate::failure::Outcome;
use crate::flag::{Flag, Flags, Matches};
use crate::table;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub enum Args {
    /// None at all.
    None,
    /// So many.
    Exact(usize),
    /// At least so many.
    Min(usize),
    /// At most so many.
    Max(usize),
    /// From … to ….
    Range(usize, usize),
    /// Any number.
    Any,
}

impl Args {
    /// What is wrong with `count` arguments, and whether docker's text says `See` rather than `Run` then.
    pub fn problem(self, count: usize) -> Option<(String, bool)> {
        let noun = |n: usize| if n == 1 { "argument" } else { "arguments" };
        match self {
            Self::None if count > 0 => Some(("accepts no arguments".into(), false)),
            Self::Exact(n) if count != n => Some((format!("requires {n} {}", noun(n)), false)),
            Self::Min(n) if count < n => Some((format!("requires at least {n} {}", noun(n)), true)),
            Self::Max(n) if count > n => Some((format!("requires at most {n} {}", noun(n)), false)),
            Self::Range(min, max) if count < min || count > max => {
                Some((format!("requires at least {min} and at most {max} {}", noun(max)), false))
            }
            _ => None,
        }
    }
}

/// One command.
pub struct Command {
    /// Every way to call it; the first of a family is that family's own name for it.
    pub paths: &'static [&'static str],
    /// What follows the path in the usage line.
    pub usage: &'static str,
    /// One line on what it does.
    pub about: &'static str,
    /// How many arguments it takes.
    pub args: Args,
    /// Whether flags may follow arguments.
    pub interspersed: bool,
    /// Its flags.
    pub flags: Flags,
    /// What it does.
    pub run: fn(&mut Context, &Matches) -> Outcome,
}

impl Command {
    /// The path as the help shows it, for the family that it was called in.
    pub fn shown(&self, called: &str) -> &'static str {
        let family = called.split_once(' ').map(|(f, _)| f);
        self.paths.iter().find(|p| p.split_once(' ').map(|(f, _)| f) == family).unwrap_or(&self.paths[0])
    }

    /// All its flags by name.
    pub fn sorted_flags(&self) -> Vec<&'static Flag> {
        let mut flags: Vec<_> = self.flags.iter().flat_map(|l| l.iter()).collect();
        flags.sort_by_key(|f| f.long);
        flags
    }
}

/// Every command.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    table::ALL.iter().flat_map(|list| list.iter())
}

/// The families, with what they are about.
pub static FAMILIES: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("manifest", "Manage Docker image manifests and manifest lists"),
    ("network", "Manage networks"),
    ("system", "Manage Docker"),
    ("volume", "Manage volumes"),
];

/// What the first words of the arguments name.
pub enum Found {
    /// A command, the path as it was called, and how many words that took.
    Command(&'static Command, &'static str, usize),
    /// A family alone.
    Family(&'static str),
    /// Nothing known; so many words belong to the message.
    Unknown(usize),
}

/// Finds the command that `args` begin with.
pub fn find(args: &[String]) -> Found {
    let Some(first) = args.first() else { return Found::Unknown(0) };
    if let Some((family, _)) = FAMILIES.iter().find(|(f, _)| f == first) {
        let Some(second) = args.get(1).filter(|a| !a.starts_with('-')) else { return Found::Family(family) };
        return match lookup(|path| path.split_once(' ') == Some((family, second))) {
            Some((command, path)) => Found::Command(command, path, 2),
            None => Found::Unknown(2),
        };
    }
    match lookup(|path| path == first) {
        Some((command, path)) => Found::Command(command, path, 1),
        None => Found::Unknown(1),
    }
}

fn lookup(test: impl Fn(&str) -> bool) -> Option<(&'static Command, &'static str)> {
    commands().find_map(|c| c.paths.iter().find(|p| test(p)).map(|p| (c, *p)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_path_is_unique_and_found() {
        let mut seen = HashSet::new();
        for command in commands() {
            for path in command.paths {
                assert!(seen.insert(*path), "{path} twice");
                assert!(matches!(find(&words(path)), Found::Command(_, p, _) if p == *path), "{path}");
            }
        }
    }

    #[test]
    fn flags_are_unique_within_a_command() {
        for command in commands() {
            let mut longs = HashSet::new();
            let mut shorts = HashSet::new();
            for flag in command.sorted_flags() {
                assert!(longs.insert(flag.long), "{}: --{}", command.paths[0], flag.long);
                assert!(flag.short.is_none_or(|c| shorts.insert(c)), "{}: -{:?}", command.paths[0], flag.short);
                assert!(
                    !flag.help.is_empty() && !flag.help.ends_with('.') || flag.help.contains(". "),
                    "--{}",
                    flag.long
                );
            }
        }
    }

    #[test]
    fn aliases_show_their_family_name() {
        let Found::Command(c, path, 2) = find(&words("container ps -a")) else { panic!() };
        assert_eq!(c.shown(path), "container ls");
        let Found::Command(c, path, 1) = find(&words("ps")) else { panic!() };
        assert_eq!(c.shown(path), "ps");
        assert!(matches!(find(&words("container --help")), Found::Family("container")));
        assert!(matches!(find(&words("container foo")), Found::Unknown(2)));
        assert!(matches!(find(&words("foo")), Found::Unknown(1)));
    }
}
