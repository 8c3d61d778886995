//! Reads `[daemon]`, `[control]` and `[pools]`, and finds the folders that nobody named.
//!
//! The facts about the machine are arguments; nothing here asks for them.

use std::path::PathBuf;
use std::time::Duration;

use super::confine::CONTAINMENTS;
use super::diagnostics::Problem;
use super::keys::{CONTROL, DAEMON, RETENTION};
use super::reader::{At, Reader, Value};
use super::task::not_zero;
use super::tasks::Pools;
use super::words;
use super::{Durability, Group, Retention, Settings, Surroundings};
use crate::core::confine::Containment;

/// The most task slots: each is a thread while it runs.
const SLOTS_MAX: usize = 1_024;

/// The most live runs: each is held in memory.
const LIVE_RUNS_MAX: i64 = 100_000;

/// The largest pool, and the most runs to keep.
const POOL_MAX: i64 = 1_000_000;

/// The most runs that can be asked to be kept.
const KEPT_MAX: i64 = 1_000_000_000;

/// `[daemon]` as written.
#[derive(Debug, Default)]
pub struct RawDaemon {
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    max_parallel: Option<usize>,
    max_live_runs: Option<usize>,
    runs: Option<u64>,
    age: Option<Duration>,
    logs: Option<u64>,
    stop_timeout: Option<Duration>,
    durability: Option<Durability>,
    containment: Option<Containment>,
    write_group: Option<Group>,
    reload_on_change: Option<bool>,
}

const DURABILITIES: [(&str, Durability); 2] =
    [("normal", Durability::Normal), ("full", Durability::Full)];

