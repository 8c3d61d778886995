//! Files that become other ones while they are worked on: what is moved away is what was delivered,
//! and nothing else.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::common::have;
use crate::world::{World, bytes, one};

/// The task tells that it is about to end, and ends when it may.
const TRIGGERS: &str = r#"
[daemon]
max_parallel = 8
[tasks.hold]
needs = ["see"]
shell = ': > gates/$DAGD_REL.told; until test -e gates/$DAGD_REL.go; do sleep 0.01; done'
cwd = "{dir}"
[triggers.in]
drop = "in"
recursive = true
run = "see"
[triggers.moved]
drop = "moved"
run = "see+"
move = "done/"
[triggers.times]
drop = "times"
run = "see"
move = "done/"
"#;

#[test]
fn what_is_another_file_by_the_time_of_the_move_is_delivered_and_not_moved_away() {
    let mut world = World::new(TRIGGERS);
    for dir in ["moved", "gates"] {
        world.env.mkdir(dir);
    }
    world.env.start();
    let names = ["over", "inside", "gone", "open"];
    for name in names {
        fs::copy(world.source(), world.env.at("moved").join(name)).unwrap();
    }
    for name in names {
        let told = world.env.at(&format!("gates/{name}.told"));
        world.env.wait(&format!("the task of {name} to be at its end"), || told.exists());
    }
    world.sh("cp t out/over; mv out/over moved/over; cat t > moved/inside; mv moved/gone out", &[]);
    let mut open = fs::File::options().append(true).open(world.env.at("moved/open")).unwrap();
    open.write_all(b"more").unwrap();
    for name in names {
        fs::write(world.env.at(&format!("gates/{name}.go")), "").unwrap();
    }
    world.waits("moved/open", "open for writing");
    let then = names.map(|name| one(name, "s")).into_iter();
    world.delivers_first(then.chain([one("over", "t"), one("inside", "t")]));
    let whole = world.env.at("moved/open");
    world.know("s and more", &whole);
    drop(open);
    world.delivers([one("open", "s and more")]);
    // Of what was delivered first nothing is there: it was replaced, or taken away.
    assert_eq!(names_in(&world, "moved"), [""; 0]);
    assert_eq!(names_in(&world, "done"), ["inside", "open", "over"]);
    assert_eq!(fs::read(world.env.at("done/over")).unwrap(), bytes(2));
    assert_eq!(fs::read(world.env.at("done/inside")).unwrap(), bytes(2));

    // The file comes back as it was: it is new work.
    world.sh("mv done/over moved/over; mv out/gone moved/gone", &[]);
    world.delivers([one("over", "t"), one("gone", "s")]);
    assert_eq!(names_in(&world, "moved"), [""; 0]);
    assert_eq!(names_in(&world, "done"), ["gone", "inside", "open", "over"]);
}

/// Many at once, so that of some the time is set when their task has ended.
#[test]
fn what_has_another_time_by_then_is_moved_and_not_delivered_again() {
    if !have("zip") || !have("unzip") {
        return;
    }
    let mut world = World::new(TRIGGERS);
    world.env.mkdir("out/all");
    world.env.mkdir("times");
    let names: Vec<String> = (100..400).map(|n| n.to_string()).collect();
    for name in &names {
        world.sh("cp head out/all/$N", &[("N", Path::new(name))]);
    }
    world.sh("touch -d 2003-02-03 out/all/*; cd out/all; zip -q ../all.zip *", &[]);
    world.env.start();
    // While the first scan is under way a time that is set may be anything.
    world.env.await_scanned();
    world.sh("unzip -q out/all.zip -d times", &[]);
    world.delivers(names.iter().map(|name| one(name, "head")));
    assert_eq!(names_in(&world, "times"), [""; 0]);
    assert_eq!(names_in(&world, "done"), names);
    assert_eq!(world.env.counter("moves_superseded"), 0);
}

fn names_in(world: &World, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(world.env.at(dir)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
