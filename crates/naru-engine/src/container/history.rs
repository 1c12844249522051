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
        /// Seconds until it is killed, where that follows; negative for never.
        #[serde(default)]
        grace: Option<i64>,
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
        /// How often its limit of processes refused it a new one.
        #[serde(default)]
        refused_processes: u64,
        /// That limit.
        #[serde(default)]
        process_limit: Option<i64>,
        /// How long it ran, in nanoseconds.
        #[serde(default)]
        lasted: Option<u64>,
    },
    /// An engine has begun, and is to start it.
    EngineBegan {
        /// By this policy.
        policy: String,
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
    /// The kernel killed a process in it for want of memory (without numbers, as older engines noted it).
    OutOfMemory,
    /// The kernel killed processes in it for want of memory, and it went on.
    MemoryKills(MemoryAtEnd),
}

/// Puts a fact behind the others; a kill for want of memory in the place of one that came right before.
pub(crate) fn note(history: &mut Vec<Fact>, at: UnixNanos, what: What) {
    if let (What::MemoryKills(_), Some(Fact { what: What::MemoryKills(_), .. })) = (&what, history.last()) {
        history.pop();
    }
    history.push(Fact { at, what });
    let surplus = history.len().saturating_sub(KEPT);
    history.drain(..surplus);
}

impl What {
    /// From a monitor's record, or what stands for one, of a container with this limit of processes.
    pub(crate) fn ended(record: &ExitRecord, process_limit: Option<i64>) -> Self {
        Self::Ended {
            exit_code: record.exit_code,
            signal: record.signal,
            asked_signal: record.asked_signal,
            unseen: record.unseen,
            unhealthy: record.unhealthy,
            memory: record.memory.clone(),
            refused_processes: record.refused_processes,
            process_limit,
            lasted: record.lasted,
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
            Self::RestartPlanned { .. } | Self::EngineBegan { .. } => "restart",
            Self::Health { .. } => "health",
            Self::OutOfMemory | Self::MemoryKills(_) => "memory",
        }
    }

    /// In words.
    pub fn sentence(&self) -> String {
        match self {
            Self::Started { by_itself: false } => "started by a user".into(),
            Self::Started { by_itself: true } => "started again by the engine".into(),
            Self::StartFailed { exit_code, error } => format!("could not be started ({exit_code}): {error}"),
            Self::Asked { command, signal, grace } => {
                let then = match grace {
                    Some(seconds @ 0..) => format!(", and SIGKILL after {seconds} s"),
                    Some(_) | None => String::new(),
                };
                format!("a user asked for its end: {command}, which sends {}{then}", named(*signal))
            }
            Self::Ended { .. } => self.end(),
            Self::RestartPlanned { pause_ms } => {
                format!("is started again after {:?}", Duration::from_millis(*pause_ms))
            }
            Self::EngineBegan { policy } => format!("is to run by its policy {policy}: an engine has begun"),
            Self::Health { status, output } if output.is_empty() => format!("became {}", status.as_str()),
            Self::Health { status, output } => format!("became {}: the check said {output:?}", status.as_str()),
            Self::OutOfMemory => "the kernel killed a process in it for want of memory".into(),
            Self::MemoryKills(memory) => memory_words(memory),
        }
    }

    fn end(&self) -> String {
        let Self::Ended {
            exit_code,
            signal,
            asked_signal,
            unseen,
            unhealthy,
            memory,
            refused_processes,
            process_limit,
            ..
        } = self
        else {
            return String::new();
        };
        if *unseen {
            let why =
                if *exit_code == 255 { "the machine went down" } else { "its monitor was killed, and it with that" };
            return format!("ended with {exit_code}, and nobody saw how: {why}");
        }
        let how = match (signal, unhealthy) {
            (_, Some(action)) => format!("was ended for being unhealthy ({}), with {exit_code}", action_word(*action)),
            (None, None) => match asked_signal {
                Some(asked) => format!("its program ended with {exit_code}, after {} that a user sent", named(*asked)),
                None => format!("its program ended by itself, with {exit_code}"),
            },
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
        let memory = memory.as_ref().map_or_else(String::new, |memory| format!("; {}", memory_words(memory)));
        let refused = match (refused_processes, process_limit) {
            (0, _) => String::new(),
            (times, limit) => {
                let limit = limit.filter(|l| *l > 0).map_or_else(String::new, |l| format!(" of {l}"));
                format!("; its limit{limit} of processes refused it a further one {times} times")
            }
        };
        format!("{how}{memory}{refused}")
    }
}

/// Whose limit memory ran short by, at which use.
pub(crate) fn memory_words(memory: &MemoryAtEnd) -> String {
    let size = |bytes: u64| bytes_size(bytes as f64);
    let MemoryAtEnd { limit, group, peak, kills } = memory;
    let reached = match (limit, group) {
        (None, _) => "the machine's memory was used up".into(),
        (Some(limit), None) => format!("it reached its limit of {}", size(*limit)),
        (Some(limit), Some(group)) => {
            format!("the group {group}, in which it is, reached its limit of {}", size(*limit))
        }
    };
    let peak = peak.map_or_else(String::new, |peak| format!(", having used up to {}", size(peak)));
    let peak =
        if group.is_some() || limit.is_none() { peak.replace("having used", "it itself having used") } else { peak };
    let processes = if *kills == 1 { "process" } else { "processes" };
    format!("the kernel killed {kills} {processes} in it for want of memory: {reached}{peak}")
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
        What::ended(record, Some(64)).sentence()
    }

