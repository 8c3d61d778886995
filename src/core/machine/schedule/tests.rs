//! That many tasks that wait for one pool cost no more for each than a few, and that what they took is
//! not known for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::effect::Out;
use crate::core::event::{Event, Fire, FireWhat, Request};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, ItemId, Mono, Now, RunId, Seq, Wall};
use crate::core::machine::{Machine, Recovering, Start};
use crate::core::model::Model;
use crate::core::selector::Selector;
use crate::core::task::{Ended, Exit, TaskSpec};

/// A machine whose one run has `many` tasks that all draw from a pool of `size`.
fn crowd(many: u32, size: u32, demand: impl Fn(u32) -> u32) -> (Machine, Out) {
    let tasks = (0..many).map(|n| {
        let mut task = TaskSpec::new(&format!("t{n:05}"), Vec::new());
        task.uses.insert("p".into(), demand(n));
        task
    });
    fired(tasks.collect(), size)
}

/// A machine with a run of all these tasks.
fn fired(tasks: Vec<TaskSpec>, size: u32) -> (Machine, Out) {
    let model = Model {
        graph: Arc::new(Graph::build(tasks).unwrap()),
        triggers: BTreeMap::new(),
        pools: [("p".into(), size)].into(),
        slots: 1000,
        max_live_runs: 1,
        stop_timeout: Duration::ZERO,
        can_leave: false,
    };
    let start = Start {
        model: Arc::new(model),
        graphs: Vec::new(),
        next_run: RunId(1),
        next_item: ItemId(0),
        triggers: Vec::new(),
        durations: BTreeMap::new(),
        seed: 1,
    };
    let mut out = Out::default();
    let mut machine = Recovering::new(start).finish(Now::default(), Seq(1), &mut out);
    let fire = Fire { what: FireWhat::Select(Selector::task("*")), files: Vec::new() };
    let event = Event::Requested { token: 1, request: Request::Fire(fire) };
    machine.step(Now::default(), Seq(1), event, &mut out);
    (machine, out)
}

/// Ends all tasks, one after the other, a second apart. Returns how many parked tasks were looked
/// at on the way.
fn work_off(mut machine: Machine, many: u32) -> usize {
    machine.schedule.looked = 0;
    for n in 0..many {
        let id = *machine.in_flight().keys().next().expect("the pool is never idle");
        let ended = Ended::without_process(Exit::Code(0), Wall(0));
        let now = Now { mono: Mono(u64::from(n) * 1_000_000_000), ..Now::default() };
        machine.step(now, Seq(2), Event::Ended { id, ended }, &mut Out::default());
        machine.forget();
    }
    assert!(machine.runs().is_empty(), "all have run");
    machine.schedule.looked
}

#[test]
fn each_end_looks_at_few_of_those_that_wait() {
    for many in [200, 2000] {
        let (machine, _) = crowd(many, 4, |_| 1);
        assert_eq!(machine.in_flight().len(), 4);
        let looked = work_off(machine, many);
        assert!(looked <= 4 * many as usize, "{looked} looks for {many} tasks");
    }
}

#[test]
fn those_that_do_not_fit_are_not_looked_at() {
    // One unit is free all the time, and nearly all want two.
    let (machine, _) = crowd(2000, 3, |n| if n == 0 { 1 } else { 2 });
    let looked = work_off(machine, 2000);
    assert!(looked <= 4 * 2000, "{looked} looks");
}

#[test]
fn what_a_task_took_is_forgotten_with_its_last_run() {
    let (mut machine, _) = crowd(3, 3, |_| 1);
    let ids: Vec<_> = machine.in_flight().keys().copied().collect();
    let ended = || Ended::without_process(Exit::Code(0), Wall(0));
    let step = |machine: &mut Machine, event| {
        machine.step(Now::default(), Seq(2), event, &mut Out::default());
        machine.forget();
    };
    let empty = Model {
        graph: Arc::new(Graph::build(Vec::new()).unwrap()),
        triggers: BTreeMap::new(),
        pools: BTreeMap::new(),
        slots: 1,
        max_live_runs: 1,
        stop_timeout: Duration::ZERO,
        can_leave: false,
    };
    let empty = Arc::new(empty);
    for id in &ids[..2] {
        step(&mut machine, Event::Ended { id: *id, ended: ended() });
    }
    step(&mut machine, Event::Reloaded(empty.clone()));
    assert_eq!(machine.durations.len(), 2, "a run has them still");
    step(&mut machine, Event::Ended { id: ids[2], ended: ended() });
    step(&mut machine, Event::Reloaded(empty));
    assert!(machine.runs().is_empty() && machine.durations.is_empty());
}

#[test]
fn a_time_limit_counts_from_the_start_under_an_earlier_dagd() {
    let second = |n: u64| Mono(n * 1_000_000_000);
    let mut task = TaskSpec::new("t", Vec::new());
    task.timeout = Some(Duration::from_secs(10));
    let (machine, _) = fired(vec![task], 1);
    let run = machine.runs.values().next().unwrap();
    let due = |passed| {
        let passed = Duration::from_secs(passed);
        super::Schedule::default().start(run, 0, Attempt(1), second(100), passed).unwrap().0
    };
    assert_eq!(
        (due(0), due(3), due(10), due(99)),
        (second(110), second(107), second(100), second(100))
    );
}
