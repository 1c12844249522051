//! The only place that writes to standard output and standard error.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// Standard output (buffered until [`Printer::flush`] or an error line) and standard error.
pub struct Printer {
    out: BufWriter<Stdout>,
}

impl Default for Printer {
    fn default() -> Self {
        Self { out: BufWriter::with_capacity(32 * 1024, io::stdout()) }
    }
}

impl Printer {
    /// A line on standard output.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.out.write_all(text.as_ref().as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Bytes on standard output.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Bytes on standard output, at once.
    pub fn now(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.flush()
    }

    /// Bytes on standard error, at once.
    pub fn err_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        io::stderr().write_all(bytes)
    }

    /// A line on standard error. That nobody reads it is no failure.
    pub fn err(&mut self, text: impl AsRef<str>) {
        let _ = self.flush();
        let mut line = text.as_ref().as_bytes().to_vec();
        line.push(b'\n');
        let _ = io::stderr().write_all(&line);
    }

    /// Writes what is held back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_mut().flush()
    }
}

impl Write for Printer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Printer::flush(self)
    }
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}
