//! The store: what must outlive the process, in one SQLite file.
//!
//! Owns the writing connection. A commit is one transaction: the records of what lives, the ledger
//! and the history change together or not at all. Decides nothing: it turns records into rows, and
//! rows into records again. Readers have their own connections ([`reader`]); what must reach the
//! disk before it is acted on waits in [`sync`].

mod commit;
mod error;
mod files;
mod health;
mod history;
mod keys;
mod ledger;
mod load;
pub mod lock;
mod prune;
pub mod reader;
mod retry;
mod runs;
pub mod schema;
pub mod sync;
mod triggers;
mod value;
pub mod view;
mod wal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use commit::DROPPED_MAX;
pub use error::StoreError;
pub use files::{FILE, LOGS, log_name};
pub use health::Health;
pub use load::Loaded;
pub use lock::{InstanceLock, lock};
use prune::Excess;
pub use prune::{Keep, Pruned};
pub use reader::{Located, Reader, Story};
pub use retry::{RetryFile, RetrySource, RetryTask};
pub use runs::RunFilter;
pub use sync::{Sync, Synced};
pub use view::LiveView;

use crate::core::graph::Graph;
use crate::core::id::{Name, Rev, RunId, Seq};
use crate::core::record::{Record, RunCreated};
use crate::core::task::TaskState;
use error::{Step, io_error};
use value::uint;
use wal::WalFile;

/// How long opening waits for a process that is just closing the database.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// How long a commit waits for a foreign writer before it says so: the engine stands still.
const COMMIT_WAIT: Duration = Duration::from_millis(100);

/// Frames in the write-ahead log from which on the writer copies them itself: 64 MiB.
const WAL_FRAMES_MAX: u64 = (64 << 20) / 4120;

/// Commits between looks at the log's length.
const WAL_LOOK_EVERY: u64 = 64;

/// What the store must know of runs that its records do not say.
pub trait Finished {
    /// The final state of each task of a run that ends in this commit, with the cause in words
    /// where the state alone does not say.
    fn tasks(&self, run: RunId) -> Vec<(Name, TaskState, Option<String>)>;

    /// The graph `rev`, if it is at hand.
    fn graph(&self, rev: &Rev) -> Option<Arc<Graph>>;
}

/// The writing side. One per state directory: take [`lock()`] first.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    wal: WalFile,
    instance: String,
    /// Commits since it was opened.
    seq: Seq,
    marks: Marks,
    /// The stored graphs.
    revs: BTreeSet<Rev>,
    /// Runs of which files are being disposed of, so that not each outcome reads them anew.
    claims: Claims,
}

/// Counters that go on from what is stored. A batch works on a copy.
#[derive(Clone, Copy, Debug)]
struct Marks {
    /// Last number given to a live record.
    live: i64,
    /// Last number given to a dropped event.
    dropped: i64,
    /// The next event's number.
    next_item: u64,
    /// Runs in the history.
    ended: u64,
    /// Bytes that their logs take.
    log_bytes: u64,
}

/// Runs kept parsed, by number.
type Claims = BTreeMap<RunId, Arc<RunCreated>>;

impl Store {
    /// Opens the database `dir/dagd.db`; creates the directory (0700) and the layout if they are
    /// not there, and converts an older layout. With `full`, each commit is on disk when it
    /// returns; otherwise see [`Sync`].
    ///
    /// # Errors
    /// [`StoreError::Schema`] if a newer dagd wrote it; `Passing` and `Corrupt` as they say.
    pub fn open(dir: &Path, full: bool) -> Result<Self, StoreError> {
        files::ensure_dir(dir)?;
        let path = files::database(dir)?;
        files::ensure_file(&path)?;
        let conn = Self::connect(&path, full).map_err(|fault| fault.at(&path))?;
        let wal = WalFile::open(&path)
            .map_err(|error| io_error(&WalFile::path(&path), "cannot be opened", &error))?;
        files::sync_dir(dir).map_err(|error| io_error(dir, "cannot be synced", &error))?;
        Self::with(conn, &path, wal).map_err(|fault| fault.at(&path))
    }

