//! dagd is asked to stop: nothing new begins, what runs may end, is asked to, and is ended.
//!
//! Nothing is given up: what waits is stored, and an attempt that is ended is made anew after the
//! next start.

use super::{InFlight, Machine, Timer};
use crate::core::effect::{Command, Out};
use crate::core::id::{AttemptId, Now};
use crate::core::task::StopCause;

/// How urgently dagd stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stopping {
    /// Running tasks may end by themselves.
    Drain,
    /// They were asked to.
    Term,
    /// They were ended.
    Kill,
    /// All has stopped.
    Done,
}

impl Machine {
    /// Whether dagd was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// dagd was asked to stop; each further request hastens.
    pub(super) fn stop(&mut self, now: Now, out: &mut Out) {
        match self.stopping {
            None => {
                self.stopping = Some(Stopping::Drain);
                self.uncheck_all(out);
                let due = now.mono.after(self.model.stop_timeout);
                self.timers.insert((due, Timer::Drained));
            }
            Some(Stopping::Drain) => self.hasten(now, Stopping::Term, out),
            Some(Stopping::Term) => self.hasten(now, Stopping::Kill, out),
            Some(Stopping::Kill | Stopping::Done) => {}
        }
    }

    /// Raises the urgency of a stop.
    pub(super) fn hasten(&mut self, now: Now, stage: Stopping, out: &mut Out) {
        if self.stopping >= Some(stage) {
            return;
        }
        self.stopping = Some(stage);
        for id in self.in_flight_that_end() {
            if stage == Stopping::Kill {
                self.schedule.note_stop(id, StopCause::Shutdown);
                self.kill_attempt(id, out);
            } else {
                self.stop_attempt(now, id, StopCause::Shutdown, out);
            }
        }
    }

    /// Attempts in flight that do not go on without dagd.
    pub fn in_flight_that_end(&self) -> Vec<AttemptId> {
        let ends = |(id, flight): &(&AttemptId, &InFlight)| !self.is_left(**id, flight);
        self.in_flight().iter().filter(ends).map(|(id, _)| *id).collect()
    }

    /// Lets dagd exit once it was asked to stop and nothing runs any more that has to end before.
    pub(super) fn exit_if_done(&mut self, out: &mut Out) {
        let stops = self.stopping.is_some_and(|stage| stage < Stopping::Done);
        if stops && self.may_exit() {
            self.stopping = Some(Stopping::Done);
            out.commands.push(Command::Exit);
        }
    }
}
