//! A container's log as a stream of lines.

use super::Container;
use crate::types::{LogLine, LogOptions};
use crate::{Engine, log_file};
use naru_base::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines on their way to a client that reads slowly.
const BACKLOG: usize = 256;
/// How often a followed log is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

impl Engine {
    /// Whether the container has a terminal, and its log's lines; with `follow` until it has ended.
    ///
    /// # Errors
    /// When there is no such container, or it keeps no log.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<(bool, mpsc::Receiver<Result<LogLine>>)> {
        let container = self.containers.find(name)?;
        let tty = container.read(|r| r.config.tty);
        Ok((tty, self.log_lines(&container, options)?))
    }

    pub(crate) fn log_lines(
        &self,
        container: &Arc<Container>,
        options: LogOptions,
    ) -> Result<mpsc::Receiver<Result<LogLine>>> {
        if container.read(|r| r.host.log.driver == "none") {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        }
        let path = self.config.container_dir(&container.id).join(format!("{}-json.log", container.id));
        let (sender, lines) = mpsc::channel(BACKLOG);
        let container = Arc::clone(container);
        tokio::spawn(async move {
            if let Err(error) = send_lines(&container, path, &options, &sender).await {
                let text = format!("cannot read the log of container {}: {error}", container.id.short());
                // A client that has gone needs no error.
                let _ = sender.send(Err(Error::system(text))).await;
            }
        });
        Ok(lines)
    }
}

async fn send_lines(
    container: &Container,
    path: std::path::PathBuf,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> std::io::Result<()> {
    let mut reader = log_file::Reader::new(path);
    for line in reader.existing(options)? {
        if sender.send(Ok(line)).await.is_err() {
            return Ok(());
        }
    }
    if !options.follow {
        return Ok(());
    }
    loop {
        // Asked before the read: what was written before the end is then read after it.
        let running = container.status().is_running();
        while let Some(line) = reader.next()? {
            if options.until != 0 && line.time > options.until {
                return Ok(());
            }
            if log_file::wanted(&line, options) && sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        if !running || sender.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
