//! `stats`: what containers use, once or again and again.

use super::short_id;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flag::Matches;
use crate::format::{Format, Listing, Row};
use crate::types::Container;
use naru_base::size::{bytes_size, human_size_with_precision};
use naru_client::{Client, Request, escape_path};
use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const LISTING: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    raw: "",
    quiet: "{{.ID}}",
    headers: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    row_type: "*container.statsContext",
};

/// Between two drawings of the table.
const REFRESH: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Sample {
    name: String,
    id: String,
    pids_stats: Pids,
    blkio_stats: Blkio,
    cpu_stats: Cpu,
    precpu_stats: Cpu,
    memory_stats: Memory,
    networks: Option<BTreeMap<String, Net>>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Pids {
    current: u64,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct BlkioEntry {
    op: String,
    value: u64,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Cpu {
    cpu_usage: CpuUsage,
    system_cpu_usage: u64,
    online_cpus: u32,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
    percpu_usage: Option<Vec<u64>>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Net {
    rx_bytes: u64,
    tx_bytes: u64,
}

impl Sample {
    /// Of all processors since the last sample.
    fn cpu_percent(&self) -> f64 {
        let used = self.cpu_stats.cpu_usage.total_usage as f64 - self.precpu_stats.cpu_usage.total_usage as f64;
        let system = self.cpu_stats.system_cpu_usage as f64 - self.precpu_stats.system_cpu_usage as f64;
        let counted = self.cpu_stats.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64;
        let cpus = if self.cpu_stats.online_cpus == 0 { counted } else { f64::from(self.cpu_stats.online_cpus) };
        if system > 0.0 && used > 0.0 { used / system * cpus * 100.0 } else { 0.0 }
    }

    /// Memory without the page cache that the kernel would give back at once.
    fn memory(&self) -> f64 {
        let stats = self.memory_stats.stats.as_ref();
        let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|k| stats.and_then(|s| s.get(*k)));
        match cache {
            Some(cache) if *cache < self.memory_stats.usage => (self.memory_stats.usage - cache) as f64,
            _ => self.memory_stats.usage as f64,
        }
    }

    fn network(&self) -> (f64, f64) {
        self.networks.iter().flatten().fold((0.0, 0.0), |(r, t), (_, n)| (r + n.rx_bytes as f64, t + n.tx_bytes as f64))
    }

    fn block(&self) -> (f64, f64) {
        let entries = self.blkio_stats.io_service_bytes_recursive.iter().flatten();
        entries.fold((0.0, 0.0), |(r, w), e| match e.op.bytes().next() {
            Some(b'r' | b'R') => (r + e.value as f64, w),
            Some(b'w' | b'W') => (r, w + e.value as f64),
            _ => (r, w),
        })
    }
}

fn row(container: &str, sample: Option<&Sample>, full: bool) -> Row {
    let pair =
        |(a, b): (f64, f64)| format!("{} / {}", human_size_with_precision(a, 3), human_size_with_precision(b, 3));
    let base = Row::new().with("Container", container);
    let Some(s) = sample else {
        let id = if full { container } else { short_id(container) };
        return ["Name", "CPUPerc", "MemPerc", "PIDs"]
            .iter()
            .fold(base.with("ID", id), |row, name| row.with(name, "--"))
            .with("MemUsage", "-- / --")
            .with("NetIO", "--")
            .with("BlockIO", "--");
    };
    let limit = s.memory_stats.limit as f64;
    let percent = if limit > 0.0 { s.memory() / limit * 100.0 } else { 0.0 };
    base.with("ID", if full { &s.id } else { short_id(&s.id) })
        .with("Name", s.name.trim_start_matches('/'))
        .with("CPUPerc", format!("{:.2}%", s.cpu_percent()))
        .with("MemUsage", format!("{} / {}", bytes_size(s.memory()), bytes_size(limit)))
        .with("MemPerc", format!("{percent:.2}%"))
        .with("NetIO", pair(s.network()))
        .with("BlockIO", pair(s.block()))
        .with("PIDs", s.pids_stats.current.to_string())
}

/// Runs the command.
pub fn stats(context: &mut Context, m: &Matches) -> Outcome {
    let text = context.format(m.str("format"), "statsFormat");
    let format = Format::new(&LISTING, &text, false)?;
    let full = m.bool("no-trunc");
    let named = !m.args.is_empty();
    if m.bool("no-stream") {
        let targets = if named { m.args.clone() } else { running(context, m)? };
        return once(context, &format, &targets, full);
    }
    repeatedly(context, m, &format, full)
}

fn running(context: &Context, m: &Matches) -> Result<Vec<String>, Failure> {
    let path = if m.bool("all") { "/containers/json?all=1" } else { "/containers/json" };
    let list: Vec<Container> = context.get(path)?;
    Ok(list.into_iter().map(|c| c.id).collect())
}

fn once(context: &mut Context, format: &Format<'_>, targets: &[String], full: bool) -> Outcome {
    let fetch = |client: &Client, name: &str| {
        let path = format!("/containers/{}/stats?stream=0", escape_path(name));
        Ok(client.send(Request::get(path))?.json::<Sample>()?)
    };
    let results = super::in_parallel(context, targets, &fetch)?;
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    for (target, result) in targets.iter().zip(results) {
        match result {
            // A container that does not run has no figures.
            Ok(sample) if sample.cpu_stats.cpu_usage.total_usage == 0 && sample.pids_stats.current == 0 => {
                rows.push(row(target, None, full));
            }
            Ok(sample) => rows.push(row(target, Some(&sample), full)),
            Err(e) => failures.push(e),
        }
    }
    if !failures.is_empty() {
        return crate::failure::joined(failures);
    }
    format.print(&mut context.printer, rows)?;
    Ok(0)
}

/// The latest sample of each container, in the order in which they were found.
type Board = Arc<Mutex<Vec<(String, Option<Sample>)>>>;

fn repeatedly(context: &mut Context, m: &Matches, format: &Format<'_>, full: bool) -> Outcome {
    let board: Board = Arc::default();
    let named = !m.args.is_empty();
    let terminal = crate::printer::stdout_is_terminal();
    if named {
        for name in &m.args {
            // A name that there is not ends the command.
            context.call(Request::get(format!("/containers/{}/json", escape_path(name))))?;
            watch(context, &board, name)?;
        }
    }
    loop {
        if !named {
            let now = running(context, m)?;
            let known: Vec<String> = lock(&board).iter().map(|(id, _)| id.clone()).collect();
            lock(&board).retain(|(id, _)| now.contains(id));
            for id in now.iter().filter(|id| !known.contains(id)) {
                watch(context, &board, id)?;
            }
        }
        let text = format.render(lock(&board).iter().map(|(id, s)| row(id, s.as_ref(), full)))?;
        let screen = if terminal { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        context.printer.now(screen.as_bytes())?;
        if named && lock(&board).is_empty() {
            return Ok(0);
        }
        std::thread::sleep(REFRESH);
    }
}

fn lock(board: &Board) -> std::sync::MutexGuard<'_, Vec<(String, Option<Sample>)>> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows one container in a thread of its own until the engine ends the stream.
fn watch(context: &Context, board: &Board, name: &str) -> Result<(), Failure> {
    lock(board).push((name.to_owned(), None));
    let spec = context.client()?.spec();
    let (board, name) = (board.clone(), name.to_owned());
    std::thread::spawn(move || {
        let client = spec.into_client();
        let path = format!("/containers/{}/stats?stream=1", escape_path(&name));
        if let Ok(response) = client.send(Request::get(path)) {
            let samples =
                serde_json::Deserializer::from_reader(BufReader::new(response.into_body())).into_iter::<Sample>();
            for sample in samples.map_while(Result::ok) {
                if let Some(entry) = lock(&board).iter_mut().find(|(id, _)| *id == name) {
                    entry.1 = Some(sample);
                }
            }
        }
        lock(&board).retain(|(id, _)| *id != name);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let text = r#"{"name":"/x","id":"0123456789abcdef","cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
            "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},"memory_stats":{"usage":3000,"limit":4000,"stats":{"inactive_file":1000}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":5},{"op":"write","value":7}]},"networks":{"eth0":{"rx_bytes":1,"tx_bytes":2}},
            "pids_stats":{"current":3}}"#;
        let s: Sample = serde_json::from_str(text).unwrap();
        assert!((s.cpu_percent() - 40.0).abs() < 1e-9);
        assert_eq!((s.memory(), s.network(), s.block()), (2000.0, (1.0, 2.0), (5.0, 7.0)));
        let format =
            Format::new(&LISTING, "{{.ID}} {{.Name}} {{.CPUPerc}} {{.MemPerc}} {{.NetIO}} {{.PIDs}}", false).unwrap();
        assert_eq!(format.render([row("x", Some(&s), false)]).unwrap(), "0123456789ab x 40.00% 50.00% 1B / 2B 3\n");
        assert_eq!(format.render([row("x", None, false)]).unwrap(), "x -- -- -- -- --\n");
    }
}