impl RawDaemon {
    /// Reads one key of `[daemon]`.
    pub fn read<'s>(&mut self, reader: &mut Reader<'s>, value: Value<'s>) {
        if !reader.once(
            &format!("daemon.{}", value.name),
            &format!("`{}`", words::shown(value.name)),
            value.key,
        ) {
            return;
        }
        match value.name {
            "state_dir" => self.state_dir = reader.path(value),
            "runtime_dir" => self.runtime_dir = reader.path(value),
            "max_parallel" => {
                let read = reader.int(value, 1..=i64::try_from(SLOTS_MAX).unwrap_or(i64::MAX));
                self.max_parallel = read.and_then(|int| int.try_into().ok());
            }
            "max_live_runs" => {
                let read = reader.int(value, 1..=LIVE_RUNS_MAX);
                self.max_live_runs = read.and_then(|int| int.try_into().ok());
            }
            "retention" => self.retention(reader, value),
            "stop_timeout" => self.stop_timeout = reader.duration(value),
            "containment" => {
                self.containment = reader.choice(value, &CONTAINMENTS, &[]);
            }
            "reload_on_change" => self.reload_on_change = reader.flag(value),
            "durability" => self.durability = reader.choice(value, &DURABILITIES, &[]),
            _ => reader.unknown(&DAEMON, value),
        }
    }

    /// Reads one key of `[control]`.
    pub fn read_control<'s>(
        &mut self,
        reader: &mut Reader<'s>,
        around: &Surroundings,
        value: Value<'s>,
    ) {
        let shown = words::shown(value.name);
        if !reader.once(&format!("control.{}", value.name), &format!("`{shown}`"), value.key) {
            return;
        }
        match value.name {
            "write_group" => {
                let Some(name) = reader.text(value) else { return };
                if let Some(id) = (around.group)(name) {
                    self.write_group = Some(Group { name: name.to_owned(), id });
                } else {
                    let what = format!("there is no group `{}`", words::shown(name));
                    let help = "`groupadd --system NAME` makes one, `getent group` lists all";
                    reader.note(Problem::at(value.span(), what).help(help));
                }
            }
            _ => reader.unknown(&CONTROL, value),
        }
    }

    fn retention<'s>(&mut self, reader: &mut Reader<'s>, value: Value<'s>) {
        for entry in reader.table(value, "{ runs = 10000, age = \"30d\", logs = \"10GiB\" }") {
            match entry.name {
                "runs" => {
                    let read = reader.int(entry, 1..=KEPT_MAX);
                    self.runs = read.and_then(|int| int.try_into().ok());
                }
                "age" => {
                    let help = "the default is 30d";
                    self.age = reader
                        .duration(entry)
                        .filter(|age| not_zero(reader, entry, age.is_zero(), help));
                }
                "logs" => {
                    let help = "the default is 10GiB";
                    self.logs =
                        reader.size(entry).filter(|&logs| not_zero(reader, entry, logs == 0, help));
                }
                _ => reader.unknown(&RETENTION, entry),
            }
        }
    }

    /// Task slots.
    pub fn slots(&self, around: &Surroundings) -> usize {
        self.max_parallel.unwrap_or(around.cpus.clamp(1, SLOTS_MAX))
    }

    /// Live runs, at most.
    pub fn live_runs(&self, around: &Surroundings) -> usize {
        self.max_live_runs.unwrap_or_else(|| 64.max(4 * self.slots(around)))
    }

    /// How long running tasks may go on after a stop.
    pub fn stop_timeout(&self) -> Duration {
        self.stop_timeout.unwrap_or(Duration::from_secs(30))
    }

    /// The rest. `None` if a folder is needed and cannot be guessed, which is noted.
    pub fn settings(&self, reader: &mut Reader<'_>, around: &Surroundings) -> Option<Settings> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let named = |path: Option<PathBuf>| path.map(|path| path.join("dagd"));
        let state = if let Some(made) = absolute(&around.state_directory) {
            Some(made)
        } else if around.is_root {
            Some(PathBuf::from("/var/lib/dagd"))
        } else {
            let home = absolute(&around.home).map(|home| home.join(".local/state"));
            named(absolute(&around.xdg_state_home).or(home))
        };
        let runtime = if let Some(made) = absolute(&around.runtime_directory) {
            made
        } else if around.is_root {
            PathBuf::from("/run/dagd")
        } else {
            named(absolute(&around.xdg_runtime_dir))
                .unwrap_or_else(|| PathBuf::from(format!("/tmp/dagd-{}", around.uid)))
        };
        let Some(state_dir) = self.state_dir.clone().or(state) else {
            let what = "there is no place for dagd's state: neither HOME nor XDG_STATE_HOME is set";
            let help = "write [daemon] state_dir = \"FOLDER\"";
            reader.note(Problem::nowhere(what).help(help));
            return None;
        };
        Some(Settings {
            state_dir,
            runtime_dir: self.runtime_dir.clone().unwrap_or(runtime),
            retention: Retention {
                runs: self.runs.unwrap_or(10_000),
                age: self.age.unwrap_or(Duration::from_hours(30 * 24)),
                logs: self.logs.unwrap_or(10 << 30),
            },
            durability: self.durability.unwrap_or(Durability::Normal),
            containment: self.containment.unwrap_or_default(),
            write_group: self.write_group.clone(),
            reload_on_change: self.reload_on_change.unwrap_or(false),
        })
    }
}

/// Reads one pool.
pub fn pool<'s>(reader: &mut Reader<'s>, pools: &mut Pools, value: Value<'s>) {
    let shown = words::shown(value.name);
    if let Some(why) = words::name_fault(value.name) {
        let what = format!("`{shown}` cannot be the name of a pool");
        reader.note(Problem::at(value.key, what).help(why));
    }
    if !reader.once(&format!("pools.{}", value.name), &format!("pool `{shown}`"), value.key) {
        return;
    }
    let size = reader.int(value, 1..=POOL_MAX).and_then(|size| u32::try_from(size).ok());
    // A size that could not be read counts as none to speak of, so that its users are not blamed.
    pools.insert(value.name.into(), At { value: size.unwrap_or(u32::MAX), span: value.span() });
}
