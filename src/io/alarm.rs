//! An alarm on the calendar clock: one thread that sleeps in a timer of the kernel.
//!
//! Rings when the clock reaches a time, and when the clock is set, whichever way: then what was due
//! may not be, and the reverse. Knows no schedules. It costs no wake-ups but those that it is set
//! for, and is there only while something is scheduled.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::core::id::Wall;

/// Bytes of stack of the thread.
const STACK: usize = 128 << 10;

/// Why it rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rang {
    /// The time has come.
    Due,
    /// The clock was set.
    ClockSet,
}

/// The alarm. Its thread ends when this is dropped.
#[derive(Debug)]
pub struct Alarm {
    timer: Arc<OwnedFd>,
    /// Readable once the thread is to end.
    closing: Arc<OwnedFd>,
}

impl Alarm {
    /// Starts the thread. It tells `out`, and waits while that is full.
    pub fn spawn(out: Sender<Rang>) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = Arc::new(timerfd_create(TimerfdClockId::Realtime, flags)?);
        let closing = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let fds = (Arc::clone(&timer), Arc::clone(&closing));
        thread::Builder::new()
            .name("dagd-alarm".to_owned())
            .stack_size(STACK)
            .spawn(move || listen(&fds.0, &fds.1, &out))?;
        Ok(Self { timer, closing })
    }

    /// Rings at `at`, at once if that has passed, instead of at the time before. The clock may have
    /// been set meanwhile: then it is armed all the same, and that is told here and not by a ring.
    pub fn set(&self, at: Wall) -> io::Result<Option<Rang>> {
        // Zero would disarm it.
        let at = at.0.max(1);
        let nanos = at.rem_euclid(1_000_000_000);
        let value = Timespec { tv_sec: at.div_euclid(1_000_000_000), tv_nsec: nanos };
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let spec = Itimerspec { it_interval: once, it_value: value };
        match timerfd_settime(&self.timer, flags, &spec) {
            Ok(_) => Ok(None),
            Err(Errno::CANCELED) => Ok(Some(Rang::ClockSet)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // A counter that is full is readable as well.
        write(&self.closing, &1u64.to_ne_bytes()).ok();
    }
}

fn listen(timer: &OwnedFd, closing: &OwnedFd, out: &Sender<Rang>) {
    loop {
        let mut fds = [PollFd::new(timer, PollFlags::IN), PollFd::new(closing, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut fds, None)).is_err() || !fds[1].revents().is_empty() {
            return;
        }
        let mut count = [0; 8];
        let rang = match read(timer, &mut count) {
            Ok(_) => Rang::Due,
            Err(Errno::CANCELED) => Rang::ClockSet,
            // It was set to another time meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(_) => return,
        };
        if out.send(rang).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Alarm, Rang};
    use crate::core::id::Wall;

    fn wall() -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Wall(i64::try_from(since.as_nanos()).unwrap())
    }

    #[test]
    fn it_rings_when_the_time_has_come_and_ends_when_it_is_dropped() {
        let (out, rang) = crossbeam_channel::bounded(1);
        let alarm = Alarm::spawn(out).unwrap();
        let patience = Duration::from_mins(1);
        alarm.set(wall().after(Duration::from_hours(1))).unwrap();
        let at = wall().after(Duration::from_millis(30));
        alarm.set(at).unwrap();
        assert_eq!(rang.recv_timeout(patience), Ok(Rang::Due));
        assert!(wall() >= at, "not before the time");
        // A time that has passed.
        alarm.set(Wall(-5)).unwrap();
        assert_eq!(rang.recv_timeout(patience), Ok(Rang::Due));
        alarm.set(wall().after(Duration::from_hours(1))).unwrap();
        drop(alarm);
        assert!(rang.recv_timeout(patience).is_err(), "the thread has ended");
        assert!(rang.is_empty());
    }
}
