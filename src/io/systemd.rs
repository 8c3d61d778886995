//! What dagd tells its service manager, and how often it must say that it is alive.
//!
//! A call is one datagram to `$NOTIFY_SOCKET`, and does nothing without it. It never fails a caller:
//! a service manager that cannot be told is logged, not obeyed. Owns the instant of the last sign of
//! life, so that [`watchdog`] can be called after each turn of a loop and costs nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

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
    tell(&[NotifyState::Status(&one_line(text)), NotifyState::Custom(&extended(START_LONGER))]);
}

/// The line that `systemctl status` shows. Line breaks become spaces.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(&one_line(text))]);
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
        tell(&[NotifyState::Watchdog]);
    }
}

fn extended(limit: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", limit.as_micros())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot reach the service manager; is $NOTIFY_SOCKET right?");
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
