//! From a `Start` to the exact bytes of a process: arguments, environment, folder, files.
//!
//! Reads nothing but the task's `env_file`, and whether its credentials are there. The program is looked for by the slot that starts it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::core::confine::Confine;
use crate::core::effect::Start;
use crate::core::id::{AttemptId, Name, RunId};
use crate::core::task::{Body, Exit, OnDaemonStop, TaskSpec};

use super::blot::Secrets;
use super::credentials;
use super::env_file;
use super::event_files::{files_path, json_path};
use super::left;
use super::vars::{Filler, stem, variables};

pub use super::base::Base;
pub use super::event_files::{remove_event_files, write_event_files};

/// The folders that attempts use.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Logs of attempts; on disk.
    pub logs: PathBuf,
    /// Event files, written once per run; in memory.
    pub events: PathBuf,
    /// What attempts write for their dependents; in memory.
    pub outputs: PathBuf,
    /// What attempts leave that go on without dagd; on disk. `None`: none do.
    pub left: Option<PathBuf>,
}

impl Dirs {
    /// Makes the folders, for this user only, and removes what an earlier dagd left in `events` and
    /// `outputs`, but for what is of the runs `kept`. Others can pass through `outputs`, and what it
    /// lies in, to what is theirs. To be called once, before the
    /// first attempt.
    pub fn reset(&self, kept: &BTreeSet<RunId>) -> std::io::Result<()> {
        make(&self.logs)?;
        for dir in [&self.events, &self.outputs] {
            make(dir)?;
            clear(dir, kept)?;
        }
        let around = self.outputs.parent();
        for dir in around.into_iter().chain([&*self.outputs]) {
            let_through(dir).map_err(|error| named(dir, &error))?;
        }
        Ok(())
    }
}

/// All that is needed to start an attempt.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Which attempt.
    pub id: AttemptId,
    /// Its token, `<instance>/<run>.<task>.<attempt>`.
    pub label: String,
    /// The name of its task.
    pub task: Name,
    /// The program's absolute paths, to be tried in order.
    pub candidates: Vec<PathBuf>,
    /// The arguments; the first is the program as it was written.
    pub argv: Vec<CString>,
    /// The environment, `KEY=value` each, sorted.
    pub envp: Vec<CString>,
    /// The working directory.
    pub cwd: CString,
    /// What is blotted out of its log.
    pub secrets: Secrets,
    /// Where its log will be.
    pub log: PathBuf,
    /// Where it may write for its dependents.
    pub output: PathBuf,
    /// Bytes of output that are kept.
    pub log_max: u64,
    /// As whom it runs and how much it may take.
    pub confine: Option<Box<Confine>>,
    /// Where its user's own files are, if it has a user.
    pub private: Option<Private>,
    /// Where its end is written down, if it goes on without dagd.
    pub left: Option<PathBuf>,
}

/// A folder that an attempt's user alone can enter: the run's event files and the task's credentials,
/// copied, and what the attempt writes for its dependents. It lies where outputs lie, and goes with its attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// The folder.
    pub dir: PathBuf,
    /// The event as JSON, to be copied.
    pub json: PathBuf,
    /// The files' paths, to be copied.
    pub files: PathBuf,
    /// The credentials that the task names, to be copied.
    pub credentials: Vec<PathBuf>,
}

impl Private {
    /// The copy of the event.
    pub fn json(&self) -> PathBuf {
        self.dir.join("event.json")
    }

    /// Where the copies of its credentials are, if it names any.
    pub fn credentials(&self) -> Option<PathBuf> {
        (!self.credentials.is_empty()).then(|| self.dir.join("credentials"))
    }

    /// The copy of the files' paths.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }
}

/// Variables that tell who the user is: another user's are found out by the helper.
const OF_THE_USER: [&str; 4] = ["HOME", "USER", "LOGNAME", "SHELL"];

