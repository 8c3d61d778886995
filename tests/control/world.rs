//! A control server over a real socket, with an engine and a history that answer from tables.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dagd::core::candidate::Kind;
use dagd::core::effect::Reply;
use dagd::core::event::Request;
use dagd::core::filter::Filter;
use dagd::core::id::{ItemId, Name, RunId};
use dagd::core::path::Bytes;
use dagd::core::record::RunState;
use dagd::core::selector::Selector;
use dagd::core::trigger::{
    FanOut, Folder, FolderSpec, InitialScan, Overlap, ReadLock, Source, TriggerSpec,
};
use dagd::io::client::Client;
use dagd::io::control::{
    ASKS_MAX, Ask, History, RetrySource, RunFilter, Server, Socket, Sources, Told, spawn,
};
use dagd::wire;
use tempfile::TempDir;

/// What the history knows.
#[derive(Default)]
pub(crate) struct Past {
    pub(crate) details: BTreeMap<u64, wire::RunDetail>,
    pub(crate) told: BTreeMap<(String, Bytes), Told>,
    pub(crate) located: BTreeMap<Bytes, Vec<(Name, Bytes)>>,
    pub(crate) retries: BTreeMap<u64, RetrySource>,
    pub(crate) quarantined: Vec<(Name, u64)>,
}

struct Reader(Arc<Mutex<Past>>); // lock: tests change the past while the server reads it

impl History for Reader {
    fn runs(&mut self, filter: &RunFilter) -> Result<Vec<wire::Run>, String> {
        let past = self.0.lock().unwrap();
        let runs = past.details.values().rev().map(|detail| detail.run.clone());
        let of_trigger = |run: &wire::Run| {
            filter.trigger.is_none() || run.trigger.as_ref() == filter.trigger.as_ref()
        };
        let in_state =
            |run: &wire::Run| filter.state.as_ref().is_none_or(|state| *state == run.state);
        Ok(runs.filter(|run| of_trigger(run) && in_state(run)).take(filter.limit).collect())
    }

    fn run(&mut self, id: RunId) -> Result<Option<wire::RunDetail>, String> {
        Ok(self.0.lock().unwrap().details.get(&id.0).cloned())
    }

    fn explain_row(&mut self, trigger: &str, rel: &Bytes) -> Result<Option<Told>, String> {
        Ok(self.0.lock().unwrap().told.get(&(trigger.to_owned(), rel.clone())).cloned())
    }

    fn located(&mut self, path: &Bytes) -> Result<Vec<(Name, Bytes)>, String> {
        Ok(self.0.lock().unwrap().located.get(path).cloned().unwrap_or_default())
    }

    fn quarantined(&mut self) -> Result<Vec<(Name, u64)>, String> {
        Ok(self.0.lock().unwrap().quarantined.clone())
    }

    fn retry_source(&mut self, id: RunId) -> Result<Option<RetrySource>, String> {
        Ok(self.0.lock().unwrap().retries.get(&id.0).cloned())
    }
}

