//! An engine that goes away for a moment: it is restarted, or another build takes its place. Commands that wait or follow go on with the
//! next one.

use crate::context::Context;
use crate::failure::Failure;
use naru_client::{Request, Response};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// So long the next engine may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// After so long the user is told.
const SILENCE: Duration = Duration::from_secs(2);
/// Before the second try; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sends a request again until an engine answers.
///
/// # Errors
/// What the engine answers, and when none comes.
pub fn send_again(context: &Context, request: impl Fn() -> Request<'static>) -> Result<Response, Failure> {
    let begin = Instant::now();
    let until = begin + PATIENCE;
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        match context.client()?.send(request()) {
            Err(e) if e.is_gone() && Instant::now() >= until => {
                return Err(Failure::new(format!("the engine went away, and none came in its place: {e}")));
            }
            Err(e) if e.is_gone() => {}
            other => return Ok(other?),
        }
        if !told && begin.elapsed() > SILENCE {
            told = true;
            let text = format!("{}: the engine went away; waiting for another one\n", context.program);
            // That nobody reads it is no failure.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
