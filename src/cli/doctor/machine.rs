//! What `doctor` says of the machine: rights, control groups, the clock, the limits of inotify.

use super::folders::directories;
use super::{Patient, Tell, finding};
use crate::cli::exit::Failure;
use crate::cli::text::count;
use crate::core::trigger::Backend;
use crate::io::config_files::Loaded;
use crate::io::machine::{self, Rights};
use crate::io::process::cgroup;
use crate::io::watch::limits::{INSTANCES, Limit, QUEUE, WATCHES, used};
use crate::wire::{Finding, Level};

/// Queues that a daemon makes: for its folders, and for the ways to them.
const QUEUES: usize = 2;

/// Events that a queue should hold: the kernel's default.
const QUEUE_USUAL: u64 = 16_384;

/// What the process may do of what its configuration needs.
pub fn rights(
    patient: &Patient,
    loaded: Option<&Loaded>,
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    let rights = match Rights::of(patient.pid) {
        Ok(rights) => rights,
        Err(error) => {
            let found = format!("cannot be read of process {}: {error}", patient.pid);
            return tell(finding("capabilities", Level::Warning, found));
        }
    };
    let needed = [
        ("CAP_LEASE", machine::LEASE),
        ("CAP_SYS_ADMIN", machine::SYS_ADMIN),
        ("CAP_DAC_READ_SEARCH", machine::DAC_READ_SEARCH),
    ];
    let (has, lacks): (Vec<_>, Vec<_>) = needed.iter().partition(|(_, bit)| rights.has(*bit));
    let names =
        |of: &[&(&str, u32)]| of.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = match has.as_slice() {
        [] => format!("user {}, without any", rights.uid),
        has => format!("user {} with {}", rights.uid, names(has)),
    };
    let marks = loaded.into_iter().flat_map(|loaded| loaded.resolved.model.triggers.values());
    let marks = marks.filter_map(|trigger| trigger.folder());
    let wants_marks = marks.into_iter().any(|folder| folder.backend == Backend::Fanotify);
    let missing: Vec<_> = lacks.into_iter().filter(|(name, _)| *name != "CAP_LEASE").collect();
    // Whether CAP_LEASE is missed depends on who writes into a folder: see its readiness.
    if !wants_marks || missing.is_empty() {
        return tell(finding("capabilities", Level::Ok, found));
    }
    let what = format!("{found}; backend = \"fanotify\" needs {}", names(&missing));
    let remedy = "run as root, or take the unit's drop-in fanotify.conf; until then those folders \
                  are polled";
    tell(finding("capabilities", Level::Warning, what).remedy(remedy))
}

/// By what processes that a task leaves behind are found.
pub fn containment(patient: &Patient, tell: &mut Tell<'_>) -> Result<(), Failure> {
    let remedy = "in a unit: Delegate=yes; without it processes are found by their group and by \
                  the token in their environment";
    if let Some(status) = &patient.daemon {
        let found = status.containment.clone();
        let lacks = found.starts_with("process groups");
        let told = finding("containment", if lacks { Level::Note } else { Level::Ok }, found);
        return tell(if lacks { told.remedy(remedy) } else { told });
    }
    tell(match cgroup::find() {
        Err(why) => finding("containment", Level::Note, why).remedy(remedy),
        Ok(found) if !found.delegated => {
            let what = format!("{} is not marked as delegated", found.own.display());
            finding("containment", Level::Note, what).remedy(remedy)
        }
        Ok(found) => {
            let all: Vec<&str> = found.controllers.iter().map(String::as_str).collect();
            let own = found.own.display();
            finding("containment", Level::Ok, format!("{own}, controllers: {}", all.join(" ")))
        }
    })
}

/// Whether times can be relied on.
pub fn clock(tell: &mut Tell<'_>) -> Result<(), Failure> {
    tell(match machine::is_clock_synchronised() {
        Some(true) => finding("clock", Level::Ok, "synchronised"),
        Some(false) => finding("clock", Level::Note, "nothing is known to set it")
            .remedy("schedules go by it: have systemd-timesyncd, chrony or the host set it"),
        None => finding("clock", Level::Note, "the kernel does not say whether it is set"),
    })
}

/// Whether all folders can be watched.
pub fn limits(
    patient: &Patient,
    loaded: Option<&Loaded>,
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    let uid =
        Rights::of(patient.pid).map_or_else(|_| rustix::process::geteuid().as_raw(), |r| r.uid);
    let used = used(uid);
    let hidden = used.hidden;
    // What a daemon watches is among what is used.
    let running = patient.daemon.is_some();
    let limit = WATCHES.binding().map_or(0, |(_, limit)| limit);
    let more = loaded.filter(|_| !running).map_or(0, |loaded| directories(loaded, limit));
    let seen = |used| (uid, used, hidden);
    tell(room("watches", &WATCHES, seen(used.watches), (more, "directory", "directories")))?;
    let more = if running { 0 } else { QUEUES };
    tell(room("instances", &INSTANCES, seen(used.instances), (more, "queue", "queues")))?;
    let Some((name, events)) = QUEUE.binding() else { return Ok(()) };
    let found = format!("{name} = {events}");
    tell(if events >= QUEUE_USUAL {
        finding("queue", Level::Ok, found)
    } else {
        let found = format!("{found}: a burst overflows it, and each overflow costs a scan");
        finding("queue", Level::Warning, found)
            .remedy(kept(&format!("sysctl -w {name}={QUEUE_USUAL}")))
    })
}

/// Whether `more` fit under a limit of which a user has used a part, some of which may be hidden.
fn room(
    check: &str,
    limit: &Limit,
    (uid, used, hidden): (u32, u64, bool),
    (more, one, many): (usize, &str, &str),
) -> Finding {
    let Some((name, value)) = limit.binding() else {
        return finding(check, Level::Note, "there is no /proc/sys to read the limit from");
    };
    let needs = match more {
        0 => String::new(),
        1 => format!(", 1 {one} to be watched"),
        n => format!(", {n} {many} to be watched"),
    };
    let at_least = if hidden { "at least " } else { "" };
    let found = format!("{name} = {value}, {at_least}{used} in use by user {uid}{needs}");
    let needed = u64::try_from(more).unwrap_or(u64::MAX);
    // A daemon that has all it wants needs no room; one that starts must find it.
    if used.saturating_add(needed) <= value && (more > 0 || used < value) {
        return finding(check, if hidden { Level::Note } else { Level::Ok }, found);
    }
    finding(check, Level::Warning, format!("{found}: what does not fit is polled"))
        .remedy(kept(&limit.remedy(more)))
}

/// A command that sets a value, with how to keep it over a restart.
fn kept(command: &str) -> String {
    let value = command.rsplit(' ').next().unwrap_or(command);
    format!("{command}; to keep it: echo {value} >> /etc/sysctl.d/60-dagd.conf")
}

/// The problems that a daemon tells of itself.
pub fn told(patient: &Patient, tell: &mut Tell<'_>) -> Result<(), Failure> {
    let Some(status) = &patient.daemon else { return Ok(()) };
    for problem in &status.problems {
        tell(finding("daemon", Level::Warning, problem.clone()))?;
    }
    if status.problems.is_empty() && !status.triggers.is_empty() {
        let all = count(status.triggers.len(), "trigger");
        tell(finding("daemon", Level::Ok, format!("{all}, nothing uncovered")))?;
    }
    Ok(())
}
