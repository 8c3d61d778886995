//! What an attempt is told: its placeholders and its `DAGD_…` variables.
//!
//! Pure over a `Start`: no file is read here.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::core::effect::Start;
use crate::core::fill::{Facts, fill};
use crate::core::id::Wall;
use crate::core::record::{FileClaim, RunCreated};
use crate::core::run::RunInfo;
use crate::core::task::Exit;
use crate::core::template::{Slot, Template, date};
use crate::core::trigger::Group;

use super::event_files::{files_path, json_path};
use super::prepare::Dirs;

/// The variable that every process of an attempt carries: `<instance>/<run>.<task>.<attempt>`.
pub const TOKEN: &str = "DAGD_ATTEMPT_ID";

/// A run as it was created.
pub(super) fn created(run: &RunInfo) -> &RunCreated {
    run
}

/// `<run>.<task>.<attempt>`: the stem of the attempt's files.
pub fn stem(start: &Start) -> String {
    format!("{}.{}.{}", start.id.run, start.task.name, start.id.attempt)
}

/// Fills an attempt's templates.
#[derive(Debug)]
pub struct Filler<'a> {
    start: &'a Start,
    run: &'a RunCreated,
}

impl<'a> Filler<'a> {
    /// For the attempt `start`.
    pub fn new(start: &'a Start) -> Self {
        Self { start, run: created(&start.run) }
    }

    /// The bytes that `template` stands for. The error is how the attempt ends.
    pub fn fill(&self, template: &Template) -> Result<Vec<u8>, Exit> {
        template.expand(|slot| self.slot(slot)).map_err(|slot| self.missing(&slot))
    }

    /// The arguments that `template` stands for: one, or one per file for `{paths}`.
    pub fn arguments(&self, template: &Template, argv: &mut Vec<Vec<u8>>) -> Result<(), Exit> {
        if template.is_paths() {
            argv.extend(self.run.files.iter().map(|file| file.path.as_bytes().to_vec()));
        } else {
            argv.push(self.fill(template)?);
        }
        Ok(())
    }

    fn slot(&self, slot: &Slot) -> Option<Vec<u8>> {
        match slot {
            Slot::Task => Some(self.start.task.name.as_bytes().to_vec()),
            Slot::Attempt => Some(self.start.id.attempt.to_string().into_bytes()),
            Slot::Failed => Some(self.start.failed.join(" ").into_bytes()),
            Slot::Out { task, key } => {
                let written = self.start.outputs.iter().find(|(name, _)| **name == **task)?;
                written.1.get(key).map(|value| value.clone().into_bytes())
            }
            other => fill(other, &self.facts()),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            trigger: self.run.trigger_told().map(AsRef::as_ref),
            run: Some(self.start.id.run),
            root: self.run.root.as_ref(),
            file: one_file(self.run).map(|file| (&file.rel, &file.path)),
            signal: self.run.signal.as_ref(),
            at: Some(self.run.date()),
        }
    }

    fn missing(&self, slot: &Slot) -> Exit {
        if let Slot::Out { task, key } = slot {
            return Exit::MissingOutput(format!("{task}.{key}"));
        }
        let files = self.run.files.len();
        Exit::NotStarted(if slot.needs_file() {
            format!("{slot} needs a run for exactly one file; this run has {files}")
        } else if slot.needs_signal() {
            format!("{slot} needs a run for a signal; fire the signal's trigger instead")
        } else if *slot == Slot::Paths {
            format!("{slot} must be an argument of its own")
        } else {
            format!("{slot} needs a run of a folder's trigger; fire that trigger instead")
        })
    }
}

/// The `DAGD_…` variables of an attempt; `output` is where it may write `DAGD_OUTPUT`.
pub fn variables(
    start: &Start,
    label: &str,
    output: &Path,
    dirs: &Dirs,
) -> Vec<(&'static str, Vec<u8>)> {
    let run = created(&start.run);
    let path = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let mut all = vec![
        ("DAGD_RUN", start.id.run.to_string().into_bytes()),
        ("DAGD_TASK", start.task.name.as_bytes().to_vec()),
        ("DAGD_ATTEMPT", start.id.attempt.to_string().into_bytes()),
        ("DAGD_TRIGGER", run.trigger_told().map(AsRef::as_ref).unwrap_or_default().into()),
        ("DAGD_REASON", run.reason.word().into()),
        ("DAGD_EVENT_ID", event_id(run).into_bytes()),
        (TOKEN, label.into()),
        ("DAGD_EVENT_JSON", path(&json_path(start.id.run, dirs))),
        ("DAGD_FILES_NUL", path(&files_path(start.id.run, dirs))),
        ("DAGD_OUTPUT", path(output)),
    ];
    if let Some(file) = one_file(run) {
        all.push(("DAGD_PATH", file.path.as_bytes().to_vec()));
        all.push(("DAGD_REL", file.rel.as_bytes().to_vec()));
        all.push(("DAGD_KIND", file.kind.word().into()));
    }
    if let Some(group) = &run.group {
        all.push(("DAGD_KEY", group.key().as_bytes().to_vec()));
    }
    // Where the files are now: a retry finds them where the run's end took them.
    if let (Some(Group::Dir(_)), Some(file)) = (&run.group, run.files.first()) {
        let dir = file.path.dir();
        all.push(("DAGD_DIR", if dir.is_empty() { b"/".to_vec() } else { dir.to_vec() }));
    }
    if let Some(at) = run.scheduled {
        all.push(("DAGD_SCHEDULED_AT", local(at, run.utc_offset_s).into_bytes()));
    }
    if let Some(info) = &run.signal {
        all.push(("DAGD_SIGNAL", info.signal.as_bytes().to_vec()));
        let numbers = [
            ("DAGD_VALUE", info.value.map(|value| value.to_string())),
            ("DAGD_SENDER_PID", info.pid.map(|pid| pid.to_string())),
            ("DAGD_SENDER_UID", info.uid.map(|uid| uid.to_string())),
        ];
        all.extend(numbers.into_iter().filter_map(|(key, value)| Some((key, value?.into_bytes()))));
    }
    all
}

/// RFC 3339 with the offset of the schedule's place: its time of day is what people know.
fn local(at: Wall, utc_offset_s: i32) -> String {
    date("%Y-%m-%dT%H:%M:%S%:z", at, utc_offset_s).unwrap_or_default()
}

fn one_file(run: &RunCreated) -> Option<&FileClaim> {
    match run.files.as_slice() {
        [file] => Some(file),
        _ => None,
    }
}

/// Identifies a delivery, as 32 hexadecimal digits: a file version delivered again, by a retry, a
/// replay or after a crash, has the same id, so that a receiver can tell a repeat.
fn event_id(run: &RunCreated) -> String {
    let mut hash = blake3::Hasher::new();
    // Each part carries its length, so that no two lists of parts look alike.
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(run.trigger_told().map(AsRef::as_ref).unwrap_or_default().as_bytes());
    for file in &run.files {
        part(file.rel.as_bytes());
        part(file.version.file.as_bytes());
        part(&file.version.size.to_le_bytes());
        part(&file.version.mtime_ns.to_le_bytes());
    }
    if run.files.is_empty() {
        part(b"items");
        for item in &run.items {
            part(&item.0.to_le_bytes());
        }
        if run.items.is_empty() {
            part(&run.run.0.to_le_bytes());
        }
    }
    hash.finalize().to_hex()[..32].to_owned()
}
