//! What `doctor` says of the folders of triggers: whether dagd can work there, how changes are
//! noticed, how completeness is known, and whether files can be renamed to where they go.
//!
//! A folder on a file system that may not answer is looked at by the daemon alone, which has a thread
//! for it; without a daemon, on a thread that is left behind if there is no answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::{Patient, Tell, finding};
use crate::cli::exit::Failure;
use crate::core::path::Bytes;
use crate::core::template::{Piece, Slot, Template};
use crate::core::trigger::{Backend, FolderSpec, ReadLock, TriggerSpec};
use crate::io::config_files::Loaded;
use crate::io::disk::{Prober, has_leases};
use crate::io::machine::{LEASE, Rights};
use crate::io::watch::means::Means;
use crate::io::watch::mounts::{Mount, Mounts};
use crate::io::watch::seek::may_hang;
use crate::io::watch::way::{End, walk};
use crate::wire::{Finding, Level, TriggerStatus};

/// How long a folder may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Looks at each folder in turn.
pub fn folders(patient: &Patient, loaded: &Loaded, tell: &mut Tell<'_>) -> Result<(), Failure> {
    let own = patient.daemon.is_none();
    let mounts = if own { Mounts::read() } else { Mounts::of(patient.pid) };
    let rights = Rights::of(patient.pid);
    // Who may not see the daemon's mounts sees other folders, and another user sees what the daemon may
    // not, or less.
    let asking = rustix::process::geteuid();
    let other = !asking.is_root() && rights.as_ref().is_ok_and(|r| r.uid != asking.as_raw());
    let blind = !own && (mounts.is_err() || other);
    let mounts = Arc::new(mounts.unwrap_or_default());
    let leases = rights.is_ok_and(|rights| rights.has(LEASE));
    for trigger in loaded.resolved.model.triggers.values() {
        let Some(folder) = trigger.folder() else { continue };
        let told = patient.daemon.iter().flat_map(|status| &status.triggers);
        let told = told.into_iter().find(|status| status.name == *trigger.name).cloned();
        let shown = folder.root.display();
        let inactive = told.as_ref().and_then(|told| told.reason.as_ref());
        let far = || is_far(folder, &mounts);
        let findings = if let Some(why) = inactive {
            vec![finding("folder", Level::Warning, format!("{shown}: {why}"))]
        } else if let Some(told) = told.as_ref().filter(|_| blind) {
            as_told(folder, told)
        } else if told.is_some() && far() {
            // The daemon has a thread that may wait for it.
            vec![finding("folder", Level::Ok, format!("{shown} answers the daemon"))]
        } else {
            let (trigger, mounts) = (trigger.clone(), mounts.clone());
            let look = move || look(&trigger, &mounts, told.as_ref(), leases);
            patiently(look).unwrap_or_else(|| {
                let remedy = "look at the server or program behind its mount; until it answers \
                              dagd waits for this folder alone";
                let found = format!("{shown} does not answer");
                vec![finding("folder", Level::Problem, found).remedy(remedy)]
            })
        };
        for finding in findings {
            tell(finding.of(trigger.name.to_string()))?;
        }
    }
    Ok(())
}

/// What the daemon says of a folder that whoever asks may not look at.
fn as_told(folder: &FolderSpec, told: &TriggerStatus) -> Vec<Finding> {
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
    let (noticed, readiness) = (word(&told.noticed_by), word(&told.readiness));
    let found = format!("{}, changes are noticed by {noticed}", folder.root.display());
    let mut findings = vec![finding("folder", Level::Ok, found)];
    findings.push(if readiness == "proved" {
        proved()
    } else {
        let found = format!("{readiness}; why is to be seen by root or the user that dagd runs as");
        finding("readiness", Level::Note, found)
    });
    if folder.pre_move.is_some() || folder.move_to.is_some() || folder.move_failed.is_some() {
        let found = "whether that is a rename is to be seen by root or the user that dagd runs as";
        findings.push(finding("move", Level::Note, found));
    }
    findings
}

fn proved() -> Finding {
    finding("readiness", Level::Ok, "proved: nobody has a file open for writing")
}

/// Whether the way to a folder leads to a file system that may not answer.
fn is_far(folder: &FolderSpec, mounts: &Mounts) -> bool {
    matches!(walk(&folder.root, |path| may_hang(mounts, path)).end, End::Shunned(_))
}

