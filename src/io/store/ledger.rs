//! The ledger: which version of which file was delivered, and where the file is now.
//!
//! One row per trigger and path. A run changes a row only as long as the row is about that run: a
//! newer delivery of the same path is left alone by the end of an older one.

use rusqlite::{Connection, Row as SqlRow, params};

use super::error::{Fault, Step};
use super::value::{PathCell, StoredPath, int, uint};
use super::{keys, triggers};
use crate::core::candidate::{Kind, Row, Version};
use crate::core::disposition::{MoveResult, Phase};
use crate::core::id::{Name, RunId, Wall};
use crate::core::ledger::{Noted, Placed};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, RunCreated, RunState};
use crate::wire::time;

const UPSERT: &str = "\
    INSERT INTO ledger(trigger, dir, name, file, size, mtime_ns, open, run, state, location, at, \
    place) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10, ?11) \
    ON CONFLICT(trigger, dir, name) DO UPDATE SET \
    file = excluded.file, size = excluded.size, mtime_ns = excluded.mtime_ns, \
    open = excluded.open, run = excluded.run, state = excluded.state, location = NULL, \
    at = excluded.at, place = excluded.place";

/// Where a trigger's files lie from now on.
pub(super) fn placed(conn: &Connection, trigger: &Name, places: &[Placed]) -> Step<()> {
    let trigger = triggers::number(conn, trigger)?;
    conn.prepare_cached("DELETE FROM placed WHERE trigger = ?1")?.execute([trigger])?;
    for Placed { dir, what } in places {
        conn.prepare_cached("INSERT OR IGNORE INTO places(what) VALUES(?1)")?.execute([what])?;
        conn.prepare_cached(
            "INSERT OR REPLACE INTO placed(trigger, dir, place) \
             SELECT ?1, ?2, id FROM places WHERE what = ?3",
        )?
        .execute(params![trigger, PathCell(dir.as_bytes()), what])?;
    }
    Ok(())
}

/// The file system on which a file lies: that of the folder over it which is nearest.
fn place(conn: &Connection, trigger: i64, rel: &Bytes) -> Step<Option<i64>> {
    let mut query = conn.prepare_cached("SELECT dir, place FROM placed WHERE trigger = ?1")?;
    let rows =
        query.query_map([trigger], |sql| Ok((sql.get::<_, StoredPath>(0)?.0, sql.get(1)?)))?;
    let mut nearest: Option<(usize, i64)> = None;
    for row in rows {
        let (dir, place) = row?;
        let dir = dir.as_bytes();
        let over = dir.is_empty()
            || rel.as_bytes().strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'));
        if over && nearest.is_none_or(|(length, _)| length <= dir.len()) {
            nearest = Some((dir.len(), place));
        }
    }
    Ok(nearest.map(|(_, place)| place))
}

/// A run claims a file. In its place, it becomes the delivered version; a deleted one is not there,
/// so its row is closed. Elsewhere (a repeated run finds it where an earlier one moved it), only
/// the row that knows it there is told of the run.
pub(super) fn claimed(conn: &Connection, created: &RunCreated, file: &FileClaim) -> Step<()> {
    let Some(trigger) = &created.trigger else { return Ok(()) };
    let trigger = triggers::number(conn, trigger)?;
    let (dir, name) = (PathCell(file.rel.dir()), PathCell(file.rel.name()));
    let (run, at) = (int(created.run.0), time(created.at));
    if file.in_place {
        let version = &file.version;
        conn.prepare_cached(UPSERT)?.execute(params![
            trigger,
            dir,
            name,
            version.file.as_bytes(),
            int(version.size),
            version.mtime_ns,
            file.kind != Kind::Deleted,
            run,
            "running",
            at,
            place(conn, trigger, &file.rel)?
        ])?;
    } else {
        conn.prepare_cached(
            "UPDATE ledger SET run = ?4, state = 'running', at = ?5 \
             WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND open = 0 AND location = ?6",
        )?
        .execute(params![trigger, dir, name, run, at, PathCell(file.path.as_bytes())])?;
    }
    Ok(())
}

