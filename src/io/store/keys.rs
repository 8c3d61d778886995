//! Keys under which something was delivered: no other file is delivered with the same one.
//!
//! Kept for as long as their trigger is known, whatever becomes of the files and of the history.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Step;
use super::triggers;
use super::value::{PathCell, int, uint};
use crate::core::id::RunId;
use crate::core::path::Bytes;
use crate::core::record::RunCreated;
use crate::wire::time;

/// A run has claimed its files: their keys are taken.
pub(super) fn claimed(conn: &Connection, created: &RunCreated) -> Step<()> {
    let Some(trigger) = &created.trigger else { return Ok(()) };
    let keyed = || created.files.iter().filter_map(|file| Some((file, file.key.as_ref()?)));
    if keyed().next().is_none() {
        return Ok(());
    }
    let trigger = triggers::number(conn, trigger)?;
    if let Some(parent) = created.parent {
        // What was the same as the file of the run that this one repeats is the same as its file.
        conn.prepare_cached(
            "UPDATE ledger SET run = ?3 WHERE trigger = ?1 AND state = 'duplicate' AND run = ?2",
        )?
        .execute(params![trigger, int(parent.0), int(created.run.0)])?;
    }
    let mut insert = conn.prepare_cached(
        "INSERT OR REPLACE INTO keys(trigger, key, run, rel, at) VALUES(?1, ?2, ?3, ?4, ?5)",
    )?;
    for (file, key) in keyed() {
        insert.execute(params![
            trigger,
            PathCell(key.as_bytes()),
            int(created.run.0),
            PathCell(file.rel.as_bytes()),
            time(created.at)
        ])?;
    }
    Ok(())
}

/// The run has not had the key after all.
pub(super) fn freed(conn: &Connection, trigger: i64, key: &Bytes, run: i64) -> Step<()> {
    conn.prepare_cached("DELETE FROM keys WHERE trigger = ?1 AND key = ?2 AND run = ?3")?
        .execute(params![trigger, PathCell(key.as_bytes()), run])?;
    Ok(())
}

/// The run that something was delivered to under a key.
pub(super) fn holder(conn: &Connection, trigger: &str, key: &Bytes) -> Step<Option<RunId>> {
    let mut query = conn.prepare_cached(
        "SELECT run FROM keys \
         WHERE trigger = (SELECT id FROM triggers WHERE name = ?1) AND key = ?2",
    )?;
    let found = query.query_row(params![trigger, PathCell(key.as_bytes())], |row| row.get(0));
    Ok(found.optional()?.map(|run| RunId(uint(run))))
}
