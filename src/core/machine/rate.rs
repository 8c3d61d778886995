//! A token bucket: how many runs may start, and when the next one may.
//!
//! Whole numbers only, so that it neither drifts nor loses a fraction of a token.

use std::collections::BTreeMap;

use crate::core::id::{Mono, Name};
use crate::core::trigger::RateLimit;

/// Triggers that left the configuration whose buckets are remembered, at most. With one more, that
/// bucket is forgotten which is full first, as if it were full by now.
const LEFT_MAX: usize = 1024;

/// Buckets of triggers that are not configured at present, as far as they are not full: one that
/// comes back finds its own as it would be had it stayed.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<Name, Bucket>);

impl Buckets {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A trigger leaves.
    pub(super) fn keep(&mut self, name: &Name, bucket: Option<Bucket>, now: Mono) {
        self.0.extend(bucket.map(|bucket| (name.clone(), bucket)));
        self.0.retain(|_, bucket| bucket.lacks(now) > 0);
        if self.0.len() > LEFT_MAX {
            let first = self.0.iter().min_by_key(|(_, bucket)| bucket.lacks(now));
            if let Some(name) = first.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
    }

    /// It is back, with this limit: its bucket, unless that is full or for another one.
    pub(super) fn take(&mut self, name: &Name, limit: Option<RateLimit>) -> Option<Bucket> {
        self.0.remove(name).filter(|bucket| Some(bucket.limit()) == limit)
    }

    /// When a run of a trigger with this limit may start; `None` if it may now.
    pub(super) fn fills(&self, name: &Name, now: Mono) -> Option<Mono> {
        self.0.get(name)?.fills(now)
    }

    /// A run of such a trigger starts.
    pub(super) fn spend(&mut self, name: &Name, limit: Option<RateLimit>, now: Mono) {
        let Some(limit) = limit else { return };
        self.0.entry(name.clone()).or_insert_with(|| Bucket::full(limit)).take(now);
    }
}

/// A bucket of a `rate_limit`. Not durable: it is full at a start.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    /// What is in it at `at`, in units of which a token has as many as `per` has nanoseconds, and
    /// of which as many flow in at a nanosecond as `runs` says.
    level: u128,
    at: Mono,
}

impl Bucket {
    pub(super) fn full(limit: RateLimit) -> Self {
        Self { limit, level: u128::MAX, at: Mono(0) }
    }

    /// The limit that it is for.
    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    fn token(&self) -> u128 {
        self.limit.per.as_nanos().max(1)
    }

    fn runs(&self) -> u128 {
        self.limit.runs.max(1).into()
    }

    fn level(&self, now: Mono) -> u128 {
        let came = self.at.until(now).as_nanos() * self.runs();
        self.level.saturating_add(came).min(self.token() * self.runs())
    }

    /// How many nanoseconds it takes until it is full.
    fn lacks(&self, now: Mono) -> u128 {
        (self.token() * self.runs() - self.level(now)).div_ceil(self.runs())
    }

    /// When it holds a token; `None` if it does.
    pub(super) fn fills(&self, now: Mono) -> Option<Mono> {
        let lacks = self.token().checked_sub(self.level(now)).filter(|lacks| *lacks > 0)?;
        let wait = u64::try_from(lacks.div_ceil(self.runs())).unwrap_or(u64::MAX);
        Some(Mono(now.0.saturating_add(wait)))
    }

    /// A run starts.
    pub(super) fn take(&mut self, now: Mono) {
        self.level = self.level(now).saturating_sub(self.token());
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Bucket;
    use crate::core::id::Mono;
    use crate::core::trigger::RateLimit;

    /// When runs start that always wait, in nanoseconds.
    fn starts(runs: u32, per: Duration, many: usize) -> Vec<u64> {
        let mut bucket = Bucket::full(RateLimit { runs, per });
        let mut now = Mono(5);
        let mut starts = Vec::new();
        while starts.len() < many {
            if let Some(at) = bucket.fills(now) {
                now = at;
            } else {
                bucket.take(now);
                starts.push(now.0 - 5);
            }
        }
        starts
    }

    #[test]
    fn a_burst_then_evenly() {
        let got = starts(2, Duration::from_secs(1), 6);
        assert_eq!(got, [0, 0, 500_000_000, 1_000_000_000, 1_500_000_000, 2_000_000_000]);
    }

    #[test]
    fn a_rate_that_does_not_divide_does_not_drift() {
        let got = starts(7, Duration::from_mins(1), 7 + 7 * 1000);
        // A thousand minutes later the bucket is where it was, to the nanosecond.
        assert_eq!(got.last(), Some(&(1000 * 60_000_000_000)));
        let minute = 60_000_000_000u64;
        for (at, start) in got.iter().enumerate() {
            let due = (at as u64).saturating_sub(6) * minute;
            assert_eq!(*start, due.div_ceil(7), "start {at} is neither early nor late");
        }
    }

    #[test]
    fn what_is_not_used_is_not_saved_up() {
        let mut bucket = Bucket::full(RateLimit { runs: 1, per: Duration::from_secs(1) });
        bucket.take(Mono(0));
        let later = Mono(100_000_000_000);
        assert_eq!(bucket.fills(later), None);
        bucket.take(later);
        assert_eq!(bucket.fills(later), Some(Mono(101_000_000_000)));
    }
}
