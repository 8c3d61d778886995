//! From tasks as written to tasks of the graph.
//!
//! Applies the defaults and checks what the keys of one task mean together, and against the pools.
//! How tasks hang together is asked in [`super::edges`].

use std::collections::{BTreeMap, BTreeSet};

use super::confine;
use super::diagnostics::{Problem, Span};
use super::reader::{At, Reader, Value};
use super::task::{Codes, RawRetry, RawTask};
use super::templates::{Demand, Filled};
use super::words;
use crate::core::id::Name;
use crate::core::task::{Body, FailureKind, Retry, TaskSpec};

/// The pools and where they are defined.
pub type Pools = BTreeMap<Name, At<u32>>;

/// Where the parts of a task stand that later checks may have to show.
#[derive(Debug)]
pub struct Place {
    /// Its name.
    pub name: Span,
    /// What it needs.
    pub needs: Vec<At<Name>>,
    /// Its tags.
    pub tags: Vec<Name>,
    /// Placeholders that not every run can fill.
    pub demands: Vec<Demand>,
}

/// All tasks; what is wrong with them is noted, so each is as good as it could be made.
#[derive(Debug, Default)]
pub struct Tasks {
    /// For the graph.
    pub specs: Vec<TaskSpec>,
    /// By name.
    pub places: BTreeMap<Name, Place>,
}

impl Tasks {
    /// Reads the task at `value`.
    pub fn add<'s>(
        &mut self,
        reader: &mut Reader<'s>,
        value: Value<'s>,
        defaults: &RawTask<'s>,
        pools: Option<&Pools>,
    ) {
        if let Some(why) = words::name_fault(value.name) {
            let what = format!("`{}` cannot be the name of a task", words::shown(value.name));
            reader.note(Problem::at(value.key, what).help(why));
        }
        // A file's tables come in the order of their names, so most are new at a glance.
        let new = self.places.last_key_value().is_none_or(|(last, _)| **last < *value.name);
        if !new && let Some(place) = self.places.get(value.name) {
            let what = format!("task `{}`", words::shown(value.name));
            reader.twice(&what, place.name, value.key);
            return;
        }
        if !value.is_table() {
            // Nothing more is known, so nothing more is said.
            reader.table(value, "[tasks.NAME]");
            let spec = TaskSpec::new(value.name, Vec::new());
            let place =
                Place { name: value.key, needs: Vec::new(), tags: Vec::new(), demands: Vec::new() };
            self.places.insert(spec.name.clone(), place);
            self.specs.push(spec);
            return;
        }
        let mut raw = RawTask::default();
        for entry in reader.table(value, "[tasks.NAME]") {
            raw.read(reader, entry);
        }
        let (spec, place) = finish(reader, value, raw, defaults, pools);
        self.places.insert(spec.name.clone(), place);
        self.specs.push(spec);
    }
}

