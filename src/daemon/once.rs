//! Runs a subgraph in this process, without a daemon: the same engine, without sources.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::boot::Foundation;
use super::engine::{Engine, Observer, lane};
use super::{DaemonError, trying};
use crate::config::{Durability, Resolved, Settings};
use crate::core::effect::{Command, Out, Reply};
use crate::core::event::{Event, Fire, FireFile, FireWhat, Request};
use crate::core::id::{Attempt, NodeIx, RunId};
use crate::core::machine::Machine;
use crate::core::model::Model;
use crate::core::path::Bytes;
use crate::core::record::{Aggregate, Record, RunState};
use crate::core::run::Run;
use crate::core::selector::Selector;
use crate::core::trigger::{FileType, FolderSpec, Source};
use crate::io::control::{below, rule_against};
use crate::io::store::{lock, log_name};
use crate::io::{config_files, disk, signals};

/// What to run once.
pub struct OnceArgs {
    /// The configuration file.
    pub config: PathBuf,
    /// What of it.
    pub what: OnceWhat,
    /// Whether history and logs are kept in `state_dir`, and files are disposed of.
    pub keep: bool,
    /// Task slots, if not as configured.
    pub max_parallel: Option<usize>,
}

/// What of the configuration to run once.
pub enum OnceWhat {
    /// A selection.
    Select(String),
    /// A trigger's selection, for these files.
    Trigger {
        /// The trigger.
        name: String,
        /// Files, as the trigger would deliver them.
        paths: Vec<PathBuf>,
    },
}

/// Told what happens.
pub trait Progress {
    /// A task's state has changed.
    fn task(&mut self, run: u64, task: &str, state: &str, detail: Option<&str>);
    /// A run's state has changed.
    fn run(&mut self, run: u64, state: &str);
    /// An attempt wrote output; told before the state that its end leads to.
    fn log(&mut self, run: u64, task: &str, path: &Path);
}

/// Runs it and says how it ended.
pub fn once(args: OnceArgs, progress: &mut dyn Progress) -> Result<RunState, DaemonError> {
    let Resolved { model, settings, .. } = config_files::load(&args.config)?.resolved;
    let mut scratch = Scratch::new(args.keep, &settings)?;
    let settings = scratch.settings(settings);
    let fire = fire(&args.what, &model)?;
    let model = Arc::new(without_triggers(&model, &args));
    let held = lock(&settings.state_dir)?;
    let (urgent_in, urgent) = lane(16);
    let (signals_in, _ignored) = lane(16);
    let handlers = signals::spawn(&[], false, signals_in, urgent_in)
        .map_err(trying("install signal handlers"))?;
    let mut foundation = Foundation::lay(&settings, &model, Arc::new(AtomicU64::new(0)))?;
    foundation.lanes.urgent = urgent;
    foundation.ports.signals = Some(handlers);
    let (mut engine, mut first) = foundation.recover(args.config, settings);
    let mut out = Out::default();
    let (now, seq) = (engine.clock.now(), engine.next_seq());
    let request = Request::Fire(fire);
    engine.machine.step(now, seq, Event::Requested { token: 0, request }, &mut out);
    let run = created(&out).ok_or_else(|| refusal(&out))?;
    first.records.extend(out.records);
    first.commands.extend(out.commands);
    let ended = follow(&mut engine, first, run, progress);
    // With `keep` there may be attempts of other runs, which the daemon will repeat.
    engine.abandon();
    let state = ended?;
    // Logs of a run that failed stay: they say why.
    scratch.keep = state != Some(RunState::Succeeded) && has_logs(&engine.dirs.logs);
    engine.close(|| ());
    drop(held);
    Ok(state.unwrap_or(RunState::Cancelled))
}

/// Lets the engine work until the run has ended; `None`: it was stopped before.
fn follow(
    engine: &mut Engine,
    first: Out,
    run: RunId,
    progress: &mut dyn Progress,
) -> Result<Option<RunState>, DaemonError> {
    let logs = engine.dirs.logs.clone();
    let (told_in, told) = crossbeam_channel::unbounded();
    let observer: Observer = Box::new(move |machine, out| {
        // The receiver lives as long as this look at the run.
        told_in.send(changes(run, machine, out, &logs)).ok();
    });
    engine.observer = Some(observer);
    engine.perform(first)?;
    let mut state = None;
    loop {
        for change in told.try_iter().flatten() {
            state = change.tell(run, progress).or(state);
        }
        if state.is_some() || engine.exiting {
            return Ok(state);
        }
        engine.turn()?;
    }
}

