//! The two files that tell a run's tasks about its event: as JSON, and as bare paths.
//!
//! They are written once per run, before its first attempt, into memory-backed `runtime_dir`, and
//! removed when the run has ended.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::core::id::RunId;
use crate::core::record::{FileClaim, RunCreated, SignalInfo};
use crate::core::run::RunInfo;

use super::prepare::Dirs;
use super::vars::created;

/// Where `DAGD_EVENT_JSON` of a run is.
pub fn json_path(run: RunId, dirs: &Dirs) -> PathBuf {
    dirs.events.join(format!("{run}.json"))
}

/// Where `DAGD_FILES_NUL` of a run is.
pub fn files_path(run: RunId, dirs: &Dirs) -> PathBuf {
    dirs.events.join(format!("{run}.files"))
}

/// Writes both: one JSON object, and the files' absolute paths as bare bytes, each ended by a NUL.
/// What is there under these names is replaced.
pub fn write_event_files(run: &RunInfo, root: Option<&Path>, dirs: &Dirs) -> io::Result<()> {
    let run = created(run);
    let mut json = serde_json::to_vec(&EventJson::new(run, root))?;
    json.push(b'\n');
    write(&json_path(run.run, dirs), &json)?;
    let mut paths = Vec::new();
    for file in &run.files {
        paths.extend_from_slice(file.path.as_bytes());
        paths.push(0);
    }
    write(&files_path(run.run, dirs), &paths)
}

/// Whether both are there, as an earlier dagd has left them.
pub fn has_event_files(run: RunId, dirs: &Dirs) -> bool {
    json_path(run, dirs).exists() && files_path(run, dirs).exists()
}

/// Removes both, if they are there.
pub fn remove_event_files(run: RunId, dirs: &Dirs) {
    for path in [json_path(run, dirs), files_path(run, dirs)] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove event file");
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[derive(Serialize)]
struct EventJson<'a> {
    run: RunId,
    trigger: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// What the files have in common, where the run is for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_b64: Option<String>,
    signal: Option<&'a SignalInfo>,
    files: Vec<FileJson<'a>>,
}

#[derive(Serialize)]
struct FileJson<'a> {
    path: std::borrow::Cow<'a, str>,
    path_b64: String,
    rel: std::borrow::Cow<'a, str>,
    kind: &'a str,
    size: u64,
    mtime_ns: i64,
}

impl<'a> EventJson<'a> {
    fn new(run: &'a RunCreated, root: Option<&Path>) -> Self {
        Self {
            run: run.run,
            trigger: run.trigger_told().map(AsRef::as_ref),
            reason: run.reason.word(),
            root: root.map(|root| root.to_string_lossy().into_owned()),
            key: run.group.as_ref().map(|group| group.key().lossy()),
            key_b64: run.group.as_ref().map(|group| group.key().b64()),
            signal: run.signal.as_ref(),
            files: run.files.iter().map(FileJson::new).collect(),
        }
    }
}

impl<'a> FileJson<'a> {
    fn new(file: &'a FileClaim) -> Self {
        Self {
            path: file.path.lossy(),
            path_b64: file.path.b64(),
            rel: file.rel.lossy(),
            kind: file.kind.word(),
            size: file.version.size,
            mtime_ns: file.version.mtime_ns,
        }
    }
}
