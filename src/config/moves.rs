//! Where files may go, and where dagd itself writes: neither may feed a trigger.
//!
//! Compares paths as text; looks at no file system.

use std::path::{Component, Path, PathBuf};

use super::Settings;
use super::diagnostics::Problem;
use super::reader::Reader;
use super::triggers::Triggers;
use crate::core::id::{Name, Wall};
use crate::core::path::Bytes;
use crate::core::template::{Slot, Template, date};
use crate::core::trigger::{FolderSpec, TriggerSpec};

/// Checks all triggers for feedback, and for a root that two of them empty.
pub fn check(reader: &mut Reader<'_>, triggers: &Triggers, settings: Option<&Settings>) {
    let mut emptied: Vec<(PathBuf, bool, &Name)> = Vec::new();
    for (name, spec) in &triggers.specs {
        let Some(folder) = spec.folder() else { continue };
        feedback(reader, triggers, spec, folder);
        if let Some(settings) = settings {
            own_writes(reader, triggers, name, folder, settings);
        }
        if folder.empties() {
            emptied.push((normal(&folder.root), folder.recursive, name));
        }
    }
    emptied.sort();
    // Ancestors come before what is below them; the stack holds those of the current path.
    let mut above: Vec<&(PathBuf, bool, &Name)> = Vec::new();
    for entry in &emptied {
        above.retain(|other| entry.0.starts_with(&other.0));
        if let Some(other) = above.iter().find(|other| other.1 || other.0 == entry.0) {
            both_move(reader, triggers, (&other.0, other.2), (&entry.0, entry.2));
        }
        above.push(entry);
    }
}

fn both_move(
    reader: &mut Reader<'_>,
    triggers: &Triggers,
    (outer, one): (&Path, &Name),
    (inner, other): (&Path, &Name),
) {
    let moves = |name: &Name| triggers.places.get(name).and_then(|place| place.moves.first());
    let (Some(&one_at), Some(&other_at)) = (moves(one), moves(other)) else { return };
    let root = |name: &Name| triggers.places.get(name).and_then(|place| place.root);
    // A default that both have is one place; their folders are two.
    let (one_at, other_at) = match (root(one), root(other)) {
        (Some(one_root), Some(other_root)) if one_at == other_at => (one_root, other_root),
        _ => (one_at, other_at),
    };
    let (first, second) = (one_at.min(other_at), one_at.max(other_at));
    let which = if outer == inner { "the same folder" } else { "one folder within the other" };
    let what = format!("triggers `{one}` and `{other}` both move files away from {which}");
    let problem = Problem::at(second, what).also(first, "the other one");
    let help = "one would take the files of the other: make them one trigger, or let only one move";
    reader.note(problem.help(help));
}

/// A moved file that lands where the trigger sees it would be delivered again, for ever.
fn feedback(reader: &mut Reader<'_>, triggers: &Triggers, spec: &TriggerSpec, folder: &FolderSpec) {
    let Some(place) = triggers.places.get(&spec.name) else { return };
    let targets = [&folder.pre_move, &folder.move_to, &folder.move_failed];
    for (target, &span) in targets.into_iter().flatten().zip(&place.moves) {
        let Some(rel) = sample_below(target, spec, folder) else { continue };
        if !sees(folder, &rel) {
            continue;
        }
        let what = format!("trigger `{}` would deliver again what it has moved", spec.name);
        let mut problem = Problem::at(span, what).label("leads back into the folder");
        if let Some(root) = place.root {
            problem = problem.also(root, "the folder");
        }
        let below = rel.parent().filter(|below| !below.as_os_str().is_empty());
        let help = match below.and_then(|below| below.components().next()) {
            Some(top) if folder.recursive => {
                let top = top.as_os_str().to_string_lossy();
                format!("add exclude = [\"{top}/**\"], or move to a place outside of the folder")
            }
            Some(_) | None => "move to a place outside of the folder, or into a folder below it \
                               that is excluded"
                .to_owned(),
        };
        reader.note(problem.help(help));
    }
}

/// An example of where `target` leads, relative to the root; `None` if outside of it.
fn sample_below(target: &Template, spec: &TriggerSpec, folder: &FolderSpec) -> Option<PathBuf> {
    let root = Bytes::from(folder.root.as_path());
    let fill = |slot: &Slot| {
        Some(match slot {
            Slot::Root => root.as_bytes().to_vec(),
            Slot::Trigger => spec.name.as_bytes().to_vec(),
            Slot::Date(format) => date(format, Wall(0), 0)?.into_bytes(),
            _ => b"x".to_vec(),
        })
    };
    let sample = Bytes::from(target.expand(fill).ok()?);
    let below = normal(sample.as_path());
    below.strip_prefix(normal(&folder.root)).ok().map(Path::to_owned)
}

/// Whether the trigger would look at the file `rel` below its root, whatever its name is.
pub(super) fn sees(folder: &FolderSpec, rel: &Path) -> bool {
    let parent = rel.parent().unwrap_or(Path::new(""));
    let deep = !parent.as_os_str().is_empty();
    let pruned = || {
        let mut folders = parent.ancestors().filter(|below| !below.as_os_str().is_empty());
        folders.any(|below| folder.filter.prunes(&Bytes::from(below)))
    };
    let excluded = || {
        use crate::core::filter::Rejected::{Exclude, Hidden};
        matches!(folder.filter.rejects(&Bytes::from(rel)), Some(Exclude(_) | Hidden))
    };
    if deep { folder.recursive && !pruned() && !excluded() } else { !excluded() }
}

/// dagd's own writes below a watched folder would start the trigger for ever.
fn own_writes(
    reader: &mut Reader<'_>,
    triggers: &Triggers,
    name: &Name,
    folder: &FolderSpec,
    settings: &Settings,
) {
    let Some(span) = triggers.places.get(name).and_then(|place| place.root) else { return };
    let own = [("state_dir", &settings.state_dir), ("runtime_dir", &settings.runtime_dir)];
    for (key, path) in own {
        let Ok(below) = normal(path).strip_prefix(normal(&folder.root)).map(Path::to_owned) else {
            continue;
        };
        if sees(folder, &below.join("x")) {
            let what = format!("trigger `{name}` would see what dagd itself writes");
            let label = format!("holds `{key}`, {}", path.display());
            let problem = Problem::at(span, what).label(label);
            let help = format!("choose another folder, exclude that one, or set `{key}` elsewhere");
            reader.note(problem.help(help));
            return;
        }
    }
}

/// A path without `.` and with every `..` taken back, as far as text can tell.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                normal.push(component);
            }
        }
    }
    normal
}
