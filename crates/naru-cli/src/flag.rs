//! Flags: what a command declares, how arguments are read against it (the rules and words of Go's pflag), and the result.

use naru_base::human::go_quote;
use naru_base::{duration, size};

/// What a flag's value is, and thereby how it is checked and named in the help.
#[derive(Clone, Copy)]
pub enum Kind {
    /// No value needed; `=true` or `=false` may follow.
    Bool,
    /// Any text.
    Str,
    /// A number.
    Int,
    /// A number of at least 0.
    Uint,
    /// A number from 0 to 65535.
    Uint16,
    /// A number with a fraction, as `1.5`.
    Decimal,
    /// A size, as `512m`.
    Bytes,
    /// A Go duration, as `1m30s`.
    Duration,
    /// May be given more than once.
    List,
    /// May be given more than once, each with several values between commas.
    Strings,
    /// `key=value`, may be given more than once.
    Map,
    /// `key=value`, may be given more than once.
    Filter,
    /// A [`Kind::List`] whose values are checked.
    Checked(fn(&str) -> Result<(), String>),
    /// A value form of its own, with its name; may be given more than once.
    Custom(&'static str, fn(&str) -> Result<(), String>),
}

/// One flag of a command.
#[derive(Clone, Copy)]
pub struct Flag {
    /// Without the dashes.
    pub long: &'static str,
    /// The other long name that is accepted but not shown.
    pub alias: Option<&'static str>,
    /// The letter.
    pub short: Option<char>,
    /// What its value is.
    pub kind: Kind,
    /// The value without the flag.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// A flag without a letter and with the default of its kind.
pub const fn flag(long: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { long, alias: None, short: None, kind, default: "", help }
}

impl Flag {
    /// With a letter.
    #[must_use]
    pub const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    /// With a default.
    #[must_use]
    pub const fn default(self, value: &'static str) -> Self {
        Self { default: value, ..self }
    }

    /// With a hidden second name.
    #[must_use]
    pub const fn alias(self, name: &'static str) -> Self {
        Self { alias: Some(name), ..self }
    }

    /// What the help calls its value; empty for a bool.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Bool => "",
            Kind::Str => "string",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Uint16 => "uint16",
            Kind::Decimal => "decimal",
            Kind::Bytes => "bytes",
            Kind::Duration => "duration",
            Kind::List | Kind::Checked(_) => "list",
            Kind::Strings => "strings",
            Kind::Map => "map",
            Kind::Filter => "filter",
            Kind::Custom(name, _) => name,
        }
    }

    /// As messages name it: `-a, --all`.
    fn spelled(&self) -> String {
        match self.short {
            Some(c) => format!("-{c}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }

    fn check(&self, value: &str) -> Result<(), String> {
        let problem = match self.kind {
            Kind::Bool => parse_bool(value).map(drop),
            Kind::Str | Kind::List => Ok(()),
            Kind::Strings => csv(value).map(drop),
            Kind::Int => parse_int(value).map(drop),
            Kind::Uint => parse_uint(value, u64::MAX).map(drop),
            Kind::Uint16 => parse_uint(value, u64::from(u16::MAX)).map(drop),
            Kind::Decimal => parse_cpus(value).map(drop),
            Kind::Bytes if value == "-1" && self.long == "memory-swap" => Ok(()),
            Kind::Bytes => size::parse_bytes(value).map(drop).map_err(|e| e.message().to_owned()),
            Kind::Duration => duration::parse(value).map(drop).map_err(|e| e.message().to_owned()),
            Kind::Map => Ok(()),
            Kind::Filter if value.is_empty() || value.contains('=') => Ok(()),
            Kind::Filter => Err("bad format of filter (expected name=value)".into()),
            Kind::Checked(check) | Kind::Custom(_, check) => check(value),
        };
        problem.map_err(|e| format!("invalid argument {} for {} flag: {e}", go_quote(value), go_quote(&self.spelled())))
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", go_quote(value))),
    }
}

fn parse_int(value: &str) -> Result<i64, String> {
    value.parse::<i64>().map_err(|e| number_problem("ParseInt", value, &e))
}

fn parse_uint(value: &str, max: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(n) if n <= max => Ok(n),
        Ok(_) => Err(format!("strconv.ParseUint: parsing {}: value out of range", go_quote(value))),
        Err(e) => Err(number_problem("ParseUint", value, &e)),
    }
}

fn number_problem(function: &str, value: &str, e: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let what = if matches!(e.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {}: {what}", go_quote(value))
}

/// CPUs (`1.5`) in billionths.
pub fn parse_cpus(value: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {value} as a rational number");
    let (negative, digits) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    let total = whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(fraction)).ok_or_else(bad)?;
    Ok(if negative { -total } else { total })
}

/// One line of comma separated values, with double quotes as in RFC 4180.
pub fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    if line.is_empty() {
        return Ok(out);
    }
    let mut chars = line.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => {
                        return Err(format!(
                            "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                            line.len() + 1
                        ));
                    }
                }
            }
            if !matches!(chars.peek(), None | Some(',')) {
                return Err("parse error on line 1: extraneous or missing \" in quoted-field".into());
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                if c == '"' {
                    let at = line.find('"').map_or(0, |i| i + 1);
                    return Err(format!("parse error on line 1, column {at}: bare \" in non-quoted field"));
                }
                field.push(c);
            }
        }
        out.push(field);
        if chars.next().is_none() {
            return Ok(out);
        }
    }
}