/// Prepares an attempt. The error is how the attempt ends instead.
pub fn prepare(start: &Start, base: &Base, dirs: &Dirs) -> Result<Exec, Exit> {
    let filler = Filler::new(start);
    let stem = stem(start);
    let label = format!("{}/{stem}", base.instance);
    let confine = start.task.confine.clone();
    let other_user = confine.as_ref().is_some_and(|confine| confine.user.is_some());
    let names = &start.task.credentials;
    let credentials = credentials::folder(names, &base.own)?.map(Path::new);
    let private = other_user.then(|| Private {
        dir: dirs.outputs.join(&stem),
        json: json_path(start.id.run, dirs),
        files: files_path(start.id.run, dirs),
        credentials: credentials
            .map_or_else(Vec::new, |dir| names.iter().map(|name| dir.join(name)).collect()),
    });
    let leaves = start.task.on_daemon_stop == OnDaemonStop::Leave;
    let left = dirs.left.as_ref().filter(|_| leaves);
    let left = left.map(|dir| left::place(dir, start.id.run, &stem));
    let output = match (&private, &left) {
        (Some(private), _) => private.dir.join("output"),
        (None, Some(place)) => left::output(place),
        (None, None) => dirs.outputs.join(&stem),
    };
    let argv = arguments(start, &filler)?;
    let cwd = folder(start, &filler)?;
    let credentials = match &private {
        Some(private) => private.credentials(),
        None => credentials.map(Path::to_owned),
    };
    let (mut env, secrets) = environment(start, base, &filler, credentials)?;
    for (key, value) in variables(start, &label, &output, dirs) {
        env.insert(key.into(), value);
    }
    if let Some(private) = &private {
        let bytes = |path: PathBuf| path.into_os_string().into_encoded_bytes();
        env.insert(b"DAGD_EVENT_JSON".to_vec(), bytes(private.json()));
        env.insert(b"DAGD_FILES_NUL".to_vec(), bytes(private.files()));
    }
    let path = env.get(&b"PATH"[..]).map_or(&[][..], Vec::as_slice);
    let candidates = candidates(&argv[0], path, &cwd);
    let envp = env.into_iter().map(|(key, value)| variable(&key, &value));
    Ok(Exec {
        id: start.id,
        label,
        task: start.task.name.clone(),
        candidates,
        envp: envp.collect::<Result<_, _>>()?,
        argv: argv.into_iter().map(argument).collect::<Result<_, _>>()?,
        cwd: argument(cwd)?,
        secrets,
        log: dirs.logs.join(stem + ".log"),
        output,
        log_max: start.task.log_max,
        confine,
        private,
        left,
    })
}

/// Never empty, and the first is not empty.
fn arguments(start: &Start, filler: &Filler<'_>) -> Result<Vec<Vec<u8>>, Exit> {
    let mut argv = Vec::new();
    match &start.task.body {
        Body::Command(templates) => {
            for template in templates {
                filler.arguments(template, &mut argv)?;
            }
        }
        Body::Shell { program, script } => {
            argv.extend(program.iter().map(|text| text.clone().into_bytes()));
            argv.push(script.clone().into_bytes());
        }
    }
    if argv.first().is_none_or(Vec::is_empty) {
        return Err(Exit::NotStarted("the command is empty: it names no program".into()));
    }
    Ok(argv)
}

fn folder(start: &Start, filler: &Filler<'_>) -> Result<Vec<u8>, Exit> {
    let Some(template) = &start.task.cwd else {
        return Ok(b"/".to_vec());
    };
    let cwd = filler.fill(template)?;
    if !cwd.starts_with(b"/") {
        let shown = String::from_utf8_lossy(&cwd);
        return Err(Exit::NotStarted(format!("the working directory `{shown}` is not absolute")));
    }
    Ok(cwd)
}

/// A task's own variables, and what of them is secret.
type Environment = (BTreeMap<Vec<u8>, Vec<u8>>, Secrets);

