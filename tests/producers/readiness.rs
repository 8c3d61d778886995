//! How completeness is known: proved where the kernel tells, inferred where it does not. What the
//! status says of it is true, and a slow writer is never delivered half.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::{scope, sleep};

use crate::common::fuse::Fuse;
use crate::common::{is_root, skip, through};
use crate::slow::{PARTS, PAUSE};
use crate::world::{SIZE, World, one};

/// `in` and `own` deliver nothing that is not proved while the test lasts. `shared` and `mount`
/// deliver what has been quiet for much longer than a slow writer pauses.
const TRIGGERS: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "see"
stability_threshold = "1h"
[triggers.shared]
drop = "shared"
run = "see"
stability_threshold = "4s"
[triggers.mount]
drop = "mount"
run = "see"
stability_threshold = "4s"
[triggers.quiet]
drop = "quiet"
run = "see"
read_lock = "changed"
[triggers.blind]
drop = "blind"
run = "see"
read_lock = "none"
"#;

/// Nobody's user and group.
pub(crate) const NOBODY: u32 = 65534;

/// The world, with folders that all may write: `shared`, and one in `in`.
fn world() -> World {
    let world = World::new(TRIGGERS);
    let may = |rel: &str, mode| {
        fs::set_permissions(world.env.at(rel), Permissions::from_mode(mode)).unwrap();
    };
    for dir in ["shared", "mount", "quiet", "blind", "backing"] {
        world.env.mkdir(dir);
    }
    fs::write(world.env.at("backing/mounted"), "").unwrap();
    may("shared", 0o1777);
    for rel in ["", "in"] {
        may(rel, 0o755);
    }
    world
}

/// How completeness is known under each trigger.
fn told(world: &World) -> [String; 5] {
    ["in", "shared", "mount", "quiet", "blind"].map(|trigger| world.readiness(trigger))
}

/// Writes the source of the world in `dir` slowly.
fn slowly(dir: &Path, rel: &str) {
    let text = fs::read(dir.join("s")).unwrap();
    let mut file = fs::File::create(dir.join(rel)).unwrap();
    for part in text.chunks(SIZE.div_ceil(PARTS)) {
        sleep(PAUSE);
        file.write_all(part).unwrap();
    }
}

/// The same, as another user.
fn slowly_as_another(dir: &Path, rel: &str) {
    let script = format!(
        "exec > {rel}
         for n in $(seq 0 {}); do
             sleep {}
             dd if=s bs={} skip=$n count=1 status=none
         done",
        PARTS - 1,
        PAUSE.as_secs_f32(),
        SIZE.div_ceil(PARTS)
    );
    let id = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-ec", &script]);
    assert!(command.current_dir(dir).status().unwrap().success());
}

#[test]
fn with_the_capability_all_is_proved_but_what_is_seen_through_fuse() {
    if !is_root() {
        return skip("needs root: files of another user, and FUSE");
    }
    let mut world = world();
    let open = world.env.mkdir("in/open");
    fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
    let fuse = Fuse::mount(&world.env.at("backing"), &world.env.at("mount"));
    world.env.start();
    let [of_in, shared, mount, quiet, blind] = told(&world);
    assert_eq!([of_in, shared, quiet, blind], ["proved", "proved", "inferred", "none"]);
    assert!(fuse.is_none() || mount == "inferred", "{mount}");
    let dir = world.env.path().to_owned();
    scope(|scope| {
        scope.spawn(|| slowly_as_another(&dir, "in/open/foreign"));
        if fuse.is_some() {
            scope.spawn(|| slowly(&dir, "mount/slow"));
            world.waits("mount/slow", "stayed the same");
        }
    });
    let through_fuse = fuse.is_some().then(|| [one("mounted", "empty"), one("slow", "s")]);
    world
        .delivers([one("open/foreign", "s")].into_iter().chain(through_fuse.into_iter().flatten()));
    assert!(world.env.stop());
}

#[test]
fn without_the_capability_files_of_others_are_inferred() {
    let mut world = world();
    world.env.spawn(&mut without(&world, &["run"]));
    world.env.await_ready();
    let [of_in, shared, _mount, quiet, blind] = told(&world);
    assert_eq!([of_in, shared, quiet, blind], ["proved", "inferred", "inferred", "none"]);
    let dir = world.env.path().to_owned();
    scope(|scope| {
        scope.spawn(|| slowly(&dir, "in/slow"));
        if is_root() {
            scope.spawn(|| slowly_as_another(&dir, "shared/foreign"));
            world.waits("shared/foreign", "stayed the same");
        } else {
            skip("needs root: files of another user");
        }
    });
    let foreign = is_root().then(|| one("foreign", "s"));
    world.delivers([one("slow", "s")].into_iter().chain(foreign));
}

#[test]
fn a_capability_that_a_namespace_grants_is_none() {
    let world = world();
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let of = |trigger: &str| {
            let line = text.lines().find(|line| line.starts_with(trigger)).unwrap().to_owned();
            line.split_whitespace().last().unwrap().to_owned()
        };
        (of("in "), of("shared "))
    };
    let own_only = ("proved".to_owned(), "inferred".to_owned());
    assert_eq!(said(&mut without(&world, &["check"])), own_only);
    let may = Command::new("unshare").args(["-Ur", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        return skip("no user namespaces here");
    }
    let mut inside = through(&["unshare", "-Ur"], &world.env.command(&["check"]));
    assert_eq!(said(&mut inside), own_only);
}

/// A `dagd` command without the capability: of its user's own files it needs none.
pub(crate) fn without(world: &World, args: &[&str]) -> Command {
    let dagd = world.env.command(args);
    if !is_root() {
        return dagd;
    }
    through(&["setpriv", "--bounding-set", "-lease", "--inh-caps", "-lease"], &dagd)
}