fn finish<'s>(
    reader: &mut Reader<'s>,
    value: Value<'s>,
    mut raw: RawTask<'s>,
    defaults: &RawTask<'s>,
    pools: Option<&Pools>,
) -> (TaskSpec, Place) {
    for (name, filled) in &defaults.env {
        raw.env.entry(name).or_insert_with(|| filled.clone());
    }
    for (pool, demand) in &defaults.uses {
        raw.uses.entry(pool).or_insert_with(|| demand.clone());
    }
    raw.cwd = raw.cwd.or_else(|| defaults.cwd.clone());
    let mut spec = TaskSpec::new(value.name, Vec::new());
    let retry = retry(reader, &raw.retry, &defaults.retry);
    codes(reader, &mut spec, &raw, defaults);
    check_pools(reader, &raw.uses, pools);
    let demands = demands(&mut raw);
    spec.body = body(reader, value, &mut raw, defaults);
    spec.needs = raw.needs.iter().map(|need| need.value.into()).collect();
    spec.env =
        raw.env.into_iter().map(|(name, filled)| (name.to_owned(), filled.template)).collect();
    spec.cwd = raw.cwd.map(|filled| filled.template);
    spec.outputs = raw.outputs.or_else(|| defaults.outputs.clone()).unwrap_or_default();
    spec.env_pass = raw.env_pass.or_else(|| defaults.env_pass.clone()).unwrap_or_default();
    spec.env_file = raw.env_file.or_else(|| defaults.env_file.clone());
    spec.credentials = raw.credentials.or_else(|| defaults.credentials.clone()).unwrap_or_default();
    spec.timeout = raw.timeout.or(defaults.timeout);
    spec.kill_after = raw.kill_after.or(defaults.kill_after).unwrap_or(spec.kill_after);
    spec.retry = retry;
    spec.uses = raw.uses.iter().map(|(&pool, demand)| (pool.into(), demand.value)).collect();
    spec.priority = raw.priority.or(defaults.priority).unwrap_or_default();
    let tags = raw.tags.as_ref().or(defaults.tags.as_ref());
    spec.tags = tags.into_iter().flatten().map(|&tag| tag.into()).collect();
    spec.allow_failure = raw.allow_failure.or(defaults.allow_failure).unwrap_or_default();
    spec.on_crash = raw.on_crash.or(defaults.on_crash).unwrap_or_default();
    spec.on_daemon_stop = raw.on_daemon_stop.or(defaults.on_daemon_stop).unwrap_or_default();
    spec.rule = raw.rule.or(defaults.rule).unwrap_or_default();
    spec.confine = confine::merged(raw.confine, &defaults.confine);
    spec.log_max = raw.log_max.or(defaults.log_max).unwrap_or(spec.log_max);
    let needs = raw.needs.iter().zip(&spec.needs);
    let place = Place {
        name: value.key,
        needs: needs.map(|(at, name)| At { value: name.clone(), span: at.span }).collect(),
        tags: spec.tags.iter().cloned().collect(),
        demands,
    };
    (spec, place)
}

/// What the templates of a task ask for.
fn demands(raw: &mut RawTask<'_>) -> Vec<Demand> {
    let command = raw.command.iter_mut().flatten();
    let all: Vec<&mut Filled> = command.chain(raw.env.values_mut()).chain(&mut raw.cwd).collect();
    all.into_iter().flat_map(|filled| std::mem::take(&mut filled.demands)).collect()
}

/// Exactly one of `command` and `shell`.
fn body<'s>(
    reader: &mut Reader<'s>,
    value: Value<'s>,
    raw: &mut RawTask<'s>,
    defaults: &RawTask<'s>,
) -> Body {
    match raw.bodies.as_slice() {
        [] => {
            let what = format!("task `{}` has nothing to run", words::shown(value.name));
            let help = "give it `command = [\"program\", \"argument\"]` or `shell = \"script\"`";
            reader.note(Problem::at(value.key, what).help(help).absence());
        }
        [first, second, ..] => {
            let what = format!("task `{}` has two things to run", words::shown(value.name));
            let (first, second) = (*first.min(second), *first.max(second));
            reader.note(
                Problem::at(second, what)
                    .also(first, "this is the other")
                    .help("keep either `command` or `shell`"),
            );
        }
        [_] => {}
    }
    if let (Some(program), [_], Some(_)) = (&raw.shell_program, raw.bodies.as_slice(), &raw.command)
    {
        let what = "`shell_program` does nothing without `shell`";
        reader.note(Problem::at(program.span, what).help("remove it, or use `shell`"));
    }
    if let Some(script) = raw.shell {
        let program = raw.shell_program.take().or_else(|| defaults.shell_program.clone());
        let program =
            program.map_or_else(|| vec!["/bin/sh".into(), "-ec".into()], |program| program.value);
        return Body::Shell { program, script: script.to_owned() };
    }
    let arguments = raw.command.take().unwrap_or_default();
    Body::Command(arguments.into_iter().map(|filled| filled.template).collect())
}

fn retry(reader: &mut Reader<'_>, raw: &RawRetry, defaults: &RawRetry) -> Retry {
    let plain = Retry::default();
    let delay = raw.delay.or(defaults.delay).unwrap_or(plain.delay);
    let ceiling = raw.max_delay.as_ref().or(defaults.max_delay.as_ref());
    if let Some(ceiling) = ceiling.filter(|ceiling| ceiling.value < delay) {
        let what = "`max_delay` is shorter than `delay`";
        let help = format!("`delay` is {delay:?}, and `max_delay` is the ceiling of it");
        reader.note(Problem::at(ceiling.span, what).help(help));
    }
    let set = |raw: &Option<Codes<FailureKind>>, defaults: &Option<Codes<FailureKind>>| {
        let list = raw.as_ref().or(defaults.as_ref());
        list.into_iter().flatten().map(|failure| failure.value).collect::<BTreeSet<_>>()
    };
    Retry {
        max: raw.max.or(defaults.max).unwrap_or(plain.max),
        delay,
        factor: raw.factor.or(defaults.factor).unwrap_or(plain.factor),
        max_delay: ceiling.map_or(plain.max_delay.max(delay), |ceiling| ceiling.value),
        jitter: raw.jitter.or(defaults.jitter).unwrap_or(plain.jitter),
        on: set(&raw.on, &defaults.on),
        never_on: set(&raw.never_on, &defaults.never_on),
    }
}

