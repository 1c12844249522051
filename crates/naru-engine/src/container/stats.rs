//! What a container uses, and which processes it has.

use crate::types::UnixNanos;
use crate::{Engine, clock};
use naru_base::error::Context as _;
use naru_base::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// One look at what a container uses.
#[derive(Debug, Clone)]
pub struct StatsSample {
    /// When.
    pub read: UnixNanos,
    /// From its cgroup.
    pub cgroup: naru_runtime::cgroup::Stats,
    /// CPU time of the whole machine so far, in nanoseconds.
    pub system_cpu_ns: u64,
    /// Processors that are on.
    pub online_cpus: u32,
    /// By interface: rx_bytes, rx_packets, rx_errors, rx_dropped, and the same of tx.
    pub networks: BTreeMap<String, [u64; 8]>,
    /// Bytes that it may use, the machine's memory at the most.
    pub memory_limit: u64,
}

/// Nanoseconds of a tick of /proc/stat (USER_HZ is 100).
const TICK: u64 = 10_000_000;
/// What is looked at within this time is looked at together.
const TOGETHER: Duration = Duration::from_millis(20);

impl Engine {
    /// What it uses now; `None` when it isn't running.
    ///
    /// # Errors
    /// When there is no such container, or its cgroup can't be read.
    pub fn stats(&self, name: &str) -> Result<Option<StatsSample>> {
        let container = self.containers.find(name)?;
        let (pid, running) = container.read(|r| (r.state.pid, r.state.has_process()));
        if !running {
            return Ok(None);
        }
        let cgroup = self.cgroup(&container)?.stats()?;
        let (system_cpu_ns, online_cpus) = machine_time()?;
        let machine = machine_memory();
        Ok(Some(StatsSample {
            read: clock::now(),
            memory_limit: cgroup.memory.limit.map_or(machine, |l| l.min(machine)),
            cgroup,
            system_cpu_ns,
            online_cpus,
            networks: networks(pid),
        }))
    }

    /// Its processes, as `ps` with these arguments shows them.
    ///
    /// # Errors
    /// When it isn't running, or the host has no `ps`.
    pub async fn top(&self, name: &str, arguments: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let container = self.containers.find(name)?;
        container.running_monitor()?;
        let pids = self.cgroup(&container)?.pids()?;
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let output = crate::image::blocking(move || {
            let list = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
            let arguments = if arguments.is_empty() { vec!["-ef".to_owned()] } else { arguments };
            let ps = |more: Option<String>| {
                let output = std::process::Command::new("ps").args(&arguments).args(more).output();
                output.map_err(|e| Error::system(format!("cannot run ps on this host: {e}")))
            };
            // By itself ps may list the caller's own processes alone. Some options, such as `-e`, don't go with `-q`.
            let output = match ps(Some(format!("-q{list}")))? {
                output if output.status.success() => output,
                _ => ps(None)?,
            };
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Error::system(format!("ps: {text}")));
            }
            Ok((String::from_utf8_lossy(&output.stdout).into_owned(), list))
        })
        .await?;
        let pids: Vec<&str> = output.1.split(',').collect();
        self.container_event(&container, "top", &[]);
        let first = container.read(|r| r.state.first_id);
        let (titles, mut rows) = chosen(&output.0, &pids)?;
        if let Some(first) = first {
            show_inner_ids(&titles, &mut rows, first, user_ids);
        }
        Ok((titles, rows))
    }
}

