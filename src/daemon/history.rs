//! The store's reader as the history of the control API, as the ledger of the watch thread, and as
//! the keys of who checks files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::warn;

use super::view;
use crate::core::candidate::Row;
use crate::core::graph::Graph;
use crate::core::id::{Name, RunId};
use crate::core::path::Bytes;
use crate::io::check::Keys;
use crate::io::control::{History, RetrySource, RunFilter, Told};
use crate::io::store::{Reader, StoreError};
use crate::io::watch::Ledger;
use crate::wire;

/// Pause between tries to read the ledger.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens the history under `state_dir`, read-only.
pub fn history(state_dir: &Path) -> Result<Box<dyn History + Send>, String> {
    let reader = Reader::open(state_dir, view::live).map_err(text)?;
    Ok(Box::new(reader))
}

fn text(error: impl Into<StoreError>) -> String {
    error.into().to_string()
}

impl History for Reader {
    fn runs(&mut self, filter: &RunFilter) -> Result<Vec<wire::Run>, String> {
        let RunFilter { limit, trigger, state } = filter.clone();
        let filter = crate::io::store::RunFilter { limit, trigger, state };
        Self::runs(self, &filter).map_err(text)
    }

    fn run(&mut self, id: RunId) -> Result<Option<wire::RunDetail>, String> {
        Self::run(self, id).map_err(text)
    }

    fn explain_row(&mut self, trigger: &str, rel: &Bytes) -> Result<Option<Told>, String> {
        let story = self.ledger_story(trigger, rel).map_err(text)?;
        Ok(story.map(|story| {
            let quarantined = story.state == "quarantined";
            Told {
                version: story.row.version,
                open: story.row.open,
                run: story.row.run,
                state: if quarantined { "failed".to_owned() } else { story.state },
                quarantined: quarantined && story.row.open,
                location: story.location,
                outcome: story.outcome,
            }
        }))
    }

    fn quarantined(&mut self) -> Result<Vec<(Name, u64)>, String> {
        Self::quarantined(self).map_err(text)
    }

    fn located(&mut self, path: &Bytes) -> Result<Vec<(Name, Bytes)>, String> {
        let found = self.find_located(path).map_err(text)?;
        Ok(found.into_iter().map(|located| (located.trigger, located.rel)).collect())
    }

    fn retry_source(&mut self, id: RunId) -> Result<Option<RetrySource>, String> {
        let Some(source) = Self::retry_source(self, id).map_err(text)? else { return Ok(None) };
        let stored = self.graph(&source.rev).map_err(text)?;
        let graph = stored.and_then(|stored| Graph::restore(source.rev.clone(), stored).ok());
        let tasks = source.tasks.into_iter();
        Ok(Some(RetrySource {
            trigger: source.trigger,
            select: source.select,
            rev: source.rev,
            graph: graph.map(Arc::new),
            state: source.state.word().to_owned(),
            signal: source.signal,
            scheduled: source.scheduled,
            files: source
                .files
                .into_iter()
                .map(|file| (file.claim, Some(file.location).filter(|_| !file.deleted)))
                .collect(),
            tasks: tasks.map(|t| (t.name, t.state.word().to_owned(), t.outputs)).collect(),
        }))
    }
}

/// The ledger for a watch thread, which must never take a failed read for a file that was never
/// delivered: it waits until the ledger can be read.
#[derive(Debug)]
pub struct PatientLedger {
    state_dir: PathBuf,
    /// Opened when it is read first.
    reader: Option<Reader>,
    closing: Arc<AtomicBool>,
}

impl PatientLedger {
    /// Waits until `closing` at the longest.
    pub fn new(state_dir: PathBuf, closing: Arc<AtomicBool>) -> Self {
        Self { state_dir, reader: None, closing }
    }

    /// Reads until it succeeds. When dagd is closing nobody looks at the answer any more.
    fn read<T: Default>(&mut self, read: impl Fn(&mut Reader) -> Result<T, StoreError>) -> T {
        loop {
            match self.reader().and_then(&read) {
                Ok(found) => return found,
                Err(_) if self.closing.load(Ordering::Acquire) => return T::default(),
                Err(error) => {
                    warn!("the ledger cannot be read, files wait: {error}");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn reader(&mut self) -> Result<&mut Reader, StoreError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::open(&self.state_dir, view::live)?,
        };
        Ok(self.reader.insert(reader))
    }
}

impl Keys for PatientLedger {
    fn holder(&mut self, trigger: &str, key: &Bytes) -> Option<RunId> {
        self.read(|reader| reader.key_holder(trigger, key))
    }
}

impl Ledger for PatientLedger {
    fn another(&self) -> Box<dyn Ledger> {
        Box::new(Self::new(self.state_dir.clone(), self.closing.clone()))
    }

    fn row(&mut self, trigger: &str, rel: &Bytes) -> Option<Row> {
        self.read(|reader| reader.ledger_row(trigger, rel))
    }

    fn open_rows(
        &mut self,
        trigger: &str,
        dir: &[u8],
        place: &str,
        after: &[u8],
        limit: usize,
    ) -> Vec<(Bytes, Row)> {
        self.read(|reader| reader.open_rows(trigger, dir, place, after, limit))
    }

    fn is_of(&mut self, trigger: &str, rel: &Bytes, place: &str) -> bool {
        self.read(|reader| reader.is_of(trigger, rel, place))
    }

    fn dirs(&mut self, trigger: &str, after: &[u8], limit: usize) -> Vec<Bytes> {
        self.read(|reader| reader.dirs(trigger, after, limit))
    }
}
