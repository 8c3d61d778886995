//! What must be on disk before it is acted on, and the checkpoints: both off the engine's path.
//!
//! Owns the thread "dagd-sync" with a connection of its own and a descriptor of the write-ahead
//! log. Sleeps while nothing is committed; never writes a row.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rusqlite::{Connection, OpenFlags};

use super::files;
use super::wal::WalFile;
use crate::core::id::Seq;

/// Frames that are not yet in the database from which on a checkpoint is worth while: 4 MiB.
const CHECKPOINT_FRAMES: u64 = (4 << 20) / 4120;

/// Hints between looks at the log's length: cheap for the engine, well within the log's bound.
const HINTS_PER_LOOK: u64 = 64;

/// Quiet time after which what nobody has asked for is synced as well. It stays in the log: after a
/// whole copy the log starts over, which costs the next commit a sync.
const IDLE: Duration = Duration::from_secs(1);

/// Pause before a sync that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The newest commit that is on disk with all before it, or why those that were asked for are not.
pub type Synced = Result<Seq, String>;

/// The handle of the sync thread. Dropping it ends the thread, too, without waiting for it.
#[derive(Debug)]
pub struct Sync {
    shared: Arc<Shared>,
    wake: Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// One above the newest commit that somebody wants to be on disk: what an earlier dagd committed
    /// counts as commit 0.
    wanted: AtomicU64,
    /// Hints since the log was last synced because of quiet.
    hints: AtomicU64,
    stopping: AtomicBool,
}

impl Sync {
    /// Starts the thread for the database in `dir`, which the store must have open. `tell` is called
    /// on the thread with the number of a commit when it and all before it are on disk; requests
    /// that came together are answered by one call with the newest. It is called with an error when
    /// they cannot be brought there: the thread goes on trying, and answers when it is done.
    ///
    /// # Errors
    /// If the log or the database cannot be opened, or the thread not be started.
    pub fn spawn(dir: &Path, tell: impl Fn(Synced) + Send + 'static) -> io::Result<Self> {
        let path = files::database(dir).map_err(io::Error::other)?;
        let worker_path = path.clone();
        let wal = WalFile::open(&path)?;
        let conn = connect(&path).map_err(io::Error::other)?;
        let shared = Arc::new(Shared::default());
        // One place is enough: a message only says that the counters have changed.
        let (wake, woken) = bounded(1);
        let mut worker = Worker {
            path: worker_path,
            conn,
            wal,
            shared: shared.clone(),
            woken,
            synced: 0,
            copied: ([0; 8], 0),
            doubtful: false,
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("dagd-sync".to_owned())
            .spawn(move || worker.run(&tell))?;
        Ok(Self { shared, wake, thread })
    }

    /// Asks for commit `seq` and all before it to be brought to disk. Never waits.
    pub fn request(&self, seq: Seq) {
        self.shared.wanted.fetch_max(seq.0 + 1, Ordering::AcqRel);
        self.wake();
    }

    /// Says that something was committed. Never waits, and wakes the thread only now and then.
    pub fn checkpoint(&self) {
        if self.shared.hints.fetch_add(1, Ordering::AcqRel).is_multiple_of(HINTS_PER_LOOK) {
            self.wake();
        }
    }

    /// Answers what was requested, and ends the thread.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.wake();
        if self.thread.join().is_err() {
            tracing::error!("the sync thread had failed");
        }
    }

    fn wake(&self) {
        match self.wake.try_send(()) {
            // Full: it is about to look anyway. Disconnected: it has failed, which `stop` reports.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    // Makes the connection read the database, so that its first checkpoint finds the log.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}

struct Worker {
    path: PathBuf,
    conn: Connection,
    wal: WalFile,
    shared: Arc<Shared>,
    woken: Receiver<()>,
    /// One above the newest commit known to be on disk.
    synced: u64,
    /// Which filling of the log was copied, and how far.
    copied: ([u8; 8], u64),
    /// Whether a sync of the log has failed since it was last copied as a whole.
    doubtful: bool,
    /// Whether the last sync that was asked for failed, and was said to.
    failing: bool,
}

impl Worker {
    fn run(&mut self, tell: &dyn Fn(Synced)) {
        let mut seen = 0;
        loop {
            let woken = match self.patience() {
                Some(patience) => self.woken.recv_timeout(patience),
                None => self.woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            // Looked at first: what was requested before it was told to stop is answered.
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            self.bring_to_disk(tell);
            let hints = self.shared.hints.load(Ordering::Acquire);
            match woken {
                Err(RecvTimeoutError::Disconnected) => return,
                _ if stopping => return,
                Ok(()) if self.wal.reaches(self.behind() + CHECKPOINT_FRAMES) => {
                    self.copy();
                }
                // A hint that comes after this wakes the thread anew; one that comes just before
                // it is covered by the sync.
                Err(RecvTimeoutError::Timeout) if hints > 0 && hints == seen => {
                    self.shared.hints.store(0, Ordering::Release);
                    if let Err(error) = self.sync_log() {
                        let path = WalFile::path(&self.path);
                        tracing::warn!(path = %path.display(), %error, "the log cannot be synced");
                    }
                }
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            }
            seen = hints;
        }
    }

    /// How long to sleep; `None` until somebody has something to do.
    fn patience(&self) -> Option<Duration> {
        match (self.failing, self.shared.hints.load(Ordering::Acquire)) {
            (true, _) => Some(RETRY),
            (false, 0) => None,
            (false, _) => Some(IDLE),
        }
    }

    /// Frames of the present filling that are in the database already.
    fn behind(&self) -> u64 {
        if self.copied.0 == self.wal.generation() { self.copied.1 } else { 0 }
    }

    fn bring_to_disk(&mut self, tell: &dyn Fn(Synced)) {
        let wanted = self.shared.wanted.load(Ordering::Acquire);
        if wanted <= self.synced {
            return;
        }
        // All of an older filling of the log was synced with the database before it was reused.
        let synced = self.sync_log();
        if self.doubtful {
            if !std::mem::replace(&mut self.failing, true) {
                let path = WalFile::path(&self.path);
                let why =
                    synced.map_or_else(|error| error.to_string(), |()| "it failed before".into());
                tell(Err(format!("{} cannot be brought to disk: {why}", path.display())));
            }
            if !self.copy() {
                return;
            }
            (self.doubtful, self.failing) = (false, false);
        }
        self.synced = wanted;
        tell(Ok(Seq(wanted - 1)));
    }

    /// Syncs the log. After a failure the kernel may call lost pages clean: from then on only a whole
    /// copy to the database, from memory and synced there, tells the truth again.
    fn sync_log(&mut self) -> io::Result<()> {
        let result = self.wal.sync();
        self.doubtful |= result.is_err();
        result
    }

    /// Copies what can be copied to the database without being in anybody's way; whether that was
    /// everything.
    fn copy(&mut self) -> bool {
        let generation = self.wal.generation();
        let done =
            self.conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)").and_then(|mut sql| {
                sql.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            });
        match done {
            Ok((busy, log, copied)) => {
                let (busy, log, copied): (i64, i64, i64) = (busy, log, copied);
                if let Ok(copied) = u64::try_from(copied) {
                    self.copied = (generation, copied);
                }
                busy == 0 && log == copied
            }
            Err(error) => {
                // While syncs fail this does, too, every second, and that is known.
                if !self.failing {
                    tracing::warn!(path = %self.path.display(), %error, "checkpoint failed");
                }
                false
            }
        }
    }
}
