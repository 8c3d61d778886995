//! The journal's own socket: one datagram an entry.
//!
//! Never waits long: when the journal takes nothing, entries are counted and left out, and the count
//! is the first thing that it is told when it takes entries again.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketAddrUnix, sendto};

use super::line::{Line, notice};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long an entry may wait for the journal: enough for one that is busy with a burst. The next
/// entries do not wait at all, until one is taken.
const PATIENCE: Duration = Duration::from_millis(100);

/// Bytes that may be under way; the kernel gives as much of it as it allows everyone.
const BUFFER: usize = 8 << 20;

/// A way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// Entries that were left out and not yet told of.
    lost: AtomicU64,
}

impl Journal {
    /// The journal, if it is what standard error is connected to.
    pub fn of_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = fstat(io::stderr()).ok()?;
        let same = stream == format!("{}:{}", stderr.st_dev, stderr.st_ino);
        same.then(Self::open).and_then(Result::ok)
    }

    /// The machine's journal. Errors: nobody listens, and the message names the socket.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let socket = UnixDatagram::unbound()?;
        // Only to find out whether somebody is there: it may be another one later.
        let probe = UnixDatagram::unbound()?;
        probe.connect(path).map_err(named)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // As much as there is to be had will do.
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER).ok();
        let address = SocketAddrUnix::new(path)?;
        Ok(Self { socket, address, lost: AtomicU64::new(0) })
    }

    /// Sends an entry, or counts it as lost.
    pub(super) fn send(&self, line: &Line<'_>) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.put(&notice(lost), SendFlags::DONTWAIT) {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        let flags = match self.lost.load(Ordering::Relaxed) {
            0 => SendFlags::empty(),
            _ => SendFlags::DONTWAIT,
        };
        if !self.put(&line.entry(), flags) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(&self, entry: &[u8], flags: SendFlags) -> bool {
        let send = || sendto(&self.socket, entry, flags | SendFlags::NOSIGNAL, &self.address);
        loop {
            match send() {
                Err(Errno::INTR) => {}
                done => return done.is_ok(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::Journal;
    use crate::io::log::Sink;

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = vec![0; 1 << 20];
        let length = socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(String::from_utf8_lossy(&buffer).into_owned())
    }

    #[test]
    fn an_entry_has_the_fields_of_its_line_and_of_what_is_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journal::at(&path).is_err(), "nobody listens");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let sink = Sink::Journal(Journal::at(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(sink);
        tracing::subscriber::with_default(subscriber, || {
            let _around = tracing::error_span!("attempt", run = 7, task = "load").entered();
            tracing::warn!(attempt = 2, task = "nearer", "a\nb");
            tracing::info!(name = "é".repeat(3_000), "{}", "x".repeat(100_000));
        });
        let entry = heard(&socket).unwrap();
        let message = "a\nb attempt=2 task=nearer run=7";
        let length = String::from_utf8_lossy(&(message.len() as u64).to_le_bytes()).into_owned();
        let lines = [
            "DAGD_ATTEMPT=2\nDAGD_TASK=nearer\nDAGD_RUN=7\n",
            &format!("MESSAGE\n{length}{message}\n"),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=dagd\nCODE_FILE=src/io/log/journal.rs\nCODE_LINE=",
        ];
        assert!(entry.starts_with(&lines.concat()), "{entry:?}");
        let long = heard(&socket).unwrap();
        assert!(long.len() < 60_000 && long.contains("\nPRIORITY=6\n"), "{}", long.len());
    }

    #[test]
    fn a_journal_that_takes_nothing_is_not_waited_for() {
        const LINES: usize = 20_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let subscriber = tracing_subscriber::registry().with(Sink::Journal(journal));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..LINES {
                tracing::info!(number, "a line");
            }
            socket.set_nonblocking(true).unwrap();
            let taken = std::iter::from_fn(|| heard(&socket)).count();
            assert!(taken < LINES, "the test wants a queue that is full");
            tracing::info!("it is back");
            let told = heard(&socket).unwrap();
            let lost = LINES - taken;
            assert!(told.contains(&format!("did not take {lost} lines of this log\n")), "{told}");
            assert!(heard(&socket).unwrap().contains("MESSAGE=it is back\n"));
            assert_eq!(heard(&socket), None);
        });
    }
}
