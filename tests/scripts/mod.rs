//! Scripts for the machine: events in, a line for each record and each command out.
//!
//! | line | event |
//! |---|---|
//! | `+5s` | time passes, with a tick at each deadline |
//! | `see in a v1`, `scan …`, `look …`, `stale …` | an observation; also `v1:SIZE`, `gone`, and behind a |
//! | | version `writing`, `undone` (no done file), `unproved`, `unreadable`, `toolong` |
//! | `stamp in a v1`, `stale-stamp …` | an observation that nothing but attributes changed |
//! | `scanned in`, `counted in 7` | the end of a scan, of a count |
//! | `check 1 good`, `check 1 good k`, `check 1 good k 7`, `check 1 differs` | the answer to a check: its key, the run that had it; also `untold`, `changed`, `unreadable`; `stale-check` before all commits |
//! | `signal s 5` | a signal, with a value |
//! | `end 1.a 0`, `end 1.a#1 sig9`, `end 1.a 0 k=v` | the end of an attempt |
//! | `moved 1.0 ok` | the end of a move: `ok`, `deleted`, `kept`, `superseded`, `gone`, `failed`, `stamped v1` |
//! | `taken 1.0 ok` | the same of one before the first task; `stuck` for either: not yet |
//! | `fire in a v1`, `fire in`, `fire-select a+`, `retry 1 keep a` | a start by hand |
//! | `cancel 1`, `cancel 1 a`, `pause in`, `resume in`, `stop` | requests |
//! | `expired` | what left the configuration before now is not remembered any more |
//! | `clock +2h`, `clock -2h` | the calendar clock is set |
//! | `down 5s` | time passes, and nobody notices; with a `crash` behind it dagd was down |
//! | `takeover 1.a 5s` | a restart; the attempt goes on, and has run for so long |
//! | `crash`, `reload` | a restart; the other model comes into force |
//! | `idle` | none: no deadline is left |

mod models;
mod show;
#[path = "../sim/store.rs"]
#[expect(dead_code, reason = "the simulator uses more of it")]
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dagd::core::candidate::{Disk, Observed, Origin, Probe, Seen, Version};
use dagd::core::check::{Checked, Finding};
use dagd::core::disposition::{Disposed, MoveResult, Phase};
use dagd::core::effect::{Command, Out};
use dagd::core::event::{Event, Fire, FireFile, FireWhat, Request, RetryOf};
use dagd::core::id::{Attempt, AttemptId, Mono, Name, Now, RunId, Seq, Wall};
use dagd::core::machine::{Left, Machine};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::{Record, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::task::{Ended, Exit};

use self::store::Store;

struct Play {
    model: Arc<Model>,
    machine: Machine,
    store: Store,
    now: u64,
    seq: u64,
    /// By how much the calendar clock was set, in nanoseconds.
    set: i64,
    text: String,
    /// The triggers of the checks that were asked for.
    asked: BTreeMap<u64, Name>,
}

/// Plays the script and compares all that comes of it with what is expected.
pub(crate) fn check(model: &str, script: &str, expected: &str) {
    check_reload(model, "", script, expected);
}

/// The same, with a second model for `reload`.
pub(crate) fn check_reload(model: &str, second: &str, script: &str, expected: &str) {
    let got = play(model, second, script);
    let plain = |text: &str| {
        text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(plain(&got), plain(expected), "\n<<<\n{got}>>>");
}

/// As [`check`], of a drop folder `in` that holds nothing at first: what that makes is left out.
pub(crate) fn check_empty(model: &str, script: &str, expected: &str) {
    check_empty_reload(model, "", script, expected);
}

/// The same, with a second model for `reload`.
pub(crate) fn check_empty_reload(model: &str, second: &str, script: &str, expected: &str) {
    let before = "-> count in to 10000\n> counted in 0\narmed in\n-> scan in\n";
    let (script, expected) = (format!("counted in 0\n{script}"), format!("{before}{expected}"));
    check_reload(model, second, &script, &expected);
}

fn play(model: &str, second: &str, script: &str) -> String {
    let mut models = vec![models::model(if second.is_empty() { model } else { second })];
    models.push(models::model(model));
    let start = 1_000_000_000;
    let mut play = Play::boot(models[1].clone(), Store::default(), (start, 0), String::new(), None);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        play.tell(&format!("> {line}"));
        match line {
            "crash" => {
                let Play { model, store, now, set, text, .. } = play;
                play = Play::boot(model, store, (now, set), text, None);
            }
            _ if line.starts_with("takeover") => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let left = Left::Running(Some(models::time(words[2])));
                let id = play.attempt(words[1]);
                let Play { model, store, now, set, text, .. } = play;
                play = Play::boot(model, store, (now, set), text, Some((id, left)));
            }
            "restart" => {
                models.rotate_left(1);
                let Play { store, now, set, text, .. } = play;
                play = Play::boot(models[1].clone(), store, (now, set), text, None);
            }
            "reload" => {
                models.rotate_left(1);
                play.model = models[1].clone();
                play.step(Event::Reloaded(play.model.clone()));
            }
            "idle" => assert_eq!(play.machine.next_deadline(), None, "{}", play.text),
            _ => play.line(line),
        }
    }
    play.text
}

