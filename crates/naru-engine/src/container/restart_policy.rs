//! Whether and when a container that has ended is started again: docker's policies and its back-off (moby, restartmanager), as a function
//! of facts, without a clock of its own.

use crate::types::RestartPolicy;
use std::time::Duration;

/// The first pause.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length makes the next pause the first again.
pub(crate) const SETTLED: Duration = Duration::from_secs(10);

/// An end, as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub exit_code: i32,
    /// How long it ran.
    pub lasted: Duration,
    /// A user asked for the end.
    pub by_hand: bool,
    /// Its health check asked for a restart, whatever the policy.
    pub unhealthy: bool,
    /// Restarts since a user started it last.
    pub restarts: i64,
    /// The pause before the last restart, zero for none.
    pub last_pause: Duration,
}

/// The pause before the next start; `None` when it stays as it is.
pub(crate) fn after_end(policy: &RestartPolicy, ended: Ended) -> Option<Duration> {
    let wanted = match policy.name.as_str() {
        _ if ended.by_hand => false,
        _ if ended.unhealthy => true,
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let limit = policy.maximum_retry_count;
            ended.exit_code != 0 && (limit == 0 || ended.restarts < limit)
        }
        _ => false,
    };
    wanted.then(|| {
        if ended.lasted >= SETTLED || ended.last_pause.is_zero() {
            FIRST_PAUSE
        } else {
            (ended.last_pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        }
    })
}

/// Whether a container that had ended before this engine began is started by it. `on-failure` is not: that end has been judged already.
pub(crate) fn at_engine_start(policy: &RestartPolicy, has_run: bool, by_hand: bool) -> bool {
    match policy.name.as_str() {
        "always" => has_run,
        "unless-stopped" => has_run && !by_hand,
        _ => false,
    }
}

/// Whether there is a policy at all.
pub(crate) fn is_set(policy: &RestartPolicy) -> bool {
    !matches!(policy.name.as_str(), "" | "no")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, limit: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count: limit }
    }

    fn ended(exit_code: i32) -> Ended {
        Ended {
            exit_code,
            lasted: Duration::ZERO,
            by_hand: false,
            unhealthy: false,
            restarts: 0,
            last_pause: Duration::ZERO,
        }
    }

    #[test]
    fn each_policy_says_its_own() {
        let says = |name: &str, end: Ended| after_end(&policy(name, 2), end).is_some();
        let table = [
            ("", [false, false, false]),
            ("no", [false, false, false]),
            ("always", [true, true, false]),
            ("unless-stopped", [true, true, false]),
            ("on-failure", [false, true, false]),
        ];
        for (name, expected) in table {
            let got = [says(name, ended(0)), says(name, ended(1)), says(name, Ended { by_hand: true, ..ended(1) })];
            assert_eq!(got, expected, "{name}");
        }
        assert!(!says("on-failure", Ended { restarts: 2, ..ended(1) }));
        assert!(after_end(&policy("on-failure", 0), Ended { restarts: 1000, ..ended(1) }).is_some());
        assert!(says("no", Ended { unhealthy: true, ..ended(137) }));
    }

    #[test]
    fn pauses_double_to_a_minute_and_begin_again_after_a_settled_run() {
        let always = policy("always", 0);
        let mut pause = Duration::ZERO;
        let mut seen = Vec::new();
        for _ in 0..12 {
            pause = after_end(&always, Ended { last_pause: pause, ..ended(1) }).unwrap();
            seen.push(u64::try_from(pause.as_millis()).unwrap());
        }
        assert_eq!(seen, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        let settled = Ended { lasted: SETTLED, last_pause: pause, ..ended(1) };
        assert_eq!(after_end(&always, settled), Some(FIRST_PAUSE));
        let nearly = Ended { lasted: SETTLED - Duration::from_nanos(1), last_pause: FIRST_PAUSE, ..ended(1) };
        assert_eq!(after_end(&always, nearly), Some(FIRST_PAUSE * 2));
    }

    #[test]
    fn a_new_engine_starts_what_is_to_be_always_there() {
        for (name, by_hand, expected) in [
            ("always", false, true),
            ("always", true, true),
            ("unless-stopped", false, true),
            ("unless-stopped", true, false),
            ("on-failure", false, false),
            ("no", false, false),
        ] {
            assert_eq!(at_engine_start(&policy(name, 0), true, by_hand), expected, "{name} {by_hand}");
            assert!(!at_engine_start(&policy(name, 0), false, by_hand), "{name} has never run");
        }
    }
}
