//! The write-ahead log as a file: syncing it, and telling how far it has grown.
//!
//! Uses its own descriptor. That is safe for this file alone: SQLite holds no locks on it, while
//! closing a foreign descriptor of the database or of the shared index would drop the locks that
//! SQLite holds there. Never writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes before the first frame.
const HEADER: u64 = 32;
/// Bytes before the page of a frame.
const FRAME_HEADER: u64 = 24;

/// The write-ahead log of a database that is open in this process.
#[derive(Debug)]
pub(super) struct WalFile {
    file: File,
}

impl WalFile {
    /// The log's path for the database at `path`.
    pub(super) fn path(database: &Path) -> PathBuf {
        let mut name = database.as_os_str().to_owned();
        name.push("-wal");
        name.into()
    }

    /// Opens the log of the database at `path`. It exists from the first read or write on until the
    /// last connection closes.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(Self::path(database))? })
    }

    /// Waits until all that was written is on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether frame number `frame` (from 1) belongs to what the log holds now. When all has been
    /// copied to the database, the log starts over: older frames behind the new ones carry another
    /// salt. A wrong answer costs a checkpoint too many or too late, no more.
    pub(super) fn reaches(&self, frame: u64) -> bool {
        let mut header = [0; 24];
        let mut salts = [0; 8];
        if self.file.read_exact_at(&mut header, 0).is_err() {
            return false;
        }
        let page = u64::from(be32(&header[8..12]));
        let at = HEADER + frame.saturating_sub(1).saturating_mul(page + FRAME_HEADER) + 8;
        self.file.read_exact_at(&mut salts, at).is_ok() && salts == header[16..24]
    }

    /// What tells one filling of the log from the next.
    pub(super) fn generation(&self) -> [u8; 8] {
        let mut salts = [0; 8];
        match self.file.read_exact_at(&mut salts, 16) {
            Ok(()) => salts,
            Err(_) => [0; 8],
        }
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, &byte| (sum << 8) | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::WalFile;

    #[test]
    fn counts_frames_of_the_present_filling_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(())).unwrap();
        conn.execute_batch("CREATE TABLE t(x)").unwrap();
        let wal = WalFile::open(&path).unwrap();
        let frames = |conn: &Connection| -> (i64, i64) {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?));
            conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], row).unwrap()
        };
        for _ in 0..20 {
            conn.execute("INSERT INTO t VALUES(zeroblob(5000))", []).unwrap();
        }
        let first = wal.generation();
        let (log, copied) = frames(&conn);
        assert_eq!(log, copied);
        let log = log.cast_unsigned();
        assert!(wal.reaches(1) && wal.reaches(log) && !wal.reaches(log + 1));
        conn.execute("INSERT INTO t VALUES(1)", []).unwrap();
        assert_ne!(wal.generation(), first, "the log has started over");
        assert!(wal.reaches(1) && !wal.reaches(log), "old frames do not count");
    }
}
