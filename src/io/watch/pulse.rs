//! Whether a worker waits for a file system that does not answer.
//!
//! A worker says what it is about to touch, and when it does not touch anything. Nobody looks at
//! that until the alarm rings, which is set only while somebody works: idle, nothing wakes up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, ptr};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::core::id::Name;

/// A call that takes longer is taken for one that does not answer: no disk that works is that slow.
pub const HUNG: Duration = Duration::from_secs(5);

/// An alarm that is heard later than this says nothing: dagd itself was stopped, or its machine.
const LATE: Duration = Duration::from_secs(1);

/// The alarm that rings a while after somebody began to touch something.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    set: AtomicBool,
    // lock: written by whoever sets the alarm, read by who hears it; held for that only
    due: Mutex<Option<Instant>>,
}

impl Alarm {
    /// An alarm that is not set. Errors: no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // lock: see the field
        Ok(Self { timer, set: AtomicBool::new(false), due: Mutex::new(None) })
    }

    /// Sets it, unless it is set.
    pub fn set(&self) {
        if self.set.swap(true, Ordering::SeqCst) {
            return;
        }
        *self.due() = Some(Instant::now() + HUNG);
        let seconds = i64::try_from(HUNG.as_secs()).unwrap_or(i64::MAX);
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        if let Err(errno) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once) {
            tracing::warn!(%errno, "hung file systems are not noticed");
        }
    }

    /// It has rung: it can be set again. Returns whether it is heard in time: if not, what seems to
    /// hang may only have stood still with everything else.
    pub fn rung(&self) -> bool {
        rustix::io::read(&self.timer, &mut [0; 8]).ok();
        let in_time = self.due().take().is_none_or(|due| due.elapsed() < LATE);
        self.set.store(false, Ordering::SeqCst);
        in_time
    }

    // lock: see the field
    fn due(&self) -> MutexGuard<'_, Option<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// What a worker touches.
#[derive(Debug, Default)]
struct Touch {
    trigger: Option<Name>,
    since: Option<Instant>,
    abandoned: bool,
}

/// A worker's signs of life.
#[derive(Debug)]
pub struct Pulse {
    alarm: Arc<Alarm>,
    // lock: written by the worker before each call that may hang, read by whoever asks; held for
    // that only
    touch: Mutex<Touch>,
}

impl Pulse {
    /// The pulse of a worker that touches nothing.
    pub fn new(alarm: Arc<Alarm>) -> Self {
        // lock: see the field
        Self { alarm, touch: Mutex::new(Touch::default()) }
    }

    /// The worker is about to touch the root of a trigger, or something beneath it.
    pub fn touch(&self, trigger: &Name) {
        let mut touch = self.lock();
        if !touch
            .trigger
            .as_ref()
            .is_some_and(|was| ptr::addr_eq(&raw const **was, &raw const **trigger))
        {
            touch.trigger = Some(trigger.clone());
        }
        touch.since = Some(Instant::now());
        drop(touch);
        self.alarm.set();
    }

    /// The worker touches no file system.
    pub fn rest(&self) {
        self.lock().since = None;
    }

    /// What it touches, and for how long.
    pub fn touched(&self) -> Option<(Name, Duration)> {
        let touch = self.lock();
        touch.trigger.clone().zip(touch.since.map(|since| since.elapsed()))
    }

    /// Nobody counts on the worker any more: once it is answered, it has to end.
    pub fn abandon(&self) {
        self.lock().abandoned = true;
    }

    /// Whether the worker has to end.
    pub fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    // lock: see the field
    fn lock(&self) -> MutexGuard<'_, Touch> {
        self.touch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
