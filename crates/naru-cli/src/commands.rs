//! The commands, one file for each or for a small family.

pub mod archive;
pub mod attach;
pub mod check;
pub mod container;
pub mod cp;
pub mod create;
pub mod df;
pub mod events;
pub mod exec;
pub mod exposed;
pub mod history;
pub mod image;
pub mod images;
pub mod info;
pub mod inspect;
pub mod lifecycle;
pub mod login;
pub mod logout;
pub mod logs;
pub mod manifest;
pub mod network;
pub mod prune;
pub mod ps;
pub mod pull;
pub mod push;
pub mod run;
pub mod search;
pub mod start;
pub mod stats;
mod tree;
pub mod update;
pub mod version;
pub mod volume;
pub mod why;

use crate::context::Context;
use crate::failure::{Failure, Outcome, joined};
use naru_client::Client;
use std::collections::BTreeMap;

/// How many requests a command over several targets has under way at once.
const AT_ONCE: usize = 50;

/// An error of the operating system in Go's words: `no such file or directory`.
pub fn go_io(e: &std::io::Error) -> String {
    naru_base::error::as_go_says(&e.to_string())
}

/// Twelve characters of an id, without `sha256:`.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// `a=b,c=d`.
pub fn join_labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// Does the same for each target, several at once, and prints those that it worked for in their order; the failures come last.
pub fn for_each(
    context: &mut Context,
    targets: &[String],
    work: impl Fn(&Client, &str) -> Result<(), Failure> + Sync,
) -> Outcome {
    let results: Vec<Result<(), Failure>> = match targets {
        [one] => vec![work(context.client()?, one)],
        many => in_parallel(context, many, &work)?,
    };
    let mut failures = Vec::new();
    for (target, result) in targets.iter().zip(results) {
        match result {
            Ok(()) => context.printer.line(target)?,
            Err(failure) => failures.push(failure),
        }
    }
    joined(failures)
}

/// Does `work` for each target, several at once, each with a client of its own; the results are in the targets' order.
pub fn in_parallel<T: Send>(
    context: &Context,
    targets: &[String],
    work: &(impl Fn(&Client, &str) -> Result<T, Failure> + Sync),
) -> Result<Vec<Result<T, Failure>>, Failure> {
    let first = context.client()?;
    first.negotiate()?;
    let mut out = Vec::with_capacity(targets.len());
    for chunk in targets.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = chunk
                .iter()
                .map(|target| {
                    let spec = first.spec();
                    scope.spawn(move || work(&spec.into_client(), target))
                })
                .collect();
            for thread in threads {
                out.push(thread.join().unwrap_or_else(|_| Err(Failure::new("a request failed unexpectedly"))));
            }
        });
    }
    Ok(out)
}

/// Asks `question`; only `y` is yes.
pub fn confirm(context: &mut Context, question: &str) -> Result<bool, Failure> {
    context.printer.now(format!("{question} [y/N] ").as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::from)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_texts() {
        assert_eq!(go_io(&std::io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }
}
