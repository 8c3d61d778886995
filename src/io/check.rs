//! Checks of files: reads their content, and asks the ledger for their keys.
//!
//! Owns a thread `dagd-check` per trigger that has something to check, started at its first
//! question. One for each, so that a folder that hangs stops only its own trigger. Within a thread
//! the files take turns by slices, so that a small one does not wait until a large one is read.
//! Holds a file open while it reads it, takes no lease, and decides nothing: what an answer means
//! is decided in the core.

mod hash;
mod job;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use self::job::{BUFFER, Done, Job, Known, Step};
use crate::core::check::{Check, Checked, Finding};
use crate::core::id::{Name, RunId, Seq};
use crate::core::path::Bytes;

/// Questions that wait in a thread, at most. The core asks few at once; more pile up only behind a
/// folder that hangs, and are answered at once with "unreadable".
const QUEUE_MAX: usize = 256;

/// Contents that are remembered, per trigger: a checksum file that comes or changes costs no second
/// reading. Of older ones the content is read anew.
const KNOWN_MAX: usize = 1024;

/// How long closing waits for threads: each ends within a buffer, but where the kernel hangs.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Who knows the keys under which something was delivered.
pub trait Keys: Send {
    /// The run that something was delivered to under a key of a trigger; at least as new as any
    /// commit before the call.
    fn holder(&mut self, trigger: &str, key: &Bytes) -> Option<RunId>;
}

/// Makes a [`Keys`] for a thread.
pub type MakeKeys = Arc<dyn Fn() -> Box<dyn Keys> + Send + Sync>;

/// Takes questions, and has them answered in threads.
pub struct Checker {
    out: Sender<Checked>,
    committed: Arc<AtomicU64>,
    keys: MakeKeys,
    threads: BTreeMap<Name, Thread>,
    /// Is dropped with the last thread.
    alive: Sender<()>,
    ended: Receiver<()>,
}

/// The end of a thread that asks.
struct Thread {
    questions: Sender<Check>,
    /// Questions up to this number need no answer any more.
    void: Arc<AtomicU64>,
    /// The number of the last question.
    last: u64,
}

impl Checker {
    /// Answers go to `out`. `committed` is the number of the newest commit. No thread yet.
    pub fn new(out: Sender<Checked>, committed: Arc<AtomicU64>, keys: MakeKeys) -> Self {
        let (alive, ended) = crossbeam_channel::bounded(0);
        Self { out, committed, keys, threads: BTreeMap::new(), alive, ended }
    }

    /// Takes a question. Never waits. Each gets one answer, unless it is taken back; here, where
    /// there is nobody to ask.
    pub fn ask(&mut self, check: Check) -> Option<Checked> {
        if !self.threads.contains_key(&check.trigger) {
            match self.spawn() {
                Ok(thread) => drop(self.threads.insert(check.trigger.clone(), thread)),
                Err(error) => {
                    tracing::warn!(trigger = &*check.trigger, %error, "no thread for checks");
                    return Some(refused(check));
                }
            }
        }
        let thread = self.threads.get_mut(&check.trigger)?;
        thread.last = check.number;
        thread.questions.try_send(check).err().map(|unsent| refused(unsent.into_inner()))
    }

    /// Takes back all questions about a trigger that were asked so far. What is being read is left
    /// within a buffer.
    pub fn forget(&mut self, trigger: &str) {
        if let Some(thread) = self.threads.get(trigger) {
            thread.void.store(thread.last, Ordering::Release);
        }
    }

    /// Ends the threads of triggers that are not wanted any more.
    pub fn keep(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.threads.retain(|name, thread| {
            let keep = wanted(name);
            if !keep {
                thread.void.store(u64::MAX, Ordering::Release);
            }
            keep
        });
    }

