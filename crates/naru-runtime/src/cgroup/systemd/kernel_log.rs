//! Kills for want of memory, in the kernel's own log.
//!
//! systemd removes a scope as soon as its last process has ended, and with it the group's counters: it may be faster than whoever wants to know
//! why that process ended. The kernel's log (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg) still tells.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::Errno;

/// The longest record (`CONSOLE_EXT_LOG_MAX` of the kernel).
const RECORD_LIMIT: usize = 8192;

/// The log from a certain time on.
#[derive(Debug)]
pub(in super::super) struct KernelLog {
    file: OwnedFd,
}

impl KernelLog {
    /// From now on; `None` where it can't be read, in a container for example.
    pub(in super::super) fn from_now() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open("/dev/kmsg", flags, Mode::empty()).ok()?;
        seek(&file, SeekFrom::End(0)).ok()?;
        Some(Self { file })
    }

    /// How many processes have been killed in the group at `path`, at least; `first` is the one whose end is asked about.
    pub(in super::super) fn kills(&self, path: &str, first: Option<i32>) -> u64 {
        let mut buffer = vec![0; RECORD_LIMIT];
        let (mut in_group, mut of_first) = (0, 0);
        loop {
            match rustix::io::read(&self.file, &mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let record = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
                    in_group += u64::from(is_kill_in(&record, path));
                    of_first += u64::from(first.is_some_and(|pid| is_kill_of(&record, pid)));
                }
                // Overwritten meanwhile: the next read is of the oldest one that is there.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => break,
            }
        }
        in_group.max(of_first)
    }
}

/// The text of a record of the kernel's: what a process has written into the log has another facility.
fn text(record: &str) -> Option<&str> {
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    (priority < 8).then(|| text.lines().next().unwrap_or_default())
}

/// `oom-kill:constraint=…,oom_memcg=…,task_memcg=PATH,task=…`; left out when there are many at once.
fn is_kill_in(record: &str, path: &str) -> bool {
    let Some(text) = text(record).and_then(|text| text.strip_prefix("oom-kill:")) else { return false };
    let group = text.split(',').find_map(|part| part.strip_prefix("task_memcg="));
    group.and_then(|group| group.strip_prefix(path)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `Memory cgroup out of memory: Killed process PID (NAME) …`, always.
fn is_kill_of(record: &str, pid: i32) -> bool {
    text(record).is_some_and(|text| text.contains(&format!("Killed process {pid} (")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_kernel() {
        let line = "6,812,97816700,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a.scope,mems_allowed=0,\
                    oom_memcg=/system.slice/a.scope,task_memcg=/system.slice/a.scope,task=dd,pid=1001,uid=0\n";
        assert!(is_kill_in(line, "/system.slice/a.scope"));
        assert!(is_kill_in(&line.replace("a.scope,task=", "a.scope/x,task="), "/system.slice/a.scope"));
        assert!(!is_kill_in(&line.replace("a.scope,task=", "a.scopes,task="), "/system.slice/a.scope"));
        let killed =
            "3,813,97816792,-;Memory cgroup out of memory: Killed process 1001 (dd) total-vm:104660kB\n SUBSYSTEM=x\n";
        assert!(is_kill_of(killed, 1001) && !is_kill_of(killed, 100) && !is_kill_in(killed, "/"));
        // Written by a process.
        assert!(!is_kill_of(&killed.replacen('3', "11", 1), 1001));
        assert!(!is_kill_of("nonsense", 1) && !is_kill_of("", 1));
    }
}
