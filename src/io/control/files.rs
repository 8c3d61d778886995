//! Files that requests name: checked against triggers and disk before the engine hears of them.

use std::io;
use std::sync::Arc;

use super::place::{below, rule_against};
use super::reply::Fault;
use crate::core::candidate::{Kind, Version};
use crate::core::event::FireFile;
use crate::core::id::RunId;
use crate::core::path::Bytes;
use crate::core::record::FileClaim;
use crate::core::trigger::{FileType, FollowSymlinks, TriggerSpec};
use crate::io::disk;

/// A file that `trigger` is to run for: below its root, passing its filter, there.
pub(super) fn for_trigger(trigger: &TriggerSpec, path: &Bytes) -> Result<FireFile, Fault> {
    let name = &trigger.name;
    let Some(folder) = trigger.folder() else {
        return Err(Fault::refused(format!("trigger `{name}` waits for a signal, not for files")));
    };
    let Some(rel) = below(&folder.root, path) else {
        let root = folder.root.display();
        return Err(Fault::refused(format!("{path:?} does not lie below {root} of `{name}`")));
    };
    if let Some(rule) = rule_against(folder, &rel) {
        return Err(Fault::refused(format!("{path:?} does not count under `{name}`: {rule}")));
    }
    // Named through a link: the ledger knows it by its name below the root.
    let path = Bytes::from(folder.root.join(rel.as_path()).as_path());
    let leads = path.as_path().canonicalize().ok();
    let target = leads.filter(|_| folder.follow_symlinks != FollowSymlinks::Never);
    let target = target.map_or_else(|| path.clone(), |path| Bytes::from(&*path));
    Ok(FireFile { version: there(&target, folder.file_type)?, rel, path, in_place: true })
}

/// A file that a selection is to run for, wherever it is.
pub(super) fn anywhere(path: &Bytes) -> Result<FireFile, Fault> {
    Ok(FireFile {
        rel: Bytes::from(path.name()),
        version: there(path, FileType::File)?,
        path: path.clone(),
        in_place: false,
    })
}

/// A file under `rel` of a trigger that a run has moved elsewhere since.
pub(super) fn elsewhere(rel: &Bytes, path: &Bytes) -> Result<FireFile, Fault> {
    let version = there(path, what_is(path))?;
    Ok(FireFile { rel: rel.clone(), version, path: path.clone(), in_place: false })
}

/// A file of a finished run, at the place where the run left it: the same content still, as far as
/// size and time tell.
pub(super) fn of_run(claim: &FileClaim, path: &Bytes) -> Result<FireFile, Fault> {
    let file = |version| FireFile {
        rel: claim.rel.clone(),
        path: path.clone(),
        version,
        in_place: claim.in_place && *path == claim.path,
    };
    if claim.kind == Kind::Deleted {
        return Ok(file(claim.version.clone()));
    }
    let now = there(path, what_is(path))?;
    let same = |a: &Version, b: &Version| a.size == b.size && a.mtime_ns == b.mtime_ns;
    if !same(&now, &claim.version) {
        let error = format!("{path:?} has changed since; its new version is work of its own");
        return Err(Fault::refused(error));
    }
    Ok(file(now))
}

/// That there is nothing to run again for.
pub(super) fn deleted(run: RunId, path: &Bytes) -> Fault {
    let error = format!("{path:?} is gone: run {run} succeeded and deleted it, as `delete` asks");
    Fault::refused(format!("{error}; drop the file again to have it run"))
}

/// Refuses what is not absolute.
pub(super) fn absolute(path: Bytes) -> Result<Bytes, Fault> {
    let nul = path.as_bytes().contains(&0);
    if path.as_path().is_absolute() && !nul {
        Ok(path)
    } else {
        Err(Fault::bad(format!("{path:?} is not an absolute path")))
    }
}

/// The trigger called `name`.
pub(super) fn find(triggers: &[Arc<TriggerSpec>], name: &str) -> Result<Arc<TriggerSpec>, Fault> {
    triggers.iter().find(|trigger| &*trigger.name == name).cloned().ok_or_else(|| {
        let known: Vec<&str> = triggers.iter().map(|trigger| &*trigger.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let name = name.escape_debug();
        Fault::missing(format!("there is no trigger `{name}`; configured are: {known}"))
    })
}

/// What a run was for: whatever is there by now under the name of its work.
fn what_is(path: &Bytes) -> FileType {
    let folder = path.as_path().symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if folder { FileType::Dir } else { FileType::File }
}

fn there(path: &Bytes, work: FileType) -> Result<Version, Fault> {
    match disk::work_at(path.as_path(), work) {
        Ok(Some(version)) => Ok(version),
        Ok(None) => Err(absent(path, work)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(absent(path, work)),
        Err(error) => Err(Fault::refused(format!("{path:?} cannot be looked at: {error}"))),
    }
}

fn absent(path: &Bytes, work: FileType) -> Fault {
    let what = match work {
        FileType::File => "regular file",
        FileType::Dir => "folder",
    };
    Fault::refused(format!("there is no {what} at {path:?}"))
}