/// A file of a run was disposed of, or could not be.
pub(super) fn moved(
    conn: &Connection,
    created: &RunCreated,
    (ix, phase): (u32, Phase),
    result: &MoveResult,
    at: Wall,
) -> Step<()> {
    let file = created.files.get(ix as usize).ok_or_else(|| {
        Fault::Contradiction(format!("run {} has no file number {ix}", created.run))
    })?;
    let Some(trigger) = &created.trigger else { return Ok(()) };
    let trigger = triggers::find(conn, trigger)?;
    let (dir, name) = (PathCell(file.rel.dir()), PathCell(file.rel.name()));
    let (run, at) = (int(created.run.0), time(at));
    let here = file.in_place && !created.disposition.takes(file);
    if let (Phase::Before, true, Some(key), Some(trigger)) =
        (phase, result.is_lost(), &file.key, trigger)
    {
        undelivered(conn, trigger, key, run)?;
    }
    match result {
        MoveResult::Moved { to, .. } => conn
            .prepare_cached(
                "UPDATE ledger SET open = 0, location = ?6, at = ?5 \
                 WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4",
            )?
            .execute(params![trigger, dir, name, run, at, PathCell(to.as_bytes())])?,
        // Its file system may be away, and not it: whoever looks at the path tells.
        MoveResult::Gone if phase == Phase::After && here => conn
            .prepare_cached(
                "UPDATE ledger SET location = NULL, at = ?5 \
                 WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4",
            )?
            .execute(params![trigger, dir, name, run, at])?,
        MoveResult::Gone | MoveResult::Deleted => conn
            .prepare_cached(
                "UPDATE ledger SET open = 0, location = NULL, at = ?5 \
                 WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4",
            )?
            .execute(params![trigger, dir, name, run, at])?,
        // Nothing was delivered, so nothing is remembered: if the file is work because it is new,
        // so is what is there now, and if it is because it has changed, the same holds.
        MoveResult::Superseded if phase == Phase::Before => conn
            .prepare_cached(
                "UPDATE ledger SET open = ?6, file = x'', size = 0, mtime_ns = 0, at = ?5 \
                 WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4",
            )?
            .execute(params![trigger, dir, name, run, at, file.kind == Kind::Modified])?,
        // The path holds another version than the one remembered, which makes that one new.
        MoveResult::Superseded if here => conn
            .prepare_cached(
                "UPDATE ledger SET open = 1, at = ?5 \
                 WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4",
            )?
            .execute(params![trigger, dir, name, run, at])?,
        MoveResult::Superseded | MoveResult::Kept | MoveResult::Failed(_) => 0,
    };
    Ok(())
}

/// Nothing was delivered with the key after all: it is free, and nothing is known any more of what
/// was left out because of it.
fn undelivered(conn: &Connection, trigger: i64, key: &Bytes, run: i64) -> Step<()> {
    keys::freed(conn, trigger, key, run)?;
    conn.prepare_cached(
        "DELETE FROM ledger WHERE trigger = ?1 AND run = ?2 AND state = 'duplicate'",
    )?
    .execute(params![trigger, run])?;
    Ok(())
}

/// A run ended: its files' rows say how. What has failed and stays at its path is in quarantine:
/// nothing but a new version or a person has it run again.
pub(super) fn ended(
    conn: &Connection,
    created: &RunCreated,
    state: RunState,
    at: Wall,
) -> Step<()> {
    let Some(trigger) = &created.trigger else { return Ok(()) };
    let trigger = triggers::find(conn, trigger)?;
    let at = time(at);
    for file in &created.files {
        conn.prepare_cached(
            "UPDATE ledger SET at = ?6, \
             state = CASE WHEN ?5 = 'failed' AND open = 1 THEN 'quarantined' ELSE ?5 END \
             WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4",
        )?
        .execute(params![
            trigger,
            PathCell(file.rel.dir()),
            PathCell(file.rel.name()),
            int(created.run.0),
            state.word(),
            at
        ])?;
    }
    Ok(())
}

