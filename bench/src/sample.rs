//! Measurements of one kind.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The pause before each measurement: what is measured should be as idle as a user's machine.
pub const PAUSE: Duration = Duration::from_millis(60);

/// Times in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    times: Vec<f64>,
}

impl Series {
    /// Pauses, then times `work`.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn time(&mut self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        work()?;
        self.times.push(start.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    }

    /// Adds a time in milliseconds that has been measured elsewhere.
    pub fn push(&mut self, milliseconds: f64) {
        self.times.push(milliseconds);
    }

    /// The smallest time that `percent` of all are not above; NaN when there is none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let series = Series { times: (1..=10).rev().map(f64::from).collect() };
        assert_eq!([50, 90, 99, 100].map(|percent| series.percentile(percent)), [5.0, 9.0, 10.0, 10.0]);
        let one = Series { times: vec![3.0] };
        assert_eq!((one.percentile(50), one.percentile(99)), (3.0, 3.0));
        assert!(Series::default().percentile(50).is_nan());
    }
}
