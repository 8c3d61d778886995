//! What dagd tells its service manager, and how often it must say that it is alive.
//!
//! A call is one datagram to `$NOTIFY_SOCKET`, and does nothing without it. It never fails a caller:
//! a service manager that cannot be told is logged, not obeyed; nor is one waited for that hears
//! nothing. What it must know waits for it on a thread of its own, in order; the rest is left out.
//! Owns the instant of the last sign of life, so that [`watchdog`] can be called after each turn of a
//! loop and costs nothing.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketAddrUnix, sendto};
use sd_notify::NotifyState;
use tracing::warn;

/// Words that wait for a manager that hears nothing, at most: those of a few hundred reloads.
/// Further ones are lost, which is logged.
const LATE_MAX: usize = 1024;

const UNREACHED: &str = "cannot reach the service manager; is $NOTIFY_SOCKET right?";

/// How much longer a start may take after each sign that it goes on.
const START_LONGER: Duration = Duration::from_mins(1);

/// Everything stands: sources are open, signals are caught. Also ends a [`reloading`].
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload has begun; [`ready`] must follow, whatever its outcome.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot read the clock for the service manager"),
    }
}

/// The stop has begun, and takes `limit` at most: the service manager is to wait as long, whatever
/// the unit says.
pub fn stopping(limit: Duration) {
    tell(&[NotifyState::Stopping, NotifyState::Custom(&extended(limit))]);
}

/// How often a start that is under way is to be told of by [`starting`]: well below any
/// `TimeoutStartSec=` that makes sense. `None` if nobody is there to be told.
pub fn start_interval() -> Option<Duration> {
    std::env::var_os("NOTIFY_SOCKET").map(|_| Duration::from_secs(2))
}

/// The start goes on, and may take that much longer.
pub fn starting(text: &str) {
    mention(&[NotifyState::Status(&one_line(text)), NotifyState::Custom(&extended(START_LONGER))]);
}

/// The line that `systemctl status` shows. Line breaks become spaces.
pub fn status(text: &str) {
    mention(&[NotifyState::Status(&one_line(text))]);
}

/// How often [`watchdog`] is due: half of the unit's `WatchdogSec=`, so that one late call is
/// forgiven. `None` if no watchdog is asked of this process. Read once.
pub fn watchdog_interval() -> Option<Duration> {
    static INTERVAL: OnceLock<Option<Duration>> = OnceLock::new();
    *INTERVAL.get_or_init(|| {
        sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero())
    })
}

/// The engine is alive. Call it at least every [`watchdog_interval`]; what comes within half of
/// that time after the last sign is not sent.
pub fn watchdog() {
    static START: OnceLock<Instant> = OnceLock::new();
    /// Milliseconds from `START`, plus one; zero: never.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let Some(interval) = watchdog_interval() else { return };
    let passed = START.get_or_init(Instant::now).elapsed();
    let last = LAST.load(Ordering::Relaxed);
    let due = last == 0 || passed >= Duration::from_millis(last - 1) + interval / 2;
    if due {
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX - 1);
        LAST.store(passed_ms + 1, Ordering::Relaxed);
        mention(&[NotifyState::Watchdog]);
    }
}

fn extended(limit: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", limit.as_micros())
}