/// A version is remembered without a run of its own.
pub(super) fn noted(
    conn: &Connection,
    (trigger, rel): (&Name, &Bytes),
    version: &Version,
    why: Noted,
    at: Wall,
) -> Step<()> {
    let trigger = triggers::number(conn, trigger)?;
    let run = match why {
        Noted::Duplicate(run) => Some(int(run.0)),
        Noted::Baseline | Noted::Kinds | Noted::Skipped | Noted::Signalled => None,
    };
    conn.prepare_cached(UPSERT)?.execute(params![
        trigger,
        PathCell(rel.dir()),
        PathCell(rel.name()),
        version.file.as_bytes(),
        int(version.size),
        version.mtime_ns,
        true,
        run,
        why.word(),
        time(at),
        place(conn, trigger, rel)?
    ])?;
    Ok(())
}

/// The time of the delivered version was set back.
pub(super) fn stamped(
    conn: &Connection,
    (trigger, rel): (&Name, &Bytes),
    version: &Version,
    at: Wall,
) -> Step<()> {
    let trigger = triggers::find(conn, trigger)?;
    conn.prepare_cached(
        "UPDATE ledger SET mtime_ns = ?6, at = ?7 \
         WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND open = 1 AND file = ?4 AND size = ?5",
    )?
    .execute(params![
        trigger,
        PathCell(rel.dir()),
        PathCell(rel.name()),
        version.file.as_bytes(),
        int(version.size),
        version.mtime_ns,
        time(at)
    ])?;
    Ok(())
}

/// The delivered version has left its path. A row whose run can still be looked up tells its story
/// and is closed; any other has nothing left to tell and goes, so that the ledger stays bounded.
pub(super) fn departed(conn: &Connection, trigger: &Name, rel: &Bytes, at: Wall) -> Step<()> {
    let trigger = triggers::find(conn, trigger)?;
    let (dir, name) = (PathCell(rel.dir()), PathCell(rel.name()));
    let closed = conn
        .prepare_cached(
            "UPDATE ledger SET open = 0, at = ?4 \
             WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run IS NOT NULL \
             AND state <> 'duplicate' \
             AND (EXISTS(SELECT 1 FROM runs WHERE id = ledger.run) \
               OR EXISTS(SELECT 1 FROM live WHERE kind = 'run' AND id = ledger.run))",
        )?
        .execute(params![trigger, dir, name, time(at)])?;
    if closed == 0 {
        conn.prepare_cached("DELETE FROM ledger WHERE trigger = ?1 AND dir = ?2 AND name = ?3")?
            .execute(params![trigger, dir, name])?;
    }
    Ok(())
}

/// The history of `run` goes: so does what only told of it.
pub(super) fn forget(conn: &Connection, trigger: &str, rel: &Bytes, run: RunId) -> Step<()> {
    let trigger = triggers::find(conn, trigger)?;
    conn.prepare_cached(
        "DELETE FROM ledger \
         WHERE trigger = ?1 AND dir = ?2 AND name = ?3 AND run = ?4 AND open = 0",
    )?
    .execute(params![trigger, PathCell(rel.dir()), PathCell(rel.name()), int(run.0)])?;
    Ok(())
}

/// Reads `file, size, mtime_ns, open, run` from the columns at `from`.
pub(super) fn row(sql: &SqlRow<'_>, from: usize) -> rusqlite::Result<Row> {
    Ok(Row {
        version: Version {
            file: sql.get::<_, StoredPath>(from)?.0,
            size: uint(sql.get(from + 1)?),
            mtime_ns: sql.get(from + 2)?,
        },
        open: sql.get(from + 3)?,
        run: sql.get::<_, Option<i64>>(from + 4)?.map(|run| RunId(uint(run))),
    })
}
