//! A file system does not answer: that concerns its own folder only.

use std::fs;
use std::process::{Command, Stdio};

use crate::fuse::Hanging;
use crate::places::may_mount;

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