/// Why arguments cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejected {
    /// `--help` was among them.
    Help,
    /// With the message.
    Bad(String),
}

/// The arguments of a command, read.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    values: Vec<(&'static str, String)>,
    defaults: Vec<(&'static str, &'static str)>,
    /// What is not a flag.
    pub args: Vec<String>,
}

/// The flags of a command: several lists, since commands share some.
pub type Flags = &'static [&'static [Flag]];

impl Matches {
    /// Reads `args`. With `interspersed`, flags may follow other arguments; without, the first such ends the flags.
    pub fn parse(flags: Flags, args: &[String], interspersed: bool) -> Result<Self, Rejected> {
        let mut parser = Parser { flags, rest: args.iter(), out: Self::default() };
        while let Some(arg) = parser.rest.next() {
            if arg == "--" {
                parser.out.args.extend(parser.rest.by_ref().cloned());
            } else if let Some(long) = arg.strip_prefix("--") {
                parser.long(arg, long)?;
            } else if arg.len() > 1 && arg.starts_with('-') {
                parser.letters(&arg[1..])?;
            } else {
                parser.out.args.push(arg.clone());
                if !interspersed {
                    parser.out.args.extend(parser.rest.by_ref().cloned());
                }
            }
        }
        let mut out = parser.out;
        out.defaults =
            flags.iter().flat_map(|l| l.iter()).map(|f| (f.long, f.default)).filter(|d| !d.1.is_empty()).collect();
        Ok(out)
    }

    /// Whether the flag was given.
    pub fn given(&self, long: &str) -> bool {
        self.values.iter().any(|(n, _)| *n == long)
    }

    /// Its last value, or its default, or nothing.
    pub fn str(&self, long: &str) -> &str {
        let given = self.values.iter().rev().find(|(n, _)| *n == long).map(|(_, v)| v.as_str());
        given.or_else(|| self.defaults.iter().find(|(n, _)| *n == long).map(|(_, v)| *v)).unwrap_or_default()
    }

    /// Its last value when it was given.
    pub fn opt(&self, long: &str) -> Option<&str> {
        self.given(long).then(|| self.str(long))
    }

    /// Whether it is on.
    pub fn bool(&self, long: &str) -> bool {
        parse_bool(self.str(long)).unwrap_or(false)
    }

    /// Its number; 0 without one.
    pub fn int(&self, long: &str) -> i64 {
        self.str(long).parse().unwrap_or(0)
    }

    /// Its size in bytes; 0 without one.
    pub fn bytes(&self, long: &str) -> i64 {
        match self.str(long) {
            "-1" => -1,
            text => size::parse_bytes(text).unwrap_or(0),
        }
    }

    /// Its duration in nanoseconds; 0 without one.
    pub fn nanos(&self, long: &str) -> i64 {
        duration::parse(self.str(long)).unwrap_or(0)
    }

    /// All its values in the order given.
    pub fn list(&self, long: &str) -> Vec<&str> {
        self.values.iter().filter(|(n, _)| *n == long).map(|(_, v)| v.as_str()).collect()
    }

    /// All its values, each cut at the commas.
    pub fn strings(&self, long: &str) -> Vec<String> {
        self.list(long).into_iter().flat_map(|v| csv(v).unwrap_or_default()).collect()
    }

    /// The argument at `index`, or nothing.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }
}

struct Parser<'a> {
    flags: Flags,
    rest: std::slice::Iter<'a, String>,
    out: Matches,
}

