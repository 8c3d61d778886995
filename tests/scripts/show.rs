//! Records and commands, each in a line.

use dagd::core::check::{Check, KeyOf};
use dagd::core::disposition::{Goal, Phase};
use dagd::core::effect::{Command, Reply};
use dagd::core::id::{Attempt, NodeIx, RunId, Wall};
use dagd::core::ledger::Noted;
use dagd::core::machine::Machine;
use dagd::core::record::{FileClaim, Record, RunCreated};
use dagd::core::task::{Exit, TaskState, Verdict};

fn task(machine: &Machine, run: RunId, node: NodeIx) -> String {
    let of = machine.run(run).expect("a run that is told of");
    format!("{run}.{}", of.graph().task(node).name)
}

fn attempt(machine: &Machine, run: RunId, node: NodeIx, attempt: Attempt) -> String {
    format!("{}#{attempt}", task(machine, run, node))
}

fn state(state: TaskState) -> String {
    match state {
        TaskState::Skipped(cause) => format!("skipped({})", cause.word()),
        other => other.word().to_owned(),
    }
}

fn moves(phase: Phase) -> &'static str {
    match phase {
        Phase::Before => "pre-move",
        Phase::After => "move",
    }
}

fn going(goal: &Goal) -> String {
    match goal {
        Goal::To(target) => format!(" to {}", target.lossy()),
        Goal::Delete => " away".to_owned(),
    }
}

fn file(claim: &FileClaim) -> String {
    format!("{} {} v{}", claim.rel.lossy(), claim.kind.word(), claim.version.mtime_ns)
}

/// A time on the clock, with the day once the first one is over.
fn clock(at: Wall) -> String {
    dagd::core::template::date("%d.%H:%M:%S", at, 0).expect("a format")
}

fn created(machine: &Machine, c: &RunCreated) -> String {
    let of = c.trigger.as_ref().map(|trigger| format!(" of {trigger}")).unwrap_or_default();
    let mut parts = vec![format!("run {}{of}: {}", c.run, c.reason.word())];
    if !c.items.is_empty() {
        let items: Vec<String> = c.items.iter().map(|item| format!("#{}", item.0)).collect();
        parts.push(format!("items {}", items.join(",")));
    }
    parts.extend(c.signal.as_ref().and_then(|s| s.value).map(|value| format!("value {value}")));
    parts.extend(c.scheduled.map(|at| format!("at {}", clock(at))));
    if !c.files.is_empty() {
        let files: Vec<String> = c.files.iter().map(file).collect();
        parts.push(format!("[{}]", files.join(", ")));
    }
    parts.extend(c.parent.map(|parent| format!("after {parent}")));
    // What has ended without an attempt is part of the effect.
    if let Some(run) = machine.run(c.run) {
        let silent = run.nodes().iter().enumerate();
        let silent = silent.filter(|(_, node)| node.state.is_final() && node.attempt.0 == 0);
        parts.extend(silent.map(|(at, node)| format!("{}={}", run.name(at), state(node.state))));
    }
    parts.join(" ")
}

