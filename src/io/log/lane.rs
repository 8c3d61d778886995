//! The way to a standard error that may stop taking anything: a pipe that nobody empties, a terminal
//! that was stopped.
//!
//! Owns the lines that wait and the thread that writes them. Who logs never waits: what finds no room
//! is counted and left out, and the count is told where the lines are missing. Sleeps while nothing
//! is logged.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Lines that wait, at most: a burst of a thousand runs, which is less than a MiB. Further ones are
/// counted and left out.
const LINES_MAX: usize = 4096;

/// Bytes that wait, beside the line with which they become so many: one may tell of a whole
/// configuration. While there are as many, further lines are counted and left out.
const BYTES_MAX: usize = 4 << 20;

/// How long the end of the process may wait for the last lines to be taken.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Says how many lines are missing, as a line.
pub(super) type Notice = fn(u64) -> Vec<u8>;

/// What waits for the writer.
enum Item {
    Line(Vec<u8>),
    /// Somebody wants to know that all before it was written.
    Flush(Sender<()>),
    /// There may be a count to be told.
    Look,
}

/// A way for lines.
#[derive(Clone)]
pub(super) struct Lane(Arc<Shared>);

struct Shared {
    to: Box<dyn AsFd + Send + Sync>,
    notice: Notice,
    sender: Sender<Item>,
    receiver: Receiver<Item>,
    /// Bytes of the lines that wait or are being written.
    bytes: AtomicUsize,
    /// Lines that were left out and not yet told of.
    lost: AtomicU64,
    /// Whether there is a writer.
    written: AtomicBool,
}

impl Lane {
    /// A way to `to`. Starts no thread yet: whoever runs before the first line may have to be the only
    /// thread.
    pub(super) fn new(to: impl AsFd + Send + Sync + 'static, notice: Notice) -> Self {
        let (sender, receiver) = bounded(LINES_MAX);
        let (to, bytes) = (Box::new(to), AtomicUsize::new(0));
        let (lost, written) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { to, notice, sender, receiver, bytes, lost, written }))
    }

    /// Sends whole lines on their way, or counts them as one that is lost.
    pub(super) fn put(&self, line: Vec<u8>) {
        let Shared { sender, lost, .. } = &*self.0;
        let missing = lost.swap(0, Ordering::SeqCst);
        let room = missing == 0 || self.0.send((self.0.notice)(missing));
        if !room {
            lost.fetch_add(missing, Ordering::SeqCst);
        }
        if !room || !self.0.send(line) {
            lost.fetch_add(1, Ordering::SeqCst);
            // If all was written meanwhile the writer sleeps, and has to be told of the count; while
            // there is no room it will see the count by itself.
            drop(sender.try_send(Item::Look));
        }
        self.start();
    }

    /// Waits until all lines before are written, but not for long.
    pub(super) fn flush(&self) {
        if !self.0.written.load(Ordering::SeqCst) {
            return;
        }
        let deadline = Instant::now() + FLUSH_MAX;
        let (say, done) = bounded(1);
        if self.0.sender.send_deadline(Item::Flush(say), deadline).is_ok() {
            // What was not taken until now is lost with the process.
            done.recv_deadline(deadline).ok();
        }
    }

    /// Starts the writer. Where there is no thread to be had, lines wait for the next try.
    fn start(&self) {
        if self.0.written.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.0);
        let writer = std::thread::Builder::new().name("dagd-log".to_owned());
        if writer.spawn(move || shared.write()).is_err() {
            self.0.written.store(false, Ordering::SeqCst);
        }
    }
}

impl Shared {
    /// Sends a line on its way, if there is room.
    fn send(&self, line: Vec<u8>) -> bool {
        let size = line.len();
        let fits = |bytes: usize| (bytes < BYTES_MAX).then_some(bytes.saturating_add(size));
        if self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_err() {
            return false;
        }
        let sent = self.sender.try_send(Item::Line(line)).is_ok();
        if !sent {
            self.bytes.fetch_sub(size, Ordering::SeqCst);
        }
        sent
    }

