//! A run: one execution of a subgraph, pinned to its graph.
//!
//! Owns the states of its tasks and how an end spreads through them: O(out-degree) per completion,
//! by counters, never by a rescan; and how far its files have come. Knows nothing of slots, pools or
//! other runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::candidate::Version;
use super::counts::{Counts, Decision};
use super::disposition::{Fate, Goal, MoveResult, Phase, RunFile};
use super::graph::{Graph, Plan};
use super::id::{Attempt, Name, NodeIx, Wall};
use super::path::Bytes;
use super::record::{FileClaim, RunCreated, RunState};
use super::task::{Ended, Exit, Rule, TaskState, Tries, Verdict};

/// What its tasks are told of a run: as it was created, with its files where they are when its
/// tasks begin.
pub type RunInfo = RunCreated;

/// A live run.
#[derive(Debug)]
pub struct Run {
    info: Arc<RunInfo>,
    graph: Arc<Graph>,
    plan: Arc<Plan>,
    nodes: Vec<Node>,
    /// Tasks that are not final.
    open: usize,
    cancelled: Option<String>,
    started_at: Option<Wall>,
    files: Vec<RunFile>,
    /// Whether its tasks may start: its files have been taken away from where they came in, if they
    /// are to be.
    begun: bool,
    /// Whether they could not be taken away.
    unclaimed: bool,
}

/// A task of a run.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its state.
    pub state: TaskState,
    /// The number of its last attempt; 0 before the first.
    pub attempt: Attempt,
    /// How often it was tried.
    pub tries: Tries,
    /// What it wrote to `DAGD_OUTPUT`.
    pub outputs: BTreeMap<String, String>,
    /// Why its last attempt could not do its work, if it could not even start.
    pub error: Option<String>,
    /// Whether its cancel was asked for while it ran.
    cancelled: bool,
    /// Expected time from its start to the end of the longest path below it, in nanoseconds.
    pub weight: u64,
    counts: Counts,
}

impl Run {
    /// Creates the run. Adds the places of tasks that may start at once to `ready`: none, if its
    /// files are to be taken away first.
    pub fn new(
        info: Arc<RunInfo>,
        graph: Arc<Graph>,
        plan: Arc<Plan>,
        durations: &BTreeMap<Name, u64>,
        ready: &mut Vec<usize>,
    ) -> Self {
        let nodes: Vec<Node> =
            plan.nodes().iter().map(|node| Node::new(node.needs.len())).collect();
        let files: Vec<RunFile> = info.files.iter().cloned().map(RunFile::new).collect();
        let mut run = Self {
            open: nodes.len(),
            begun: !info.files.iter().any(|file| info.disposition.takes(file)),
            unclaimed: false,
            files,
            info,
            graph,
            plan,
            nodes,
            cancelled: None,
            started_at: None,
        };
        run.weigh(durations);
        if run.begun {
            run.begin(ready);
        }
        run
    }

