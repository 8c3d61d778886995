//! Which failed attempts are followed by another, and when.
//!
//! Pure arithmetic; the randomness of jitter is an argument.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A failure that a retry list can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The command ended with this exit code.
    Code(i32),
    /// The time limit was reached.
    Timeout,
    /// A signal that dagd did not send ended it.
    Signal,
    /// The kernel killed it for want of memory.
    Oom,
}

/// When and how often a failed attempt is followed by another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts after the first.
    pub max: u32,
    /// Delay before the first retry.
    pub delay: Duration,
    /// Factor from one delay to the next.
    pub factor: f64,
    /// Ceiling of the delay.
    pub max_delay: Duration,
    /// Whether the delay is drawn from zero to its value.
    pub jitter: bool,
    /// What is retried; empty: any failure.
    pub on: BTreeSet<FailureKind>,
    /// What is never retried.
    pub never_on: BTreeSet<FailureKind>,
}

impl Eq for Retry {}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max: 0,
            delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_hours(1),
            jitter: false,
            on: BTreeSet::new(),
            never_on: BTreeSet::new(),
        }
    }
}

impl Retry {
    /// The delay before retry number `retry` (from 1), or `None` if `failure` is not retried.
    /// `draw` in `0.0..1.0` is the randomness for jitter.
    pub fn delay(&self, retry: u32, failure: FailureKind, draw: f64) -> Option<Duration> {
        if retry > self.max || self.never_on.contains(&failure) {
            return None;
        }
        if !self.on.is_empty() && !self.on.contains(&failure) {
            return None;
        }
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        let whole = self.delay.as_secs_f64() * self.factor.powi(exponent);
        let capped = whole.min(self.max_delay.as_secs_f64());
        let drawn = if self.jitter { capped * draw } else { capped };
        Some(Duration::try_from_secs_f64(drawn).unwrap_or(self.max_delay))
    }
}