    fn connect(path: &Path, full: bool) -> Step<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(OPEN_WAIT)?;
        // SQLite opens for reading what it may not write; the first commit is too late to say so.
        if conn.is_readonly(rusqlite::MAIN_DB)? {
            let readonly = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
            return Err(rusqlite::Error::SqliteFailure(readonly, None).into());
        }
        schema::prepare_writer(&conn, full)?;
        conn.busy_timeout(COMMIT_WAIT)?;
        Ok(conn)
    }

    /// Chooses anew what [`Store::open`] was told, for the commits from now on.
    ///
    /// # Errors
    /// As [`Store::commit`]; then it stays as it was.
    pub fn set_full(&self, full: bool) -> Result<(), StoreError> {
        schema::set_full(&self.conn, full).map_err(|fault| fault.at(&self.path))
    }

    fn with(conn: Connection, path: &Path, wal: WalFile) -> Step<Self> {
        let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let marks = Marks {
            live: number("SELECT coalesce(max(seq), 0) FROM live")?,
            dropped: number("SELECT coalesce(max(seq), 0) FROM dropped")?,
            next_item: uint(number("SELECT value FROM meta WHERE key = 'next_item'")?),
            ended: uint(number("SELECT count(*) FROM runs")?),
            log_bytes: uint(number("SELECT coalesce(sum(log_kept), 0) FROM attempts")?),
        };
        let instance =
            conn.query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get(0))?;
        let revs = conn
            .prepare("SELECT rev FROM graphs")?
            .query_map([], |row| Ok(Rev(row.get::<_, Name>(0)?)))?
            .collect::<Result<_, _>>()?;
        let path = path.to_owned();
        let (seq, claims) = (Seq(0), Claims::new());
        Ok(Self { conn, path, wal, instance, seq, marks, revs, claims })
    }

    /// All that lives, to be folded by the core.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn load(&mut self) -> Result<Loaded, StoreError> {
        load::load(&self.conn).map_err(|fault| fault.at(&self.path))
    }

    /// Eight hexadecimal digits, drawn when the database was created: tells the attempts of this
    /// dagd from those of any other.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The database's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores the records of one step, in order, all or none, and returns the number of this
    /// commit, counted from 1 since the store was opened. No records: nothing is done, and the last
    /// number returned.
    ///
    /// # Errors
    /// `Passing`: nothing was stored, the same batch can be committed again. `Corrupt`: the records
    /// contradict what is stored; nothing was stored either.
    pub fn commit(&mut self, records: &[Record], world: &dyn Finished) -> Result<Seq, StoreError> {
        if records.is_empty() {
            return Ok(self.seq);
        }
        self.write(records, world).map_err(|fault| fault.at(&self.path))?;
        self.seq = Seq(self.seq.0 + 1);
        if self.seq.0.is_multiple_of(WAL_LOOK_EVERY) && self.wal.reaches(WAL_FRAMES_MAX) {
            self.bound_wal();
        }
        Ok(self.seq)
    }

    fn write(&mut self, records: &[Record], world: &dyn Finished) -> Step<()> {
        let (conn, claims) = (&self.conn, &mut self.claims);
        let mut batch = commit::Batch::new(conn, world, &self.revs, self.marks, claims);
        transaction(conn, || batch.write(records))?;
        let (marks, added) = batch.done();
        self.marks = marks;
        self.revs.extend(added);
        Ok(())
    }

    /// Removes what the history has too much of: runs beyond the `keep.runs` that ended last, runs
    /// that ended before `keep.since`, and runs whose logs exceed `keep.log_bytes` together, the
    /// oldest first; and what is left of triggers that were forgotten. A bounded slice per call: call
    /// again while [`Pruned::more`]. The run with the highest number stays, so that numbers never
    /// start over. `remove_log` gets the name of each log, under [`LOGS`], and removes it, if it is
    /// still there: it is called before the rows are gone for good.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn prune(
        &mut self,
        keep: Keep,
        mut remove_log: impl FnMut(&str),
    ) -> Result<Pruned, StoreError> {
        let excess = Excess {
            runs: self.marks.ended.saturating_sub(keep.runs),
            before: keep.since,
            log_bytes: self.marks.log_bytes.saturating_sub(keep.log_bytes),
        };
        let conn = &self.conn;
        let (pruned, revs) = transaction(conn, || prune::slice(conn, excess, &mut remove_log))
            .map_err(|fault| fault.at(&self.path))?;
        self.marks.ended = self.marks.ended.saturating_sub(pruned.runs.len() as u64);
        self.marks.log_bytes = self.marks.log_bytes.saturating_sub(pruned.log_bytes);
        for rev in revs {
            self.revs.remove(&rev);
        }
        Ok(pruned)
    }

    /// How long an attempt at each task takes: a moving mean over those that ended by themselves.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn durations(&mut self) -> Result<Vec<(Name, Duration)>, StoreError> {
        load::durations(&self.conn).map_err(|fault| fault.at(&self.path))
    }

    /// The sync thread could not keep up, or a reader stands in its way: copy what can be copied.
    fn bound_wal(&self) {
        let copied = self
            .conn
            .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
            .and_then(|mut pragma| pragma.query_row([], |_| Ok(())));
        if let Err(error) = copied {
            tracing::warn!(path = %self.path.display(), %error, "checkpoint failed");
        }
    }
}

/// Runs `work` in a write transaction; nothing stays of it if it fails.
fn transaction<T>(conn: &Connection, work: impl FnOnce() -> Step<T>) -> Step<T> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = work().and_then(|value| {
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(value)
    });
    if done.is_err()
        && !conn.is_autocommit()
        && let Err(error) = conn.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "roll back failed");
    }
    done
}
