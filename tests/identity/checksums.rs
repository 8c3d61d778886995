//! Files with checksum files, in any order and any state.

use std::fs;

use crate::world::{ABC, XYZ, await_reason, exactly, put, settled, told, world};

const OWN: &str = r#"
[triggers.in]
drop = "inbox"
run = "t"
checksum_file = "{name}.md5"
"#;

#[test]
fn the_checksum_may_come_first_or_last() {
    let mut env = world(OWN);
    put(&env, "old", "abc");
    put(&env, "old.md5", ABC);
    env.start();
    put(&env, "first.md5", ABC);
    put(&env, "first", "abc");
    put(&env, "last", "xyz");
    await_reason(&env, "inbox/last", "checksum_file");
    put(&env, "last.md5", &format!("{XYZ}  last\n"));
    put(&env, "never", "abc");
    let expected = [format!("in old {ABC}"), format!("in first {ABC}"), format!("in last {XYZ}")];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    exactly(&env, &expected);
    await_reason(&env, "inbox/never", "checksum_file");
    let story = env.ok(&["explain", "inbox/last.md5"]);
    assert!(story.contains("checksum"), "{story}");
    // Nothing comes again.
    env.kill();
    env.start();
    exactly(&env, &expected);
}

#[test]
fn what_differs_is_not_delivered_until_one_of_the_two_changes() {
    let mut env = world(OWN);
    env.start();
    put(&env, "data", "abc");
    put(&env, "data.md5", XYZ);
    put(&env, "sum", "abc");
    put(&env, "sum.md5", XYZ);
    await_reason(&env, "inbox/data", "checksum_differs");
    await_reason(&env, "inbox/sum", "checksum_differs");
    settled(&env);
    assert_eq!(told(&env), [""; 0]);
    put(&env, "data", "xyz");
    put(&env, "sum.md5", ABC);
    exactly(&env, &[&format!("in data {XYZ}"), &format!("in sum {ABC}")]);
}

#[test]
fn a_wrong_content_waits_through_restarts_and_reloads() {
    let mut env = world(OWN);
    put(&env, "x", "abd");
    put(&env, "x.md5", ABC);
    for _ in 0..2 {
        env.start();
        await_reason(&env, "inbox/x", "checksum_differs");
        env.ok(&["reload"]);
        await_reason(&env, "inbox/x", "checksum_differs");
        env.kill();
    }
    put(&env, "x", "abc");
    env.start();
    exactly(&env, &[&format!("in x {ABC}")]);
}

#[test]
fn the_content_counts_and_not_its_time() {
    let mut env = world(OWN);
    env.start();
    put(&env, "x.md5", ABC);
    put(&env, "x", "abd");
    await_reason(&env, "inbox/x", "checksum_differs");
    // What repairs a file in place may give it the time that it had.
    let path = env.at("inbox/x");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"abc", 0).unwrap();
    file.set_modified(time).unwrap();
    drop(file);
    exactly(&env, &[&format!("in x {ABC}")]);
}

#[test]
fn one_file_for_all_of_a_folder() {
    let mut env = world(
        r#"
[triggers.in]
drop = "inbox"
run = "t"
recursive = true
checksum_file = "MD5SUMS"
"#,
    );
    env.start();
    for rel in ["a", "b", "c", "sub/a"] {
        put(&env, rel, if rel.ends_with('a') { "abc" } else { "xyz" });
    }
    for rel in ["inbox/a", "inbox/b", "inbox/c", "inbox/sub/a"] {
        await_reason(&env, rel, "checksum_file");
    }
    put(&env, "MD5SUMS", &format!("{ABC}  a\n{ABC}  b\n"));
    await_reason(&env, "inbox/b", "checksum_differs");
    exactly(&env, &[&format!("in a {ABC}")]);
    put(&env, "MD5SUMS", &format!("{ABC}  a\n{XYZ}  b\n{XYZ} *c\n"));
    put(&env, "sub/MD5SUMS", &format!("MD5 (a) = {ABC}\n"));
    let expected = ["in a ", "in b ", "in c ", "in sub/a "]
        .map(|line| format!("{line}{}", if line.contains('a') { ABC } else { XYZ }));
    exactly(&env, &expected.each_ref().map(String::as_str));
}