/// Sets `success` and `skip`, and notes what stands in two of the four lists.
fn codes(reader: &mut Reader<'_>, spec: &mut TaskSpec, raw: &RawTask<'_>, defaults: &RawTask<'_>) {
    let success = raw.success.as_ref().or(defaults.success.as_ref());
    let skip = raw.skip.as_ref().or(defaults.skip.as_ref());
    let on = raw.retry.on.as_ref().or(defaults.retry.on.as_ref());
    let never = raw.retry.never_on.as_ref().or(defaults.retry.never_on.as_ref());
    if [success.is_some(), skip.is_some(), on.is_some(), never.is_some()] == [false; 4] {
        return;
    }
    let as_failures = |codes: Option<&Codes<i32>>| {
        let codes = codes.into_iter().flatten();
        codes.map(|code| (FailureKind::Code(code.value), Some(code.span))).collect::<Vec<_>>()
    };
    let placed = |codes: Option<&Codes<FailureKind>>| {
        let codes = codes.into_iter().flatten();
        codes.map(|code| (code.value, Some(code.span))).collect::<Vec<_>>()
    };
    let mut succeeding = as_failures(success);
    if success.is_none() {
        succeeding.push((FailureKind::Code(0), None));
    }
    let lists = [
        ("success", succeeding),
        ("skip", as_failures(skip)),
        ("retry.on", placed(on)),
        ("retry.never_on", placed(never)),
    ];
    let mut seen: BTreeMap<FailureKind, (&str, Option<Span>)> = BTreeMap::new();
    for (name, list) in &lists {
        for (failure, span) in list {
            let Some((other, before)) = seen.get(failure).filter(|(other, _)| other != name) else {
                seen.insert(*failure, (name, *span));
                continue;
            };
            let shown = match failure {
                FailureKind::Code(code) => format!("exit code {code}"),
                FailureKind::Timeout => "\"timeout\"".to_owned(),
                FailureKind::Signal => "\"signal\"".to_owned(),
                FailureKind::Oom => "\"oom\"".to_owned(),
            };
            let what = format!("{shown} stands in both `{other}` and `{name}`");
            let Some(place) = span.or(*before) else { continue };
            let mut problem = Problem::at(place, what).help("it can mean one thing only");
            problem = match before.filter(|before| *before != place) {
                Some(before) => problem.also(before, format!("here as `{other}`")),
                None => problem.help("without a `success` of its own, a task has `success = [0]`"),
            };
            reader.note(problem);
        }
    }
    let numbers = |codes: &Codes<i32>| codes.iter().map(|code| code.value).collect();
    spec.success = success.map_or_else(|| std::mem::take(&mut spec.success), numbers);
    spec.skip = skip.map(numbers).unwrap_or_default();
}

fn check_pools(reader: &mut Reader<'_>, uses: &BTreeMap<&str, At<u32>>, pools: Option<&Pools>) {
    let Some(pools) = pools else { return };
    for (&pool, demand) in uses {
        let shown = words::shown(pool);
        match pools.get(pool) {
            Some(size) if demand.value > size.value => {
                let what = format!(
                    "the task takes {} of pool `{shown}`, which has only {}",
                    demand.value, size.value
                );
                let problem = Problem::at(demand.span, what)
                    .label("could never start")
                    .also(size.span, "the pool's size");
                reader.note(problem.help("take less, or enlarge the pool"));
            }
            Some(_) => {}
            None => {
                let known = pools.keys().map(AsRef::as_ref);
                let meant = reader.suggest.did_you_mean(pool, known);
                let help = format!("define it: [pools] {shown} = {}", demand.value);
                let what = format!("there is no pool `{shown}`");
                reader.note(Problem::at(demand.span, what).maybe_help(meant).help(help));
            }
        }
    }
}
