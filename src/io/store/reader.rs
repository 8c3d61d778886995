//! Reading what is stored while the engine goes on writing, or while no daemon runs.
//!
//! Owns a read-only connection. Each call is one short transaction, finished when it returns, so
//! that a long-lived reader never holds back the write-ahead log. Never converts a layout.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::error::{Fault, Step, StoreError, io_error};
use super::load::{Loaded, load};
use super::schema::prepare_reader;
use super::value::{PathCell, StoredPath, int, parse, uint};
use super::view::LiveView;
use super::wal::WalFile;
use super::{files, keys, ledger};
use crate::core::candidate::Row;
use crate::core::graph::StoredGraph;
use crate::core::id::{Name, Rev, RunId};
use crate::core::path::Bytes;

/// How long a look waits for a process that is just opening or closing the database.
const READ_WAIT: Duration = Duration::from_secs(5);

/// Ledger rows that can claim the same place, at most: it takes as many triggers.
const LOCATED_MAX: usize = 64;

/// The reading side; any number per state directory.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    pub(super) path: PathBuf,
    pub(super) view: LiveView,
}

/// What the ledger tells of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The version that was delivered last.
    pub row: Row,
    /// Of the run: `running`, `succeeded`, `failed`, `quarantined` or `cancelled`; or why there was
    /// none, such as `baseline` or `duplicate`.
    pub state: String,
    /// Where a run took it, absolute.
    pub location: Option<Bytes>,
    /// What came of disposing of it, once its run has ended: a word and, where it is not where it
    /// was to be, why.
    pub outcome: Option<(String, Option<String>)>,
    /// When the row changed last, as [`crate::wire::time`] prints it.
    pub at: String,
}

/// A ledger row that was found by where its file is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its trigger.
    pub trigger: Name,
    /// The path below the trigger's root from which it was delivered.
    pub rel: Bytes,
    /// The row.
    pub story: Story,
}