    #[test]
    fn an_end_has_its_cause() {
        let killed = ExitRecord { exit_code: 137, signal: Some(9), ..ExitRecord::default() };
        assert_eq!(ended(&ExitRecord { exit_code: 3, ..ExitRecord::default() }), "its program ended by itself, with 3");
        assert!(ended(&killed).contains("SIGKILL, which came from itself or from outside"));
        let asked = ExitRecord { asked_signal: Some(9), ..killed.clone() };
        assert_eq!(ended(&asked), "was ended by SIGKILL, which a user asked for");
        let memory = Some(MemoryAtEnd { limit: Some(64 << 20), group: None, peak: Some(64 << 20), kills: 2 });
        let said = ended(&ExitRecord { memory, ..killed.clone() });
        assert!(said.contains("killed 2 processes in it") && said.contains("its limit of 64MiB"), "{said}");
        assert!(ended(&ExitRecord { unseen: true, ..killed }).contains("its monitor was killed"));
        assert!(
            ended(&ExitRecord { unseen: true, exit_code: 255, ..ExitRecord::default() }).contains("machine went down")
        );
    }

    #[test]
    fn memory_has_a_limit_and_somebody_whose_it_is() {
        let memory = |limit, group: Option<&str>| {
            let group = group.map(str::to_owned);
            memory_words(&MemoryAtEnd { limit, group, peak: Some(5 << 20), kills: 1 })
        };
        let text = "the kernel killed 1 process in it for want of memory: ";
        assert_eq!(
            memory(Some(64 << 20), Some("/team")),
            format!(
                "{text}the group /team, in which it is, reached its limit of 64MiB, it itself having used up to 5MiB"
            )
        );
        assert_eq!(
            memory(None, None),
            format!("{text}the machine's memory was used up, it itself having used up to 5MiB")
        );
        let refused = ended(&ExitRecord { exit_code: 2, refused_processes: 3, ..ExitRecord::default() });
        assert!(refused.ends_with("; its limit of 64 of processes refused it a further one 3 times"), "{refused}");
        let polite = ended(&ExitRecord { asked_signal: Some(15), ..ExitRecord::default() });
        assert_eq!(polite, "its program ended with 0, after SIGTERM that a user sent");
    }

    /// docs/why.md promises these.
    #[test]
    fn facts_have_their_names() {
        let memory = MemoryAtEnd { limit: Some(1), group: None, peak: None, kills: 2 };
        for (what, wanted) in [
            (What::Started { by_itself: true }, r#"{"started":{"by_itself":true}}"#),
            (
                What::StartFailed { exit_code: 127, error: "e".into() },
                r#"{"start-failed":{"exit_code":127,"error":"e"}}"#,
            ),
            (
                What::Asked { command: "stop".into(), signal: 15, grace: Some(10) },
                r#"{"asked":{"command":"stop","signal":15,"grace":10}}"#,
            ),
            (What::RestartPlanned { pause_ms: 100 }, r#"{"restart-planned":{"pause_ms":100}}"#),
            (What::EngineBegan { policy: "always".into() }, r#"{"engine-began":{"policy":"always"}}"#),
            (
                What::Health { status: HealthStatus::Healthy, output: "o".into() },
                r#"{"health":{"status":"healthy","output":"o"}}"#,
            ),
            (What::MemoryKills(memory), r#"{"memory-kills":{"limit":1,"group":null,"peak":null,"kills":2}}"#),
        ] {
            assert_eq!(serde_json::to_string(&what).unwrap(), wanted);
        }
        let ended = serde_json::to_value(What::ended(&ExitRecord::default(), None)).unwrap();
        let keys: Vec<&String> = ended["ended"].as_object().unwrap().keys().collect();
        let wanted = "exit_code signal asked_signal unseen unhealthy memory refused_processes process_limit lasted";
        assert_eq!(keys, wanted.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn what_older_engines_noted_is_read() {
        let old = r#"[{"at":1,"what":{"asked":{"command":"stop","signal":15}}},{"at":2,"what":"out-of-memory"},
            {"at":3,"what":{"ended":{"exit_code":137,"signal":9,"asked_signal":9,"unseen":false,"unhealthy":null,"memory":null}}}]"#;
        assert_eq!(serde_json::from_str::<Vec<Fact>>(old).unwrap().len(), 3);
    }

    #[test]
    fn the_newest_are_kept() {
        let mut history = Vec::new();
        for at in 0..100 {
            note(&mut history, at, What::OutOfMemory);
        }
        assert_eq!((history.len(), history[0].at), (KEPT, 100 - KEPT as i64));
        // One that kills again and again does not push out the rest.
        for at in 0..100 {
            note(&mut history, at, What::MemoryKills(MemoryAtEnd::default()));
        }
        assert_eq!((history.len(), history[KEPT - 2].what.topic()), (KEPT, "memory"));
        assert_eq!(history[KEPT - 2].what, What::OutOfMemory);
    }
}