/// What a look comes to, if it does within [`ANSWER_MAX`].
fn patiently<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (say, told) = crossbeam_channel::bounded(1);
    let spawned = thread::Builder::new().name("dagd-look".to_owned()).spawn(move || {
        // Nobody listens any more if it took too long.
        drop(say.send(look()));
    });
    spawned.ok().and_then(|_| told.recv_timeout(ANSWER_MAX).ok())
}

/// All about one folder. `told` is what the daemon says of it, `leases` whether it may take leases
/// on everybody's files.
fn look(
    trigger: &TriggerSpec,
    mounts: &Mounts,
    told: Option<&TriggerStatus>,
    leases: bool,
) -> Vec<Finding> {
    let Some(folder) = trigger.folder() else { return Vec::new() };
    let shown = folder.root.display();
    let base = match folder.root.canonicalize() {
        Ok(base) if base.is_dir() => base,
        Ok(_) => {
            let found = format!("{shown} is no folder");
            return vec![finding("folder", Level::Problem, found).remedy("name a folder")];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let found = format!("{shown} does not exist; it is waited for");
            return vec![finding("folder", Level::Note, found)];
        }
        Err(error) if told.is_some() => {
            let found = format!("{shown} is the daemon's to look at, and not yours: {error}");
            return vec![finding("folder", Level::Note, found)];
        }
        Err(error) => {
            let found = format!("{shown} cannot be reached: {error}");
            let remedy = "let dagd's user search each folder on the way to it";
            return vec![finding("folder", Level::Problem, found).remedy(remedy)];
        }
    };
    let mut findings = vec![noticed(folder, &base, mounts, told)];
    findings.extend(rights(folder, &base, told));
    findings.push(readiness(folder, &base, told, leases));
    let targets = [
        ("pre_move", &folder.pre_move),
        ("move", &folder.move_to),
        ("move_failed", &folder.move_failed),
    ];
    for (key, target) in targets {
        findings.extend(target.as_ref().and_then(|target| moved(key, target, &base, mounts)));
    }
    findings
}

/// How changes are noticed.
fn noticed(
    folder: &FolderSpec,
    base: &Path,
    mounts: &Mounts,
    told: Option<&TriggerStatus>,
) -> Finding {
    let path = Bytes::from(base);
    let kind = mounts.over(&path).map_or("an unknown file system", |mount| mount.kind.as_str());
    let means = Means::of(folder, &path, mounts);
    let word = told.and_then(|told| told.noticed_by.clone());
    let word = word.unwrap_or_else(|| means.word().to_owned());
    let found = format!("{} on {kind}, changes are noticed by {word}", folder.root.display());
    match means.deaf {
        None => finding("folder", Level::Ok, found),
        Some(why) => finding("folder", Level::Warning, format!("{found}: {why}"))
            .remedy("where that is too slow set `reconcile_interval`; nothing is lost"),
    }
}

/// What whoever asks may not do there; a daemon tells itself what it may not.
fn rights(folder: &FolderSpec, base: &Path, told: Option<&TriggerStatus>) -> Option<Finding> {
    if told.is_some() {
        return None;
    }
    let takes_away = folder.pre_move.is_some()
        || folder.move_to.is_some()
        || folder.move_failed.is_some()
        || folder.delete;
    let wanted = [
        (Access::READ_OK | Access::EXEC_OK, "read", true),
        (Access::WRITE_OK, "take files out of", takes_away),
    ];
    let may_not = wanted.iter().find(|(right, _, asked)| *asked && access(base, *right).is_err());
    may_not.map(|(_, what, _)| {
        let found = format!("you may not {what} {}", base.display());
        let remedy = "run dagd as a user who may, or change the folder's owner, group or mode";
        finding("folder", Level::Problem, found).remedy(remedy)
    })
}

/// How completeness of files is known, and why no better.
fn readiness(
    folder: &FolderSpec,
    base: &Path,
    told: Option<&TriggerStatus>,
    leases: bool,
) -> Finding {
    let word = told.and_then(|told| told.readiness.clone());
    let word = word.unwrap_or_else(|| Prober::new().readiness(base, folder.proof()).to_owned());
    let asked = matches!(folder.proof(), ReadLock::Auto | ReadLock::Lease);
    let other = folder.done_file.is_some() || folder.checksum_file.is_some();
    let signs = "set done_file or checksum_file, or have files renamed into place";
    match word.as_str() {
        "proved" => proved(),
        word if other => {
            let found = format!("{word}, and told by the writer's own sign");
            finding("readiness", Level::Ok, found)
        }
        word if !asked => finding("readiness", Level::Ok, format!("{word}, as read_lock says")),
        word if !has_leases(base) => {
            let found = format!("{word}: this file system has no leases that can be relied on");
            finding("readiness", Level::Warning, found).remedy(signs)
        }
        word if !leases => {
            let found = format!("{word}: dagd may take no leases on files of other users");
            let remedy = format!(
                "give it CAP_LEASE (in a unit: AmbientCapabilities=CAP_LEASE); or let nobody else \
                 write there; or {signs}"
            );
            finding("readiness", Level::Warning, found).remedy(remedy)
        }
        word => {
            let found =
                format!("{word}: in this user namespace leases on others' files are refused");
            finding("readiness", Level::Warning, found).remedy(signs)
        }
    }
}