fn now_at(at: u64) -> Now {
    let wall = Wall(1_700_000_000_000_000_000 + i64::try_from(at).expect("in this age"));
    Now { mono: Mono(at), wall, utc_offset_s: 0 }
}

/// The same with a calendar clock that was set.
fn now_by(at: u64, set: i64) -> Now {
    let now = now_at(at);
    Now { wall: Wall(now.wall.0 + set), ..now }
}

fn version(text: &str) -> Version {
    let (number, size) = text.trim_start_matches('v').split_once(':').unwrap_or((&text[1..], "1"));
    let mtime_ns = number.parse().expect("a version");
    Version { file: "i".into(), size: size.parse().expect("a size"), mtime_ns }
}

impl Play {
    fn boot(
        model: Arc<Model>,
        store: Store,
        (now, set): (u64, i64),
        text: String,
        left: Option<(AttemptId, Left)>,
    ) -> Self {
        let mut out = Out::default();
        let at = now_by(now, set);
        let mut recovering = store.fold(&model, 7, at);
        if let Some((id, left)) = left {
            recovering.found(id, left);
        }
        let machine = recovering.finish(at, Seq(1), &mut out);
        let asked = BTreeMap::new();
        let mut play = Self { model, machine, store, now, seq: 0, set, text, asked };
        play.commit(&out);
        play
    }

