//! The terminal: its size, and raw mode that is undone however the command ends.

use rustix::stdio;
use rustix::termios::{self, OptionalActions, OutputModes, SpecialCodeIndex, Termios};
use std::io;

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    termios::isatty(stdio::stdin())
}

/// Rows and columns of standard output's terminal; `None` when it is none.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(stdio::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Columns of standard error's terminal; `None` when it is none.
pub fn stderr_columns() -> Option<usize> {
    let size = termios::tcgetwinsize(stdio::stderr()).ok()?;
    Some(usize::from(size.ws_col))
}

/// The width to lay help out for.
pub fn help_width() -> usize {
    size().map_or(80, |(_, columns)| usize::from(columns)).max(40)
}

/// Raw mode of standard input, undone when dropped.
#[derive(Debug)]
pub struct RawMode {
    input: Option<Termios>,
    output: Option<Termios>,
}

impl RawMode {
    /// Makes standard input raw (termios(3), cfmakeraw), and standard output's terminal stop translating line ends.
    /// What is no terminal is left alone.
    ///
    /// # Errors
    /// Those of tcsetattr(3).
    pub fn enter(with_input: bool) -> io::Result<Self> {
        let mut saved = Self { input: None, output: None };
        if with_input && stdin_is_terminal() {
            let before = termios::tcgetattr(stdio::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            raw.special_codes[SpecialCodeIndex::VMIN] = 1;
            raw.special_codes[SpecialCodeIndex::VTIME] = 0;
            termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)?;
            saved.input = Some(before);
        }
        if termios::isatty(stdio::stdout()) {
            let before = termios::tcgetattr(stdio::stdout())?;
            let mut raw = before.clone();
            raw.output_modes.remove(OutputModes::OPOST);
            termios::tcsetattr(stdio::stdout(), OptionalActions::Now, &raw)?;
            // When input and output are one terminal, the mode to go back to is the one from before both changes.
            saved.output = Some(if saved.input.is_some() { saved.input.clone().unwrap_or(before) } else { before });
        }
        Ok(saved)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = self.output.take() {
            let _ = termios::tcsetattr(stdio::stdout(), OptionalActions::Now, &before);
        }
        if let Some(before) = self.input.take() {
            let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &before);
        }
    }
}

/// Standard input without echo while a password is typed, undone when dropped.
#[derive(Debug)]
pub struct NoEcho(Option<Termios>);

impl NoEcho {
    /// Turns the echo off.
    pub fn enter() -> Self {
        let Ok(before) = termios::tcgetattr(stdio::stdin()) else { return Self(None) };
        let mut quiet = before.clone();
        quiet.local_modes.remove(termios::LocalModes::ECHO);
        let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &quiet);
        Self(Some(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &before);
        }
    }
}