/// Whether files can be renamed to where they go. `None` where that is not known before.
fn moved(key: &str, target: &Template, base: &Path, mounts: &Mounts) -> Option<Finding> {
    let place = existing(&fixed(target, base)?)?;
    let (from, to) = (mounts.over(&Bytes::from(base))?, mounts.over(&Bytes::from(&*place))?);
    let shown = format!("{key} to {}", place.display());
    Some(if from.id == to.id {
        finding("move", Level::Ok, format!("{shown}: a rename"))
    } else if is_same_file_system(from, to) {
        let found = format!(
            "{shown}: the same file system behind another mount, so each file is copied, not renamed"
        );
        let remedy = "in a unit: one ReadWritePaths= for a folder that holds both; else mount that";
        finding("move", Level::Warning, found).remedy(remedy)
    } else {
        let found = format!("{shown}: another file system ({}), so each file is copied", to.kind);
        finding("move", Level::Note, found)
    })
}

fn is_same_file_system(one: &Mount, other: &Mount) -> bool {
    one.device == other.device
}

/// The folder that all files go to or below, as far as the template tells without a file.
fn fixed(target: &Template, base: &Path) -> Option<PathBuf> {
    let mut text = Vec::new();
    for piece in target.pieces() {
        match piece {
            Piece::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
            Piece::Slot(Slot::Root) => text.extend_from_slice(Bytes::from(base).as_bytes()),
            Piece::Slot(_) => break,
        }
    }
    let end = text.iter().rposition(|&byte| byte == b'/')?;
    Some(Bytes::from(text.get(..=end)?.to_vec()).as_path().to_owned())
}

/// The nearest folder on the way to `path` that exists, without links. Others are made there.
fn existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|folder| folder.canonicalize().ok())
}

/// Directories that a daemon would watch, counted until they are more than `limit`.
pub fn directories(loaded: &Loaded, limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mounts = Mounts::read().unwrap_or_default();
    let mut found = 0_usize;
    for folder in loaded.resolved.model.triggers.values().filter_map(|trigger| trigger.folder()) {
        let End::Here(base) = walk(&folder.root, |path| may_hang(&mounts, path)).end else {
            continue;
        };
        if !Means::new(folder).watches || folder.backend == Backend::Fanotify {
            continue;
        }
        let mut left = vec![Bytes::default()];
        while let Some(dir) = left.pop() {
            found += 1;
            if found > limit {
                return found;
            }
            let path =
                if dir.as_bytes().is_empty() { base.clone() } else { base.join(dir.as_bytes()) };
            let entries = std::fs::read_dir(path.as_path()).into_iter().flatten().flatten();
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let names =
                folders.map(|entry| Bytes::from(entry.file_name().as_encoded_bytes().to_vec()));
            let below = names.map(|name| dir.join(name.as_bytes()));
            left.extend(below.filter(|rel| folder.enters(rel)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{existing, fixed};
    use crate::core::template::Template;

    #[test]
    fn the_fixed_part_of_a_target_is_a_folder() {
        let fixed = |text: &str| {
            let template = Template::parse(text).unwrap();
            fixed(&template, Path::new("/in")).map(|path| path.display().to_string())
        };
        assert_eq!(fixed("/done/{date:%Y}/").as_deref(), Some("/done/"));
        assert_eq!(fixed("/done/a{date:%Y}/").as_deref(), Some("/done/"));
        assert_eq!(fixed("{root}/done/{rel}").as_deref(), Some("/in/done/"));
        assert_eq!(fixed("{rel}"), None);
    }

    #[test]
    fn what_is_missing_is_made_in_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(existing(&dir.path().join("a/b")).as_deref(), Some(&*real));
    }
}
