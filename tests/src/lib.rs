//! What the suite's files share. The suite itself is in the files beside `src`, one per topic.
//!
//! `NARU_TEST_TARGET=dockerd` runs it on Debian's dockerd: a test that fails there is wrong. `NARU_TEST_CLIENT=naru` runs
//! it with Naru's own client in place of docker's.

pub mod bundle;
pub mod firewalld;
pub mod inside;
pub mod neighbour;
pub mod transfer;

use naru_testkit::Target;

/// Whether the test is to be left: it states what Naru promises beyond dockerd 20.10, and dockerd is under test.
pub fn only_naru(why: &str) -> bool {
    let skip = Target::from_env() == Target::Dockerd;
    if skip {
        note(&format!("only for naru: {why}"));
    }
    skip
}

/// A line in the test's captured output.
pub fn note(text: &str) {
    // Nothing to do when the test's standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}
