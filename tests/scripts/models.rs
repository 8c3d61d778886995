//! A configuration in a few words: one line per task, trigger, pool and limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dagd::core::calendar::Schedule;
use dagd::core::candidate::Kind;
use dagd::core::filter::{Filter, KeyPattern, Pattern};
use dagd::core::graph::Graph;
use dagd::core::model::Model;
use dagd::core::selector::Selector;
use dagd::core::sidecar::{Checksum, Sidecar};
use dagd::core::task::{FailureKind, OnCrash, TaskSpec};
use dagd::core::template::Template;
use dagd::core::trigger::{
    CatchUp, FanOut, FileType, Folder, FolderSpec, IdempotentKey, InitialScan, OnConflict, Overlap,
    RateLimit, ReadLock, ScheduleSpec, Sort, Source, TriggerSpec,
};
use jiff::tz::TimeZone;

/// `key=value` words of a line.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl Words<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key).map(|text| text.parse().ok().expect("a number"))
    }

    fn time(&self, key: &str) -> Option<Duration> {
        self.get(key).map(time)
    }
}

pub(crate) fn time(text: &str) -> Duration {
    if let Some(hours) = text.strip_suffix('h') {
        return Duration::from_hours(hours.parse().expect("hours"));
    }
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().expect("milliseconds")),
        None => Duration::from_secs_f64(text.trim_end_matches('s').parse().expect("seconds")),
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("a template")
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).expect("a known word")
}

pub(crate) fn model(text: &str) -> Arc<Model> {
    let mut tasks = Vec::new();
    let mut triggers = BTreeMap::new();
    let mut pools = BTreeMap::new();
    let (mut slots, mut max_live_runs) = (2, 8);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split_whitespace();
        let (what, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let words = Words(parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect());
        match what {
            "slots" => slots = name.parse().expect("a number"),
            "live" => max_live_runs = name.parse().expect("a number"),
            "pool" => {
                pools.insert(name.into(), words.number("size").unwrap_or(1));
            }
            "task" => tasks.push(task(name, &words)),
            _ => {
                let spec = trigger(what, name, &words, line);
                triggers.insert(spec.name.clone(), Arc::new(spec));
            }
        }
    }
    let graph = Arc::new(Graph::build(tasks).expect("a graph"));
    let stop_timeout = Duration::from_secs(30);
    let can_leave = false;
    Arc::new(Model { graph, triggers, pools, slots, max_live_runs, stop_timeout, can_leave })
}

fn task(name: &str, words: &Words<'_>) -> TaskSpec {
    let mut task = TaskSpec::new(name, Vec::new());
    task.needs =
        words.get("needs").into_iter().flat_map(|n| n.split(',')).map(Into::into).collect();
    task.rule = words.get("rule").map(word).unwrap_or_default();
    task.retry.max = words.number("retry").unwrap_or(0);
    task.retry.delay = words.time("delay").unwrap_or(Duration::from_secs(1));
    task.retry.jitter = words.get("jitter").is_some();
    if words.get("never") == Some("timeout") {
        task.retry.never_on = [FailureKind::Timeout].into();
    }
    task.timeout = words.time("timeout");
    task.kill_after = words.time("kill_after").unwrap_or(task.kill_after);
    task.priority = words.number("priority").unwrap_or(0);
    task.allow_failure = words.get("allow_failure").is_some();
    task.skip = [99].into();
    if words.get("on_crash") == Some("fail") {
        task.on_crash = OnCrash::Fail;
    }
    for draw in words.get("uses").into_iter().flat_map(|uses| uses.split(',')) {
        let (pool, demand) = draw.split_once(':').unwrap_or((draw, "1"));
        task.uses.insert(pool.into(), demand.parse().expect("a number"));
    }
    task
}

