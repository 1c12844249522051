//! What must hold for every container, whatever was done.

use super::plan::{Kind, OTHERS};
use anyhow::{Context as _, Result, ensure};
use naru_testkit::Engine;
use naru_testkit::invariants::{self, Seen};
use std::collections::BTreeMap;

/// What a container was made as.
pub fn kind(seen: &Seen) -> Option<Kind> {
    let word = seen.labels.get("kind")?;
    Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == *word)
}

/// Every resource has an owner, every container what it needs, and every log all its lines.
///
/// # Errors
/// With the first that hasn't.
pub fn everything(engine: &Engine, seen: &BTreeMap<String, Seen>, deaths: usize) -> Result<()> {
    invariants::check(engine, seen, |s| kind(s) == Some(Kind::Crashing))?;
    for (name, container) in seen {
        if kind(container) == Some(Kind::Counter) {
            counted(engine, &container.id).with_context(|| format!("the log of {name}"))?;
        }
    }
    volumes(engine, seen.len() + deaths)
}

/// Each line is one more than the line before, or the first of a new run.
fn counted(engine: &Engine, id: &str) -> Result<()> {
    let answer = engine.http().get(&format!("/containers/{id}/logs?stdout=1"))?;
    // Gone meanwhile.
    if answer.status == 404 {
        return Ok(());
    }
    let mut last = 0;
    for frame in frames(&answer.body) {
        let number: u64 = String::from_utf8_lossy(frame).trim().parse().context("a number")?;
        ensure!(number == last + 1 || number == 1, "{number} follows {last}");
        last = number;
    }
    Ok(())
}

/// The payloads of docker's frames: 8 bytes of header, the last four of them the length.
fn frames(mut body: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let [_, _, _, _, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (payload, after) = rest.split_at(length.min(rest.len()));
        found.push(payload);
        body = after;
    }
    found
}

/// Every volume is some container's: those that were removed took theirs with them. A creation that an engine's death cut short may have left
/// one.
fn volumes(engine: &Engine, most: usize) -> Result<()> {
    let list = engine.http().get("/volumes")?.json()?;
    let count = list["Volumes"].as_array().map_or(0, Vec::len);
    // With names.
    let most = most + OTHERS;
    ensure!(count <= most, "{count} volumes, at most {most} of which have a reason");
    Ok(())
}