#[expect(clippy::too_many_lines, reason = "a line or two for each record")]
pub(crate) fn record(machine: &Machine, record: &Record) -> String {
    match record {
        Record::ItemQueued(item) => {
            let files: Vec<String> = item.files.iter().map(file).collect();
            let of = item.trigger.as_deref().unwrap_or("nothing");
            let text = format!("item #{} of {of}: {}", item.item.0, item.reason.word());
            let at = item.scheduled.map(|at| format!(" at {}", clock(at))).unwrap_or_default();
            let files = files.join(", ");
            if files.is_empty() { format!("{text}{at}") } else { format!("{text} [{files}]") }
        }
        Record::ItemDropped { item, reason, .. } => format!("dropped #{}: {reason}", item.0),
        Record::RunCreated(c) => created(machine, c),
        Record::AttemptStarted { run, node, attempt: at, .. } => {
            format!("started {}", attempt(machine, *run, *node, *at))
        }
        Record::AttemptEnded { run, node, attempt: at, ended, stop, verdict } => {
            let exit = exited(&ended.exit);
            let stop = stop.map(|stop| format!(" by {stop:?}")).unwrap_or_default();
            let verdict = match verdict {
                Verdict::Final(end) => state(*end),
                Verdict::Retry(delay) => format!("retry in {delay:?}"),
                Verdict::Requeue => "requeued".to_owned(),
            };
            format!("ended {} {exit}{stop}: {verdict}", attempt(machine, *run, *node, *at))
        }
        Record::CancelRequested { run, node, reason, .. } => match node {
            Some(node) => format!("cancel {}: {reason}", task(machine, *run, *node)),
            None => format!("cancel {run}: {reason}"),
        },
        Record::MovePlanned { run, file, phase, goal, .. } => {
            format!("{} {run}.{file}{}", moves(*phase), going(goal))
        }
        Record::MoveDone { run, file, phase, result, .. } => {
            let why = result.text().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{}d {run}.{file}: {}{why}", moves(*phase), result.word())
        }
        Record::RunEnded { run, state: end, .. } => {
            let of = machine.run(*run).expect("a run that ended is kept for its end");
            let nodes = of.nodes().iter().enumerate();
            let states: Vec<String> =
                nodes.map(|(at, node)| format!("{}={}", of.name(at), state(node.state))).collect();
            format!("run {run} {}: {}", end.word(), states.join(" "))
        }
        Record::TriggerPaused { trigger, reason, .. } => format!("paused {trigger}: {reason}"),
        Record::TriggerResumed { trigger, .. } => format!("resumed {trigger}"),
        Record::TriggerArmed { trigger, .. } => format!("armed {trigger}"),
        Record::TriggerLeft { trigger, .. } => format!("left {trigger}"),
        Record::TriggerBack { trigger, .. } => format!("back {trigger}"),
        Record::TriggerRenamed { from, to, .. } => format!("renamed {from} to {to}"),
        Record::TriggerBound { trigger, .. } => format!("bound {trigger}"),
        Record::TriggerDrained { trigger, .. } => format!("drained {trigger}"),
        Record::TriggerForgotten { trigger, .. } => format!("forgotten {trigger}"),
        Record::TimeMarked { trigger, mark } => {
            let told = if mark.told { " and told" } else { "" };
            format!("time of {trigger} is settled to {}{told}", clock(mark.at))
        }
        Record::FileNoted { trigger, rel, version, why, .. } => {
            let of = match why {
                Noted::Duplicate(run) => format!(" of run {run}"),
                _ => String::new(),
            };
            let (rel, at, why) = (rel.lossy(), version.mtime_ns, why.word());
            format!("noted {trigger} {rel} v{at}: {why}{of}")
        }
        Record::FilesPlaced { trigger, places, .. } => {
            let places =
                places.iter().map(|placed| format!("{}: {}", placed.dir.lossy(), placed.what));
            format!("placed {trigger} {}", places.collect::<Vec<_>>().join(", "))
        }
        Record::FileStamped { trigger, rel, version, run, .. } => {
            let of = run.map(|run| format!(" of run {run}")).unwrap_or_default();
            format!("stamped {trigger} {} v{}{of}", rel.lossy(), version.mtime_ns)
        }
        Record::FileDeparted { trigger, rel, .. } => format!("departed {trigger} {}", rel.lossy()),
    }
}

fn exited(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => code.to_string(),
        Exit::Signal(signal) => format!("sig{signal}"),
        Exit::Oom => "oom".to_owned(),
        other => other.error().unwrap_or_default(),
    }
}

fn shown(check: &Check) -> String {
    let Check { number, trigger, rel, version, checksum, key, .. } = check;
    let mut text = format!("check {number} {trigger} {} v{}", rel.lossy(), version.mtime_ns);
    if checksum.is_some() {
        text += " checksum";
    }
    match key {
        Some(KeyOf::Known(key)) => text + " " + &key.lossy(),
        Some(KeyOf::Content) => text + " content",
        None => text,
    }
}

pub(crate) fn command(machine: &Machine, command: &Command) -> String {
    match command {
        Command::Start(start) => {
            let id = start.id;
            format!("start {}", attempt(machine, id.run, id.node, id.attempt))
        }
        Command::Stop { id, how } => {
            let of = attempt(machine, id.run, id.node, id.attempt);
            format!("{} {of}", format!("{how:?}").to_lowercase())
        }
        Command::Move(order) => {
            let from = order.claim.path.lossy().into_owned();
            let (run, file, again) = (order.run, order.file, order.again);
            let again = if again { " again" } else { "" };
            format!("{} {run}.{file} {from}{}{again}", moves(order.phase), going(&order.goal))
        }
        Command::Look { trigger, rel } => format!("look {trigger} {}", rel.lossy()),
        Command::Recheck { trigger, rel } => format!("recheck {trigger} {}", rel.lossy()),
        Command::Scan { trigger } => format!("scan {trigger}"),
        Command::Count { trigger, limit } => format!("count {trigger} to {limit}"),
        Command::Check(check) => shown(check),
        Command::Uncheck { trigger } => format!("uncheck {trigger}"),
        Command::Alarm { trigger, rel, since, last } => {
            let rel = rel.lossy();
            let since = (since.0 - 1_700_000_000_000_000_000) / 1_000_000;
            let last = if *last { ", the last" } else { "" };
            format!("alarm {trigger} {rel} since {since} ms{last}")
        }
        Command::Hold { trigger } => format!("hold {trigger}"),
        Command::Release { trigger } => format!("release {trigger}"),
        Command::Finished { run, state } => format!("finished {run} {}", state.word()),
        Command::Reply { reply, .. } => match reply {
            Reply::Done => "reply done".to_owned(),
            Reply::Run(run) => format!("reply run {run}"),
            Reply::Queued(item) => format!("reply queued #{}", item.0),
            Reply::NotFound(why) => format!("reply not found: {why}"),
            Reply::Refused(why) => format!("reply refused: {why}"),
        },
        Command::Exit => "exit".to_owned(),
    }
}
