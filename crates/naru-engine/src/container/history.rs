//! What has happened to a container: the newest facts, kept with its record so that a later engine can tell them, too.

use crate::types::{HealthStatus, UnixNanos};
use naru_base::signal;
use naru_base::size::bytes_size;
use naru_monitor::protocol::{ExitRecord, MemoryAtEnd, OnUnhealthy};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many are kept.
const KEPT: usize = 24;
/// How much of a check's output a fact tells, in characters.
const OUTPUT_SHOWN: usize = 200;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When.
    pub at: UnixNanos,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was started.
    Started {
        /// By its policy or an engine that began, not by a user.
        by_itself: bool,
    },
    /// It could not be started.
    StartFailed {
        /// docker's exit code for that.
        exit_code: i32,
        /// Why.
        error: String,
    },
    /// A user asked for its end.
    Asked {
        /// `stop` or `kill`.
        command: String,
        /// The signal's number.
        signal: i32,
    },
    /// It ended.
    Ended {
        /// 0 to 255, or 128 + signal.
        exit_code: i32,
        /// The signal that ended its first process.
        signal: Option<i32>,
        /// The last signal that was sent to it on behalf of a user.
        asked_signal: Option<i32>,
        /// Nobody saw it end.
        unseen: bool,
        /// What was done because it was unhealthy.
        unhealthy: Option<OnUnhealthy>,
        /// Set when the kernel killed something in it for want of memory.
        memory: Option<MemoryAtEnd>,
    },
    /// It is to be started again.
    RestartPlanned {
        /// After so many milliseconds.
        pause_ms: u64,
    },
    /// Its health is another one now.
    Health {
        /// This.
        status: HealthStatus,
        /// What the last check said.
        output: String,
    },
    /// The kernel killed a further process in it for want of memory.
    OutOfMemory,
}

/// Puts a fact behind the others.
pub(crate) fn note(history: &mut Vec<Fact>, at: UnixNanos, what: What) {
    history.push(Fact { at, what });
    let surplus = history.len().saturating_sub(KEPT);
    history.drain(..surplus);
}

impl What {
    /// From a monitor's record, or what stands for one.
    pub(crate) fn ended(record: &ExitRecord) -> Self {
        Self::Ended {
            exit_code: record.exit_code,
            signal: record.signal,
            asked_signal: record.asked_signal,
            unseen: record.unseen,
            unhealthy: record.unhealthy,
            memory: record.memory,
        }
    }

    /// From a check of its health.
    pub(crate) fn health(status: HealthStatus, output: &str) -> Self {
        Self::Health { status, output: output.trim().chars().take(OUTPUT_SHOWN).collect() }
    }

    /// One word on what it is about.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Started { .. } | Self::StartFailed { .. } => "start",
            Self::Asked { .. } | Self::Ended { .. } => "end",
            Self::RestartPlanned { .. } => "restart",
            Self::Health { .. } => "health",
            Self::OutOfMemory => "memory",
        }
    }

    /// In words.
    pub fn sentence(&self) -> String {
        match self {
            Self::Started { by_itself: false } => "started by a user".into(),
            Self::Started { by_itself: true } => "started by its restart policy".into(),
            Self::StartFailed { exit_code, error } => format!("could not be started ({exit_code}): {error}"),
            Self::Asked { command, signal } => {
                format!("a user asked for its end: {command}, which sends {}", named(*signal))
            }
            Self::Ended { .. } => self.end(),
            Self::RestartPlanned { pause_ms } => {
                format!("is started again after {:?}", Duration::from_millis(*pause_ms))
            }
            Self::Health { status, output } if output.is_empty() => format!("became {}", status.as_str()),
            Self::Health { status, output } => format!("became {}: the check said {output:?}", status.as_str()),
            Self::OutOfMemory => "the kernel killed a process in it for want of memory".into(),
        }
    }

    fn end(&self) -> String {
        let Self::Ended { exit_code, signal, asked_signal, unseen, unhealthy, memory } = self else {
            return String::new();
        };
        if *unseen {
            let why =
                if *exit_code == 255 { "the machine went down" } else { "its monitor was killed, and it with that" };
            return format!("ended with {exit_code}, and nobody saw how: {why}");
        }
        let how = match (signal, unhealthy) {
            (_, Some(action)) => format!("was ended for being unhealthy ({}), with {exit_code}", action_word(*action)),
            (None, None) => format!("its program ended by itself, with {exit_code}"),
            (Some(signal), None) if memory.is_some() => format!("was killed by {}", named(*signal)),
            (Some(signal), None) if asked_signal == &Some(*signal) => {
                format!("was ended by {}, which a user asked for", named(*signal))
            }
            (Some(signal), None) => {
                format!(
                    "was ended by {}, which came from itself or from outside: no command of this engine",
                    named(*signal)
                )
            }
        };
        match memory {
            None => how,
            Some(MemoryAtEnd { limit, peak, kills }) => {
                let size = |bytes: &u64| bytes_size(*bytes as f64);
                let limit = limit
                    .as_ref()
                    .map_or_else(|| "the machine's memory".into(), |l| format!("its limit of {}", size(l)));
                let peak = peak.as_ref().map_or_else(String::new, |p| format!(", having used up to {}", size(p)));
                format!(
                    "{how}; the kernel killed {kills} of its processes for want of memory: it reached {limit}{peak}"
                )
            }
        }
    }
}

fn named(number: i32) -> String {
    signal::name(number)
        .map_or_else(|| format!("signal {number}"), |name| format!("SIG{}", name.trim_start_matches("SIG")))
}

fn action_word(action: OnUnhealthy) -> &'static str {
    match action {
        OnUnhealthy::None => "none",
        OnUnhealthy::Kill => "kill",
        OnUnhealthy::Stop => "stop",
        OnUnhealthy::Restart => "restart",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(record: &ExitRecord) -> String {
        What::ended(record).sentence()
    }

    #[test]
    fn an_end_has_its_cause() {
        let killed = ExitRecord { exit_code: 137, signal: Some(9), ..ExitRecord::default() };
        assert_eq!(ended(&ExitRecord { exit_code: 3, ..ExitRecord::default() }), "its program ended by itself, with 3");
        assert!(ended(&killed).contains("SIGKILL, which came from itself or from outside"));
        let asked = ExitRecord { asked_signal: Some(9), ..killed.clone() };
        assert_eq!(ended(&asked), "was ended by SIGKILL, which a user asked for");
        let memory = Some(MemoryAtEnd { limit: Some(64 << 20), peak: Some(64 << 20), kills: 2 });
        let said = ended(&ExitRecord { memory, ..killed.clone() });
        assert!(said.contains("killed 2 of its processes") && said.contains("its limit of 64MiB"), "{said}");
        assert!(ended(&ExitRecord { unseen: true, ..killed }).contains("its monitor was killed"));
        assert!(
            ended(&ExitRecord { unseen: true, exit_code: 255, ..ExitRecord::default() }).contains("machine went down")
        );
    }

    #[test]
    fn the_newest_are_kept() {
        let mut history = Vec::new();
        for at in 0..100 {
            note(&mut history, at, What::OutOfMemory);
        }
        assert_eq!((history.len(), history[0].at), (KEPT, 100 - KEPT as i64));
    }
}
