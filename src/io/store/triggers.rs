//! The numbers by which the ledger knows triggers: a name can be given to another one, and a
//! trigger be forgotten, without touching its rows.
//!
//! Rows under a number that has no name are nobody's; they are removed slice by slice.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Step;
use super::load::live_records;
use super::value::json;
use crate::core::record::Record;

/// The number of a trigger, if the ledger knows it.
pub(super) fn find(conn: &Connection, name: &str) -> Step<Option<i64>> {
    let mut query = conn.prepare_cached("SELECT id FROM triggers WHERE name = ?1")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

/// The number of a trigger, a new one if the ledger did not know it.
pub(super) fn number(conn: &Connection, name: &str) -> Step<i64> {
    if let Some(id) = find(conn, name)? {
        return Ok(id);
    }
    conn.prepare_cached("INSERT INTO triggers(name) VALUES(?1)")?.execute([name])?;
    Ok(conn.last_insert_rowid())
}

/// The trigger `to` is what `from` was: all that is known of `from` is known of it from now on,
/// what lives included. Of what `to` had itself, only what was started by hand is kept.
pub(super) fn rename(conn: &Connection, from: &str, to: &str) -> Step<()> {
    if let Some(old) = find(conn, from)? {
        if let Some(own) = find(conn, to)? {
            conn.execute(
                "INSERT OR REPLACE INTO ledger \
                 (trigger, dir, name, file, size, mtime_ns, open, run, state, location, at, place) \
                 SELECT ?1, dir, name, file, size, mtime_ns, open, run, state, location, at, place \
                 FROM ledger WHERE trigger = ?2 AND run IS NOT NULL",
                [old, own],
            )?;
            // Where its files lie is what the watch side has told of it, and tells once.
            conn.execute("DELETE FROM placed WHERE trigger = ?1", [old])?;
            conn.execute("UPDATE placed SET trigger = ?1 WHERE trigger = ?2", [old, own])?;
            leave(conn, to)?;
        }
        conn.execute("UPDATE triggers SET name = ?2 WHERE name = ?1", [from, to])?;
    }
    conn.execute(
        "DELETE FROM live WHERE kind IN ('pause', 'armed', 'time', 'left', 'bound') AND id = ?1",
        [to],
    )?;
    conn.execute("DELETE FROM live WHERE kind = 'left' AND id = ?1", [from])?;
    for (kind, seq, mut record) in live_records(conn)? {
        if !relabel(&mut record, from, to) {
            continue;
        }
        conn.execute(
            "UPDATE live SET record = ?3, id = CASE id WHEN ?4 THEN ?5 ELSE id END \
             WHERE kind = ?1 AND seq = ?2",
            params![kind, seq, json(&record)?, from, to],
        )?;
    }
    conn.execute("UPDATE runs SET trigger = ?2 WHERE trigger = ?1", [from, to])?;
    Ok(())
}

/// Gives what a stored record says of the trigger `from` to `to`. Returns whether it was of it.
fn relabel(record: &mut Record, from: &str, to: &str) -> bool {
    match record {
        Record::RunCreated(created) if created.trigger.as_deref() == Some(from) => {
            created.rename(&to.into());
        }
        Record::ItemQueued(queued) if queued.trigger.as_deref() == Some(from) => {
            queued.trigger = Some(to.into());
        }
        Record::TriggerPaused { trigger, .. }
        | Record::TriggerResumed { trigger, .. }
        | Record::TriggerArmed { trigger, .. }
        | Record::TimeMarked { trigger, .. }
        | Record::TriggerBound { trigger, .. }
            if &**trigger == from =>
        {
            *trigger = to.into();
        }
        _ => return false,
    }
    true
}

/// All that is known of a trigger is no longer known.
pub(super) fn forget(conn: &Connection, name: &str) -> Step<()> {
    leave(conn, name)?;
    conn.execute(
        "DELETE FROM live WHERE kind IN ('pause', 'armed', 'time', 'left', 'bound') AND id = ?1",
        [name],
    )?;
    Ok(())
}

/// The rows under a name are nobody's from now on.
fn leave(conn: &Connection, name: &str) -> Step<()> {
    conn.execute("INSERT INTO orphans(id) SELECT id FROM triggers WHERE name = ?1", [name])?;
    conn.execute(
        "DELETE FROM placed WHERE trigger = (SELECT id FROM triggers WHERE name = ?1)",
        [name],
    )?;
    conn.execute("DELETE FROM triggers WHERE name = ?1", [name])?;
    Ok(())
}

/// Removes some rows that are nobody's, `most` at most. Returns whether there are more.
pub(super) fn purge(conn: &Connection, most: usize) -> Step<bool> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut query = conn.prepare_cached("SELECT id FROM orphans LIMIT 1")?;
    let Some(id) = query.query_row([], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(false);
    };
    let mut removed = 0;
    for sql in [
        "DELETE FROM ledger WHERE trigger = ?1 AND (dir, name) IN \
         (SELECT dir, name FROM ledger WHERE trigger = ?1 LIMIT ?2)",
        "DELETE FROM keys WHERE trigger = ?1 AND key IN \
         (SELECT key FROM keys WHERE trigger = ?1 LIMIT ?2)",
    ] {
        removed += conn.prepare_cached(sql)?.execute([id, most])?;
    }
    if removed == 0 {
        conn.execute("DELETE FROM orphans WHERE id = ?1", [id])?;
    }
    Ok(true)
}
