//! Every row of the table, step by step, against one daemon.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use crate::common::fuse::Fuse;
use crate::common::{have, is_root, skip};
use crate::readiness::{NOBODY, without};
use crate::table::{ARRIVALS, Act, CHANGES, Row, TIMES};
use crate::world::{Delivery, World, one};

/// A database's journals come and go beside it.
const AT_ONCE: &str = r#"
[triggers.in]
drop = "in"
recursive = true
exclude = ["**/*-journal", "**/*-wal", "**/*-shm"]
run = "see"
"#;

/// The same where dagd would look by itself after a while.
const NEVER_SCANNED: &str = r#"
[triggers.in]
drop = "in"
recursive = true
exclude = ["**/*-journal", "**/*-wal", "**/*-shm"]
run = "see"
reconcile_interval = "1h"
"#;

const RECONCILED: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "see"
reconcile_interval = "1s"
"#;

#[test]
fn what_arrives_is_delivered_once_and_whole() {
    play(Where::Here, AT_ONCE, ARRIVALS);
}

#[test]
fn what_changes_is_delivered_again_and_what_does_not_is_not() {
    play(Where::Here, AT_ONCE, CHANGES);
}

#[test]
fn a_time_that_is_set_after_the_close_makes_no_second_delivery() {
    if have("zip") {
        play(Where::Here, AT_ONCE, TIMES);
    }
}

#[test]
fn all_the_same_of_own_files_without_the_capability() {
    for table in [ARRIVALS, CHANGES] {
        play(Where::Own, AT_ONCE, table);
    }
}

#[test]
fn all_the_same_of_foreign_files_without_the_capability() {
    for table in [ARRIVALS, CHANGES] {
        play(Where::Foreign, AT_ONCE, table);
    }
}

#[test]
fn a_time_that_is_set_after_the_close_is_waited_for_where_nobody_tells_who_writes() {
    if have("zip") {
        play(Where::Foreign, AT_ONCE, TIMES);
        play(Where::Fuse, NEVER_SCANNED, TIMES);
    }
}

#[test]
fn what_arrives_is_delivered_through_fuse() {
    play(Where::Fuse, NEVER_SCANNED, ARRIVALS);
}

#[test]
fn what_changes_is_delivered_through_fuse() {
    play(Where::Fuse, NEVER_SCANNED, CHANGES);
}

#[test]
fn what_makes_no_event_is_found_at_the_interval() {
    let mut world = World::new(RECONCILED);
    world.env.start();
    world.sh("cp s in/cut", &[]);
    world.delivers([one("cut", "s")]);
    world.sh("perl -e 'truncate(\"in/cut\", 1000) or die'", &[]);
    world.delivers([one("cut", "head")]);
}

/// Where the kernel tells dagd who writes, and where it does not.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    /// With the rights that the tester has.
    Here,
    /// Without `CAP_LEASE`: of its own user's files dagd needs none.
    Own,
    /// Without `CAP_LEASE`, all files are another user's.
    Foreign,
    /// Through FUSE, which knows no leases.
    Fuse,
}

impl Where {
    fn is_told(self) -> bool {
        matches!(self, Self::Here | Self::Own)
    }

    /// Starts the daemon.
    fn start(self, world: &mut World) {
        match self {
            Self::Here | Self::Fuse => world.env.start(),
            Self::Own | Self::Foreign => {
                world.env.spawn(&mut without(world, &["run"]));
                world.env.await_ready();
            }
        }
        let readiness = if self.is_told() { "proved" } else { "inferred" };
        assert_eq!(world.readiness("in"), readiness);
    }
}

/// All first steps, all second ones, and so on, each time with all that is delivered of them. Then
/// another daemon, which finds nothing but what makes no event.
fn play(at: Where, trigger: &str, table: &'static [Row]) {
    if at == Where::Foreign && !is_root() {
        return skip("needs root: files of another user");
    }
    let mut world = World::new(trigger);
    let able = |row: &&Row| row.needs.is_none_or(have) && (at != Where::Fuse || row.fuse);
    let rows: Vec<&Row> = table.iter().filter(able).collect();
    let mut fuse = None;
    if at == Where::Fuse {
        world.env.mkdir("backing/barrier");
        fs::write(world.env.at("backing/mounted"), "").unwrap();
        fs::remove_dir(world.env.at("in/barrier")).unwrap();
        fuse = Fuse::mount(&world.env.at("backing"), &world.env.at("in"));
        if fuse.is_none() {
            return;
        }
    }
    for row in &rows {
        for dir in ["in", "out"] {
            let dir = world.env.mkdir(&format!("{dir}/{}", row.name));
            if at == Where::Foreign {
                chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
    }
    if at == Where::Foreign {
        // Others may write somewhere below it, so that nothing is proved of it as a whole.
        fs::set_permissions(world.env.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(world.env.at("in"), Permissions::from_mode(0o1777)).unwrap();
    }
    at.start(&mut world);
    // While the first scan is under way a time that is set may be anything.
    world.delivers(fuse.is_some().then(|| one("mounted", "empty")));
    let longest = rows.iter().map(|row| row.steps.len()).max().unwrap();
    for step in 0..longest {
        let wanted: Vec<_> = rows.iter().flat_map(|row| act(at, &mut world, row, step)).collect();
        world.delivers(wanted);
    }
    assert!(world.env.stop());
    at.start(&mut world);
    let scan = rows.iter().flat_map(|row| row.scan.iter().map(|file| delivery(row, *file)));
    world.delivers(scan);
    assert!(world.env.stop());
}

/// Does a row's step, and says what should be delivered of it.
fn act(at: Where, world: &mut World, row: &'static Row, step: usize) -> Vec<Delivery> {
    let Some((act, delivered)) = row.steps.get(step) else { return Vec::new() };
    let inside = world.env.at("in").join(row.name);
    let outside = world.env.at("out").join(row.name);
    let (s, t): (PathBuf, PathBuf) = (world.env.at("s"), world.env.at("t"));
    match act {
        Act::Sh(script) => {
            let id = NOBODY.to_string();
            let another = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "sh"];
            let words = if at == Where::Foreign { &another[..] } else { &["sh"] };
            let env = [("S", &*s), ("T", &*t), ("D", &*inside), ("O", &*outside)];
            world.sh_by(words, script, &env);
        }
        Act::Do(act) => act(&s, &inside),
    }
    let untold = row.untold.get(step).filter(|_| !at.is_told());
    let wanted = untold.unwrap_or(delivered).iter().map(|(file, content)| match *content {
        "=" => {
            let now = format!("{} after step {step}", row.name);
            world.know(&now, &inside.join(file));
            (format!("{}/{file}", row.name), now)
        }
        _ => delivery(row, (file, content)),
    });
    wanted.collect()
}

fn delivery(row: &Row, (file, content): (&str, &str)) -> Delivery {
    (format!("{}/{file}", row.name), content.to_owned())
}