/// Tells what the manager must know: it waits for this.
fn tell(states: &[NotifyState<'_>]) {
    with_manager(|manager| manager.tell(&text(states), true));
}

/// Tells what is out of date with the next word anyway.
fn mention(states: &[NotifyState<'_>]) {
    with_manager(|manager| manager.tell(&text(states), false));
}

fn text(states: &[NotifyState<'_>]) -> String {
    let words: Vec<String> = states.iter().map(NotifyState::to_string).collect();
    words.join("\n") + "\n"
}

fn with_manager(tell: impl FnOnce(&Manager) -> io::Result<()>) {
    static MANAGER: OnceLock<Option<Manager>> = OnceLock::new();
    let manager = MANAGER.get_or_init(|| {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        Manager::at(&path).inspect_err(|error| warn!(%error, "{UNREACHED}")).ok()
    });
    if let Some(Err(error)) = manager.as_ref().map(tell) {
        warn!(%error, "{UNREACHED}");
    }
}

/// The other end of `$NOTIFY_SOCKET`.
struct Manager {
    way: Arc<Way>,
    /// To the thread that waits in our place; there is none until one has to.
    late: OnceLock<Sender<String>>,
}

struct Way {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// Words that wait, the one included that is being sent.
    waiting: AtomicUsize,
}

impl Manager {
    fn at(path: &OsStr) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            _ => SocketAddrUnix::new(path)?,
        };
        let (socket, waiting) = (UnixDatagram::unbound()?, AtomicUsize::new(0));
        let way = Arc::new(Way { socket, address, waiting });
        Ok(Self { way, late: OnceLock::new() })
    }

    /// Sends a word at once. If the manager takes nothing now, one that it must hear waits for it, in
    /// order with others; another is left out. To be called by one thread at a time.
    fn tell(&self, word: &str, must: bool) -> io::Result<()> {
        let free = self.way.waiting.load(Ordering::SeqCst) == 0;
        if free {
            match self.way.send(word, SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {}
                sent => return Ok(sent?),
            }
        }
        if !must {
            return Ok(());
        }
        let late = self.late()?;
        self.way.waiting.fetch_add(1, Ordering::SeqCst);
        late.try_send(word.to_owned()).map_err(|_| {
            self.way.waiting.fetch_sub(1, Ordering::SeqCst);
            io::Error::other("it hears nothing")
        })
    }

    /// The way by the thread that waits.
    fn late(&self) -> io::Result<&Sender<String>> {
        if let Some(late) = self.late.get() {
            return Ok(late);
        }
        let (sender, receiver) = bounded::<String>(LATE_MAX);
        let way = Arc::clone(&self.way);
        std::thread::Builder::new().name("dagd-notify".to_owned()).spawn(move || {
            for word in receiver {
                if let Err(error) = way.send(&word, SendFlags::empty()) {
                    warn!(%error, "{UNREACHED}");
                }
                way.waiting.fetch_sub(1, Ordering::SeqCst);
            }
        })?;
        Ok(self.late.get_or_init(|| sender))
    }
}

impl Way {
    fn send(&self, word: &str, flags: SendFlags) -> Result<(), Errno> {
        let flags = flags | SendFlags::NOSIGNAL;
        let send = || sendto(&self.socket, word.as_bytes(), flags, &self.address);
        loop {
            match send() {
                Err(Errno::INTR) => {}
                done => return done.map(drop),
            }
        }
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::time::Duration;

    /// Set in the process that a test starts to speak in its place, because the environment of a
    /// process with threads is not to be written.
    const SPEAKER: &str = "DAGD_TEST_SPEAKER";

    #[test]
    fn speaker() {
        if std::env::var_os(SPEAKER).is_none() {
            return;
        }
        super::ready("2 triggers");
        super::reloading();
        super::status("a\nREADY=1\r\nb");
        super::watchdog();
        super::watchdog();
        super::starting("5 files\nso far");
        super::stopping(Duration::from_secs(40));
        assert_eq!(super::watchdog_interval(), Some(Duration::from_secs(2)));
    }

    fn speak(name: &str, value: &std::path::Path) -> bool {
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new(this);
        command.args(["--exact", "io::systemd::tests::speaker"]).env(SPEAKER, "1");
        command.env("WATCHDOG_USEC", "4000000").env_remove("WATCHDOG_PID");
        command.env_remove("NOTIFY_SOCKET").env(name, value);
        command.output().unwrap().status.success()
    }

    #[test]
    fn the_manager_hears_each_word_as_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(speak("NOTIFY_SOCKET", &path));
        let mut heard = Vec::new();
        for _ in 0..6 {
            let mut buffer = [0; 256];
            let n = socket.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        assert_eq!(heard[0], "READY=1\nSTATUS=2 triggers\n");
        assert!(heard[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", heard[1]);
        assert_eq!(heard[2], "STATUS=a READY=1  b\n");
        assert_eq!(heard[3], "WATCHDOG=1\n");
        assert_eq!(heard[4], "STATUS=5 files so far\nEXTEND_TIMEOUT_USEC=60000000\n");
        assert_eq!(heard[5], "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000\n");
    }

    #[test]
    fn nobody_to_tell_is_no_failure() {
        assert!(speak("DAGD_TEST_NOTHING", std::path::Path::new("")));
        assert!(speak("NOTIFY_SOCKET", std::path::Path::new("/nonexistent/notify")));
    }
}
