//! How the database is, for whoever asks. Reads it as a whole, which takes about a second for each
//! 500 MiB; never writes.

use super::error::StoreError;
use super::reader::Reader;
use super::wal::WalFile;
use crate::core::id::Wall;

/// Faults that are told, at most.
const FAULTS_MAX: u32 = 5;

/// How the database is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What contradicts itself in it; empty if nothing does.
    pub faults: Vec<String>,
    /// Bytes of the database.
    pub size: u64,
    /// Bytes of the log in front of it.
    pub log: u64,
    /// When the run that ended last did, by the clock of then.
    pub newest_end: Option<Wall>,
}

impl Reader {
    /// Checks the whole database.
    ///
    /// # Errors
    /// As all reading; what is found wrong is no error.
    pub fn health(&mut self) -> Result<Health, StoreError> {
        let size = |path: &std::path::Path| path.metadata().map_or(0, |meta| meta.len());
        let (database, log) = (size(&self.path), size(&WalFile::path(&self.path)));
        self.read(|conn| {
            let mut check = conn.prepare(&format!("PRAGMA quick_check({FAULTS_MAX})"))?;
            let lines = check.query_map([], |row| row.get::<_, String>(0))?;
            let mut faults = lines.collect::<Result<Vec<_>, _>>()?;
            faults.retain(|line| line != "ok");
            let newest = "SELECT max(ended_ns) FROM runs";
            let newest_end: Option<i64> = conn.query_row(newest, [], |row| row.get(0))?;
            Ok(Health { faults, size: database, log, newest_end: newest_end.map(Wall) })
        })
    }
}
