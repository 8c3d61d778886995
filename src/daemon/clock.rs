//! The only place that reads the clocks for the core.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::core::id::{Mono, Now, Wall};

/// Both clocks and the local time zone.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    zone: TimeZone,
}

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self { start: Instant::now(), zone: TimeZone::system() }
    }

    /// Reads the clocks.
    pub fn now(&self) -> Now {
        let wall = wall();
        let stamp = Timestamp::from_nanosecond(i128::from(wall.0)).unwrap_or_default();
        Now {
            mono: Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            wall,
            utc_offset_s: self.zone.to_offset(stamp).seconds(),
        }
    }
}

/// Reads the calendar clock.
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