/// A throw-away state folder, unless the configured one is to be used.
struct Scratch {
    dir: Option<PathBuf>,
    keep: bool,
}

impl Scratch {
    fn new(keep: bool, settings: &Settings) -> Result<Self, DaemonError> {
        if keep {
            super::boot::make_private(&settings.runtime_dir)?;
            return Ok(Self { dir: None, keep: false });
        }
        let dir = fresh(&std::env::temp_dir()).map_err(trying("make a folder for the state"))?;
        Ok(Self { dir: Some(dir), keep: false })
    }

    fn settings(&self, settings: Settings) -> Settings {
        match &self.dir {
            None => settings,
            Some(dir) => Settings {
                state_dir: dir.join("state"),
                runtime_dir: dir.join("run"),
                durability: Durability::Normal,
                ..settings
            },
        }
    }
}

/// Makes a folder in one where others may write as well: they cannot have made it before. Through it
/// tasks of other users come to what is theirs.
fn fresh(parent: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let dir = parent.join(format!("dagd-once-{}", random.trim_end()));
    std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
    // Whatever the umask is.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))?;
    Ok(dir)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take().filter(|_| !self.keep)
            && let Err(error) = std::fs::remove_dir_all(&dir)
        {
            tracing::warn!("failed to remove {}: {error}", dir.display());
        }
    }
}

/// Whether any attempt wrote something.
fn has_logs(dir: &Path) -> bool {
    let mut entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
}

/// The configuration without its sources of events; without `keep` nothing is moved, either.
fn without_triggers(model: &Model, args: &OnceArgs) -> Model {
    let OnceWhat::Trigger { name, .. } = &args.what else {
        return with_slots(model, args, std::collections::BTreeMap::new());
    };
    let mut triggers = model.triggers.clone();
    triggers.retain(|trigger, _| **trigger == **name);
    for spec in triggers.values_mut() {
        let mut own = crate::core::trigger::TriggerSpec::clone(spec);
        if let Source::Folder(folder) = &mut own.source
            && !args.keep
        {
            folder.pre_move = None;
            folder.move_to = None;
            folder.move_failed = None;
            folder.delete = false;
        }
        if matches!(own.source, Source::Schedule(_) | Source::Absent { .. }) {
            // A signal that nobody sends: the run is asked for by hand, and time is settled by the
            // daemon alone.
            own.source =
                Source::Signal { signo: 0, name: name.as_str().into(), sender_uid: vec![] };
        }
        *spec = Arc::new(own);
    }
    with_slots(model, args, triggers)
}

fn with_slots(
    model: &Model,
    args: &OnceArgs,
    triggers: std::collections::BTreeMap<
        crate::core::id::Name,
        Arc<crate::core::trigger::TriggerSpec>,
    >,
) -> Model {
    Model {
        graph: model.graph.clone(),
        triggers,
        pools: model.pools.clone(),
        slots: args.max_parallel.unwrap_or(model.slots),
        max_live_runs: model.max_live_runs,
        stop_timeout: std::time::Duration::ZERO,
        can_leave: false,
    }
}

fn fire(what: &OnceWhat, model: &Model) -> Result<Fire, DaemonError> {
    match what {
        OnceWhat::Select(text) => {
            let select = Selector::parse(text).map_err(|error| {
                DaemonError::NotFound(format!("bad selector `{text}`: {error}"))
            })?;
            Ok(Fire { what: FireWhat::Select(select), files: Vec::new() })
        }
        OnceWhat::Trigger { name, paths } => {
            let spec = model.triggers.get(name.as_str()).ok_or_else(|| unknown(name, model))?;
            let folder = spec.folder();
            let files = paths.iter().map(|path| fire_file(path, folder));
            let files = files.collect::<Result<_, _>>()?;
            Ok(Fire { what: FireWhat::Trigger(spec.name.clone()), files })
        }
    }
}

fn unknown(name: &str, model: &Model) -> DaemonError {
    let known: Vec<&str> = model.triggers.keys().map(AsRef::as_ref).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    DaemonError::NotFound(format!("there is no trigger `{name}`; configured are: {known}"))
}

