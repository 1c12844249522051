//! docker's rules for a container's health (moby, daemon/health.go), as a function of facts, without a clock of its own.

use crate::protocol::{HealthPlan, HealthResult, HealthState, HealthStatus};
use std::time::Duration;

/// Results that are kept.
const KEPT: usize = 5;
/// What a check says, at the most, in bytes.
const OUTPUT_LIMIT: usize = 4096;

impl HealthStatus {
    /// docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl HealthState {
    /// Takes a result; whether the status is another one now. `age` is how long the container had run when the check began.
    pub fn judge(&mut self, plan: &HealthPlan, result: &HealthResult, age: Duration) -> bool {
        let before = self.status;
        self.remember(result.clone());
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(before == HealthStatus::Starting && age < plan.start_period) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= plan.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.status != before
    }

    /// Puts a result behind the others, of which the newest few are kept.
    pub fn remember(&mut self, result: HealthResult) {
        self.log.push(result);
        let surplus = self.log.len().saturating_sub(KEPT);
        self.log.drain(..surplus);
    }

    /// The pause before the next check.
    pub fn pause(&self, plan: &HealthPlan, age: Duration) -> Duration {
        let starts = self.status == HealthStatus::Starting && age < plan.start_period;
        if starts { plan.start_interval } else { plan.interval }
    }
}

/// What a check says, cut where it is too long: a check that floods costs no more than one that doesn't.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    bytes: Vec<u8>,
    cut: bool,
}

impl Capture {
    /// Takes what there is room for.
    pub(crate) fn take(&mut self, output: &[u8]) {
        let room = OUTPUT_LIMIT - self.bytes.len();
        self.cut |= output.len() > room;
        self.bytes.extend_from_slice(&output[..output.len().min(room)]);
    }

    /// As text; `...` where it was cut.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{OnUnhealthy, Probe};

    fn plan() -> HealthPlan {
        HealthPlan {
            probe: Probe::Tcp { address: ([127, 0, 0, 1], 80).into(), other: None },
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::from_secs(60),
            start_interval: Duration::from_secs(5),
            retries: 3,
            on_unhealthy: OnUnhealthy::None,
            stop_signal: 15,
            stop_timeout: Duration::from_secs(10),
        }
    }

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { start: 0, end: 0, exit_code, output: String::new() }
    }

    #[test]
    fn failures_count_after_the_start_period_or_the_first_success() {
        let (plan, mut state) = (plan(), HealthState::default());
        let (early, late) = (Duration::from_secs(59), Duration::from_secs(60));
        for _ in 0..10 {
            assert!(!state.judge(&plan, &result(1), early));
        }
        assert_eq!((state.status, state.failing_streak, state.log.len()), (HealthStatus::Starting, 0, 5));
        assert!(state.judge(&plan, &result(0), early));
        // Once healthy, the period is of no more meaning.
        assert!(!state.judge(&plan, &result(1), early));
        assert!(!state.judge(&plan, &result(-1), early));
        assert!(state.judge(&plan, &result(137), early));
        assert_eq!((state.status, state.failing_streak), (HealthStatus::Unhealthy, 3));
        assert!(!state.judge(&plan, &result(1), late));
        assert!(state.judge(&plan, &result(0), late));
        assert_eq!((state.status, state.failing_streak), (HealthStatus::Healthy, 0));
    }

    #[test]
    fn pauses_are_short_only_while_it_starts() {
        let (plan, mut state) = (plan(), HealthState::default());
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(state.pause(&plan, early), plan.start_interval);
        assert_eq!(state.pause(&plan, late), plan.interval);
        state.judge(&plan, &result(0), early);
        assert_eq!(state.pause(&plan, early), plan.interval);
    }

    /// A container's first minutes, second by second, by a clock that is only a number: each check takes as long as `check` says, and says
    /// what it says. The times at which the status changes.
    fn play(plan: &HealthPlan, until: u64, check: impl Fn(u64) -> (u64, i32)) -> Vec<(u64, &'static str)> {
        let (mut state, mut now, mut seen) = (HealthState::default(), 0, Vec::new());
        while now <= until {
            let begun = now + state.pause(plan, Duration::from_secs(now)).as_secs();
            let (takes, exit_code) = check(begun);
            now = begun + takes;
            if state.judge(plan, &result(exit_code), Duration::from_secs(begun)) {
                seen.push((now, state.status.as_str()));
            }
        }
        seen
    }

    #[test]
    fn a_life_by_an_injected_clock() {
        let plan = plan();
        // Ready after 22 s: found by the check of the start interval at 25 s.
        let ready = |at: u64| (0, i32::from(at < 22));
        assert_eq!(play(&plan, 600, ready), [(25, "healthy")]);
        // Never ready: checks at 5, 10, … 60 s; the one at 60 s begins after the period, and counts; then two more, 30 s apart.
        assert_eq!(play(&plan, 600, |_| (0, 1)), [(120, "unhealthy")]);
        // Sick from 300 to 400 s: a check each 30 s after the one at 5 s.
        let sick = |at: u64| (0, i32::from((300..400).contains(&at)));
        assert_eq!(play(&plan, 900, sick), [(5, "healthy"), (365, "unhealthy"), (425, "healthy")]);
        // The pause begins when a check has ended: with 10 s each they are 40 s apart.
        let slow = |at: u64| (10, i32::from(at >= 100));
        assert_eq!(play(&plan, 900, slow), [(15, "healthy"), (215, "unhealthy")]);
        let none = HealthPlan { start_period: Duration::ZERO, ..plan };
        assert_eq!(play(&none, 300, |_| (0, 1)), [(90, "unhealthy")]);
    }

    #[test]
    fn a_flood_is_cut() {
        let mut capture = Capture::default();
        for _ in 0..100 {
            capture.take(&[b'x'; 100]);
        }
        assert_eq!(capture.text().len(), OUTPUT_LIMIT + 3);
        assert!(capture.text().ends_with("x..."));
    }
}
