//! `run`: `create` and `start` at once, and in the foreground what follows.

use super::start::poststart;
use crate::args::{Flag, Parsed, switch};
use crate::container::{self, Request, destroy, make};
use crate::foreground;
use crate::global::Global;
use crate::state::Store;
use naru_base::Result;

pub(super) const FLAGS: &[Flag] = &{
    let [a, b, c, d, e, f, g] = container::FLAGS;
    [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        switch("detach", "leave the container running and return").or("d"),
        switch("keep", "do not remove the container when it has ended"),
    ]
};

pub(super) fn run(global: &Global, parsed: &Parsed) -> Result<i32> {
    let detached = parsed.has("detach");
    let request = Request { detached, ..Request::new(parsed)? };
    if !detached {
        foreground::hold_signals()?;
    }
    let mut made = make(global, request)?;
    poststart(global, &made.state);
    if detached {
        return Ok(0);
    }
    let code = foreground::wait(&mut made.started)?;
    if parsed.has("keep") {
        return Ok(code);
    }
    // Whoever was faster has removed it.
    if Store::new(&global.root).load(&made.state.id).is_ok() {
        destroy(global, &made.state)?;
    }
    Ok(code)
}