/// A file as the trigger would deliver it. One that lies in its folder is noted in the ledger, so
/// that with `keep` the daemon does not deliver it again.
fn fire_file(path: &Path, folder: Option<&FolderSpec>) -> Result<FireFile, DaemonError> {
    let path = std::path::absolute(path).map_err(trying(format!("find {}", path.display())))?;
    let work = folder.map_or(FileType::File, |folder| folder.file_type);
    let what = if work == FileType::File { "regular file" } else { "folder" };
    let absent = || DaemonError::NotFound(format!("there is no {what} at {}", path.display()));
    let version = match disk::work_at(&path, work) {
        Ok(found) => found.ok_or_else(absent)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(absent()),
        Err(error) => return Err(trying(format!("look at {}", path.display()))(error)),
    };
    let path = Bytes::from(path.as_path());
    let inside = folder
        .and_then(|folder| Some((folder, below(&folder.root, &path)?)))
        .filter(|(folder, rel)| rule_against(folder, rel).is_none());
    Ok(match inside {
        Some((folder, rel)) => {
            let path = Bytes::from(folder.root.join(rel.as_path()).as_path());
            FireFile { rel, path, version, in_place: true }
        }
        None => FireFile { rel: Bytes::from(path.name()), path, version, in_place: false },
    })
}

fn created(out: &Out) -> Option<RunId> {
    out.records.iter().find_map(|record| match record {
        Record::RunCreated(created) => Some(created.run),
        _ => None,
    })
}

fn refusal(out: &Out) -> DaemonError {
    let why = out.commands.iter().find_map(|command| match command {
        Command::Reply { reply: Reply::Refused(why), .. } => {
            Some(DaemonError::Refused(why.clone()))
        }
        Command::Reply { reply: Reply::NotFound(why), .. } => {
            Some(DaemonError::NotFound(why.clone()))
        }
        _ => None,
    });
    why.unwrap_or_else(|| DaemonError::Refused("there is no room for a run".to_owned()))
}

/// A change worth telling.
enum Change {
    Task { name: String, state: &'static str, detail: Option<String> },
    Log { task: String, path: PathBuf },
    Run(RunState),
}

impl Change {
    fn tell(self, run: RunId, progress: &mut dyn Progress) -> Option<RunState> {
        match self {
            Self::Task { name, state, detail } => {
                progress.task(run.0, &name, state, detail.as_deref());
                None
            }
            Self::Log { task, path } => {
                progress.log(run.0, &task, &path);
                None
            }
            Self::Run(state) => {
                progress.run(run.0, state.word());
                Some(state)
            }
        }
    }
}

/// What a step changed about the run.
fn changes(id: RunId, machine: &Machine, out: &Out, logs: &Path) -> Vec<Change> {
    let Some(run) = machine.run(id) else { return Vec::new() };
    let name = |node: &NodeIx| run.graph().task(*node).name.to_string();
    let mut told = Vec::new();
    for record in out.records.iter().filter(|record| record.aggregate() == Aggregate::Run(id)) {
        match record {
            Record::AttemptStarted { node, .. } => {
                told.push(Change::Task { name: name(node), state: "running", detail: None });
            }
            Record::AttemptEnded { node, attempt, ended, verdict, .. } => {
                let task = name(node);
                if ended.log_bytes > 0 {
                    let path = logs.join(log_name(id, &task, *attempt));
                    told.push(Change::Log { task: task.clone(), path });
                }
                let (state, detail) = super::view::attempt_end(ended, *verdict);
                told.push(Change::Task { name: task, state, detail });
            }
            Record::RunEnded { state, .. } => {
                told.extend(unstarted(run));
                told.push(Change::Run(*state));
            }
            _ => {}
        }
    }
    told
}

/// The ends of tasks that no attempt has told.
fn unstarted(run: &Run) -> Vec<Change> {
    let untold = (0..run.nodes().len()).filter(|&place| {
        run.nodes()[place].attempt == Attempt(0) && !run.plan().nodes()[place].pass
    });
    let ends = untold.map(|place| Change::Task {
        name: run.name(place).to_string(),
        state: run.nodes()[place].state.word(),
        detail: super::view::cause(run, place),
    });
    ends.collect()
}
