//! Writers that never stop do not keep others waiting.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::common::kill;
use crate::world::{World, one};

/// A file that is written again and again while its runs are alive looks like a loop.
const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "see"
max_hops = 1000
"#;

/// Folders that appear while the others write.
const FOLDERS: usize = 30;

/// Appends its file's name each millisecond to a file that it keeps open, for ever.
const APPEND: &str = r#"
    open(F, ">>", $ARGV[0]) or die; F->autoflush(1);
    while (1) { print F "$ARGV[0]\n" or die; select(undef, undef, undef, 0.001) }
"#;

/// The same, and closes the file each time.
const REOPEN: &str = r#"
    while (1) {
        open(F, ">>", $ARGV[0]) or die; print F "$ARGV[0]\n"; close(F) or die;
        select(undef, undef, undef, 0.005)
    }
"#;

/// A process that ends with the test.
struct Writer(Child);

impl Writer {
    fn start(world: &World, script: &str, rel: &str) -> Self {
        // It goes with the test, whatever ends that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "perl", "-MIO::Handle", "-e", script]);
        let child = command.arg(world.env.at(rel)).stdin(Stdio::null()).spawn().unwrap();
        Self(child)
    }

    fn writes(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        kill(self.0.id().cast_signed(), 9);
        self.0.wait().unwrap();
    }
}

#[test]
fn files_are_delivered_beside_writers_that_never_stop() {
    let mut world = World::new(TRIGGER);
    world.env.start();
    let mut writers = [(APPEND, "in/first"), (APPEND, "in/second"), (REOPEN, "in/again")]
        .map(|(script, rel)| Writer::start(&world, script, rel));
    world.waits("in/first", "open for writing");
    world.waits("in/second", "open for writing");
    world.env.wait("the third to be delivered", || of(&world, "again") > 0);
    for n in 0..FOLDERS {
        world.env.mkdir(&format!("in/{n}/a/b"));
        fs::copy(world.source(), world.env.at(&format!("in/{n}/a/b/f"))).unwrap();
    }
    let new = |n: usize| one(&format!("{n}/a/b/f"), "s");
    let before = of(&world, "again");
    world.env.wait("all new files to be delivered", || {
        let seen = world.seen();
        (0..FOLDERS).all(|n| seen.contains(&new(n)))
    });
    // In order: each of them has its turn, however often another file comes up in between.
    let order = world.seen();
    let last = (0..FOLDERS).map(|n| order.iter().position(|seen| *seen == new(n)).unwrap()).max();
    let others = order[..last.unwrap()].iter().filter(|seen| seen.0 == "again").count();
    let between = others.saturating_sub(before);
    println!("{between} deliveries of the third among those of {FOLDERS} new files");
    assert!(between <= FOLDERS, "{between} deliveries of the third came first");
    assert!(writers.iter_mut().all(Writer::writes), "the others had stopped");
    assert_eq!(of(&world, "first") + of(&world, "second"), 0, "they were never closed");
    drop(writers);
    for name in ["first", "second", "again"] {
        let path = world.env.at("in").join(name);
        world.know(name, &path);
    }
    // What was written last is delivered, too; and everything else once.
    world.env.wait("the end of all", || {
        let seen = world.seen();
        ["first", "second", "again"].iter().all(|name| seen.contains(&one(name, name)))
    });
    world.env.await_idle();
    assert_eq!([of(&world, "first"), of(&world, "second")], [1, 1]);
    assert!((0..FOLDERS).all(|n| of(&world, &new(n).0) == 1));
}

/// Times that a file was delivered.
fn of(world: &World, rel: &str) -> usize {
    world.seen().iter().filter(|seen| seen.0 == rel).count()
}
