//! A file system does not answer: that concerns its own folder only.

use std::fs;
use std::process::{Command, Stdio};

use dagd::core::trigger::TriggerSpec;
use dagd::io::watch::ToWatch;

use crate::bench::{Bench, trigger};
use crate::fuse::Hanging;
use crate::places::{may_mount, sh};

#[test]
fn the_test_file_system_works() {
    if !may_mount("hang::the_test_file_system_works") {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut hanging = Hanging::mount(dir.path(), "hanging");
    hanging.put("a");
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"x");
    assert!(!dir.path().join("b").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    hanging.hang();
    let mut stat =
        Command::new("stat").arg(dir.path().join("a")).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(stat.try_wait().unwrap().is_none(), "it answers");
    hanging.answer();
    assert!(stat.wait().unwrap().success());
}

/// A trigger `t` that has nothing to do with the folder of `n`, which hangs at times.
fn with_a_neighbour() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.at("here")).unwrap();
    fs::create_dir(bench.at("there")).unwrap();
    bench
}

fn both(bench: &Bench) -> Vec<TriggerSpec> {
    vec![trigger("t", &bench.at("here"), true), trigger("n", &bench.at("there"), true)]
}

fn silent(bench: &mut Bench) -> bool {
    bench.coverage("n").is_some_and(|coverage| coverage.silent.is_some())
}

/// The neighbour works on, whatever the other one does.
fn goes_on(bench: &mut Bench, name: &str, before: &[&str]) {
    fs::write(bench.at("here").join(name), "x").unwrap();
    bench.delivered("t", before.iter().copied().chain([name]));
}

#[test]
fn a_root_that_hangs_from_the_start() {
    if !may_mount("hang::a_root_that_hangs_from_the_start") {
        return;
    }
    let mut bench = with_a_neighbour();
    let mut hanging = Hanging::mount(&bench.at("there"), "hanging");
    hanging.put("old");
    hanging.hang();
    // The arming does not wait for it.
    bench.arm(both(&bench));
    for name in ["n", "t"] {
        bench.handle.send(ToWatch::Scan(name.into()));
    }
    goes_on(&mut bench, "1", &[]);
    bench.until(silent);
    bench.arm(both(&bench));
    goes_on(&mut bench, "2", &["1"]);
    hanging.answer();
    bench.delivered("n", ["old"]);
    bench.until(|bench| !silent(bench) && bench.coverage("n").is_some_and(|c| c.exists));
    // Now it hangs again, and dagd stops meanwhile.
    hanging.hang();
    bench.handle.send(ToWatch::Scan("n".into()));
    bench.until(silent);
    bench.stop();
}

#[test]
fn a_local_root_that_does_not_answer_once() {
    if !may_mount("hang::a_local_root_that_does_not_answer_once") {
        return;
    }
    let mut bench = with_a_neighbour();
    // An overlay: nothing tells that what is under it needs somebody to answer.
    fs::create_dir(bench.at("under")).unwrap();
    fs::create_dir(bench.at("empty")).unwrap();
    let mut hanging = Hanging::mount(&bench.at("under"), "hanging");
    hanging.put("old");
    sh("mount -t overlay over -o lowerdir=under:empty there; umount -l under", &bench.at(""));
    bench.arm(both(&bench));
    bench.handle.send(ToWatch::Scan("n".into()));
    bench.delivered("n", ["old"]);
    goes_on(&mut bench, "1", &[]);
    hanging.hang();
    bench.handle.send(ToWatch::Hold("t".into()));
    bench.handle.send(ToWatch::Scan("n".into()));
    // Everybody waits, until it is left behind.
    bench.until(silent);
    bench.handle.send(ToWatch::Release("t".into()));
    goes_on(&mut bench, "2", &["1"]);
    bench.arm(both(&bench));
    goes_on(&mut bench, "3", &["1", "2"]);
    hanging.put("new");
    hanging.answer();
    bench.delivered("n", ["old", "new"]);
    bench.until(|bench| !silent(bench));
    assert!(bench.versions.values().all(|&times| times == 1), "{:?}", bench.versions);
}