impl Reader {
    /// Opens the database `dir/dagd.db` for reading; `view` tells how live runs stand. Works where
    /// neither the directory nor the file can be written.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none, [`StoreError::Schema`] if its layout is another,
    /// older ones included.
    pub fn open(dir: &Path, view: LiveView) -> Result<Self, StoreError> {
        let path = files::database(dir)?;
        match path.metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::Missing { path });
            }
            Err(error) => {
                let what = "cannot be read; run as the user that dagd runs as";
                return Err(io_error(&path, what, &error));
            }
        }
        let conn = match connect(&path, OpenFlags::empty()) {
            Err(Fault::Sql(error)) if unwritable(&error) && no_log(&path) => {
                connect(&immutable(&path), OpenFlags::SQLITE_OPEN_URI)
            }
            other => other,
        };
        let conn = conn.map_err(|fault| fault.at(&path))?;
        Ok(Self { conn, path, view })
    }

    /// What the ledger remembers of the path `rel` below the trigger's root.
    ///
    /// # Errors
    /// As all reading: `Passing` or `Corrupt`.
    pub fn ledger_row(&mut self, trigger: &str, rel: &Bytes) -> Result<Option<Row>, StoreError> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT file, size, mtime_ns, open, run FROM ledger \
                 WHERE trigger = (SELECT id FROM triggers WHERE name = ?1) AND dir = ?2 AND name = ?3",
            )
            .and_then(|mut query| {
                let key = params![trigger, PathCell(rel.dir()), PathCell(rel.name())];
                query.query_row(key, |sql| ledger::row(sql, 0)).optional()
            });
        found.map_err(|error| Fault::from(error).at(&self.path))
    }

    /// At most `limit` open rows of the folder `dir` (relative to the root, empty for the root
    /// itself) that may be of the file system `place`, by name, after the name `after`; from the first if that is empty. Names that are
    /// UTF-8 come before those that are not, each kind ordered by its bytes.
    ///
    /// # Errors
    /// As all reading.
    pub fn open_rows(
        &mut self,
        trigger: &str,
        dir: &[u8],
        place: &str,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Row)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| {
            let mut query = conn.prepare_cached(
                "SELECT name, file, size, mtime_ns, open, run FROM ledger \
                 WHERE trigger = (SELECT id FROM triggers WHERE name = ?1) AND dir = ?2 AND name > ?3 AND open = 1 \
                 AND (place IS NULL OR place = (SELECT id FROM places WHERE what = ?5)) \
                 ORDER BY name LIMIT ?4",
            )?;
            let key = params![trigger, PathCell(dir), PathCell(after), limit, place];
            let rows = query
                .query_map(key, |sql| Ok((sql.get::<_, StoredPath>(0)?.0, ledger::row(sql, 1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Whether the path `rel` has an open row that may be of the file system `place`.
    ///
    /// # Errors
    /// As all reading.
    pub fn is_of(&mut self, trigger: &str, rel: &Bytes, place: &str) -> Result<bool, StoreError> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(
                "SELECT 1 FROM ledger \
                 WHERE trigger = (SELECT id FROM triggers WHERE name = ?1) AND dir = ?2 AND name = ?3 AND open = 1 \
                 AND (place IS NULL OR place = (SELECT id FROM places WHERE what = ?4))",
            )?;
            let key = params![trigger, PathCell(rel.dir()), PathCell(rel.name()), place];
            Ok(query.exists(key)?)
        })
    }

    /// At most `limit` folders below the root that hold open rows, in the order of
    /// [`Reader::open_rows`], after the folder `after`. The root itself is never among them.
    ///
    /// # Errors
    /// As all reading.
    pub fn dirs(
        &mut self,
        trigger: &str,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.read(|conn| {
            // One seek per folder instead of a walk over all of its rows.
            let mut query = conn.prepare_cached(
                "SELECT dir FROM ledger WHERE trigger = (SELECT id FROM triggers WHERE name = ?1) \
                 AND dir > ?2 AND open = 1 \
                 ORDER BY dir, name LIMIT 1",
            )?;
            let mut found: Vec<Bytes> = Vec::new();
            while found.len() < limit {
                let last = found.last().map_or(after, Bytes::as_bytes);
                let next = query.query_row(params![trigger, PathCell(last)], |sql| sql.get(0));
                match next.optional()? {
                    Some(StoredPath(dir)) => found.push(dir),
                    None => break,
                }
            }
            Ok(found)
        })
    }

    /// The run that something was delivered to under a key of a trigger.
    ///
    /// # Errors
    /// As all reading.
    pub fn key_holder(&mut self, trigger: &str, key: &Bytes) -> Result<Option<RunId>, StoreError> {
        keys::holder(&self.conn, trigger, key).map_err(|fault| fault.at(&self.path))
    }

    /// All that the ledger tells of the path `rel` below the trigger's root.
    ///
    /// # Errors
    /// As all reading.
    pub fn ledger_story(
        &mut self,
        trigger: &str,
        rel: &Bytes,
    ) -> Result<Option<Story>, StoreError> {
        self.read(|conn| ledger_story(conn, trigger, rel))
    }

    /// The rows of files that the end of a run took to the absolute path `path`.
    ///
    /// # Errors
    /// As all reading.
    pub fn find_located(&mut self, path: &Bytes) -> Result<Vec<Located>, StoreError> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(
                "SELECT file, size, mtime_ns, open, run, state, location, at, triggers.name, dir, \
                 ledger.name FROM ledger JOIN triggers ON triggers.id = ledger.trigger \
                 WHERE location = ?1 LIMIT ?2",
            )?;
            let limit = i64::try_from(LOCATED_MAX).unwrap_or(i64::MAX);
            let rows = query.query_map(params![PathCell(path.as_bytes()), limit], |sql| {
                let dir = sql.get::<_, StoredPath>(9)?.0;
                let rel = dir.join(sql.get::<_, StoredPath>(10)?.0.as_bytes());
                Ok(Located { trigger: sql.get(8)?, rel, story: story(sql)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// How many versions of each trigger lie where they came in although their run has failed.
    /// Triggers without any are left out.
    ///
    /// # Errors
    /// As all reading.
    pub fn quarantined(&mut self) -> Result<Vec<(Name, u64)>, StoreError> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(
                "SELECT triggers.name, count(*) FROM ledger JOIN triggers ON triggers.id = trigger \
                 WHERE state = 'quarantined' AND open = 1 GROUP BY 1",
            )?;
            let rows = query.query_map([], |sql| Ok((sql.get(0)?, uint(sql.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The graph `rev`, while a run is pinned to it.
    ///
    /// # Errors
    /// As all reading.
    pub fn graph(&mut self, rev: &Rev) -> Result<Option<StoredGraph>, StoreError> {
        self.read(|conn| {
            let mut query = conn.prepare_cached("SELECT body FROM graphs WHERE rev = ?1")?;
            let body: Option<String> = query.query_row([&rev.0], |sql| sql.get(0)).optional()?;
            body.map(|body| parse("graph", &body)).transpose()
        })
    }

    /// All that lives, read in one snapshot.
    ///
    /// # Errors
    /// As all reading.
    pub fn load(&mut self) -> Result<Loaded, StoreError> {
        self.read(load)
    }

    /// The directory of the attempts' logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.path.with_file_name(files::LOGS)
    }

    /// Reads in one snapshot, and lets go of it.
    pub(super) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Step<T>,
    ) -> Result<T, StoreError> {
        // Dropping the transaction ends it; there is nothing to roll back.
        let done = self.conn.transaction().map_err(Fault::from).and_then(|tx| work(&tx));
        done.map_err(|fault| fault.at(&self.path))
    }
}

/// See [`Reader::ledger_story`].
pub(super) fn ledger_story(conn: &Connection, trigger: &str, rel: &Bytes) -> Step<Option<Story>> {
    let mut query = conn.prepare_cached(
        "SELECT file, size, mtime_ns, open, run, state, location, at FROM ledger \
         WHERE trigger = (SELECT id FROM triggers WHERE name = ?1) AND dir = ?2 AND name = ?3",
    )?;
    let key = params![trigger, PathCell(rel.dir()), PathCell(rel.name())];
    let Some(mut found) = query.query_row(key, story).optional()? else { return Ok(None) };
    if let Some(run) = found.row.run {
        let mut query = conn.prepare_cached(
            "SELECT outcome, move_error FROM run_files \
             WHERE run = ?1 AND rel = ?2 AND outcome IS NOT NULL LIMIT 1",
        )?;
        let key = params![int(run.0), PathCell(rel.as_bytes())];
        found.outcome = query.query_row(key, |sql| Ok((sql.get(0)?, sql.get(1)?))).optional()?;
    }
    Ok(Some(found))
}

fn story(sql: &rusqlite::Row<'_>) -> rusqlite::Result<Story> {
    Ok(Story {
        row: ledger::row(sql, 0)?,
        state: sql.get(5)?,
        location: sql.get::<_, Option<StoredPath>>(6)?.map(|path| path.0),
        outcome: None,
        at: sql.get(7)?,
    })
}

fn connect(path: &Path, flags: OpenFlags) -> Step<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(READ_WAIT)?;
    prepare_reader(&conn)?;
    Ok(conn)
}

/// Whether SQLite failed because it may not create the shared index next to the database.
fn unwritable(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
    )
}

/// Whether the database file holds everything: no log lies beside it.
fn no_log(path: &Path) -> bool {
    WalFile::path(path).metadata().map_or(true, |log| log.len() == 0)
}

/// The address of a database that nobody is writing: SQLite takes no locks and creates nothing.
fn immutable(path: &Path) -> PathBuf {
    let mut address = b"file:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            address.push(byte);
        } else {
            address.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    address.extend_from_slice(b"?immutable=1");
    OsString::from_vec(address).into()
}