fn trigger(what: &str, name: &str, words: &Words<'_>, line: &str) -> TriggerSpec {
    let batch = what == "watch" || words.get("batch").or(words.get("fan")).is_some();
    let overlap = match words.get("overlap") {
        None if matches!(what, "watch" | "schedule" | "absent") => Overlap::Coalesce,
        None => Overlap::Queue,
        Some("signal") => Overlap::Signal(12),
        Some(other) => word(other),
    };
    let source = match what {
        "signal" => Source::Signal { signo: 10, name: "SIGUSR1".into(), sender_uid: Vec::new() },
        "schedule" => {
            let cron = words.get("cron").expect("a schedule").replace('_', " ");
            let schedule = Schedule::new(&cron, TimeZone::UTC, "UTC").expect("a schedule");
            let catch_up = words.get("catch_up").map_or(CatchUp::Last, word);
            Source::Schedule(Box::new(ScheduleSpec { schedule, catch_up }))
        }
        "absent" => Source::Absent {
            after: words.time("after").expect("a time"),
            of: words.get("of").expect("a trigger").into(),
        },
        "drop" | "watch" => Source::Folder(Box::new(folder(what, name, words))),
        other => {
            assert_eq!(other, "drop", "a line of a model: {line}");
            return trigger("signal", name, words, line);
        }
    };
    let timed = matches!(what, "schedule" | "absent");
    let once = timed || what == "signal" || batch && words.get("fan").is_none();
    TriggerSpec {
        name: name.into(),
        source,
        select: Selector::parse(words.get("run").unwrap_or("*")).expect("a selector"),
        overlap,
        max_runs: words.number("max_runs").or(once.then_some(1)),
        order_key: words.get("key").map(template),
        rate_limit: words.get("rate").map(|text| {
            let (runs, per) = text.split_once('/').expect("runs/time");
            RateLimit { runs: runs.parse().expect("a number"), per: time(per) }
        }),
        on_removal: words.get("removal").map(word).unwrap_or_default(),
        rev: line.into(),
    }
}

fn folder(what: &str, name: &str, words: &Words<'_>) -> FolderSpec {
    let watch = what == "watch";
    let baseline = words.get("initial").map_or(watch, |initial| initial == "baseline");
    let mut kinds = vec![Kind::Created, Kind::Modified];
    kinds.extend(watch.then_some(Kind::Deleted));
    if let Some(kind) = words.get("kind") {
        kinds = vec![word(kind)];
    }
    let list = |key| words.get(key).into_iter().flat_map(|list| list.split(','));
    let mut spec = FolderSpec {
        recursive: false,
        kinds,
        read_lock: if watch { ReadLock::None } else { ReadLock::Auto },
        settle: words.time("settle").unwrap_or_default(),
        settle_empty: words.time("empty").or(words.time("settle")).unwrap_or_default(),
        max_wait: words.time("max_wait"),
        min_age: words.time("min_age").unwrap_or_default(),
        min_size: words.number("min_size").unwrap_or(0),
        max_size: words.number("max_size").unwrap_or(u64::MAX),
        max_hops: words.number("max_hops").unwrap_or(8),
        done_file: words.get("done").map(|text| Sidecar::parse(text).expect("a sidecar")),
        file_type: words.get("type").map_or(FileType::File, word),
        ready_alarm: words.time("alarm"),
        fan_out: match words.get("fan") {
            Some(fan_out) => word(fan_out),
            None if watch || words.get("batch").is_some() => FanOut::Batch,
            None => FanOut::File,
        },
        set_key: words.get("set_key").map(|text| KeyPattern::new(text).expect("a key")),
        set: list("set").map(|text| Pattern::new(text).expect("a pattern")).collect(),
        sort_by: list("sort").map(sort).collect(),
        batch_max_files: words.number("batch").unwrap_or(1000),
        initial_scan: if baseline { InitialScan::Baseline } else { InitialScan::Unprocessed },
        checksum_file: words.get("checksum").map(|name| {
            (Sidecar::parse(name).expect("a sidecar"), Checksum::told_by(name).expect("a kind"))
        }),
        idempotent_key: match words.get("same") {
            None => IdempotentKey::Version,
            Some("path") => IdempotentKey::Path,
            Some("name+size") => IdempotentKey::NameSize,
            Some("content") => IdempotentKey::Content,
            Some(text) => IdempotentKey::Template(template(text)),
        },
        renamed_from: words.get("was").map(Into::into),
        initial_max: words.number("initial_max").unwrap_or(10_000),
        pre_move: words.get("pre_move").map(template),
        delete: words.get("delete").is_some(),
        on_conflict: words.get("conflict").map_or(OnConflict::Rename, word),
        move_to: words.get("move").map(template),
        move_failed: words.get("move_failed").map(template),
        ..FolderSpec::new(
            if watch { Folder::Watch } else { Folder::Drop },
            format!("/{name}").into(),
            Filter::new(
                vec!["**/*".into()],
                list("exclude").map(Into::into).collect(),
                true,
                false,
            )
            .expect("a filter"),
        )
    };
    spec.batch_max_wait = words.time("gather").or(spec.default_batch_wait());
    spec
}

fn sort(text: &str) -> Sort {
    let (reverse, by) = text.strip_prefix('-').map_or((false, text), |by| (true, by));
    Sort { by: word(by), reverse }
}
