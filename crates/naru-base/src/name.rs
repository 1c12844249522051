//! Names of containers and volumes: what is allowed, and names made up when none is given.

use crate::{Error, Result};

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "clever", "coastal",
    "cosy", "curious", "daring", "deft", "eager", "earnest", "easy", "elegant", "fair", "fearless", "fleet", "fluent",
    "fond", "frank", "gentle", "glad", "golden", "graceful", "handy", "happy", "hardy", "honest", "humble", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "open",
    "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready", "robust", "serene", "sharp", "silent",
    "sincere", "sleek", "smart", "snug", "solid", "spry", "steady", "stoic", "sunny", "swift", "tender", "tidal",
    "tidy", "trusty", "vivid", "warm", "wise", "witty", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "ampere",
    "archimedes",
    "babbage",
    "banach",
    "bell",
    "bernoulli",
    "bohr",
    "boole",
    "borg",
    "cantor",
    "carson",
    "cauchy",
    "cerf",
    "chandrasekhar",
    "cho",
    "church",
    "curie",
    "darwin",
    "dijkstra",
    "dirac",
    "einstein",
    "engelbart",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "godel",
    "goodall",
    "hamilton",
    "hawking",
    "herschel",
    "hertz",
    "hilbert",
    "hodgkin",
    "hopper",
    "hypatia",
    "jang",
    "joule",
    "kepler",
    "kilby",
    "knuth",
    "kovalevskaya",
    "lamarr",
    "lamport",
    "laplace",
    "leavitt",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mayer",
    "mccarthy",
    "meitner",
    "mendel",
    "mirzakhani",
    "newton",
    "nightingale",
    "nobel",
    "noether",
    "pascal",
    "pasteur",
    "perlman",
    "planck",
    "poincare",
    "ptolemy",
    "ramanujan",
    "riemann",
    "ride",
    "ritchie",
    "rubin",
    "sejong",
    "shannon",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wiles",
    "woo",
    "wu",
    "yi",
    "yonath",
];

/// Whether `name` may name a container or volume: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() >= 2
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// A container's name without its leading slash.
///
/// # Errors
/// docker's text for a malformed name.
pub fn container(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if is_valid(bare) {
        Ok(bare)
    } else {
        Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
    }
}

/// A made-up name for the `attempt`th try out of random bits; later tries end in a digit.
pub fn generate(random: u64, attempt: u32) -> String {
    let pick = |list: &[&'static str], bits: u64| list[usize::try_from(bits).unwrap_or(0) % list.len()];
    let (adjective, surname) = (pick(ADJECTIVES, random & 0xffff), pick(SURNAMES, (random >> 16) & 0xffff));
    if attempt < 2 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", (random >> 32) % 10u64.pow(attempt.min(6) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["ab", "a-b.c_d", "0a"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a", "-a", "a b", "a/b", "é1", "_a"] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert_eq!(container("/web").unwrap(), "web");
        assert!(container("//web").is_err());
        for random in [0, u64::MAX, 0x1234_5678_9abc_def0] {
            for attempt in 0..8 {
                assert!(is_valid(&generate(random, attempt)));
            }
        }
    }
}
