//! What people see: every view of the command line as text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dagd::cli::text::Style;
use dagd::cli::{explain, graph, pending, plan, runs, show, status};
use dagd::core::filter::Filter;
use dagd::core::graph::Graph;
use dagd::core::id::Wall;
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::selector::Selector;
use dagd::core::task::{Body, Rule, TaskSpec};
use dagd::core::template::Template;
use dagd::core::trigger::{Folder, FolderSpec, Overlap, Source, TriggerSpec};
use dagd::wire::{
    AttemptRow, Explain, ExplainTrigger, PathText, PendingEntry, Reload, Run, RunDetail, RunFile,
    Signal, Status, Task, TriggerStatus,
};
use insta::assert_snapshot;
use jiff::Timestamp;

const PLAIN: Style = Style { color: false };

fn now() -> Timestamp {
    at(100).parse().unwrap()
}

fn at(seconds: i64) -> String {
    dagd::wire::time(Wall(1_767_225_600_000_000_000 + seconds * 1_000_000_000))
}

fn path(text: &str) -> PathText {
    PathText::from(&Bytes::from(text))
}

fn file(rel: &str) -> RunFile {
    RunFile {
        path: path(&format!("/srv/inbox/{rel}")),
        rel: rel.to_owned(),
        kind: "created".to_owned(),
        size: 2048,
        moved_to: Some(path(&format!("/srv/failed/{rel}"))),
        move_error: None,
        outcome: Some("moved".to_owned()),
    }
}

fn run(id: u64, state: &str, files: Vec<RunFile>) -> Run {
    let ended = matches!(state, "succeeded" | "failed" | "cancelled");
    Run {
        id,
        trigger: Some("orders".to_owned()),
        reason: "event".to_owned(),
        state: state.to_owned(),
        files,
        rev: "0123456789abcdef".to_owned(),
        created_at: at(10),
        started_at: (state != "queued").then(|| at(11)),
        ended_at: ended.then(|| at(14)),
    }
}

fn attempt(number: u32, exit_code: Option<i32>) -> AttemptRow {
    AttemptRow {
        attempt: number,
        exit_code,
        signal: None,
        error: None,
        leftovers: 0,
        started_at: Some(at(11)),
        ended_at: Some(at(13)),
        memory_peak: None,
        cpu_us: None,
        log: None,
    }
}

fn task(name: &str, state: &str, cause: Option<&str>, attempts: Vec<AttemptRow>) -> Task {
    Task {
        name: name.to_owned(),
        state: state.to_owned(),
        cause: cause.map(str::to_owned),
        attempts,
    }
}

#[test]
fn the_listing() {
    let mut by_hand = run(9, "queued", Vec::new());
    by_hand.trigger = None;
    by_hand.reason = "manual".to_owned();
    let evil = file("evil\n\x1b]0;owned\x07.csv");
    let runs = [
        by_hand,
        run(8, "running", vec![file("a.csv"), file("b.csv"), file("c.csv")]),
        run(7, "failed", vec![evil]),
    ];
    assert_snapshot!(runs::table(&runs, now(), PLAIN), @r"
    RUN  STATE    TRIGGER  REASON  FILES                          CREATED    TOOK
      9  queued   -        manual                                 1 min ago
      8  running  orders   event   a.csv + 2 more files           1 min ago  1 min 29 s
      7  failed   orders   event   evil\n\u{1b}]0;owned\u{7}.csv  1 min ago  3.0 s
    ");
}

