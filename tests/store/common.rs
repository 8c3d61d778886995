//! Worlds, runs and records for the tests of the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dagd::core::candidate::{Kind, Version};
use dagd::core::confine::Usage;
use dagd::core::disposition::{Disposition, Goal, MoveResult, Phase};
use dagd::core::graph::Graph;
use dagd::core::id::{Attempt, Name, NodeIx, Rev, RunId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, Reason, Record, RunCreated, RunState};
use dagd::core::selector::Selector;
use dagd::core::task::{Ended, Exit, TaskSpec, TaskState, Verdict};
use dagd::core::trigger::Group;
use dagd::daemon::view::live;
use dagd::io::store::{Finished, Reader, Store};

/// 2026-01-01 00:00 UTC, plus seconds.
pub(crate) fn at(seconds: i64) -> Wall {
    Wall((1_767_225_600 + seconds) * 1_000_000_000)
}

/// What the engine would answer: one graph a → b → c, and how the tasks of any run ended.
pub(crate) struct World {
    pub(crate) graph: Arc<Graph>,
    pub(crate) tasks: Vec<(Name, TaskState, Option<String>)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&[("a", &[]), ("b", &["a"]), ("c", &["b"])])
    }

    pub(crate) fn with(edges: &[(&str, &[&str])]) -> Self {
        let tasks = edges.iter().map(|(name, needs)| {
            let mut task = TaskSpec::new(name, Vec::new());
            task.needs = needs.iter().map(|&need| need.into()).collect();
            task
        });
        let graph = Arc::new(Graph::build(tasks.collect()).unwrap());
        let tasks =
            edges.iter().map(|(name, _)| ((*name).into(), TaskState::Succeeded, None)).collect();
        Self { graph, tasks }
    }
}

impl Finished for World {
    fn tasks(&self, _: RunId) -> Vec<(Name, TaskState, Option<String>)> {
        self.tasks.clone()
    }

    fn graph(&self, rev: &Rev) -> Option<Arc<Graph>> {
        (rev == self.graph.rev()).then(|| self.graph.clone())
    }
}

pub(crate) fn version(n: u64) -> Version {
    let mut file = b"\xff\x00handle".to_vec();
    file.extend_from_slice(&n.to_le_bytes());
    Version { file: file.into(), size: n, mtime_ns: i64::try_from(n).unwrap() - 5 }
}

pub(crate) fn claim(rel: &[u8], n: u64) -> FileClaim {
    FileClaim {
        rel: rel.into(),
        path: Bytes::from("/srv/in").join(rel),
        kind: Kind::Created,
        version: version(n),
        first_seen_at: at(0),
        in_place: true,
        key: None,
    }
}

pub(crate) fn run(world: &World, id: u64, files: Vec<FileClaim>) -> RunCreated {
    RunCreated {
        run: RunId(id),
        trigger: Some("orders".into()),
        formerly: None,
        rev: world.graph.rev().clone(),
        select: Selector::parse("a+").unwrap(),
        reason: Reason::Event,
        items: Vec::new(),
        files,
        signal: None,
        scheduled: Some(at(9)),
        root: Some("/in".into()),
        disposition: Disposition::default(),
        key: Bytes::from(&b"key\xfe"[..]),
        group: Some(Group::Key(Bytes::from(&b"key\xfe"[..]))),
        parent: None,
        keep: Vec::new(),
        seed: u64::MAX,
        at: at(1),
        utc_offset_s: 3600,
    }
}

pub(crate) fn created(run: RunCreated) -> Record {
    Record::RunCreated(Box::new(run))
}

pub(crate) fn started(run: u64, node: u32, attempt: u32) -> Record {
    let (run, node, attempt) = (RunId(run), NodeIx(node), Attempt(attempt));
    Record::AttemptStarted { run, node, attempt, at: at(2) }
}

pub(crate) fn exit(code: i32) -> Ended {
    Ended {
        exit: Exit::Code(code),
        started_at: at(2),
        ended_at: at(4),
        leftovers: 1,
        log_bytes: 7,
        outputs: BTreeMap::from([("rows".to_owned(), "12".to_owned())]),
        usage: Usage { memory_peak: Some(4096), cpu_us: Some(1500) },
    }
}

pub(crate) fn ended(run: u64, node: u32, attempt: u32, ended: Ended, verdict: Verdict) -> Record {
    let (run, node, attempt) = (RunId(run), NodeIx(node), Attempt(attempt));
    Record::AttemptEnded { run, node, attempt, ended: Box::new(ended), stop: None, verdict }
}

pub(crate) fn over(run: u64, state: RunState) -> Record {
    Record::RunEnded { run: RunId(run), state, at: at(5) }
}

pub(crate) fn planned(run: u64, file: u32, target: &[u8]) -> Record {
    let (run, phase, goal) = (RunId(run), Phase::After, Goal::To(target.into()));
    Record::MovePlanned { run, file, phase, goal, at: at(4) }
}

pub(crate) fn moved(run: u64, file: u32, result: MoveResult) -> Record {
    Record::MoveDone { run: RunId(run), file, phase: Phase::After, result, at: at(5) }
}

/// All records of a run of one task that succeeds.
pub(crate) fn whole_run(world: &World, id: u64, files: Vec<FileClaim>) -> Vec<Record> {
    vec![
        created(run(world, id, files)),
        started(id, 0, 1),
        ended(id, 0, 1, exit(0), Verdict::Final(TaskState::Succeeded)),
        over(id, RunState::Succeeded),
    ]
}

pub(crate) fn store(dir: &Path) -> Store {
    Store::open(dir, false).unwrap()
}

pub(crate) fn reader(dir: &Path) -> Reader {
    Reader::open(dir, live).unwrap()
}
