//! A container's log as a stream of lines.

use super::Container;
use crate::types::{LogLine, LogOptions};
use crate::{Engine, clock};
use naru_base::{Error, Id, Result};
use naru_log::{Driver, Entry, Reader, Stream};
use std::collections::VecDeque;
use std::path::PathBuf;
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

    /// The id of the container that a name, an id or the beginning of one means.
    ///
    /// # Errors
    /// When there is none, or several are meant.
    pub fn find_container(&self, name: &str) -> Result<Id> {
        Ok(self.containers.find(name)?.id.clone())
    }

    pub(crate) fn log_lines(
        &self,
        container: &Arc<Container>,
        options: LogOptions,
    ) -> Result<mpsc::Receiver<Result<LogLine>>> {
        let settings = container.read(|r| r.host.log.clone());
        let folder = self.config.container_dir(&container.id);
        let name = if settings.driver.is_empty() { crate::log_config::DEFAULT_DRIVER } else { &settings.driver };
        let (Some(driver), Some(path)) =
            (naru_log::find(name), crate::log_config::path(&settings, &folder, container.id.as_str()))
        else {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        };
        let (sender, lines) = mpsc::channel(BACKLOG);
        let container = Arc::clone(container);
        tokio::spawn(async move {
            if let Err(error) = send_lines(&container, driver, path, options, &sender).await {
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
    driver: &'static dyn Driver,
    path: PathBuf,
    options: LogOptions,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> std::io::Result<()> {
    // Asked before the read: what was written before the end is then read after it.
    let mut running = container.status().is_running();
    let mut reader = match options.after {
        Some(position) => Reader::after(driver, path, position)?,
        None => Reader::new(driver, path)?,
    };
    if let Some(count) = options.tail {
        let wanted = options.clone();
        let found = tokio::task::spawn_blocking(move || tail(reader, count, &wanted)).await;
        let (there, lines) = found.map_err(std::io::Error::other)??;
        reader = there;
        for line in lines {
            if sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        let mark = LogLine { mark: true, ..line(Entry::default(), &reader) };
        if options.marks && sender.send(Ok(mark)).await.is_err() {
            return Ok(());
        }
    }
    loop {
        while let Some(entry) = reader.next_entry()? {
            let line = line(entry, &reader);
            // A line from the future alone is no end: the clock may have been ahead for a while.
            if options.follow && options.until != 0 && line.time > options.until && clock::now() > options.until {
                return Ok(());
            }
            if is_wanted(&line, &options) && sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        let over = options.until != 0 && clock::now() > options.until;
        if !options.follow || !running || over || sender.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
        running = container.status().is_running();
    }
}

/// The last lines that are there, and the reader behind them.
fn tail(mut reader: Reader, count: usize, options: &LogOptions) -> std::io::Result<(Reader, VecDeque<LogLine>)> {
    let mut lines = VecDeque::new();
    while let Some(entry) = reader.next_entry()? {
        let line = line(entry, &reader);
        if is_wanted(&line, options) {
            lines.push_back(line);
            if lines.len() > count {
                lines.pop_front();
            }
        }
    }
    Ok((reader, lines))
}

fn line(entry: Entry<'static>, reader: &Reader) -> LogLine {
    LogLine {
        stderr: entry.stream == Stream::Stderr,
        time: entry.time,
        text: entry.text.into_owned(),
        attributes: entry.attributes,
        position: reader.position(),
        mark: false,
    }
}

/// Whether the options want this line. Each is judged by itself: a clock that was set back leaves later lines with earlier times.
fn is_wanted(line: &LogLine, options: &LogOptions) -> bool {
    let stream = if line.stderr { options.stderr } else { options.stdout };
    stream && line.time >= options.since && (options.until == 0 || line.time <= options.until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_times_are_chosen() {
        let at = |stderr, time| LogLine {
            stderr,
            time,
            text: Vec::new(),
            attributes: Default::default(),
            position: Default::default(),
            mark: false,
        };
        let options = LogOptions { stdout: true, since: 2, until: 3, ..LogOptions::default() };
        let wanted: Vec<_> = [1, 2, 3, 4].into_iter().filter(|t| is_wanted(&at(false, *t), &options)).collect();
        assert_eq!(wanted, [2, 3]);
        assert!(!is_wanted(&at(true, 2), &options));
    }
}