    /// Ends all threads, and waits until they have closed what they had open.
    pub fn close(mut self) {
        self.keep(|_| false);
        let Self { alive, ended, .. } = self;
        drop(alive);
        if ended.recv_timeout(CLOSE_MAX) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!("a file that was being checked does not answer");
        }
    }

    fn spawn(&self) -> std::io::Result<Thread> {
        let (questions, asked) = crossbeam_channel::bounded(QUEUE_MAX);
        let void = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            asked,
            out: self.out.clone(),
            committed: self.committed.clone(),
            make_keys: self.keys.clone(),
            keys: None,
            void: void.clone(),
            known: BTreeMap::new(),
            order: VecDeque::new(),
        };
        let alive = self.alive.clone();
        let work = move || {
            reader.run();
            drop(alive);
        };
        Builder::new().name("dagd-check".to_owned()).spawn(work)?;
        Ok(Thread { questions, void, last: 0 })
    }
}

/// The answer when there is nobody to ask: the core looks again later.
fn refused(check: Check) -> Checked {
    let Check { number, trigger, .. } = check;
    Checked { number, trigger, seq: Seq(0), finding: Finding::Unreadable }
}

/// The end of a thread that answers.
struct Reader {
    asked: Receiver<Check>,
    out: Sender<Checked>,
    committed: Arc<AtomicU64>,
    make_keys: MakeKeys,
    keys: Option<Box<dyn Keys>>,
    void: Arc<AtomicU64>,
    known: BTreeMap<Bytes, Known>,
    order: VecDeque<Bytes>,
}

/// Nobody asks or listens any more.
struct Ended;

impl Reader {
    fn run(mut self) {
        let mut jobs: VecDeque<Box<Job>> = VecDeque::new();
        let mut buffer = Vec::new();
        while self.turn(&mut jobs, &mut buffer).is_ok() {}
    }

    /// Takes what was asked, then reads a slice of the file whose turn it is.
    fn turn(&mut self, jobs: &mut VecDeque<Box<Job>>, buffer: &mut Vec<u8>) -> Result<(), Ended> {
        if jobs.is_empty() {
            let check = self.asked.recv().map_err(|_| Ended)?;
            self.begin(check, jobs)?;
        }
        while let Ok(check) = self.asked.try_recv() {
            self.begin(check, jobs)?;
        }
        let Some(job) = jobs.pop_front() else { return Ok(()) };
        buffer.resize(BUFFER, 0);
        let rel = job.check.rel.clone();
        let void = self.void.clone();
        let stopped = |check: &Check| check.number <= void.load(Ordering::Acquire);
        let (step, known) = job.read_on(buffer, stopped);
        self.remember(rel, known);
        match step {
            Some(step) => self.follow(step, jobs),
            None => Ok(()),
        }
    }

    fn begin(&mut self, check: Check, jobs: &mut VecDeque<Box<Job>>) -> Result<(), Ended> {
        if check.number <= self.void.load(Ordering::Acquire) {
            return Ok(());
        }
        let known = self.known.get(&check.rel).cloned();
        let (step, _) = Job::begin(check, known);
        self.follow(step, jobs)
    }

    fn follow(&mut self, step: Step, jobs: &mut VecDeque<Box<Job>>) -> Result<(), Ended> {
        match step {
            Step::More(job) => {
                jobs.push_back(job);
                Ok(())
            }
            Step::Done(done) => self.answer(done),
        }
    }

    /// Answers, having asked the ledger for the key last: so the answer is as new as can be.
    fn answer(&mut self, done: Done) -> Result<(), Ended> {
        let Done { number, trigger, found } = done;
        let seq = Seq(self.committed.load(Ordering::Acquire));
        let finding = match found {
            Err(finding) => finding,
            Ok(None) => Finding::Good { key: None, delivered: None },
            Ok(Some(key)) => {
                let keys = self.keys.get_or_insert_with(|| (self.make_keys)());
                let delivered = keys.holder(&trigger, &key);
                Finding::Good { key: Some(key), delivered }
            }
        };
        self.out.send(Checked { number, trigger, seq, finding }).map_err(|_| Ended)
    }

    fn remember(&mut self, rel: Bytes, known: Option<Known>) {
        let Some(known) = known else { return };
        if self.known.insert(rel.clone(), known).is_none() {
            self.order.push_back(rel);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
