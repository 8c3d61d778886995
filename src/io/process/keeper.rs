//! The thread that looks after attempts that take long: it bounds their logs, gives a log its name
//! while it grows so that it can be followed and survives a crash, and reaps dead orphans.
//!
//! A slot sleeps until its process ends, and must: a task costs no wake-ups. So one thread does it
//! for all slots. It looks once per [`LOOK`] as long as an attempt is running and sleeps without a
//! limit otherwise: an idle dagd has no periodic wake-up. Between two looks a log may grow above its
//! bound by what its disk takes in that time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::orphans::Orphans;
use super::output::Log;
use super::table::Table;

/// The time between two looks, and how long an attempt runs before it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Wakes the keeper, and hands out the logs that it looks after.
#[derive(Clone, Debug)]
pub struct Keeper {
    wake: Sender<()>,
    logs: Arc<Logs>,
}

#[derive(Debug, Default)]
struct Logs {
    // lock: slots come while the keeper goes through the list; held for a copy of the list only.
    all: Mutex<Vec<Weak<Log>>>,
}

impl Keeper {
    /// Starts the thread. It ends when all keepers are dropped.
    pub fn start(table: Arc<Table>) -> std::io::Result<Self> {
        let (wake, woken) = bounded(1);
        let logs = Arc::new(Logs::default());
        let orphans = Orphans::open()?;
        let shared = Arc::clone(&logs);
        thread::Builder::new()
            .name("dagd-keeper".into())
            .stack_size(super::slots::STACK)
            .spawn(move || keep(&woken, &shared, &orphans, &table))?;
        Ok(Self { wake, logs })
    }

    /// A log for one more slot, looked after until it is dropped.
    pub fn add(&self) -> Arc<Log> {
        let log = Arc::new(Log::default());
        let mut all = self.logs.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|log| log.strong_count() > 0);
        all.push(Arc::downgrade(&log));
        log
    }

    /// Where the attempt whose log will be `target` writes its output now, if it is in flight.
    pub fn find(&self, target: &Path) -> Option<PathBuf> {
        self.logs.current().iter().find_map(|log| log.now(target))
    }

    /// An attempt has begun. Cheap: the keeper is woken only if it sleeps without a limit.
    pub fn wake(&self) {
        // A full channel holds a wake-up already.
        self.wake.try_send(()).ok();
    }
}

impl Logs {
    fn current(&self) -> Vec<Arc<Log>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

fn keep(woken: &Receiver<()>, logs: &Logs, orphans: &Orphans, table: &Table) {
    while woken.recv().is_ok() {
        loop {
            thread::sleep(LOOK);
            orphans.reap(table);
            let running = logs.current().iter().filter(|log| log.tend(LOOK)).count();
            if running == 0 {
                break;
            }
        }
    }
}
