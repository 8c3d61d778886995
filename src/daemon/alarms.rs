//! The alarm for what is scheduled: there while something is, and set to the first of it.
//!
//! Does not look at the clock: whether something is due is the machine's matter.

use crossbeam_channel::{Receiver, Sender};
use tracing::warn;

use crate::core::id::Wall;
use crate::io::alarm::{Alarm, Rang};

/// Rings on their way: one says all that a second would.
const RINGS_LANE: usize = 1;

/// The alarm, if there is anything to wait for.
#[derive(Debug, Default)]
pub struct Alarms {
    /// `None`: nobody waits for occurrences.
    out: Option<Sender<Rang>>,
    alarm: Option<Alarm>,
    /// What it is set to.
    at: Option<Wall>,
}

impl Alarms {
    /// Ready to be set; and what tells when it rings.
    pub fn ready() -> (Self, Receiver<Rang>) {
        let (out, rings) = super::engine::lane(RINGS_LANE);
        (Self { out: Some(out), alarm: None, at: None }, rings)
    }

    /// It has rung: it has to be set anew, even to the same time.
    pub fn rang(&mut self) {
        self.at = None;
    }

    /// Rings at `at`; `None`: nothing is scheduled. Returns what is to be told at once.
    pub fn set(&mut self, at: Option<Wall>) -> Option<Rang> {
        let out = self.out.as_ref().filter(|_| self.at != at)?;
        let Some(due) = at else {
            (self.alarm, self.at) = (None, None);
            return None;
        };
        if self.alarm.is_none() {
            match Alarm::spawn(out.clone()) {
                Ok(alarm) => self.alarm = Some(alarm),
                Err(error) => {
                    warn!("failed to start the alarm, and schedules may be late: {error}");
                    return None;
                }
            }
        }
        match self.alarm.as_ref()?.set(due) {
            Ok(rang) => {
                self.at = at;
                rang
            }
            Err(error) => {
                warn!("failed to set the alarm: {error}");
                None
            }
        }
    }
}
