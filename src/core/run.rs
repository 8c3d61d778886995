//! A run: one execution of a subgraph, pinned to its graph.
//!
//! Owns the states of its tasks and how an end spreads through them: O(out-degree) per completion,
//! by counters, never by a rescan. Knows nothing of slots, pools or other runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Graph, Plan};
use super::id::{Attempt, Name, NodeIx, Wall};
use super::path::Bytes;
use super::record::{MoveResult, RunCreated, RunState};
use super::task::{Ended, Exit, Rule, SkipCause, Tally, TaskState, Tries, Verdict};

/// What is fixed about a run when it is created.
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
    fates: Vec<Option<Fate>>,
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

/// What is known of the needs of a task.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    all: u32,
    open: u32,
    ok: u32,
    failed: u32,
    skipped: u32,
}

/// What becomes of a run's file at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It will go there.
    Planned(Bytes),
    /// That came of it.
    Done(MoveResult),
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Wait,
    Run,
    Skip(SkipCause),
}

impl Run {
    /// Creates the run. Adds the places of tasks that may start at once to `ready`.
    pub fn new(
        info: Arc<RunInfo>,
        graph: Arc<Graph>,
        plan: Arc<Plan>,
        durations: &BTreeMap<Name, u64>,
        ready: &mut Vec<usize>,
    ) -> Self {
        let nodes: Vec<Node> =
            plan.nodes().iter().map(|node| Node::new(node.needs.len())).collect();
        let mut run = Self {
            open: nodes.len(),
            fates: vec![None; info.files.len()],
            info,
            graph,
            plan,
            nodes,
            cancelled: None,
            started_at: None,
        };
        run.weigh(durations);
        let keep = run.info.keep.clone();
        let mut kept = Vec::new();
        for (name, outputs) in keep {
            let place = run.graph.find(&name).and_then(|ix| run.plan.place(ix));
            if let Some(place) = place.filter(|&place| !run.nodes[place].state.is_final()) {
                run.nodes[place].outputs = outputs;
                run.settle(place, TaskState::Succeeded);
                kept.push(place);
            }
        }
        // Only when all are settled: none of them may become ready by another.
        run.spread(kept, ready);
        for place in 0..run.nodes.len() {
            run.decide(place, ready);
        }
        run
    }

    /// What is fixed about it.
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

    /// What becomes of its files.
    pub fn fates(&self) -> &[Option<Fate>] {
        &self.fates
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
        if self.open > 0 {
            return None;
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
            self.started_at.get_or_insert(at);
        }
        legal
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
        let of_run = self.cancelled.is_some() && !self.always(place);
        let Some(node) = self.nodes.get_mut(place) else { return false };
        let cancelled = of_run || node.cancelled;
        if node.state != TaskState::Running || node.attempt != attempt {
            return false;
        }
        if verdict == Verdict::Final(TaskState::Succeeded) {
            node.outputs.clone_from(&ended.outputs);
        }
        if ended.exit == Exit::Unknown {
            node.tries.crashes += 1;
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
                node.tries.retries += 1;
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
            if !self.always(place) {
                self.cancel_task(place, ready);
            }
        }
    }

    /// The file `at` will go there.
    pub fn plan_move(&mut self, at: u32, target: Bytes) -> bool {
        let fate = self.fates.get_mut(at as usize);
        fate.map(|fate| *fate = Some(Fate::Planned(target))).is_some()
    }

    /// That came of the file `at`.
    pub fn end_move(&mut self, at: u32, result: MoveResult) -> bool {
        let fate = self.fates.get_mut(at as usize);
        fate.map(|fate| *fate = Some(Fate::Done(result))).is_some()
    }

    /// Whether a file's move is planned and not done.
    pub fn is_moving(&self) -> bool {
        self.fates.iter().any(|fate| matches!(fate, Some(Fate::Planned(_))))
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
        let all = u32::try_from(needs).expect("fewer than 2^32 needs");
        Self {
            state: TaskState::Waiting,
            attempt: Attempt(0),
            tries: Tries::default(),
            outputs: BTreeMap::new(),
            error: None,
            cancelled: false,
            weight: 0,
            counts: Counts { all, open: all, ..Counts::default() },
        }
    }
}

impl Counts {
    fn add(&mut self, tally: Tally) {
        self.open -= 1;
        match tally {
            Tally::Ok => self.ok += 1,
            Tally::Failed => self.failed += 1,
            Tally::Skipped => self.skipped += 1,
        }
    }

    /// A skip that may still turn into a failure waits for the rest, so that its cause does not
    /// depend on which end came first.
    fn decide(&self, rule: Rule) -> Decision {
        use Decision::{Run, Skip, Wait};
        let done = self.open == 0;
        if self.all == 0 {
            return match rule {
                Rule::OneFailed | Rule::AllFailed => Skip(SkipCause::Rule),
                _ => Run,
            };
        }
        match rule {
            Rule::AllSuccess | Rule::NoneFailed | Rule::NoneFailedMinOneSuccess
                if self.failed > 0 =>
            {
                Skip(SkipCause::UpstreamFailed)
            }
            Rule::OneSuccess if self.ok > 0 => Run,
            Rule::OneFailed if self.failed > 0 => Run,
            Rule::AllFailed if self.ok + self.skipped > 0 => Skip(SkipCause::Rule),
            _ if !done => Wait,
            Rule::AllSuccess if self.skipped > 0 => Skip(SkipCause::UpstreamSkipped),
            Rule::NoneFailedMinOneSuccess if self.ok == 0 => Skip(SkipCause::UpstreamSkipped),
            Rule::OneSuccess if self.failed > 0 => Skip(SkipCause::UpstreamFailed),
            Rule::OneSuccess => Skip(SkipCause::UpstreamSkipped),
            Rule::OneFailed => Skip(SkipCause::Rule),
            Rule::AllSuccess
            | Rule::AllDone
            | Rule::AllFailed
            | Rule::NoneFailed
            | Rule::NoneFailedMinOneSuccess
            | Rule::Always => Run,
        }
    }
}