/// CPU time of the whole machine so far in nanoseconds, and processors that are on. Read once for all containers that are looked at together:
/// the file is long where there are many processors.
fn machine_time() -> Result<(u64, u32)> {
    static LAST: Mutex<Option<(Instant, u64, u32)>> = Mutex::new(None);
    let mut last = crate::lock(&LAST);
    if let Some((at, time, online)) = *last
        && at.elapsed() < TOGETHER
    {
        return Ok((time, online));
    }
    let text = std::fs::read_to_string("/proc/stat").system("cannot read /proc/stat")?;
    let mut lines = text.lines();
    let all = lines.next().unwrap_or_default().split_whitespace().skip(1).take(7);
    let ticks: u64 = all.filter_map(|n| n.parse::<u64>().ok()).sum();
    let online = u32::try_from(lines.take_while(|l| l.starts_with("cpu")).count()).unwrap_or(1);
    let time = ticks.saturating_mul(TICK);
    *last = Some((Instant::now(), time, online));
    Ok((time, online))
}

/// Bytes of memory in this machine, looked up once.
fn machine_memory() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(crate::info::memory)
}

/// The rows of `ps` output with one of the process ids; the last column takes the rest of the line.
fn chosen(output: &str, pids: &[&str]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let at =
        titles.iter().position(|t| t == "PID").ok_or_else(|| Error::system("Couldn't find PID field in ps output"))?;
    let mut rows = Vec::new();
    for line in lines {
        let mut fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if fields.len() > titles.len() {
            let rest = fields.split_off(titles.len() - 1).join(" ");
            fields.push(rest);
        }
        if fields.get(at).is_some_and(|p| pids.contains(&p.as_str())) {
            rows.push(fields);
        }
    }
    Ok((titles, rows))
}

/// Ids of a container's user namespace as they are inside: `ps` knows the host's alone, which have no names there and are cut off.
fn show_inner_ids(titles: &[String], rows: &mut [Vec<String>], first: u32, ids: impl Fn(&str) -> Option<(u32, u32)>) {
    let Some(pid) = titles.iter().position(|title| title == "PID") else { return };
    for row in rows {
        let Some((real, effective)) = row.get(pid).and_then(|pid| ids(pid)) else { continue };
        for (title, field) in titles.iter().zip(row) {
            let id = match title.as_str() {
                "RUSER" | "RUID" => real,
                "UID" | "USER" | "EUSER" | "EUID" => effective,
                _ => continue,
            };
            match id.checked_sub(first).filter(|id| *id < 65_536) {
                Some(0) => "root".clone_into(field),
                Some(id) => *field = id.to_string(),
                None => {}
            }
        }
    }
}

/// Real and effective user id of a process on the host (proc_pid_status(5)).
fn user_ids(pid: &str) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut ids =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().map(|id| id.parse().ok());
    Some((ids.next()??, ids.next()??))
}

/// From the process's own view of its network (proc_pid_net(5)).
fn networks(pid: i32) -> BTreeMap<String, [u64; 8]> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let all: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let ([rb, rp, re, rd, _, _, _, _, tb, tp, te, td, ..], false) = (all.as_slice(), name.trim() == "lo") {
            found.insert(name.trim().to_owned(), [*rb, *rp, *re, *rd, *tb, *tp, *te, *td]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps_rows_are_chosen_by_process_id() {
        let output = "UID  PID  CMD\nroot 1 init\nroot 22 sh -c x y\n";
        let (titles, rows) = chosen(output, &["22"]).unwrap();
        assert_eq!(titles, ["UID", "PID", "CMD"]);
        assert_eq!(rows, [["root", "22", "sh -c x y"]]);
        assert!(chosen("A B\n", &["1"]).is_err());
    }

    #[test]
    fn ids_of_a_user_namespace_are_shown_as_they_are_inside() {
        let titles = ["RUSER", "UID", "PID"].map(str::to_owned);
        let row = |pid: &str| vec!["1+".to_owned(), "1+".to_owned(), pid.to_owned()];
        let mut rows = vec![row("2"), row("3"), row("4")];
        let ids = |pid: &str| (pid != "4").then(|| if pid == "3" { (0, 101_000) } else { (101_000, 100_000) });
        show_inner_ids(&titles, &mut rows, 100_000, ids);
        assert_eq!(rows, [["1000", "root", "2"], ["1+", "1000", "3"], ["1+", "1+", "4"]]);
    }
}
