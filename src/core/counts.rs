//! Whether a task may run, from what is known of the tasks that it needs.
//!
//! Counters and the table of rules; knows no task by name.

use super::task::{Rule, SkipCause, Tally};

/// What is known of the needs of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    all: u32,
    open: u32,
    ok: u32,
    failed: u32,
    skipped: u32,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It waits for more.
    Wait,
    /// It may run.
    Run,
    /// It will never run, for this reason.
    Skip(SkipCause),
}

impl Counts {
    /// Of a task with so many needs.
    pub(super) fn of(needs: usize) -> Self {
        let all = u32::try_from(needs).expect("fewer than 2^32 needs");
        Self { all, open: all, ..Self::default() }
    }

    /// One of them has ended.
    pub(super) fn add(&mut self, tally: Tally) {
        self.open -= 1;
        match tally {
            Tally::Ok => self.ok += 1,
            Tally::Failed => self.failed += 1,
            Tally::Skipped => self.skipped += 1,
        }
    }

    /// What the rule says.
    ///
    /// A skip that may still turn into a failure waits for the rest, so that its cause does not
    /// depend on which end came first.
    pub(super) fn decide(&self, rule: Rule) -> Decision {
        use Decision::{Run, Skip, Wait};
        let done = self.open == 0;
        if self.all == 0 {
            return match rule {
                Rule::OneFailed | Rule::AllFailed => Skip(SkipCause::Rule),
                _ => Run,
            };
        }
        match rule {
            Rule::AllSuccess | Rule::NoneFailed | Rule::NoneFailedMinOneSuccess
                if self.failed > 0 =>
            {
                Skip(SkipCause::UpstreamFailed)
            }
            Rule::OneSuccess if self.ok > 0 => Run,
            Rule::OneFailed if self.failed > 0 => Run,
            Rule::AllFailed if self.ok + self.skipped > 0 => Skip(SkipCause::Rule),
            _ if !done => Wait,
            Rule::AllSuccess if self.skipped > 0 => Skip(SkipCause::UpstreamSkipped),
            Rule::NoneFailedMinOneSuccess if self.ok == 0 => Skip(SkipCause::UpstreamSkipped),
            Rule::OneSuccess if self.failed > 0 => Skip(SkipCause::UpstreamFailed),
            Rule::OneSuccess => Skip(SkipCause::UpstreamSkipped),
            Rule::OneFailed => Skip(SkipCause::Rule),
            Rule::AllSuccess
            | Rule::AllDone
            | Rule::AllFailed
            | Rule::NoneFailed
            | Rule::NoneFailedMinOneSuccess
            | Rule::Always => Run,
        }
    }
}
