//! What `doctor` says of the state folder and the database in it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::{Patient, Tell, finding};
use crate::cli::exit::Failure;
use crate::cli::text::{duration, size};
use crate::core::path::Bytes;
use crate::daemon::view;
use crate::io::machine::{Space, space};
use crate::io::store::{Health, Reader, StoreError};
use crate::io::watch::mounts::Mounts;
use crate::wire::{Finding, Level};

/// Below so much of free space, or a twentieth of all, a warning is due.
const SPACE_LOW: u64 = 1 << 30;

/// With less nothing can be promised: a full log and its copy.
const SPACE_NONE: u64 = 16 << 20;

/// How far the clock may be behind the newest run before it was set back.
const BEHIND: Duration = Duration::from_secs(2);

/// The folder, then the database.
pub fn state(patient: &Patient, dir: &Path, tell: &mut Tell<'_>) -> Result<(), Failure> {
    let Ok(real) = dir.canonicalize() else {
        if patient.daemon.is_some() {
            let found = format!("{} is the daemon's to look at, and not yours", dir.display());
            return tell(finding("state", Level::Note, found));
        }
        let found = format!("{} does not exist or may not be read", dir.display());
        return tell(finding("state", Level::Note, found).remedy("it is made at the first start"));
    };
    tell(folder(&real))?;
    match Reader::open(&real, view::live).and_then(|mut reader| reader.health()) {
        Ok(health) => {
            tell(database(&health))?;
            if let Some(back) = set_back(&health) {
                tell(back)?;
            }
            Ok(())
        }
        Err(StoreError::Missing { .. }) => {
            tell(finding("database", Level::Note, "there is none yet"))
        }
        Err(StoreError::Corrupt(why)) => {
            let remedy = "stop dagd, set the state folder aside and restore it from a backup; \
                          without one dagd starts with an empty memory";
            tell(finding("database", Level::Problem, why).remedy(remedy))
        }
        // Who may look at a running dagd need not be able to read its files.
        Err(error) if patient.daemon.is_some() => {
            tell(finding("database", Level::Note, format!("not yours to read: {error}")))
        }
        Err(error) => tell(finding("database", Level::Problem, error.to_string())),
    }
}

fn folder(real: &Path) -> Finding {
    let path = Bytes::from(real);
    let mounts = Mounts::read().unwrap_or_default();
    let mount = mounts.over(&path);
    let kind = mount.map_or("an unknown file system", |mount| mount.kind.as_str());
    let place = format!("{} on {kind}", real.display());
    if mount.is_some_and(|mount| mounts.nature(mount).may_hang) {
        let found = format!("{place}: the database needs a local file system");
        return finding("state", Level::Problem, found).remedy("set state_dir to a local folder");
    }
    let space = match space(&path) {
        Ok(space) => space,
        Err(error) => return finding("state", Level::Warning, format!("{place}: {error}")),
    };
    let Space { free, all, files, read_only } = space;
    let found = format!("{place}, {} free of {}", size(free), size(all));
    if read_only {
        let remedy = format!("mount -o remount,rw the file system of {}", real.display());
        return finding("state", Level::Problem, format!("{found}, read-only")).remedy(remedy);
    }
    let remedy = "make room, or lower `retention` in [daemon]";
    if free < SPACE_NONE || files == Some(0) {
        let what = if files == Some(0) { ", no file can be made" } else { "" };
        finding("state", Level::Problem, format!("{found}{what}")).remedy(remedy)
    } else if free < SPACE_LOW.min(all / 20) {
        finding("state", Level::Warning, found).remedy(remedy)
    } else {
        finding("state", Level::Ok, found)
    }
}

fn database(health: &Health) -> Finding {
    let found = format!("{}, log {}", size(health.size), size(health.log));
    match health.faults.as_slice() {
        [] => finding("database", Level::Ok, format!("{found}, sound")),
        faults => finding("database", Level::Problem, format!("{found}: {}", faults.join("; ")))
            .remedy("stop dagd and restore the state folder from a backup"),
    }
}

/// The clock is behind what happened already.
fn set_back(health: &Health) -> Option<Finding> {
    let newest = Timestamp::from_nanosecond(i128::from(health.newest_end?.0)).ok()?;
    let behind = Duration::try_from(newest.duration_since(Timestamp::now())).ok()?;
    (behind > BEHIND).then(|| {
        let found = format!("it is {} behind the end of the newest run", duration(behind));
        let remedy = "it was set back: schedules and retention go by it; set it right";
        finding("clock", Level::Warning, found).remedy(remedy)
    })
}
