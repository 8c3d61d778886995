//! Every row of the table, step by step, against one daemon.

use std::path::PathBuf;

use crate::common::have;
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

const RECONCILED: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "see"
reconcile_interval = "1s"
"#;

#[test]
fn what_arrives_is_delivered_once_and_whole() {
    play(AT_ONCE, ARRIVALS);
}

#[test]
fn what_changes_is_delivered_again_and_what_does_not_is_not() {
    play(AT_ONCE, CHANGES);
}

#[test]
fn a_time_that_is_set_after_the_close_makes_no_second_delivery() {
    if have("zip") {
        play(AT_ONCE, TIMES);
    }
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

/// All first steps, all second ones, and so on, each time with all that is delivered of them. Then
/// another daemon, which finds nothing but what makes no event.
fn play(trigger: &str, table: &'static [Row]) {
    let mut world = World::new(trigger);
    let able = |row: &&Row| row.needs.is_none_or(have);
    let rows: Vec<&Row> = table.iter().filter(able).collect();
    for row in &rows {
        world.env.mkdir(&format!("in/{}", row.name));
        world.env.mkdir(&format!("out/{}", row.name));
    }
    world.env.start();
    // While the first scan is under way a time that is set may be anything.
    world.delivers([]);
    let longest = rows.iter().map(|row| row.steps.len()).max().unwrap();
    for step in 0..longest {
        let wanted: Vec<_> = rows.iter().flat_map(|row| act(&mut world, row, step)).collect();
        world.delivers(wanted);
    }
    assert!(world.env.stop());
    world.env.start();
    let scan = rows.iter().flat_map(|row| row.scan.iter().map(|file| delivery(row, *file)));
    world.delivers(scan);
}

/// Does a row's step, and says what should be delivered of it.
fn act(world: &mut World, row: &'static Row, step: usize) -> Vec<Delivery> {
    let Some((act, delivered)) = row.steps.get(step) else { return Vec::new() };
    let inside = world.env.at("in").join(row.name);
    let outside = world.env.at("out").join(row.name);
    let (s, t): (PathBuf, PathBuf) = (world.env.at("s"), world.env.at("t"));
    match act {
        Act::Sh(script) => {
            world.sh(script, &[("S", &s), ("T", &t), ("D", &inside), ("O", &outside)]);
        }
        Act::Do(act) => act(&s, &inside),
    }
    let wanted = delivered.iter().map(|(file, content)| match *content {
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
