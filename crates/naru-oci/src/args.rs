//! Arguments as runc takes them: Go's flags, with one or two hyphens, and `=` or a following argument for values.

use naru_base::{Error, Result};

/// One flag of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Its name without hyphens.
    pub name: &'static str,
    /// Another name, of one letter.
    pub short: Option<&'static str>,
    /// Whether a value follows.
    pub value: bool,
    /// What it is for.
    pub help: &'static str,
}

/// A flag that is given or not.
pub(crate) const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, value: false, help }
}

/// A flag with a value.
pub(crate) const fn value(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, value: true, help }
}

impl Flag {
    /// The same flag, with a letter.
    pub(crate) const fn or(self, short: &'static str) -> Self {
        Self { short: Some(short), ..self }
    }
}

/// Flags that have been given, and the other arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    given: Vec<(&'static str, String)>,
    /// Arguments that are no flags.
    pub rest: Vec<String>,
}

impl Parsed {
    /// Reads `args` of `command`. What follows `--` is no flag, nor, without `mixed`, what follows the first argument that is none.
    ///
    /// # Errors
    /// An unknown flag, or one whose value is missing.
    pub(crate) fn parse(command: &str, flags: &[Flag], args: Vec<String>, mixed: bool) -> Result<Self> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = match arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) {
                Some("") if arg == "--" => {
                    parsed.rest.extend(args);
                    return Ok(parsed);
                }
                Some(name) if !name.is_empty() => name,
                _ => {
                    parsed.rest.push(arg);
                    if !mixed {
                        parsed.rest.extend(args);
                        return Ok(parsed);
                    }
                    continue;
                }
            };
            let (name, given) =
                name.split_once('=').map_or((name, None), |(name, given)| (name, Some(given.to_owned())));
            if matches!(name, "help" | "h") {
                parsed.given.push(("help", "true".to_owned()));
                continue;
            }
            let unknown = || Error::invalid(format!("{command}: flag provided but not defined: -{name}"));
            let flag = flags.iter().find(|f| f.name == name || f.short == Some(name)).ok_or_else(unknown)?;
            let missing = || Error::invalid(format!("{command}: flag needs an argument: -{name}"));
            let given = match (flag.value, given) {
                (_, Some(given)) => given,
                (true, None) => args.next().ok_or_else(missing)?,
                (false, None) => "true".to_owned(),
            };
            parsed.given.push((flag.name, given));
        }
        Ok(parsed)
    }

    /// The last value of a flag.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a flag, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "false" | "0" | "f" | "F" | "FALSE" | "False"))
    }

    /// A flag's number.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>> {
        let invalid = |text: &str| Error::invalid(format!("invalid value {text:?} for flag -{name}: not a number"));
        self.get(name).filter(|text| !text.is_empty()).map(|text| text.parse().map_err(|_| invalid(text))).transpose()
    }

    /// The container's id: the first argument.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn id(&self) -> Result<&str> {
        let missing = || Error::invalid("the container's id is missing");
        self.rest.first().map(String::as_str).filter(|id| !id.is_empty()).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[value("bundle", "").or("b"), switch("no-pivot", ""), value("env", "").or("e")];

    fn parse(args: &[&str], mixed: bool) -> Result<Parsed> {
        Parsed::parse("x", FLAGS, args.iter().map(|a| (*a).to_owned()).collect(), mixed)
    }

    #[test]
    fn flags_in_all_forms() {
        let parsed = parse(&["-b", "/a", "--no-pivot", "-env=A=b", "--env", "C", "id", "-b=/c"], true).unwrap();
        assert_eq!((parsed.get("bundle"), parsed.has("no-pivot")), (Some("/c"), true));
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=b", "C"]);
        assert_eq!(parsed.id().unwrap(), "id");
        assert!(!parse(&["--no-pivot=false"], true).unwrap().has("no-pivot"));
    }

    #[test]
    fn a_program_keeps_its_own_flags() {
        let parsed = parse(&["-e", "A=b", "id", "ls", "-l", "--", "x"], false).unwrap();
        assert_eq!(parsed.rest, ["id", "ls", "-l", "--", "x"]);
        assert_eq!(parse(&["--", "-b"], true).unwrap().rest, ["-b"]);
        assert_eq!(parse(&["-", "x"], true).unwrap().rest, ["-", "x"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (args, text) in [
            (&["--nope"] as &[&str], "x: flag provided but not defined: -nope"),
            (&["--bundle"], "x: flag needs an argument: -bundle"),
        ] {
            assert_eq!(parse(args, true).unwrap_err().message(), text);
        }
        assert!(parse(&[], true).unwrap().id().is_err());
        assert!(parse(&["-b", "x"], true).unwrap().number::<u32>("bundle").is_err());
    }
}