/// What the engine answers, beside what is fixed.
#[derive(Default)]
pub(crate) struct Present {
    pub(crate) pending: Vec<wire::PendingEntry>,
    pub(crate) stuck: Vec<(usize, String)>,
    pub(crate) reply: Option<Reply>,
    /// Where attempts in flight write.
    pub(crate) live: BTreeMap<(u64, String, u32), PathBuf>,
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) past: Arc<Mutex<Past>>, // lock: shared with the server's readers
    pub(crate) present: Arc<Mutex<Present>>, // lock: shared with the engine's thread
    /// Requests that came to the engine.
    pub(crate) requests: Receiver<Request>,
    /// Each wait for run 50 that came to the engine.
    pub(crate) waits: Receiver<()>,
    /// Ends run 50, for which there may be waiting.
    pub(crate) end_run: Sender<RunState>,
    pub(crate) server: Option<(Server, JoinHandle<()>)>,
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in", "tree", "done"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let past: Arc<Mutex<Past>> = Arc::default(); // lock: see the field
        let present: Arc<Mutex<Present>> = Arc::default(); // lock: see the field
        let (asks, questions) = bounded(ASKS_MAX);
        let (heard, requests) = unbounded();
        let (wait, waits) = unbounded();
        let (end_run, ends) = bounded(1);
        let engine = Engine { present: Arc::clone(&present), heard, wait, ends };
        std::thread::spawn(move || engine.answer(&questions));
        let triggers = [
            folder_trigger("orders", &dir.path().join("in"), Folder::Drop, "*.csv"),
            folder_trigger("tree", &dir.path().join("tree"), Folder::Watch, "**/*"),
            signal_trigger("rotate"),
        ]
        .map(Arc::new);
        let reader = Arc::clone(&past);
        let sources = Sources {
            asks,
            state_dir: dir.path().to_owned(),
            triggers: Arc::new(move || triggers.to_vec()),
            reader: Arc::new(move || Ok(Box::new(Reader(Arc::clone(&reader))))),
            write_group: None,
        };
        let server = spawn(Socket::At(dir.path().join("dagd.sock")), sources).unwrap();
        Self { dir, past, present, requests, waits, end_run, server: Some(server) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("dagd.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket()).unwrap()
    }

    pub(crate) fn path(&self, rel: &str) -> Bytes {
        Bytes::from(self.dir.path().join(rel).as_path())
    }

    pub(crate) fn write(&self, rel: &str, content: &str) -> Bytes {
        std::fs::write(self.dir.path().join(rel), content).unwrap();
        self.path(rel)
    }

    /// The next request that came to the engine.
    pub(crate) fn heard(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn close(&mut self) {
        let (server, thread) = self.server.take().unwrap();
        server.close();
        thread.join().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.close();
        }
    }
}

struct Engine {
    present: Arc<Mutex<Present>>, // lock: see World
    heard: Sender<Request>,
    wait: Sender<()>,
    ends: Receiver<RunState>,
}

impl Engine {
    fn answer(&self, questions: &Receiver<Ask>) {
        let mut waiting = Vec::new();
        loop {
            crossbeam_channel::select! {
                recv(questions) -> ask => match ask {
                    Ok(Ask::Wait(RunId(50), sender)) => {
                        waiting.push(sender);
                        self.wait.send(()).ok();
                    }
                    Ok(ask) => self.one(ask),
                    Err(_) => return,
                },
                recv(self.ends) -> state => {
                    let Ok(state) = state else { return };
                    for sender in waiting.drain(..) {
                        sender.send(state).ok();
                    }
                }
            }
        }
    }

    fn one(&self, ask: Ask) {
        let present = self.present.lock().unwrap();
        match ask {
            Ask::Request(request, sender) => {
                self.heard.send(request).unwrap();
                drop(sender.send(present.reply.clone().unwrap_or(Reply::Run(RunId(7)))));
            }
            Ask::Status(sender) => drop(sender.send(status())),
            Ask::Stuck(_, sender) => drop(sender.send(present.stuck.clone())),
            Ask::Pending(sender) => drop(sender.send(present.pending.clone())),
            Ask::Wait(_, sender) => drop(sender),
            Ask::Item(item, sender) => {
                if item == ItemId(3) {
                    sender.send(RunId(8)).ok();
                }
            }
            Ask::LiveLog(which, sender) => {
                let key = (which.run.0, which.task.to_string(), which.attempt);
                if let Some(path) = present.live.get(&key) {
                    drop(sender.send(path.clone()));
                }
            }
            Ask::Reload(sender) => {
                let at = wire::time(dagd::core::id::Wall(0));
                drop(sender.send(reloaded(at)));
            }
            Ask::Stop(sender) => {
                sender.send(()).ok();
            }
        }
    }
}

