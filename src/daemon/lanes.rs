//! What enters the engine, and over which lane.
//!
//! Only the shapes: the engine reads them, boot makes them.

use crossbeam_channel::Receiver;

use super::reload::Loading;
use crate::core::check::Checked;
use crate::core::id::AttemptId;
use crate::core::task::Ended;
use crate::io::alarm::Rang;
use crate::io::control::Ask;
use crate::io::dispose::Moved;
use crate::io::signals::Seen;
use crate::io::store::Synced;
use crate::io::watch::Told;

/// What enters, by lane. Earlier ones are served first.
pub struct Lanes {
    /// Stop and reload.
    pub urgent: Receiver<Seen>,
    /// Ends of attempts: at most one per slot.
    pub results: Receiver<(AttemptId, Ended)>,
    /// Ends of dispositions.
    pub moved: Receiver<Moved>,
    /// Answers to checks.
    pub checked: Receiver<Checked>,
    /// What is on disk by now, or why it is not.
    pub synced: Receiver<Synced>,
    /// Loaded configurations.
    pub loaded: Receiver<Loading>,
    /// Requests.
    pub asks: Receiver<Ask>,
    /// Signals for triggers.
    pub signals: Receiver<Seen>,
    /// Observations.
    pub watch: Receiver<Told>,
    /// The calendar clock.
    pub alarm: Receiver<Rang>,
}

/// Something that entered.
pub enum Input {
    /// From the signals.
    Signal(Seen),
    /// From a slot.
    Ended(AttemptId, Ended),
    /// From the disposer.
    Moved(Moved),
    /// From a check thread.
    Checked(Checked),
    /// From the sync thread.
    Synced(Synced),
    /// From the reloader.
    Loaded(Loading),
    /// From the control socket.
    Ask(Ask),
    /// From the watch thread.
    Watch(Told),
    /// From the alarm.
    Rang(Rang),
}