    fn tell(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn step(&mut self, event: Event) {
        let mut out = Out::default();
        let now = now_by(self.now, self.set);
        self.machine.step(now, Seq(self.seq + 1), event, &mut out);
        self.machine.check_invariants();
        self.commit(&out);
    }

    fn commit(&mut self, out: &Out) {
        for record in &out.records {
            // One for each trigger that ever has an event: of no interest here.
            if !matches!(record, Record::TriggerBound { .. }) {
                self.tell(&show::record(&self.machine, record));
            }
            self.store.apply(record, |rev| self.machine.graph(rev).cloned());
        }
        for command in &out.commands {
            if let Command::Check(check) = command {
                self.asked.insert(check.number, check.trigger.clone());
            }
            self.tell(&format!("-> {}", show::command(&self.machine, command)));
        }
        self.seq += u64::from(!out.records.is_empty());
        self.machine.forget();
    }

    fn pass(&mut self, by: Duration) {
        let until = Mono(self.now).after(by).0;
        while let Some(due) = self.next_due().filter(|at| *at <= until) {
            self.now = self.now.max(due);
            self.step(Event::Tick);
        }
        self.now = until;
    }

    /// When the next deadline or occurrence is due, on the clock for deadlines.
    fn next_due(&self) -> Option<u64> {
        let here = now_at(self.now).wall.0 + self.set;
        let ahead = self.machine.next_occurrence().map(|at| at.0.saturating_sub(here).max(0));
        let occurrence = ahead.map(|ahead| self.now + ahead.unsigned_abs());
        self.machine.next_deadline().map(|at| at.0).into_iter().chain(occurrence).min()
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let trigger = || -> Name { words[1].into() };
        let ask = |request| Event::Requested { token: 9, request };
        let event = match words[0] {
            "down" => {
                let by = u64::try_from(models::time(words[1]).as_nanos()).expect("in range");
                return self.now += by;
            }
            "clock" => {
                let by = i64::try_from(models::time(&words[1][1..]).as_nanos()).expect("in range");
                self.set += if words[1].starts_with('-') { -by } else { by };
                Event::ClockSet
            }
            time if time.starts_with('+') => return self.pass(models::time(&time[1..])),
            "see" | "scan" | "look" | "stale" | "stamp" | "stale-stamp" => self.observation(&words),
            "scanned" => Event::Scanned { trigger: trigger() },
            "counted" => {
                Event::Counted { trigger: trigger(), files: words[2].parse().expect("a number") }
            }
            "check" | "stale-check" => self.answer(&words),
            "signal" => {
                let value = words.get(2).map(|value| value.parse().expect("a number"));
                let info = SignalInfo { value, ..SignalInfo::bare("SIGUSR1") };
                Event::Signalled { trigger: trigger(), info }
            }
            "end" => self.end(&words),
            "moved" | "taken" => {
                let (run, file) = words[1].split_once('.').expect("run.file");
                let phase = if words[0] == "taken" { Phase::Before } else { Phase::After };
                let outcome = match words[2] {
                    "stuck" => Disposed::NotYet("no space".into()),
                    "ok" => Disposed::Done(MoveResult::Moved {
                        to: "/there".into(),
                        version: version("v9"),
                    }),
                    "deleted" => Disposed::Done(MoveResult::Deleted),
                    "kept" => Disposed::Done(MoveResult::Kept),
                    "superseded" => Disposed::Done(MoveResult::Superseded),
                    "gone" => Disposed::Done(MoveResult::Gone),
                    "stamped" => Disposed::Stamped(version(words[3])),
                    _ => Disposed::Done(MoveResult::Failed("too long".into())),
                };
                let run = RunId(run.parse().expect("a run"));
                Event::Moved { run, file: file.parse().expect("a file"), phase, outcome }
            }
            "fire" | "fire-select" | "retry" => ask(Request::Fire(self.fire(&words))),
            "cancel" => {
                let run = RunId(words[1].parse().expect("a run"));
                ask(Request::Cancel { run, task: words.get(2).map(|&task| task.into()) })
            }
            "pause" => ask(Request::Pause { trigger: trigger() }),
            "resume" => ask(Request::Resume { trigger: trigger() }),
            other => {
                if other == "expired" {
                    return self.step(Event::Expired { before: now_at(self.now).wall });
                }
                assert_eq!(other, "stop", "a line of a script");
                Event::StopRequested
            }
        };
        self.step(event);
    }

    /// `see TRIGGER REL VERSION [writing] …`, `see TRIGGER REL gone`
    fn observation(&self, words: &[&str]) -> Event {
        let (trigger, rel): (Name, Bytes) = (words[1].into(), words[2].into());
        let disk = match words[3] {
            "gone" => Disk::Absent,
            text => {
                let version = version(text);
                let mut probe = Probe::Free;
                for word in &words[4..] {
                    match *word {
                        "writing" => probe = Probe::WriterOpen,
                        "undone" => probe = Probe::NotDone,
                        "unproved" => probe = Probe::Unproved,
                        "unreadable" => probe = Probe::Unreadable,
                        other => {
                            assert_eq!(other, "toolong", "a word of a look");
                            probe = Probe::Unreachable;
                        }
                    }
                }
                Disk::File { version, probe }
            }
        };
        let row = self.store.rows.get(&(trigger.clone(), rel.clone())).cloned();
        let (origin, seq) = match words[0] {
            "scan" => (Origin::Scan, self.seq),
            "look" => (Origin::Look, self.seq),
            "stale" => (Origin::Event, 0),
            "stamp" => (Origin::Stamp, self.seq),
            "stale-stamp" => (Origin::Stamp, 0),
            _ => (Origin::Event, self.seq),
        };
        Event::Observed(Observed {
            seq: Seq(seq),
            origin,
            seen: vec![Seen { trigger, rel, disk, row }],
        })
    }

    /// `check NUMBER good [KEY [RUN]]`, `check NUMBER differs`
    fn answer(&self, words: &[&str]) -> Event {
        let number = words[1].parse().expect("a number");
        let run = |text: &&str| RunId(text.parse().expect("a run"));
        let finding = match words[2] {
            "good" => Finding::Good {
                key: words.get(3).map(|&key| key.into()),
                delivered: words.get(4).map(run),
            },
            "untold" => Finding::Untold,
            "differs" => Finding::Differs,
            "changed" => Finding::Changed,
            _ => Finding::Unreadable,
        };
        let seq = Seq(if words[0] == "check" { self.seq } else { 0 });
        let trigger = self.asked[&number].clone();
        Event::Checked(Checked { number, trigger, seq, finding })
    }

    /// `RUN.TASK[#ATTEMPT]`
    fn attempt(&self, text: &str) -> AttemptId {
        let (run, task) = text.split_once('.').expect("run.task");
        let (task, attempt) = match task.split_once('#') {
            Some((task, attempt)) => (task, Some(attempt.parse().expect("an attempt"))),
            None => (task, None),
        };
        let run = RunId(run.parse().expect("a run"));
        let of = self.machine.run(run);
        let node = of.and_then(|run| run.graph().find(task)).or(self.model.graph.find(task));
        let node = node.expect("a task");
        let current = || of.and_then(|of| Some(of.nodes()[of.place(node)?].attempt.0));
        let attempt = Attempt(attempt.or_else(current).unwrap_or(1));
        AttemptId { run, node, attempt }
    }

    /// `end RUN.TASK[#ATTEMPT] CODE|sigN|lost|unstarted [KEY=VALUE]`
    fn end(&self, words: &[&str]) -> Event {
        let id = self.attempt(words[1]);
        let exit = match words[2] {
            "unstarted" => Exit::NotStarted("no such program".into()),
            "oom" => Exit::Oom,
            "short" => Exit::Shortage("too many processes".into()),
            text => match text.strip_prefix("sig") {
                Some(signal) => Exit::Signal(signal.parse().expect("a signal")),
                None => Exit::Code(text.parse().expect("a code")),
            },
        };
        let mut ended = Ended::without_process(exit, now_at(self.now).wall);
        for (key, value) in words[3..].iter().filter_map(|word| word.split_once('=')) {
            ended.outputs.insert(key.to_owned(), value.to_owned());
        }
        Event::Ended { id, ended }
    }

    fn fire(&self, words: &[&str]) -> Fire {
        let mut files = Vec::new();
        let what = match words[0] {
            "fire-select" => FireWhat::Select(Selector::parse(words[1]).expect("a selector")),
            "fire" => {
                if let [_, trigger, rel, at] = words {
                    let path = Bytes::from(format!("/{trigger}").as_str()).join(rel.as_bytes());
                    let rel = Bytes::from(*rel);
                    files.push(FireFile { rel, path, version: version(at), in_place: true });
                }
                FireWhat::Trigger(words[1].into())
            }
            _ => {
                let run = RunId(words[1].parse().expect("a run"));
                let created = self.store.ended[&run].created.clone();
                let keep = words.iter().skip(3);
                FireWhat::Retry(Box::new(RetryOf {
                    run,
                    trigger: created.trigger,
                    select: created.select,
                    signal: created.signal,
                    scheduled: created.scheduled,
                    keep: keep.map(|&name| (name.into(), [].into())).collect(),
                }))
            }
        };
        Fire { what, files }
    }
}