fn told(name: &str, kind: &str) -> wire::TriggerStatus {
    wire::TriggerStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        source: "/in".to_owned(),
        state: "active".to_owned(),
        reason: None,
        readiness: None,
        noticed_by: None,
        directories: 1,
        pending: 0,
        queued: 0,
        live_runs: 0,
        scanning: false,
        quarantined: 0,
        late: 0,
        late_oldest: None,
        stuck: 0,
        next_at: None,
    }
}

fn status() -> wire::Status {
    wire::Status {
        version: "0.1.0".to_owned(),
        pid: std::process::id(),
        state: "running".to_owned(),
        stalled: None,
        started_at: wire::time(dagd::core::id::Wall(0)),
        config: "/etc/dagd/dagd.toml".to_owned(),
        reload: None,
        rev: "0123456789abcdef".to_owned(),
        containment: "process groups".to_owned(),
        state_dir: "/var/lib/dagd".to_owned(),
        running: 0,
        slots: 2,
        ready: 0,
        live_runs: 0,
        max_live_runs: 64,
        triggers: vec![told("orders", "drop"), told("tree", "watch")],
        problems: Vec::new(),
        counters: BTreeMap::new(),
    }
}

pub(crate) fn folder_trigger(
    name: &str,
    root: &Path,
    folder: Folder,
    include: &str,
) -> TriggerSpec {
    let filter = Filter::new(vec![include.to_owned()], Vec::new(), true, false).unwrap();
    let spec = FolderSpec {
        kinds: vec![Kind::Created, Kind::Modified],
        read_lock: ReadLock::Auto,
        fan_out: FanOut::File,
        initial_scan: InitialScan::Unprocessed,
        initial_max: 10_000,
        ..FolderSpec::new(folder, root.to_owned(), filter)
    };
    trigger(name, Source::Folder(Box::new(spec)))
}

fn reloaded(at: String) -> wire::Reload {
    let text = "1 task added".to_owned();
    let (cause, changes, warnings) = ("request".to_owned(), Vec::new(), Vec::new());
    wire::Reload { ok: true, text, cause, changes, warnings, at }
}

pub(crate) fn signal_trigger(name: &str) -> TriggerSpec {
    let source = Source::Signal { signo: 10, name: "SIGUSR1".into(), sender_uid: Vec::new() };
    trigger(name, source)
}

fn trigger(name: &str, source: Source) -> TriggerSpec {
    TriggerSpec {
        name: name.into(),
        source,
        select: Selector::parse("check+").unwrap(),
        overlap: Overlap::Queue,
        max_runs: None,
        order_key: None,
        rate_limit: None,
        on_removal: dagd::core::bound::OnRemoval::default(),
        rev: "r".into(),
    }
}

/// A run of one task `load`, tried once, ended unless `state` says otherwise.
pub(crate) fn detail(id: u64, state: &str, log: Option<&Path>) -> wire::RunDetail {
    let at = |seconds: i64| wire::time(dagd::core::id::Wall(seconds * 1_000_000_000));
    let ended = (state != "running").then(|| at(3));
    wire::RunDetail {
        run: wire::Run {
            id,
            trigger: Some("orders".to_owned()),
            reason: "event".to_owned(),
            state: state.to_owned(),
            files: Vec::new(),
            rev: "0123456789abcdef".to_owned(),
            created_at: at(1),
            started_at: Some(at(2)),
            ended_at: ended.clone(),
        },
        select: "check+".to_owned(),
        parent: None,
        signal: None,
        scheduled_at: None,
        tasks: vec![wire::Task {
            name: "load".to_owned(),
            state: state.to_owned(),
            cause: None,
            attempts: vec![wire::AttemptRow {
                attempt: 1,
                exit_code: ended.is_some().then_some(0),
                signal: None,
                error: None,
                leftovers: 0,
                started_at: Some(at(2)),
                ended_at: ended,
                memory_peak: None,
                cpu_us: None,
                log: log.map(|log| log.display().to_string()),
            }],
        }],
    }
}

/// Sends bytes as they are; returns the whole answer.
pub(crate) fn raw(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may answer and close before it has read everything.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}
