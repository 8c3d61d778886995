//! The layout of the database, and how a connection is prepared for it.
//!
//! Meant to be read by a person with the sqlite3 shell. Owns the layout's number and the steps from
//! one number to the next; knows nothing of what the rows mean.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::error::{Fault, Step};

/// Marks the file as dagd's: "dagd" in ASCII.
const APPLICATION_ID: i64 = 0x6461_6764;

/// One step per layout: step `n` turns layout `n` into layout `n + 1`.
const STEPS: [&str; 1] = [FIRST];

/// Statements kept prepared per connection: all that the store uses, with some to spare.
const STATEMENTS_MAX: usize = 96;

/// The newest layout that this program knows.
pub const SCHEMA: u32 = 1;

const FIRST: &str = "
-- Facts about the database itself.
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('instance', lower(hex(randomblob(4)))), ('next_item', 1);

-- What lives: the records of runs that have not ended, of events that wait for a run, and the
-- newest word on each trigger. kind: 'run', 'item', 'pause', 'armed', 'left', 'time', 'bound'.
CREATE TABLE live(
  kind TEXT NOT NULL, id NOT NULL, seq INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY(kind, id, seq)) WITHOUT ROWID;

-- The graphs that live runs and the history are pinned to.
CREATE TABLE graphs(rev TEXT PRIMARY KEY, body TEXT NOT NULL);

-- Runs that have ended.
CREATE TABLE runs(
  id INTEGER PRIMARY KEY, trigger TEXT, reason TEXT NOT NULL, state TEXT NOT NULL,
  selector TEXT NOT NULL, rev TEXT NOT NULL, parent INTEGER, signal TEXT, kept TEXT,
  created_at TEXT NOT NULL, started_at TEXT, ended_at TEXT NOT NULL,
  created_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, scheduled_ns INTEGER);
CREATE INDEX runs_ended ON runs(ended_ns);
CREATE INDEX runs_rev ON runs(rev);
CREATE TABLE run_files(
  run INTEGER NOT NULL, ix INTEGER NOT NULL, path NOT NULL, rel NOT NULL, kind TEXT NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, file BLOB NOT NULL,
  first_seen_ns INTEGER NOT NULL, in_place INTEGER NOT NULL, outcome TEXT, moved_to,
  move_error TEXT, PRIMARY KEY(run, ix)) WITHOUT ROWID;
CREATE TABLE tasks(
  run INTEGER NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, cause TEXT,
  PRIMARY KEY(run, name)) WITHOUT ROWID;
CREATE TABLE attempts(
  run INTEGER NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, exit_code INTEGER,
  signal INTEGER, error TEXT, leftovers INTEGER NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
  log TEXT, log_bytes INTEGER NOT NULL, log_kept INTEGER NOT NULL, outputs TEXT,
  memory_peak INTEGER, cpu_us INTEGER,
  PRIMARY KEY(run, task, attempt)) WITHOUT ROWID;

