//! Times of a piece of work, and medians of many.

use std::time::{Duration, Instant};

use anyhow::Result;
use cpu_time::ProcessTime;

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Processor time of this process.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
}

/// Runs `work` once.
pub fn cost_of<T>(work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    let result = work()?;
    Ok((Cost { cpu: cpu.elapsed(), wall: wall.elapsed() }, result))
}

/// The median of what `of` says of each; the upper one of an even count.
///
/// # Panics
/// For no items.
pub fn median<T>(items: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = items.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