#[test]
fn a_run_and_all_of_its_tasks() {
    let lost = AttemptRow { signal: Some(9), leftovers: 2, ..attempt(2, None) };
    let logged = AttemptRow {
        log: Some("/var/lib/dagd/logs/7.load.1.log".into()),
        cpu_us: Some(1_234_567),
        memory_peak: Some(3 << 20),
        ..attempt(1, Some(75))
    };
    let mut stuck = file("b.csv");
    stuck.moved_to = None;
    stuck.move_error = Some("/srv/failed: no such folder".to_owned());
    let missing = AttemptRow {
        error: Some("cannot start `psql`: not found in PATH".to_owned()),
        ..attempt(1, None)
    };
    let detail = RunDetail {
        run: run(7, "failed", vec![file("a.csv"), stuck]),
        select: "checksum+".to_owned(),
        parent: Some(3),
        signal: None,
        scheduled_at: None,
        tasks: vec![
            task("alert", "succeeded", None, vec![attempt(1, Some(0))]),
            task("checksum", "succeeded", None, vec![attempt(1, Some(0))]),
            task("load", "failed", None, vec![logged, lost]),
            task("psql", "failed", None, vec![missing]),
            task("report", "skipped", Some("upstream_failed"), Vec::new()),
        ],
    };
    assert_snapshot!(show::story(&detail, now(), PLAIN), @r"
    run 7 failed
      trigger  orders, event of run 3
      select   checksum+
      graph    0123456789abcdef
      created  2026-01-01 00:00:10 UTC (1 min ago)
      took     3.0 s

    FILES
    /srv/inbox/a.csv  created, 2.0 KiB
      moved to /srv/failed/a.csv
    /srv/inbox/b.csv  created, 2.0 KiB
      not moved: /srv/failed: no such folder

    TASK      STATE      TRY  END       TOOK   CPU    MEMORY   WHY
    alert     succeeded    1  exit 0    2.0 s
    checksum  succeeded    1  exit 0    2.0 s
    load                   1  exit 75   2.0 s  1.2 s  3.0 MiB
    load      failed       2  signal 9  2.0 s                  2 left behind and killed
    psql      failed       1            2.0 s                  cannot start `psql`: not found in PATH
    report    skipped                                          upstream_failed

    LOGS
    /var/lib/dagd/logs/7.load.1.log
    ");
}

#[test]
fn a_run_for_a_signal_that_goes_on() {
    let signal = Signal {
        signal: "SIGRTMIN+1".to_owned(),
        value: Some(42),
        sender_pid: Some(100),
        sender_uid: Some(0),
    };
    let started = AttemptRow { exit_code: None, ended_at: None, ..attempt(1, None) };
    let mut detail = RunDetail {
        run: run(8, "running", Vec::new()),
        select: "tag:logs".to_owned(),
        parent: None,
        signal: Some(signal),
        scheduled_at: None,
        tasks: vec![task("rotate", "running", None, vec![started])],
    };
    detail.run.reason = "signal".to_owned();
    assert_snapshot!(show::story(&detail, now(), PLAIN), @r"
    run 8 running
      trigger  orders, signal SIGRTMIN+1, value 42, from pid 100, uid 0
      select   tag:logs
      graph    0123456789abcdef
      created  2026-01-01 00:00:10 UTC (1 min ago)
      so far   1 min 29 s

    TASK    STATE    TRY  TOOK
    rotate  running    1  1 min 29 s
    ");
}

fn at_a_glance() -> Status {
    let trigger = |name: &str, kind: &str, source: &str, state: &str| TriggerStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        state: state.to_owned(),
        reason: None,
        readiness: (kind != "signal").then(|| "proved".to_owned()),
        noticed_by: (kind != "signal").then(|| "events".to_owned()),
        directories: u64::from(kind != "signal"),
        pending: 0,
        late: 0,
        late_oldest: None,
        queued: 3,
        live_runs: 1,
        scanning: state == "active" && kind == "drop",
        quarantined: u64::from(kind == "drop") * 2,
        stuck: 0,
        next_at: None,
    };
    let mut paused = trigger("old", "drop", "/srv/old", "paused");
    (paused.late, paused.late_oldest) = (3, Some(path("/srv/old/a\tb.csv")));
    paused.reason = Some("a first scan found 20000 files; `dagd resume old` takes them".to_owned());
    Status {
        version: "0.1.0".to_owned(),
        pid: 4711,
        state: "running".to_owned(),
        stalled: None,
        started_at: at(0),
        config: "/etc/dagd/dagd.toml".to_owned(),
        reload: Some(reload(true, "1 task added\nmore", 40)),
        rev: "0123456789abcdef".to_owned(),
        state_dir: "/var/lib/dagd".to_owned(),
        containment: "process groups".to_owned(),
        running: 2,
        slots: 8,
        ready: 5,
        live_runs: 4,
        max_live_runs: 64,
        triggers: vec![
            trigger("orders", "drop", "/srv/inbox", "active"),
            paused,
            trigger("rotate", "signal", "SIGUSR1", "active"),
        ],
        problems: vec!["/srv/nfs cannot be watched; it is looked at every 60 s".to_owned()],
        counters: BTreeMap::new(),
    }
}

fn reload(ok: bool, text: &str, seconds: i64) -> Reload {
    let (cause, changes, warnings) = ("signal".to_owned(), Vec::new(), Vec::new());
    Reload { ok, text: text.to_owned(), cause, changes, warnings, at: at(seconds) }
}

#[test]
fn the_daemon_at_a_glance() {
    assert_snapshot!(status::overview(&at_a_glance(), now(), PLAIN), @r"
    dagd      0.1.0 running, pid 4711, started 1 min ago
    config    /etc/dagd/dagd.toml (graph 0123456789abcdef)
    reload    in force, 1 min ago: 1 task added
    state     /var/lib/dagd
    processes process groups
    tasks     2 of 8 slots busy, 5 ready
    runs      4 of 64 alive

    TRIGGER  STATE   SOURCE           COMPLETE  DIRS  PENDING  QUEUED  LIVE  QUARANTINE  WHY
    orders   active  drop /srv/inbox  proved       1        0       3     1           2  scanning
    old      paused  drop /srv/old    proved       1        0       3     1           2  a first scan found 20000 files; `dagd resume old` takes them
    rotate   active  signal SIGUSR1                         0       3     1

    ! /srv/nfs cannot be watched; it is looked at every 60 s
    ! old: 3 files not ready for longer than ready_alarm, the longest /srv/old/a\tb.csv
    ");
    let stalled = Status {
        state: "stalled".to_owned(),
        stalled: Some("no space left on /var/lib/dagd".to_owned()),
        reload: Some(reload(false, "dagd.toml:3:1: unknown key", 99)),
        triggers: Vec::new(),
        problems: Vec::new(),
        ..at_a_glance()
    };
    assert_snapshot!(status::overview(&stalled, now(), PLAIN), @r"
    dagd      0.1.0 stalled, pid 4711, started 1 min ago
    stalled   no space left on /var/lib/dagd
    config    /etc/dagd/dagd.toml (graph 0123456789abcdef)
    reload    refused, 1 s ago: dagd.toml:3:1: unknown key
    state     /var/lib/dagd
    processes process groups
    tasks     2 of 8 slots busy, 5 ready
    runs      4 of 64 alive
    ");
}

#[test]
fn what_waits() {
    let entries = [
        PendingEntry {
            trigger: Some("orders".to_owned()),
            file: Some(path("/srv/inbox/a\tb.csv")),
            stage: "pending".to_owned(),
            reason: "writer_open".to_owned(),
            since: at(40),
            run: None,
        },
        PendingEntry {
            trigger: None,
            file: None,
            stage: "queued".to_owned(),
            reason: "max_live_runs".to_owned(),
            since: at(99),
            run: Some(12),
        },
    ];
    assert_snapshot!(pending::table(&entries, now(), PLAIN), @r"
    TRIGGER  STAGE    RUN  SINCE      FOR            FILE
    orders   pending       1 min ago  writer_open    /srv/inbox/a\tb.csv
    -        queued    12  1 s ago    max_live_runs
    ");
}

#[test]
fn why_a_path_ran() {
    let one = ExplainTrigger {
        trigger: "orders".to_owned(),
        verdict: "delivered".to_owned(),
        text: "it was delivered to run 12, which failed; it was moved to /srv/failed/a.csv.".into(),
        run: Some(12),
        run_state: Some("failed".to_owned()),
        moved_to: Some(path("/srv/failed/a.csv")),
    };
    let explained =
        Explain { path: path("/srv/inbox/a.csv"), now: "absent".to_owned(), triggers: vec![one] };
    assert_snapshot!(explain::path_story(&explained, PLAIN), @r"
    /srv/inbox/a.csv: nothing there now
      orders delivered: it was delivered to run 12, which failed; it was moved to /srv/failed/a.csv.
    more: dagd show 12
    ");
    let nobody = Explain { triggers: Vec::new(), ..explained };
    assert_snapshot!(explain::path_story(&nobody, PLAIN), @r"
    /srv/inbox/a.csv: nothing there now
    no trigger's folder holds this path, and no run moved a file to it
    ");
}

#[test]
fn why_a_task_ran() {
    let tasks = [
        task("a", "succeeded", None, vec![attempt(1, Some(0))]),
        task("b", "failed", None, vec![attempt(1, Some(1)), attempt(2, Some(2))]),
        task("c", "skipped", Some("exit_code"), vec![attempt(1, Some(99))]),
        task("d", "skipped", Some("upstream_failed"), Vec::new()),
        task("e", "ready", Some("waits for pool `gpu`"), Vec::new()),
        task("f", "cancelled", None, Vec::new()),
        task("g", "succeeded", Some("pass_through"), Vec::new()),
    ];
    let told: Vec<String> = tasks.iter().map(explain::task_story).collect();
    assert_snapshot!(told.join("\n"), @r#"
    a succeeded after 1 attempt
    b failed after 2 attempts, the last with exit 2
    c ended with exit 99, which it calls "nothing to do"
    d was skipped: something that it needs failed
    e may start, and waits for a slot or a pool: waits for pool `gpu`
    f was cancelled before it started
    g counts as succeeded without having been run: pass_through
    "#);
}

fn spec(name: &str, needs: &[&str], command: &[&str]) -> TaskSpec {
    let command = command.iter().map(|text| Template::parse(text).unwrap()).collect();
    let mut task = TaskSpec::new(name, command);
    task.needs = needs.iter().map(|&need| need.into()).collect();
    task
}

fn model() -> Model {
    let mut load = spec("load", &["check"], &[]);
    load.body = Body::Shell {
        program: vec!["/bin/sh".to_owned(), "-ec".to_owned()],
        script: "\npsql -c 'copy'\necho done\n".to_owned(),
    };
    load.uses = BTreeMap::from([("db".into(), 2)]);
    let mut alert = spec("alert", &["check", "load"], &["logger", "{name} failed in {failed}"]);
    alert.rule = Rule::OneFailed;
    let mut report =
        spec("report", &["load"], &["report", "--day={date:%Y-%m-%d}", "{out.load.rows}"]);
    report.tags.insert("daily".into());
    let tasks = vec![spec("check", &[], &["sha256sum", "{path}"]), load, alert, report];
    let folder = FolderSpec::new(
        Folder::Drop,
        PathBuf::from("/srv/inbox"),
        Filter::new(vec!["*.csv".to_owned()], Vec::new(), true, false).unwrap(),
    );
    let trigger = |name: &str, select: &str| {
        Arc::new(TriggerSpec {
            name: name.into(),
            source: Source::Folder(Box::new(folder.clone())),
            select: Selector::parse(select).unwrap(),
            overlap: Overlap::Queue,
            max_runs: None,
            order_key: None,
            rate_limit: None,
            on_removal: dagd::core::bound::OnRemoval::default(),
            rev: "r".into(),
        })
    };
    let triggers = [("orders", "check+"), ("ends", "check,report")];
    Model {
        graph: Arc::new(Graph::build(tasks).unwrap()),
        triggers: triggers.map(|(name, select)| (name.into(), trigger(name, select))).into(),
        pools: BTreeMap::from([("db".into(), 2)]),
        slots: 2,
        max_live_runs: 64,
        stop_timeout: Duration::from_secs(30),
        can_leave: false,
    }
}

#[test]
fn a_graph_in_every_form() {
    let model = model();
    let all = model.graph.plan(&Selector::parse("*").unwrap());
    assert_snapshot!(graph::tree(&model.graph, &all, PLAIN), @r"
    check
    ├─ alert  one_failed
    └─ load
       ├─ alert  one_failed
       └─ report
    ");
    let ends = model.graph.plan(&Selector::parse("check,report").unwrap());
    assert_snapshot!(graph::tree(&model.graph, &ends, PLAIN), @r"
    check
    └─ load  passed through
       └─ report
    ");
    assert_snapshot!(graph::dot(&model.graph, &ends), @r#"
    digraph dagd {
      rankdir=LR;
      node [shape=box];
      "check";
      "load" [style=dashed];
      "report";
      "check" -> "load";
      "load" -> "report";
    }
    "#);
    assert_snapshot!(graph::mermaid(&model.graph, &ends), @r#"
    flowchart LR
      t0["check"]
      t1(["load"])
      t2["report"]
      t0 --> t1
      t1 --> t2
    "#);
    let shape = serde_json::to_value(graph::shape(&model.graph, &ends)).unwrap();
    assert_eq!(shape["tasks"][1]["name"], "load");
    assert_eq!(shape["tasks"][1]["pass"], true);
    assert_eq!(shape["tasks"][2]["needs"], serde_json::json!(["load"]));
    assert_eq!(shape["tasks"][2]["tags"], serde_json::json!(["daily"]));
}

fn planned(trigger: &str, path: Option<&str>) -> String {
    let model = model();
    let spec = &model.triggers[trigger];
    let path = path.map(Bytes::from);
    let event = plan::Supposed {
        trigger: spec,
        path: path.as_ref(),
        rel: path
            .as_ref()
            .and_then(|path| dagd::io::control::below(&spec.folder().unwrap().root, path)),
        at: Wall(1_767_225_600_000_000_000),
        utc_offset_s: 3600,
    };
    let refused = event.refused();
    let mut text = plan::head(&event, refused.as_deref(), PLAIN);
    if refused.is_none() {
        text += &plan::steps(&model.graph, &model.graph.plan(&spec.select), &event, PLAIN);
    }
    text
}

#[test]
fn a_plan_with_its_reasons() {
    assert_snapshot!(planned("orders", Some("/srv/inbox/it's.csv")), @r"
    orders  drop /srv/inbox, runs check+
    takes /srv/inbox/it's.csv

    level 1
      check  selected
        sha256sum '/srv/inbox/it'\''s.csv'

    level 2
      load  selected; after check; 2 of pool db
        /bin/sh -ec: psql -c 'copy'  (+ 1 line)

    level 3
      alert  selected; after check, load; rule one_failed
        logger 'it'\''s.csv failed in {failed}'
      report  selected; after load
        report --day=2026-01-01 {out.load.rows}

    4 tasks, 3 levels
    ");
    assert_snapshot!(planned("ends", None), @r"
    ends  drop /srv/inbox, runs check,report

    level 1
      check  selected
        sha256sum {path}

    level 2
      load  not selected, lies between selected tasks: passed through; after check

    level 3
      report  selected; after load
        report --day=2026-01-01 {out.load.rows}

    2 tasks, 1 passed through, 3 levels
    ");
    assert_snapshot!(planned("orders", Some("/srv/inbox/a.csv.part")), @r"
    orders  drop /srv/inbox, runs check+
    does not take /srv/inbox/a.csv.part: default_ignores: *.part
    ");
    assert_snapshot!(planned("orders", Some("/srv/a.csv")), @r#"
    orders  drop /srv/inbox, runs check+
    does not take /srv/a.csv: it does not lie below /srv/inbox
    "#);
}

#[test]
fn selectors_on_the_command_line_are_checked() {
    let model = model();
    assert!(graph::selector(&model, "+report,-alert").is_ok());
    let bad = graph::selector(&model, "a b").unwrap_err();
    assert_snapshot!(bad.text, @r"
    bad selector: unexpected `b`
      a b
        ^
    ");
    let none = graph::selector(&model, "nothing+").unwrap_err();
    assert_eq!((none.exit as u8, none.text.as_str()), (3, "no task matches nothing"));
}

#[test]
fn colors_are_set_off_and_off() {
    let text = runs::table(&[run(7, "failed", Vec::new())], now(), Style { color: true });
    assert!(text.contains("\x1b[31mfailed\x1b[0m"), "{text:?}");
    assert!(!runs::table(&[run(7, "failed", Vec::new())], now(), PLAIN).contains('\x1b'));
}
