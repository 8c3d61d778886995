//! What a run must come to, worked out the slow way: task by task, needs first.

use std::collections::BTreeMap;

use dagd::core::disposition::MoveResult;
use dagd::core::graph::{Graph, Plan};
use dagd::core::id::NodeIx;
use dagd::core::record::RunState;
use dagd::core::run::Run;
use dagd::core::task::{Rule, SkipCause, TaskState};

use super::store::Facts;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ok,
    Failed,
    Skipped,
}

fn way(state: TaskState) -> Way {
    match state {
        TaskState::Succeeded => Way::Ok,
        TaskState::Skipped(cause) if cause != SkipCause::UpstreamFailed => Way::Skipped,
        _ => Way::Failed,
    }
}

/// `None`: it runs. Otherwise why it is skipped.
fn rule(rule: Rule, needs: &[Way]) -> Option<SkipCause> {
    let any = |way| needs.contains(&way);
    let all = |way| needs.iter().all(|need| *need == way);
    let ok = |holds: bool, cause| (!holds).then_some(cause);
    let upstream =
        if any(Way::Failed) { SkipCause::UpstreamFailed } else { SkipCause::UpstreamSkipped };
    if needs.is_empty() {
        return ok(!matches!(rule, Rule::OneFailed | Rule::AllFailed), SkipCause::Rule);
    }
    match rule {
        Rule::AllSuccess => ok(all(Way::Ok), upstream),
        Rule::AllDone | Rule::Always => None,
        Rule::OneSuccess => ok(any(Way::Ok), upstream),
        Rule::OneFailed => ok(any(Way::Failed), SkipCause::Rule),
        Rule::AllFailed => ok(all(Way::Failed), SkipCause::Rule),
        Rule::NoneFailed => ok(!any(Way::Failed), upstream),
        Rule::NoneFailedMinOneSuccess => ok(!any(Way::Failed) && any(Way::Ok), upstream),
    }
}

/// Final states of all tasks of a plan, by position, and the verdict. `given` are tasks whose end
/// is known: those that ran, and those that were kept.
pub(crate) fn expect(
    graph: &Graph,
    plan: &Plan,
    given: &BTreeMap<NodeIx, TaskState>,
) -> (Vec<TaskState>, RunState) {
    let mut states = vec![None; plan.nodes().len()];
    for &at in plan.topological() {
        let node = &plan.nodes()[at as usize];
        let needs: Vec<Way> = node
            .needs
            .iter()
            .map(|&need| way(states[need as usize].expect("needs come first")))
            .collect();
        let spec = graph.task(node.ix);
        let state = match (given.get(&node.ix), rule(spec.rule, &needs)) {
            (Some(state), _) => *state,
            (None, Some(cause)) => TaskState::Skipped(cause),
            (None, None) if node.pass => TaskState::Succeeded,
            // It should have run, and has not.
            (None, None) => TaskState::Waiting,
        };
        states[at as usize] = Some(state);
    }
    let states: Vec<TaskState> = states.into_iter().map(|s| s.expect("all are reached")).collect();
    let verdict = verdict(graph, plan, &states);
    (states, verdict)
}

pub(crate) fn verdict(graph: &Graph, plan: &Plan, states: &[TaskState]) -> RunState {
    let failed = plan.nodes().iter().zip(states).any(|(node, state)| {
        let bad = matches!(state, TaskState::Failed | TaskState::TimedOut | TaskState::Lost);
        bad && !graph.task(node.ix).allow_failure
    });
    match (failed, states.contains(&TaskState::Cancelled)) {
        (true, _) => RunState::Failed,
        (false, true) => RunState::Cancelled,
        (false, false) => RunState::Succeeded,
    }
}

/// How a run ends whose files could not be taken away before its tasks, or were not there any more.
fn abandoned(run: &Run, facts: &Facts) -> Option<RunState> {
    let failed = facts.before.iter().any(|result| matches!(result, MoveResult::Failed(_)));
    let lost = |result: &&MoveResult| matches!(result, MoveResult::Superseded | MoveResult::Gone);
    let lost = facts.before.iter().filter(lost).count();
    match (failed, facts.cancelled_early) {
        (true, false) => Some(RunState::Failed),
        (true, true) => Some(RunState::Cancelled),
        (false, _) => (lost > 0 && lost == run.files().len()).then_some(RunState::Cancelled),
    }
}

/// Compares an ended run with what its recorded results must lead to.
pub(crate) fn check(run: &Run, facts: &Facts, verdict_of_run: RunState) {
    let (graph, plan) = (run.graph(), run.plan());
    if let Some(expected) = abandoned(run, facts) {
        let idle = run.nodes().iter().all(|node| node.state == TaskState::Cancelled);
        assert!(idle && facts.attempted.is_empty(), "no task of run {}", run.info().run);
        assert_eq!(verdict_of_run, expected, "verdict of run {}", run.info().run);
        return;
    }
    let mut given = facts.results.clone();
    for (name, _) in &run.info().keep {
        if let Some(ix) = graph.find(name).filter(|ix| plan.place(*ix).is_some()) {
            given.entry(ix).or_insert(TaskState::Succeeded);
        }
    }
    // What a cancel reached before it ran: given, where the machine says so and may.
    for (place, node) in plan.nodes().iter().enumerate() {
        let state = run.nodes()[place].state;
        let of_run = facts.cancelled && graph.task(node.ix).rule != Rule::Always;
        if state == TaskState::Cancelled && (of_run || facts.cancelled_tasks.contains(&node.ix)) {
            given.entry(node.ix).or_insert(state);
        }
    }
    let (states, mut verdict) = expect(graph, plan, &given);
    if facts.cancelled && verdict == RunState::Succeeded {
        verdict = RunState::Cancelled;
    }
    let got: Vec<TaskState> = run.nodes().iter().map(|node| node.state).collect();
    assert_eq!(got, states, "states of run {} by its results {given:?}", run.info().run);
    assert_eq!(verdict_of_run, verdict, "verdict of run {}", run.info().run);
    for ix in &facts.attempted {
        let place = plan.place(*ix).expect("what was attempted is planned");
        let node = &plan.nodes()[place];
        assert!(!node.pass, "a pass-through is not attempted");
        let done = &run.nodes();
        let needs: Vec<Way> = node.needs.iter().map(|&at| way(done[at as usize].state)).collect();
        assert_eq!(rule(graph.task(*ix).rule, &needs), None, "what was attempted may run");
    }
}