    /// Its tasks may start. What of them was cancelled meanwhile never will.
    fn begin(&mut self, ready: &mut Vec<usize>) {
        self.begun = true;
        let keep = self.info.keep.clone();
        let mut ended = Vec::new();
        for (name, outputs) in keep {
            let place = self.graph.find(&name).and_then(|ix| self.plan.place(ix));
            if let Some(place) = place.filter(|&place| !self.nodes[place].state.is_final()) {
                self.nodes[place].outputs = outputs;
                self.settle(place, TaskState::Succeeded);
                ended.push(place);
            }
        }
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            let of_run = self.cancelled.is_some() && !self.always(place);
            if (of_run || node.cancelled) && !node.state.is_final() {
                self.settle(place, TaskState::Cancelled);
                ended.push(place);
            }
        }
        // Only when all are settled: none of them may become ready by another.
        self.spread(ended, ready);
        for place in 0..self.nodes.len() {
            self.decide(place, ready);
        }
    }

    /// No task will start.
    fn abandon(&mut self, reason: &str) {
        self.begun = true;
        self.cancelled.get_or_insert_with(|| reason.to_owned());
        for place in 0..self.nodes.len() {
            if !self.nodes[place].state.is_final() {
                self.settle(place, TaskState::Cancelled);
            }
        }
    }

    /// What its tasks are told of it.
    pub fn info(&self) -> &Arc<RunInfo> {
        &self.info
    }

    /// Its trigger was given another name.
    pub(super) fn rename(&mut self, to: &Name) {
        Arc::make_mut(&mut self.info).rename(to);
    }

    /// Its graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Its subgraph.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Its tasks, by place in the plan.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its files, by their index in the record of its creation.
    pub fn files(&self) -> &[RunFile] {
        &self.files
    }

    /// Whether its tasks may start, or could.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// By whom or what its cancel was asked for, if it was.
    pub fn cancelled(&self) -> Option<&str> {
        self.cancelled.as_deref()
    }

    /// When its first attempt started.
    pub fn started_at(&self) -> Option<Wall> {
        self.started_at
    }

    /// The place of a task in the plan.
    pub fn place(&self, ix: NodeIx) -> Option<usize> {
        self.plan.place(ix)
    }

    /// The name of the task at `place`.
    pub fn name(&self, place: usize) -> &Name {
        &self.graph.task(self.plan.nodes()[place].ix).name
    }

    /// The verdict, once all tasks are final.
    pub fn verdict(&self) -> Option<RunState> {
        if self.open > 0 || !self.begun {
            return None;
        }
        if self.unclaimed {
            return Some(RunState::Failed);
        }
        let failed = self.plan.nodes().iter().zip(&self.nodes).any(|(planned, node)| {
            node.state.is_failure() && !self.graph.task(planned.ix).allow_failure
        });
        let cancelled =
            self.cancelled.is_some() || self.nodes.iter().any(|n| n.state == TaskState::Cancelled);
        Some(match (failed, cancelled) {
            (true, _) => RunState::Failed,
            (false, true) => RunState::Cancelled,
            (false, false) => RunState::Succeeded,
        })
    }

    /// The state as it is told while the run is alive.
    pub fn state(&self) -> RunState {
        if self.started_at.is_some() { RunState::Running } else { RunState::Queued }
    }

    /// An attempt starts. `false` if its task is not ready for it.
    pub fn start(&mut self, place: usize, attempt: Attempt, at: Wall) -> bool {
        let Some(node) = self.nodes.get_mut(place) else { return false };
        // That a retry's delay has passed is not recorded: in a fold the task still retries.
        let may = matches!(node.state, TaskState::Ready | TaskState::Retrying);
        let legal = may && attempt.0 == node.attempt.0 + 1;
        if legal {
            node.state = TaskState::Running;
            node.attempt = attempt;
            node.error = None;
            self.started_at.get_or_insert(at);
        }
        legal
    }

    /// Whether the cancel of a task that runs was asked for, or that of the run as far as it concerns
    /// the task.
    pub fn is_cancelled(&self, place: usize) -> bool {
        let of_run = self.cancelled.is_some() && !self.always(place);
        of_run || self.nodes.get(place).is_some_and(|node| node.cancelled)
    }

    /// An attempt has ended with this meaning. Adds what may start by it to `ready`. `false` if it
    /// is not the current attempt.
    pub fn finish(
        &mut self,
        place: usize,
        attempt: Attempt,
        ended: &Ended,
        verdict: Verdict,
        ready: &mut Vec<usize>,
    ) -> bool {
        let cancelled = self.is_cancelled(place);
        let Some(node) = self.nodes.get_mut(place) else { return false };
        if node.state != TaskState::Running || node.attempt != attempt {
            return false;
        }
        if verdict == Verdict::Final(TaskState::Succeeded) {
            node.outputs.clone_from(&ended.outputs);
        }
        match ended.exit {
            Exit::Unknown => node.tries.crashes += 1,
            Exit::Shortage(_) => node.tries.shortages = node.tries.shortages.saturating_add(1),
            _ => node.tries.shortages = 0,
        }
        match verdict {
            Verdict::Final(state) => {
                node.error = ended.exit.error();
                self.end(place, state, ready);
            }
            Verdict::Retry(_) | Verdict::Requeue if cancelled => {
                self.end(place, TaskState::Cancelled, ready);
            }
            Verdict::Retry(_) => {
                if node.tries.shortages == 0 {
                    node.tries.retries += 1;
                }
                node.error = ended.exit.error();
                node.state = TaskState::Retrying;
            }
            Verdict::Requeue => {
                node.state = TaskState::Ready;
                ready.push(place);
            }
        }
        true
    }

    /// The delay after `attempt` has passed. `false` if the task does not wait for that.
    pub fn retry(&mut self, place: usize, attempt: Attempt) -> bool {
        let node = &mut self.nodes[place];
        let waits = node.state == TaskState::Retrying && node.attempt == attempt;
        if waits {
            node.state = TaskState::Ready;
        }
        waits
    }

    /// Cancels the task at `place` unless it has ended. If an attempt is in flight, none follows.
    pub fn cancel_task(&mut self, place: usize, ready: &mut Vec<usize>) {
        if !self.begun {
            self.nodes[place].cancelled = true;
            return;
        }
        let waits = matches!(
            self.nodes[place].state,
            TaskState::Waiting | TaskState::Ready | TaskState::Retrying
        );
        if waits {
            self.end(place, TaskState::Cancelled, ready);
        } else if self.nodes[place].state == TaskState::Running {
            self.nodes[place].cancelled = true;
        }
    }

    /// Cancels all tasks that have not ended, except those whose rule is `always`.
    pub fn cancel(&mut self, reason: &str, ready: &mut Vec<usize>) {
        self.cancelled.get_or_insert_with(|| reason.to_owned());
        for place in 0..self.nodes.len() {
            if self.begun && !self.always(place) {
                self.cancel_task(place, ready);
            }
        }
    }

    /// Which of its files lies in its place at this path below the trigger's root, if one does.
    pub fn find(&self, rel: &Bytes) -> Option<u32> {
        let mut claims = self.claims();
        claims.find(|(_, file)| file.claim.in_place && file.claim.rel == *rel).map(|(at, _)| at)
    }

    /// The time of the file `at` was set back. `false` if it cannot be this version.
    pub fn stamp(&mut self, at: u32, version: Version) -> bool {
        self.files.get_mut(at as usize).is_some_and(|file| file.stamp(version))
    }

    /// This is to become of the file `at`. `false` if there is none, or something is planned.
    pub fn plan_move(&mut self, at: u32, phase: Phase, goal: Goal) -> bool {
        self.files.get_mut(at as usize).is_some_and(|file| file.plan(phase, goal))
    }

    /// That came of the file `at`. With the last one that is taken away, its tasks may start:
    /// those that may are added to `ready`. `false` if nothing was planned.
    pub fn end_move(
        &mut self,
        at: u32,
        phase: Phase,
        result: MoveResult,
        ready: &mut Vec<usize>,
    ) -> bool {
        let file = self.files.get_mut(at as usize);
        let legal = file.is_some_and(|file| file.finish(phase, result));
        if legal && !self.begun && !self.is_moving() {
            self.claimed(ready);
        }
        legal
    }

    /// All of its files were taken away, or have shown that they cannot be.
    fn claimed(&mut self, ready: &mut Vec<usize>) {
        let failure = self.files.iter().find_map(|file| match &file.before {
            Some(Fate::Done(MoveResult::Failed(why))) => Some(why.clone()),
            _ => None,
        });
        let left: Vec<FileClaim> = self.claims().map(|(_, file)| file.claim.clone()).collect();
        let lost = self.files.iter().find_map(RunFile::outcome).filter(|_| left.is_empty());
        let lost = lost.map(MoveResult::word);
        self.info = Arc::new(RunInfo { files: left, ..RunInfo::clone(&self.info) });
        match (failure, lost) {
            (Some(why), _) => {
                self.unclaimed = self.cancelled.is_none();
                self.abandon(&why);
            }
            (None, Some(word)) => self.abandon(word),
            (None, None) => self.begin(ready),
        }
    }

    /// Those of its files that it is still for, with their index.
    pub fn claims(&self) -> impl Iterator<Item = (u32, &RunFile)> {
        (0u32..).zip(&self.files).filter(|(_, file)| !file.is_lost())
    }

    /// Whether a disposition is planned and not done.
    pub fn is_moving(&self) -> bool {
        self.files.iter().any(|file| file.planned().is_some())
    }

    /// Names of the tasks that have failed so far.
    pub fn failed(&self) -> Vec<Name> {
        (0..self.nodes.len())
            .filter(|&place| self.nodes[place].state.is_failure())
            .map(|place| self.name(place).clone())
            .collect()
    }

    fn always(&self, place: usize) -> bool {
        self.graph.task(self.plan.nodes()[place].ix).rule == Rule::Always
    }

    /// Ends the task at `place` and spreads it: a list of work, no recursion.
    fn end(&mut self, place: usize, state: TaskState, ready: &mut Vec<usize>) {
        self.settle(place, state);
        self.spread(vec![place], ready);
    }

    /// Spreads the ends of tasks that are settled.
    fn spread(&mut self, mut ended: Vec<usize>, ready: &mut Vec<usize>) {
        let plan = self.plan.clone();
        while let Some(place) = ended.pop() {
            let tally = self.nodes[place].state.tally().expect("only ended tasks are spread");
            for &next in &plan.nodes()[place].dependents {
                let next = next as usize;
                self.nodes[next].counts.add(tally);
                if let Some(state) = self.judge(next, ready) {
                    self.settle(next, state);
                    ended.push(next);
                }
            }
        }
    }

    fn settle(&mut self, place: usize, state: TaskState) {
        let node = &mut self.nodes[place];
        assert!(!node.state.is_final(), "a final state never changes");
        assert!(state.is_final(), "only a final state is an end");
        node.state = state;
        self.open -= 1;
    }

    /// Decides a task that no end has reached: one without needs.
    fn decide(&mut self, place: usize, ready: &mut Vec<usize>) {
        if let Some(state) = self.judge(place, ready) {
            self.end(place, state, ready);
        }
    }

    /// Applies the rule of a waiting task. Returns the state in which it ends without an attempt.
    fn judge(&mut self, place: usize, ready: &mut Vec<usize>) -> Option<TaskState> {
        let planned = &self.plan.nodes()[place];
        let rule = self.graph.task(planned.ix).rule;
        let node = &mut self.nodes[place];
        if node.state != TaskState::Waiting {
            return None;
        }
        match node.counts.decide(rule) {
            Decision::Wait => None,
            // Whether it was reached by the cancel itself or through what it needs is all the same.
            Decision::Run | Decision::Skip(_)
                if self.cancelled.is_some() && rule != Rule::Always =>
            {
                Some(TaskState::Cancelled)
            }
            Decision::Skip(cause) => Some(TaskState::Skipped(cause)),
            Decision::Run if planned.pass => Some(TaskState::Succeeded),
            Decision::Run => {
                node.state = TaskState::Ready;
                ready.push(place);
                None
            }
        }
    }

    /// Longest expected path from each task to an end. A task without history counts one.
    fn weigh(&mut self, durations: &BTreeMap<Name, u64>) {
        let plan = self.plan.clone();
        for &place in plan.topological().iter().rev() {
            let place = place as usize;
            let below = plan.nodes()[place].dependents.iter();
            let longest = below.map(|&next| self.nodes[next as usize].weight).max().unwrap_or(0);
            let own = durations.get(self.name(place)).copied().unwrap_or(1);
            self.nodes[place].weight = longest.saturating_add(own);
        }
    }
}

impl Node {
    fn new(needs: usize) -> Self {
        Self {
            state: TaskState::Waiting,
            attempt: Attempt(0),
            tries: Tries::default(),
            outputs: BTreeMap::new(),
            error: None,
            cancelled: false,
            weight: 0,
            counts: Counts::of(needs),
        }
    }
}