/// Later ones replace earlier ones: base, `env_pass`, `credentials`, `env_file`, `env`.
fn environment(
    start: &Start,
    base: &Base,
    filler: &Filler<'_>,
    credentials: Option<PathBuf>,
) -> Result<Environment, Exit> {
    let bytes = |text: &OsStr| text.as_bytes().to_vec();
    let passed = base.own.iter().filter(|(key, _)| {
        start.task.env_pass.iter().any(|name| name.as_bytes() == key.as_bytes())
    });
    let other_user = start.task.confine.as_ref().is_some_and(|confine| confine.user.is_some());
    let own =
        |(key, _): &&(OsString, OsString)| other_user && OF_THE_USER.iter().any(|name| key == name);
    let all = base.env.iter().filter(|entry| !own(entry)).chain(passed);
    let mut env: BTreeMap<_, _> = all.map(|(key, value)| (bytes(key), bytes(value))).collect();
    if let Some(folder) = credentials {
        env.insert(credentials::VARIABLE.into(), bytes(folder.as_os_str()));
    }
    let mut secrets = Secrets::default();
    if let Some(path) = &start.task.env_file {
        let own = env_file::read(path)?;
        secrets = Secrets::of(own.iter().map(|(_, value)| value.as_slice()));
        env.extend(own);
    }
    for (key, template) in &start.task.env {
        env.insert(key.clone().into_bytes(), filler.fill(template)?);
    }
    Ok((env, secrets))
}

/// What is secret in the output of an attempt that an earlier dagd has started: what is in the file
/// by now.
pub fn secrets_of(task: &TaskSpec) -> Secrets {
    let Some(path) = &task.env_file else { return Secrets::default() };
    if let Ok(own) = env_file::read(path) {
        return Secrets::of(own.iter().map(|(_, value)| value.as_slice()));
    }
    tracing::warn!(
        task = &*task.name, path = %path.display(),
        "secrets may be in the log of an earlier attempt: they cannot be read any more"
    );
    Secrets::default()
}

/// A name with a slash is relative to the working directory; any other is looked for in `path`,
/// where an empty or relative entry is relative to the working directory, too.
fn candidates(program: &[u8], path: &[u8], cwd: &[u8]) -> Vec<PathBuf> {
    let path_of = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_path_buf();
    let cwd = path_of(cwd);
    if program.contains(&b'/') {
        return vec![cwd.join(path_of(program))];
    }
    path.split(|&b| b == b':').map(|dir| cwd.join(path_of(dir)).join(path_of(program))).collect()
}

fn argument(bytes: Vec<u8>) -> Result<CString, Exit> {
    CString::new(bytes).map_err(|error| {
        let shown = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\\0");
        Exit::NotStarted(format!("the argument `{shown}` holds a NUL, which no argument can"))
    })
}

fn variable(key: &[u8], value: &[u8]) -> Result<CString, Exit> {
    CString::new([key, b"=", value].concat()).map_err(|_| {
        let shown = String::from_utf8_lossy(key);
        Exit::NotStarted(format!("the variable `{shown}` holds a NUL, which no variable can"))
    })
}

fn make(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| named(dir, &error))
}

/// Lets everybody pass through a folder of ours, to what in it they may open; nobody else can list
/// it.
fn let_through(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let meta = std::fs::metadata(dir)?;
    let mode = meta.mode() | 0o011;
    if mode == meta.mode() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode & 0o7777))
}

/// Empties a folder, but for what is called after one of the runs `kept`.
fn clear(dir: &Path, kept: &BTreeSet<RunId>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir).map_err(|error| named(dir, &error))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
        if run.is_some_and(|run| kept.contains(&RunId(run))) {
            continue;
        }
        let removed = if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.map_err(|error| named(&path, &error))?;
    }
    Ok(())
}

fn named(path: &Path, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
