//! From the keys of a folder trigger to what the model knows of the folder.
//!
//! Fills in the defaults, which [`FolderSpec::new`] holds, and checks what keys mean together.

use std::path::PathBuf;

use super::diagnostics::{Problem, Span};
use super::reader::{At, Reader};
use super::trigger::RawTrigger;
use super::words;
use crate::core::candidate::Kind;
use crate::core::filter::Filter;
use crate::core::trigger::{
    FanOut, FileType, Folder, FolderSpec, IdempotentKey, OnConflict, ReadLock,
};

/// How files become runs.
pub fn fan_out(folder: Folder, raw: &RawTrigger<'_>, defaults: &RawTrigger<'_>) -> FanOut {
    let written = raw.fan_out.as_ref().or(defaults.fan_out.as_ref()).map(|at| at.value);
    let of_a_set = raw.key("set").or(defaults.key("set")).map(|_| FanOut::Key);
    written.or(of_a_set).unwrap_or(match folder {
        Folder::Drop => FanOut::File,
        Folder::Watch => FanOut::Batch,
    })
}

/// The folder of a trigger; `None` if it cannot be made, which is noted.
pub fn spec(
    reader: &mut Reader<'_>,
    name: Span,
    folder: Folder,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<FolderSpec> {
    let recursive = raw.recursive.or(defaults.recursive).unwrap_or(folder == Folder::Watch);
    let filter = filter(reader, name, recursive, raw, defaults);
    let mut spec = FolderSpec::new(folder, PathBuf::new(), filter?);
    spec.recursive = recursive;
    scope(&mut spec, raw, defaults);
    readiness(&mut spec, raw, defaults);
    grouping(&mut spec, raw, defaults);
    if folder == Folder::Drop {
        end(&mut spec, raw, defaults);
    }
    depths(reader, &spec, raw);
    waits(reader, &spec, raw, defaults);
    sets(reader, name, &spec, raw);
    ends(reader, &spec, raw);
    folders(reader, &spec, raw);
    spec.root.clone_from(&raw.root.as_ref()?.value);
    Some(spec)
}

/// Puts what was written, by the trigger or else by the defaults, into the place of the default.
fn put<T: Clone>(place: &mut T, raw: Option<&T>, defaults: Option<&T>) {
    if let Some(written) = raw.or(defaults) {
        place.clone_from(written);
    }
}

/// What was written, by the trigger or else by the defaults.
fn written<T: Clone>(raw: Option<&At<T>>, defaults: Option<&At<T>>) -> Option<T> {
    raw.or(defaults).map(|at| at.value.clone())
}

fn put_at<T: Clone>(place: &mut T, raw: Option<&At<T>>, defaults: Option<&At<T>>) {
    put(place, written(raw, defaults).as_ref(), None);
}

fn scope(spec: &mut FolderSpec, raw: &RawTrigger<'_>, defaults: &RawTrigger<'_>) {
    put_at(&mut spec.min_depth, raw.min_depth.as_ref(), defaults.min_depth.as_ref());
    put_at(&mut spec.max_depth, raw.max_depth.as_ref(), defaults.max_depth.as_ref());
    let (symlinks, default) = (raw.follow_symlinks.as_ref(), defaults.follow_symlinks.as_ref());
    put(&mut spec.follow_symlinks, symlinks, default);
    let (cross, default) = (raw.cross_filesystem.as_ref(), defaults.cross_filesystem.as_ref());
    put(&mut spec.cross_filesystem, cross, default);
    put(&mut spec.gitignore, raw.gitignore.as_ref(), defaults.gitignore.as_ref());
    put(&mut spec.backend, raw.backend.as_ref(), defaults.backend.as_ref());
    put(&mut spec.poll_interval, raw.poll_interval.as_ref(), defaults.poll_interval.as_ref());
    spec.reconcile_interval = raw.reconcile_interval.or(defaults.reconcile_interval);
    put_at(&mut spec.file_type, raw.file_type.as_ref(), defaults.file_type.as_ref());
    put_at(&mut spec.min_size, raw.min_size.as_ref(), defaults.min_size.as_ref());
    put_at(&mut spec.max_size, raw.max_size.as_ref(), defaults.max_size.as_ref());
    put(&mut spec.kinds, raw.kinds.as_ref(), defaults.kinds.as_ref());
    put(&mut spec.initial_scan, raw.initial_scan.as_ref(), defaults.initial_scan.as_ref());
    if spec.folder == Folder::Drop {
        put(&mut spec.initial_max, raw.initial_max.as_ref(), defaults.initial_max.as_ref());
    }
    spec.renamed_from = raw.renamed_from.as_ref().map(|at| at.value.into());
}

fn readiness(spec: &mut FolderSpec, raw: &RawTrigger<'_>, defaults: &RawTrigger<'_>) {
    put(&mut spec.read_lock, raw.read_lock.as_ref(), defaults.read_lock.as_ref());
    let (threshold, default) = (&raw.stability_threshold, &defaults.stability_threshold);
    put(&mut spec.stability_threshold, threshold.as_ref(), default.as_ref());
    put(&mut spec.min_age, raw.min_age.as_ref(), defaults.min_age.as_ref());
    put(&mut spec.settle, raw.settle.as_ref(), defaults.settle.as_ref());
    spec.settle_empty = spec.settle_empty.max(spec.settle);
    let wait = written(raw.max_wait.as_ref(), defaults.max_wait.as_ref());
    spec.max_wait = wait.or(spec.max_wait.map(|default| default.max(spec.settle)));
    if let Some(alarm) = raw.ready_alarm.or(defaults.ready_alarm) {
        spec.ready_alarm = Some(alarm).filter(|alarm| !alarm.is_zero());
    }
    spec.done_file = written(raw.done_file.as_ref(), defaults.done_file.as_ref());
    spec.checksum_file = written(raw.checksum_file.as_ref(), defaults.checksum_file.as_ref());
}

fn grouping(spec: &mut FolderSpec, raw: &RawTrigger<'_>, defaults: &RawTrigger<'_>) {
    spec.fan_out = fan_out(spec.folder, raw, defaults);
    spec.set_key = written(raw.set_key.as_ref(), defaults.set_key.as_ref());
    let set = raw.set.as_ref().or(defaults.set.as_ref());
    spec.set = set.into_iter().flatten().map(|at| at.value.clone()).collect();
    if spec.fan_out == FanOut::Key {
        spec.filter = spec.filter.clone().with_key(spec.set_key.clone());
    }
    if !spec.set.is_empty() && raw.kinds.is_none() {
        // What is gone completes nothing.
        spec.kinds.retain(|kind| *kind != Kind::Deleted);
    }
    put_at(
        &mut spec.batch_max_files,
        raw.batch_max_files.as_ref(),
        defaults.batch_max_files.as_ref(),
    );
    let wait = written(raw.batch_max_wait.as_ref(), defaults.batch_max_wait.as_ref());
    spec.batch_max_wait = wait.or(spec.default_batch_wait());
    put(&mut spec.sort_by, raw.sort_by.as_ref(), defaults.sort_by.as_ref());
    put_at(&mut spec.idempotent_key, raw.idempotent_key.as_ref(), defaults.idempotent_key.as_ref());
    put(&mut spec.max_hops, raw.max_hops.as_ref(), defaults.max_hops.as_ref());
}

fn end(spec: &mut FolderSpec, raw: &RawTrigger<'_>, defaults: &RawTrigger<'_>) {
    spec.pre_move = written(raw.pre_move.as_ref(), defaults.pre_move.as_ref());
    spec.move_to = written(raw.move_to.as_ref(), defaults.move_to.as_ref());
    spec.move_failed = written(raw.move_failed.as_ref(), defaults.move_failed.as_ref());
    put_at(&mut spec.delete, raw.delete.as_ref(), defaults.delete.as_ref());
    // One that the trigger itself writes takes the place of a default of the other kind.
    if raw.delete.as_ref().is_some_and(|at| at.value) && raw.move_to.is_none() {
        spec.move_to = None;
    }
    if raw.move_to.is_some() && raw.delete.is_none() {
        spec.delete = false;
    }
    put(&mut spec.on_conflict, raw.on_conflict.as_ref(), defaults.on_conflict.as_ref());
}

fn depths(reader: &mut Reader<'_>, spec: &FolderSpec, raw: &RawTrigger<'_>) {
    let deeper = [("min_depth", &raw.min_depth), ("max_depth", &raw.max_depth)];
    for (key, at) in deeper.into_iter().filter(|_| !spec.recursive) {
        if let Some(at) = at.as_ref().filter(|at| at.value > 1) {
            let what = format!("`{key}` is {}, but folders below are not looked into", at.value);
            reader.note(Problem::at(at.span, what).help("write recursive = true"));
        }
    }
    if let Some(at) = raw.max_depth.as_ref().filter(|at| at.value < spec.min_depth) {
        let what = format!("no file lies between `min_depth` {} and this", spec.min_depth);
        reader.note(Problem::at(at.span, what).help("let `max_depth` be at least `min_depth`"));
    }
    if let Some(at) = raw.max_size.as_ref().filter(|at| at.value < spec.min_size) {
        let what = format!("no file is between `min_size`, {} B, and this", spec.min_size);
        reader.note(Problem::at(at.span, what).help("let `max_size` be at least `min_size`"));
    }
}

fn waits(
    reader: &mut Reader<'_>,
    spec: &FolderSpec,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) {
    if let Some(span) = raw.key("stability_threshold").filter(|_| spec.read_lock == ReadLock::None)
    {
        let what = "`stability_threshold` does nothing: `read_lock` is \"none\"";
        let help = "write read_lock = \"changed\" to wait until files stay the same";
        reader.note(Problem::at(span, what).help(help));
    }
    let settle = spec.settle;
    let max_wait = raw.max_wait.as_ref().or(defaults.max_wait.as_ref());
    if let Some(wait) = max_wait.filter(|wait| wait.value < settle) {
        let what = "`max_wait` is shorter than `settle`";
        let help = format!("`settle` is {settle:?}, and `max_wait` is the ceiling of it");
        reader.note(Problem::at(wait.span, what).help(help));
    }
    let gathers =
        raw.batch_max_wait.as_ref().filter(|wait| !settle.is_zero() && wait.value <= settle);
    if let Some(wait) = gathers {
        let what = "`batch_max_wait` is not longer than `settle`";
        let help = format!(
            "the first of both to pass closes a batch, so that `settle`, {settle:?}, would do nothing"
        );
        reader.note(Problem::at(wait.span, what).help(help));
    }
    let batch = [
        ("batch_max_files", raw.key("batch_max_files")),
        ("batch_max_wait", raw.key("batch_max_wait")),
    ];
    for (key, span) in batch {
        if let Some(span) = span.filter(|_| spec.fan_out == FanOut::File) {
            let what = format!("`{key}` does nothing with one run per file");
            let help = "write fan_out = \"batch\", \"dir\" or \"key\" for runs with several files";
            reader.note(Problem::at(span, what).help(help));
        }
    }
}

/// `set`, `set_key` and `fan_out = "key"` belong together.
fn sets(reader: &mut Reader<'_>, name: Span, spec: &FolderSpec, raw: &RawTrigger<'_>) {
    let by_key = spec.fan_out == FanOut::Key;
    let set = raw.key("set");
    if let Some(span) =
        set.or(raw.key("fan_out")).filter(|_| by_key && raw.key("set_key").is_none())
        && spec.set_key.is_none()
    {
        let what = "`set_key` is missing: it tells which files belong together";
        let help = "add for example set_key = \"^(.*)[.][^.]*$\" for files that differ in their \
                    extension only";
        reader.note(Problem::at(span, what).also(name, "in this trigger").help(help));
    }
    if let Some(span) = set.filter(|_| !by_key) {
        let what = "a `set` is delivered in one run, and `fan_out` says otherwise";
        let help = "write fan_out = \"key\", or leave `fan_out` out";
        reader.note(Problem::at(span, what).help(help));
    }
    if let Some(span) = raw.key("set_key").filter(|_| !by_key) {
        let what = "`set_key` does nothing here";
        let help =
            "write fan_out = \"key\" for one run for each key, or name the members of a `set`";
        reader.note(Problem::at(span, what).help(help));
    }
    if let Some(span) = raw.key("kinds").filter(|_| spec.kinds.contains(&Kind::Deleted))
        && !spec.set.is_empty()
    {
        let what = "a deletion is no member of a `set`";
        reader.note(Problem::at(span, what).help("leave \"deleted\" out of `kinds`"));
    }
    if let Some(span) = raw.key("idempotent_key").or(set).filter(|_| !spec.set.is_empty())
        && spec.idempotent_key != IdempotentKey::Version
    {
        let what = "`idempotent_key` and `set` do not go together";
        let help = "a set that lacks a file because it was delivered before would wait for ever; \
                    write idempotent_key = \"path+version\"";
        reader.note(Problem::at(span, what).help(help));
    }
    if spec.set.len() > spec.batch_max_files
        && let Some(at) = &raw.batch_max_files
    {
        let what = format!("a set has {} members, more than fit", spec.set.len());
        reader.note(Problem::at(at.span, what).help("raise `batch_max_files`"));
    }
}

fn ends(reader: &mut Reader<'_>, spec: &FolderSpec, raw: &RawTrigger<'_>) {
    if spec.folder != Folder::Drop {
        return;
    }
    if let (Some(delete), Some(span)) = (&raw.delete, raw.key("move"))
        && delete.value
    {
        let what = "a file cannot be both deleted and moved after a success";
        let problem = Problem::at(delete.span, what).also(span, "it would be moved");
        reader.note(problem.help("remove one of the two"));
    }
    if let Some(span) = raw.key("on_conflict")
        && spec.pre_move.is_none()
        && spec.move_to.is_none()
        && spec.move_failed.is_none()
    {
        let what = "`on_conflict` does nothing: no file is moved";
        reader.note(Problem::at(span, what).help("remove it, or say where files go with `move`"));
    }
    if let Some(span) = raw.key("pre_move").filter(|_| spec.on_conflict == OnConflict::Keep) {
        let what = "`pre_move` and on_conflict = \"keep\" do not go together";
        let help = "a file that cannot be taken away before its run could not be run for";
        reader.note(Problem::at(span, what).help(help));
    }
}

/// What folders as work cannot have.
fn folders(reader: &mut Reader<'_>, spec: &FolderSpec, raw: &RawTrigger<'_>) {
    if spec.file_type != FileType::Dir {
        return;
    }
    let by_content = spec.idempotent_key == IdempotentKey::Content;
    let keys = [
        ("checksum_file", spec.checksum_file.is_some()),
        ("idempotent_key", by_content),
        ("follow_symlinks", raw.follow_symlinks.is_some()),
        ("cross_filesystem", spec.cross_filesystem),
    ];
    for (key, _) in keys.into_iter().filter(|(_, set)| *set) {
        let Some(span) = raw.key(key).or(raw.key("file_type")) else { continue };
        let what = format!("`{key}` cannot be with file_type = \"dir\"");
        let help = "it is about files; a folder is delivered as a whole";
        reader.note(Problem::at(span, what).help(help));
    }
}
fn filter(
    reader: &mut Reader<'_>,
    name: Span,
    recursive: bool,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<Filter> {
    for pattern in raw.include.iter().flatten().filter(|_| !recursive) {
        let below = pattern.value.trim_start_matches("**/");
        if below.contains('/') {
            let what = format!("pattern `{}` matches nothing", words::shown(pattern.value));
            let problem = Problem::at(pattern.span, what).label("names files in folders below");
            reader.note(problem.help("write recursive = true to look into folders below"));
        }
    }
    let written = |key| raw.key(key).is_some();
    let texts = |patterns: &Option<Vec<At<&str>>>| {
        patterns.as_ref().map(|list| list.iter().map(|at| at.value.to_owned()).collect())
    };
    let all = if recursive { "**/*" } else { "*" };
    let include = match texts(&raw.include) {
        None if written("include") => return None,
        include => include.or_else(|| texts(&defaults.include)),
    };
    let exclude = match texts(&raw.exclude) {
        None if written("exclude") => return None,
        exclude => exclude.or_else(|| texts(&defaults.exclude)),
    };
    let filter = Filter::new(
        include.unwrap_or_else(|| vec![all.to_owned()]),
        exclude.unwrap_or_default(),
        raw.default_ignores.or(defaults.default_ignores).unwrap_or(true),
        raw.hidden.or(defaults.hidden).unwrap_or(false),
    );
    // Each pattern was good by itself, so together they are too many.
    filter
        .map_err(|(_, why)| {
            let what = format!("the patterns cannot be compiled together: {why}");
            reader.note(Problem::at(name, what).help("use fewer or simpler patterns"));
        })
        .ok()
}
