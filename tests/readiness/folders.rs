//! Folders that are work: results of instruments, written slowly, with all that is in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{Env, Writer, env};

const SOON: &str = "file_type = \"dir\"\nstability_threshold = \"300ms\"\nsettle = \"0s\"";

/// The folder's files and their checksums, as the task has listed them.
fn list(env: &Env, folder: &str) -> String {
    let script = "find . -type f -exec cksum {} + | sort -k 3";
    let dir = env.at("inbox").join(folder);
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_folder_that_is_written_slowly_is_delivered_whole() {
    let mut env = env(SOON);
    env.start();
    let mut writer = Writer::new(&env);
    // The instrument's log is open all the time, deep in the folder.
    writer.tell("mkdir -p run1/deep/er; exec 3> run1/deep/er/log");
    for n in 0..30 {
        writer.tell(&format!(
            "echo step {n} >&3; mkdir -p run1/part{n}/x; echo {n} > run1/part{n}/x/data; sleep 0.02"
        ));
    }
    env.await_pending("run1", "writer_open: ");
    writer.tell("echo end >&3; exec 3>&-");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["run1"]);
    let run = &env.runs()[0];
    assert_eq!(env.kept(run), list(&env, "run1"));
    assert_eq!(run["files"][0]["path"], env.at("inbox/run1").to_str().unwrap());
    // Any change in it, however deep, is a new version.
    fs::write(env.at("inbox/run1/part7/x/more"), "more").unwrap();
    env.await_ended(2);
    env.await_idle();
    let run = &env.runs()[0];
    assert_eq!(run["files"][0]["kind"], "modified");
    assert_eq!(env.kept(run), list(&env, "run1"));
    assert_eq!(env.runs().len(), 2);
}

#[test]
fn a_folder_with_its_done_file_in_it_is_delivered() {
    // So long that only the done file can have made it ready.
    let mut env =
        env("file_type = \"dir\"\ndone_file = \"_SUCCESS\"\nstability_threshold = \"1h\"\n\
         settle = \"0s\"");
    env.start();
    env.put("run1/a", "a");
    env.put("run1/b/c", "c");
    let why = env.await_pending("run1", "waiting_done_file: ");
    assert!(why.ends_with("inbox/run1/_SUCCESS is not there"), "{why}");
    let (verdict, text) = env.explained("run1/b/c");
    assert_eq!(verdict, "pending");
    assert!(text.starts_with("it is part of the folder run1: it is not ready yet: "), "{text}");
    env.put("run1/_SUCCESS", "");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["run1"]);
    assert_eq!(env.kept(&env.runs()[0]), list(&env, "run1"));
    let (verdict, text) = env.explained("run1/b/c");
    assert_eq!(verdict, "delivered", "{text}");
    // One that is held open in it counts all the same.
    let mut writer = Writer::new(&env);
    writer.tell("mkdir -p run2/b; exec 3> run2/b/c; : > run2/_SUCCESS");
    env.await_pending("run2", "writer_open: ");
    writer.tell("echo late >&3; exec 3>&-");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.delivered(), ["run1", "run2"]);
    assert_eq!(env.kept(&env.runs()[0]), list(&env, "run2"));
}

#[test]
fn a_folders_done_file_may_lie_beside_it() {
    for (done, name) in [("{name}.ok", "run.1.ok"), ("{stem}.ok", "run.ok")] {
        let mut env = env(&format!(
            "file_type = \"dir\"\ndone_file = \"{done}\"\nstability_threshold = \"1h\""
        ));
        env.start();
        env.put("run.1/a", "a");
        let why = env.await_pending("run.1", "waiting_done_file: ");
        assert!(why.ends_with(&format!("inbox/{name} is not there")), "{why}");
        env.put(name, "");
        env.await_ended(1);
        env.await_idle();
        assert_eq!(env.delivered(), ["run.1"]);
    }
}

#[test]
fn folders_that_are_moved_in_or_came_while_dagd_was_down_are_delivered() {
    let mut env = env(SOON);
    env.put("before/a/b/c", "1");
    env.mkdir("outside/moved/x/y");
    fs::write(env.at("outside/moved/x/y/z"), "2").unwrap();
    env.start();
    env.await_ended(1);
    fs::rename(env.at("outside/moved"), env.at("inbox/moved")).unwrap();
    env.await_ended(2);
    env.await_idle();
    assert!(env.stop());
    env.put("down/a", "3");
    env.put("moved/x/y/new", "4");
    env.start();
    env.await_ended(2);
    env.await_idle();
    let mut delivered = env.delivered();
    assert_eq!(delivered[..2], ["before", "moved"]);
    delivered[2..].sort();
    assert_eq!(delivered[2..], ["down", "moved"]);
    // Nothing new: nothing is delivered.
    assert!(env.stop());
    env.start();
    env.put("last/a", "5");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered()[4..], ["last"]);
    // Another name is another delivery; what has gone is not.
    fs::rename(env.at("inbox/before"), env.at("inbox/after")).unwrap();
    fs::remove_dir_all(env.at("inbox/moved")).unwrap();
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.delivered()[5..], ["after"]);
}

