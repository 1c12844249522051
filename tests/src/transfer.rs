//! A long transfer into a container through a published port.

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result, ensure};
use naru_testkit::{Engine, eventually};

use crate::neighbour::Neighbour;

/// Bytes from another machine through a published port into a container that no operation names.
pub struct Transfer {
    client: Child,
    stream: Option<ChildStdin>,
    sent: usize,
    _from: Neighbour,
}

impl Transfer {
    /// A container named `sink` that counts what comes, and a connection to it from another machine.
    ///
    /// # Errors
    /// When either can't be had.
    pub fn begin(engine: &Engine) -> Result<Transfer> {
        let (cli, from) = (engine.cli(), Neighbour::beside(engine.world())?);
        let script = "nc -l -p 7000 | wc -c; echo counted; sleep 1000";
        // With an open input: busybox' nc ends for both sides when one's ends.
        cli.ok(["run", "-d", "-i", "--name", "sink", "-p", "8080:7000", "busybox", "sh", "-c", script])?;
        eventually("the server to listen", || {
            let listening = cli.ok(["exec", "sink", "netstat", "-tln"])?;
            ensure!(listening.contains(":7000 "), "{listening}");
            Ok(())
        })?;
        let mut client = from.command(engine.world(), "busybox");
        client.args(["nc", "192.0.2.1", "8080"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut client = client.spawn()?;
        let stream = client.stdin.take();
        Ok(Transfer { client, stream, sent: 0, _from: from })
    }

    /// Sends so many bytes; more than all buffers on the way hold move only while the connection works.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, bytes: usize) -> Result<()> {
        self.stream.as_mut().context("the client's input")?.write_all(&vec![b'x'; bytes])?;
        self.sent += bytes;
        Ok(())
    }

    /// Ends it: all that was sent came.
    ///
    /// # Errors
    /// When it didn't.
    pub fn end(mut self, engine: &Engine) -> Result<()> {
        let cli = engine.cli();
        drop(self.stream.take());
        cli.wait_for_log("sink", "counted")?;
        let logged = cli.ok(["logs", "sink"])?;
        ensure!(logged.starts_with(&format!("{}\n", self.sent)), "{} were sent: {logged}", self.sent);
        self.client.wait()?;
        cli.ok(["rm", "-f", "sink"])?;
        Ok(())
    }
}