-- The triggers of the ledger. A row under a number that is not here is nobody's, and goes.
CREATE TABLE triggers(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE orphans(id INTEGER PRIMARY KEY);

-- File systems on which delivered files lie or lay, and where each trigger's lie at present: from
-- the folder `dir`, relative to the root, on. What is missing on one tells nothing about another.
CREATE TABLE places(id INTEGER PRIMARY KEY, what TEXT NOT NULL UNIQUE);
CREATE TABLE placed(
  trigger INTEGER NOT NULL, dir NOT NULL, place INTEGER NOT NULL, PRIMARY KEY(trigger, dir)
  ) WITHOUT ROWID;

-- Which version of which file was delivered, to which run, how that stands, where the file is now.
-- open: that version was at its path when dagd last looked. location: where a run took it.
-- state: of the run; 'quarantined' if it has failed and the version stays.
-- place: where it was delivered from; NULL if nobody knows.
CREATE TABLE ledger(
  trigger INTEGER NOT NULL, dir NOT NULL, name NOT NULL, file BLOB NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, open INTEGER NOT NULL, run INTEGER,
  state TEXT NOT NULL, location, at TEXT NOT NULL, place INTEGER, PRIMARY KEY(trigger, dir, name)
  ) WITHOUT ROWID;
CREATE INDEX ledger_duplicates ON ledger(trigger, run) WHERE state = 'duplicate';
CREATE INDEX ledger_location ON ledger(location) WHERE location IS NOT NULL;
CREATE INDEX ledger_quarantined ON ledger(trigger) WHERE state = 'quarantined' AND open = 1;

-- What no second file is delivered with, where idempotent_key says so, and the run that had it.
CREATE TABLE keys(
  trigger INTEGER NOT NULL, key NOT NULL, run INTEGER NOT NULL, rel NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY(trigger, key)) WITHOUT ROWID;

-- Events that a policy dropped or merged; the newest ones.
CREATE TABLE dropped(
  seq INTEGER PRIMARY KEY, item INTEGER NOT NULL, trigger TEXT, reason TEXT NOT NULL,
  at TEXT NOT NULL, payload TEXT);

-- How long a task takes: a moving mean.
CREATE TABLE task_stats(
  name TEXT PRIMARY KEY, n INTEGER NOT NULL, mean_ns INTEGER NOT NULL, at_ns INTEGER NOT NULL
  ) WITHOUT ROWID;
";

/// Prepares the writing connection: checks or creates the layout, then sets what holds per
/// connection. `full` syncs every commit. A file of another program or of a newer dagd is left as
/// it is.
pub(super) fn prepare_writer(conn: &Connection, full: bool) -> Step<()> {
    let found = check(conn)?;
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Fault::Contradiction(format!(
            "no write-ahead log is possible on this file system (got `{mode}`): \
             put state_dir on a local one"
        )));
    }
    set_full(conn, full)?;
    conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    tune(conn)?;
    if found < SCHEMA {
        convert(conn, found)?;
    }
    Ok(())
}

/// With `full`, each commit from now on is on disk when it returns.
pub(super) fn set_full(conn: &Connection, full: bool) -> Step<()> {
    Ok(conn.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?)
}

/// Prepares a reading connection. Never converts: another layout is refused.
pub(super) fn prepare_reader(conn: &Connection) -> Step<()> {
    let found = check(conn)?;
    if found < SCHEMA {
        return Err(Fault::Layout { found, known: SCHEMA });
    }
    tune(conn)
}

/// Sorts in memory, and parses each statement once: without the stability guarantee, one over a
/// table with a partial index is parsed again for each new value that is bound.
fn tune(conn: &Connection) -> Step<()> {
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

/// The layout of the file; 0 if it is empty.
fn check(conn: &Connection) -> Step<u32> {
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = number("application_id")?;
    let found = number("user_version")?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (application != 0 || tables > 0) {
        return Err(Fault::Contradiction(
            "this is not a database of dagd: choose another state_dir".to_owned(),
        ));
    }
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found > SCHEMA {
        return Err(Fault::Layout { found, known: SCHEMA });
    }
    Ok(found)
}

/// All steps from layout `found` on, in one transaction.
fn convert(conn: &Connection, found: u32) -> Step<()> {
    let mut script = String::from("BEGIN IMMEDIATE;");
    for step in STEPS.iter().skip(found as usize) {
        script.push_str(step);
    }
    let marks = format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
    );
    script.push_str(&marks);
    let done = conn.execute_batch(&script);
    if done.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{SCHEMA, STEPS, check, convert};
    use crate::io::store::error::Fault;

    #[test]
    fn there_is_a_step_to_each_layout() {
        assert_eq!(STEPS.len(), SCHEMA as usize);
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(check(&conn).unwrap(), 0);
        convert(&conn, 0).unwrap();
        assert_eq!(check(&conn).unwrap(), SCHEMA);
    }

    #[test]
    fn a_foreign_database_is_left_alone() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs(x)").unwrap();
        assert!(matches!(check(&conn), Err(Fault::Contradiction(_))));
    }
}