#[test]
fn folders_may_lie_deeper_and_are_not_looked_into_for_more() {
    let mut env = env(&format!("{SOON}\nrecursive = true\nmin_depth = 2\nexclude = [\"**/tmp\"]"));
    env.start();
    env.put("p/run1/deep/er/a", "a");
    env.put("p/tmp/a", "a");
    env.put("p/file", "no folder");
    env.put("q/run2/b", "b");
    env.await_ended(2);
    env.await_idle();
    let mut delivered = env.delivered();
    delivered.sort();
    assert_eq!(delivered, ["p/run1", "q/run2"]);
    let rule = |rel: &str| env.explained(rel).1;
    assert!(rule("p").contains("min_depth: it lies less than 2 deep"), "{}", rule("p"));
    assert!(rule("p/tmp").contains("exclude: **/tmp"), "{}", rule("p/tmp"));
    assert!(rule("p/file").contains("what is there is no folder"), "{}", rule("p/file"));
}

#[test]
fn links_in_a_folder_are_not_followed_and_sizes_are_those_of_all_files() {
    let mut env = env(&format!("{SOON}\nmin_size = \"4B\"\nmax_size = \"8B\""));
    env.mkdir("outside");
    fs::write(env.at("outside/large"), "123456789").unwrap();
    env.start();
    env.put("small/a", "123");
    env.put("fits/a", "12");
    env.put("fits/b/c", "34");
    symlink(env.at("outside/large"), env.at("inbox/fits/link")).unwrap();
    symlink(env.at("outside"), env.at("inbox/fits/b/folder")).unwrap();
    symlink(env.at("inbox/fits"), env.at("inbox/linked")).unwrap();
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["fits"]);
    assert_eq!(env.runs()[0]["files"][0]["size"], 4);
    assert!(env.explained("small").1.contains("min_size: it has less than 4 bytes"));
    // It grows in a folder below, which tells by its hint.
    env.put("small/x/y", "45");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.delivered(), ["fits", "small"]);
}

#[test]
fn a_folder_is_moved_away_as_a_whole() {
    let mut env = env(&format!("{SOON}\nmove = \"done/\""));
    env.start();
    for n in 0..5 {
        env.put(&format!("run{n}/a/b"), "1");
    }
    env.await_ended(5);
    env.await_idle();
    for n in 0..5 {
        assert_eq!(fs::read(env.at(&format!("done/run{n}/a/b"))).unwrap(), b"1");
        assert!(!env.at(&format!("inbox/run{n}")).exists());
    }
    let (verdict, text) = env.explained("run1");
    assert_eq!(verdict, "delivered", "{text}");
    // What comes back is new.
    fs::rename(env.at("done/run1"), env.at("inbox/run1")).unwrap();
    env.await_ended(6);
    env.await_idle();
    assert_eq!(env.runs().len(), 6);
}

#[test]
fn a_baseline_knows_the_folders_that_were_there() {
    let mut env = env(&format!("{SOON}\ninitial_scan = \"baseline\""));
    for n in 0..300 {
        env.put(&format!("old{n}/a/b"), "1");
    }
    env.start();
    env.put("new/a", "2");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["new"]);
    env.put("old7/a/b", "11");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.delivered(), ["new", "old7"]);
}

#[test]
fn a_folder_can_be_fired_by_hand() {
    let mut env = env("file_type = \"dir\"\ndone_file = \"_SUCCESS\"");
    env.start();
    env.put("run1/a", "1");
    env.await_pending("run1", "waiting_done_file: ");
    let folder = env.at("inbox/run1");
    env.ok(&["fire", "in", folder.to_str().unwrap(), "--wait"]);
    assert_eq!(env.kept(&env.runs()[0]), list(&env, "run1"));
    let file = env.at("inbox/run1/a");
    let refused = env.run(&["fire", "in", file.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("file_type: part of folder `run1`"), "{why}");
}