    /// The thread: for as long as the process.
    fn write(&self) {
        loop {
            let item = self.receiver.try_recv().or_else(|_| {
                self.tell_lost();
                self.receiver.recv()
            });
            let Ok(item) = item else { return };
            match item {
                Item::Line(line) => {
                    self.all(&line);
                    self.bytes.fetch_sub(line.len(), Ordering::SeqCst);
                }
                Item::Flush(done) => {
                    self.tell_lost();
                    // Whoever asked may have given up.
                    done.try_send(()).ok();
                }
                Item::Look => {}
            }
        }
    }

    fn tell_lost(&self) {
        let lost = self.lost.swap(0, Ordering::SeqCst);
        if lost > 0 {
            self.all(&(self.notice)(lost));
        }
    }

    /// Writes all of it, however long that takes.
    fn all(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match rustix::io::write(&self.to, bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Somebody who shares it has set it so.
                Err(Errno::AGAIN) => {
                    let mut wait = [PollFd::new(&self.to, PollFlags::OUT)];
                    if poll(&mut wait, None).is_err_and(|error| error != Errno::INTR) {
                        return;
                    }
                }
                // Nobody is left to be told if standard error is gone.
                Err(_) => return,
            }
        }
    }
}

/// What is written is sent on its way in one piece.
impl io::Write for Lane {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader};

    use super::{BYTES_MAX, LINES_MAX, Lane};

    fn notice(lost: u64) -> Vec<u8> {
        format!("lost {lost}\n").into_bytes()
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_where_it_is_missing() {
        const LINES: usize = 3 * LINES_MAX;
        let (read, write) = rustix::pipe::pipe().unwrap();
        // The writer meets one that would rather not wait.
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        let lane = Lane::new(write, notice);
        for number in 0..LINES {
            lane.put(format!("{number:0200}\n").into_bytes());
        }
        let mut lines = BufReader::new(File::from(read)).lines().map(Result::unwrap);
        let (mut taken, mut lost) = (0, 0);
        while taken + lost < LINES {
            let next = lines.next().unwrap();
            if let Some(count) = next.strip_prefix("lost ") {
                lost += count.parse::<usize>().unwrap();
            } else {
                assert_eq!(next.trim_start_matches('0').parse().unwrap_or(0), taken + lost);
                taken += 1;
            }
        }
        assert!(lost > 0 && taken >= LINES_MAX, "{taken} {lost}");
        lane.put(b"again\n".to_vec());
        assert_eq!(lines.next().unwrap(), "again");
        lane.put(b"last\n".to_vec());
        lane.flush();
        drop(lane);
        assert_eq!(lines.next().unwrap(), "last");
    }

    #[test]
    fn long_lines_that_wait_take_no_more_than_their_memory() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let lane = Lane::new(write, notice);
        let mut long = vec![b'x'; 1 << 20];
        *long.last_mut().unwrap() = b'\n';
        for _ in 0..20 {
            lane.put(long.clone());
        }
        let mut lines = BufReader::new(File::from(read)).lines().map(Result::unwrap);
        let taken = lines.by_ref().take(20).take_while(|line| !line.starts_with("lost")).count();
        assert_eq!(taken << 20, BYTES_MAX);
        lane.put(long);
        assert_eq!(lines.next().unwrap().len(), (1 << 20) - 1);
        lane.put(b"last\n".to_vec());
        assert_eq!(lines.next().unwrap(), "last");
    }

    #[test]
    fn the_end_does_not_wait_for_who_takes_nothing() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let lane = Lane::new(write, notice);
        // Nothing was logged: nothing to wait for.
        lane.flush();
        for _ in 0..2 * LINES_MAX {
            lane.put(vec![b'x'; 100]);
        }
        lane.flush();
        drop(read);
    }

    #[test]
    fn who_went_away_is_no_failure() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        let lane = Lane::new(write, notice);
        lane.put(b"line\n".to_vec());
        lane.flush();
    }
}