impl Parser<'_> {
    fn find(&self, test: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
        self.flags.iter().flat_map(|list| list.iter()).find(|f| test(f))
    }

    fn put(&mut self, flag: &'static Flag, value: String) -> Result<(), Rejected> {
        flag.check(&value).map_err(Rejected::Bad)?;
        self.out.values.push((flag.long, value));
        Ok(())
    }

    fn long(&mut self, arg: &str, text: &str) -> Result<(), Rejected> {
        if text.is_empty() || text.starts_with(['-', '=']) {
            return Err(Rejected::Bad(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v.to_owned())));
        let Some(flag) = self.find(|f| f.long == name || f.alias == Some(name)) else {
            if name == "help" {
                return Err(Rejected::Help);
            }
            return Err(Rejected::Bad(format!("unknown flag: --{name}")));
        };
        let value = match value {
            Some(value) => value,
            None if matches!(flag.kind, Kind::Bool) => "true".into(),
            None => {
                self.rest.next().cloned().ok_or_else(|| Rejected::Bad(format!("flag needs an argument: --{name}")))?
            }
        };
        self.put(flag, value)
    }

    fn letters(&mut self, text: &str) -> Result<(), Rejected> {
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            let Some(flag) = self.find(|f| f.short == Some(letter)) else {
                if letter == 'h' {
                    return Err(Rejected::Help);
                }
                return Err(Rejected::Bad(format!("unknown shorthand flag: '{letter}' in -{letter}{}", rest.as_str())));
            };
            let after = rest.as_str();
            if let Some(value) = after.strip_prefix('=') {
                return self.put(flag, value.to_owned());
            }
            if matches!(flag.kind, Kind::Bool) {
                self.put(flag, "true".into())?;
                continue;
            }
            if !after.is_empty() {
                return self.put(flag, after.to_owned());
            }
            let next = self.rest.next().cloned();
            let value = next.ok_or_else(|| Rejected::Bad(format!("flag needs an argument: '{letter}' in -{text}")))?;
            return self.put(flag, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: Flags = &[
        &[flag("all", Kind::Bool, "").short('a'), flag("last", Kind::Int, "").short('n').default("-1")],
        &[flag("env", Kind::List, "").short('e'), flag("proxy", Kind::Bool, "").default("true").alias("px")],
    ];

    fn parse(args: &[&str], interspersed: bool) -> Result<Matches, Rejected> {
        Matches::parse(FLAGS, &args.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), interspersed)
    }

    #[test]
    fn forms_of_flags() {
        let m = parse(&["-an5", "x", "--env", "A=b", "-e=C", "-eD=e=f", "--proxy=false", "y"], true).unwrap();
        assert!(m.bool("all") && !m.bool("proxy") && m.given("proxy"));
        assert_eq!(
            (m.int("last"), m.list("env"), m.args.clone()),
            (5, vec!["A=b", "C", "D=e=f"], vec!["x".into(), "y".to_owned()])
        );
        let m = parse(&["-a=false", "x", "-a", "--", "-b"], true).unwrap();
        assert!(m.bool("all"));
        assert_eq!(m.args, ["x", "-b"]);
        assert_eq!(m.int("last"), -1);
        let m = parse(&["-a", "img", "-n", "--all"], false).unwrap();
        assert_eq!(m.args, ["img", "-n", "--all"]);
        assert!(!parse(&["--px=0", "-"], true).unwrap().bool("proxy"));
    }

    #[test]
    fn refusals_read_like_pflag() {
        let bad = |args: &[&str]| match parse(args, true) {
            Err(Rejected::Bad(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(bad(&["--foo=1"]), "unknown flag: --foo");
        assert_eq!(bad(&["-az"]), "unknown shorthand flag: 'z' in -z");
        assert_eq!(bad(&["--env"]), "flag needs an argument: --env");
        assert_eq!(bad(&["-an"]), "flag needs an argument: 'n' in -an");
        assert_eq!(
            bad(&["-n", "x"]),
            "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(bad(&["--=x"]), "bad flag syntax: --=x");
        assert_eq!(parse(&["--help"], true).unwrap_err(), Rejected::Help);
    }

    #[test]
    fn cpus_are_billionths() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".25"), Ok(250_000_000));
        assert_eq!(parse_cpus("2"), Ok(2_000_000_000));
        assert_eq!(parse_cpus("0.0000000001"), Err("value is too precise".into()));
        assert!(parse_cpus("x").is_err() && parse_cpus("").is_err() && parse_cpus(".").is_err());
    }

    #[test]
    fn commas_and_quotes() {
        assert_eq!(csv("a,b=c,\"d,e\"\"f\",").unwrap(), ["a", "b=c", "d,e\"f", ""]);
        assert!(csv("\"a").is_err() && csv("a\"b").is_err() && csv("\"a\"b").is_err());
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(args in proptest::collection::vec("-{0,3}[a-z=,\"é]{0,6}", 0..6), text in ".{0,20}") {
            let _ = Matches::parse(FLAGS, &args, true);
            let _ = csv(&text);
            let _ = parse_cpus(&text);
        }
    }
}
