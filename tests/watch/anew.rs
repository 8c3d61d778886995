//! What was watched is watched anew: under another watcher, or at a path where another directory
//! is by now.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::{Bench, alone, trigger};

/// Roots that lie under the same folder: many, so that each takes another watcher when it goes.
const ROOTS: [&str; 3] = ["a", "b", "c"];

#[test]
fn files_come_while_watchers_are_replaced() {
    let mut bench = Bench::new();
    let mut specs = vec![trigger("t", &bench.at("t"), true)];
    for n in 0..4000 {
        fs::create_dir_all(bench.at(&format!("t/{}/{n}", n % 40))).unwrap();
    }
    for root in ROOTS {
        specs.push(trigger(root, &bench.at("x").join(root), true));
        for n in 0..300 {
            fs::create_dir_all(bench.at(&format!("x/{root}/{n}"))).unwrap();
        }
    }
    bench.arm(specs);
    let mut wanted = Vec::new();
    for round in 0..2 {
        let (from, to) = if round % 2 == 0 { ("x", "y") } else { ("y", "x") };
        fs::rename(bench.at(from), bench.at(to)).unwrap();
        for n in 0..4000 {
            // Every other one in a directory that is born with it.
            let dir = match n % 2 {
                0 => format!("{}/{n}", n % 40),
                _ => format!("{}/{n}/{round}", n % 40),
            };
            fs::create_dir_all(bench.at("t").join(&dir)).unwrap();
            let file = format!("{dir}/{round}f");
            fs::write(bench.at("t").join(&file), b"x").unwrap();
            wanted.push(file);
        }
        bench.delivered("t", &wanted);
        let there = round % 2 == 1;
        let is =
            |bench: &Bench, root: &str| bench.coverage(root).is_some_and(|c| c.exists == there);
        bench.until(|bench| ROOTS.iter().all(|root| is(bench, root)));
    }
    assert_eq!(bench.handle.overflows(), 0);
}

/// A root is replaced through a folder over it, before the directories in it, which are watched,
/// have been read.
#[test]
fn a_root_is_replaced_while_it_is_read() {
    let mut bench = Bench::with(dagd::io::watch::Limits::default(), 1);
    bench.arm(vec![trigger("t", &bench.at("x/in"), true)]);
    for n in 0..20 {
        fs::create_dir_all(bench.at(&format!("first/in/{n}"))).unwrap();
        fs::create_dir_all(bench.at(&format!("second/in/{n}"))).unwrap();
        for file in 0..500 {
            fs::write(bench.at(&format!("first/in/{n}/{file}")), b"x").unwrap();
        }
    }
    fs::create_dir(bench.at("second/in/more")).unwrap();
    fs::rename(bench.at("first"), bench.at("x")).unwrap();
    // It reads the first of them, and waits for whoever hears it.
    bench.until(|bench| !bench.seen.is_empty());
    fs::rename(bench.at("x"), bench.at("first")).unwrap();
    fs::rename(bench.at("second"), bench.at("x")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 22));
    let late = (0..20).map(|n| format!("{n}/late")).collect::<Vec<_>>();
    for file in &late {
        fs::write(bench.at("x/in").join(file), b"x").unwrap();
    }
    bench.delivered("t", &late);
}

#[test]
fn a_watcher_for_which_there_is_no_thread_begins_later() {
    const NAME: &str = "anew::a_watcher_for_which_there_is_no_thread_begins_later";
    /// For whatever is needed, but not for the stack of another thread.
    const ROOM: u64 = 1 << 20;
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone(NAME, &[]));
    }
    let mut bench = Bench::new();
    fs::create_dir(bench.at("t")).unwrap();
    for n in 0..300 {
        fs::create_dir_all(bench.at(&format!("many/{n}"))).unwrap();
    }
    let t = trigger("t", &bench.at("t"), true);
    bench.arm(vec![t.clone(), trigger("many", &bench.at("many"), true)]);
    let before = getrlimit(Resource::As);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let used = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    setrlimit(Resource::As, Rlimit { current: Some(used + ROOM), ..before }).unwrap();
    // So many go that another watcher takes over.
    bench.arm(vec![t]);
    let problems = |bench: &Bench| bench.coverage("t").map(|c| c.problems.len());
    bench.until(|bench| problems(bench) == Some(1));
    fs::write(bench.at("t/polled"), b"x").unwrap();
    bench.delivered("t", ["polled"]);
    setrlimit(Resource::As, before).unwrap();
    bench.until(|bench| problems(bench) == Some(0));
    fs::write(bench.at("t/watched"), b"x").unwrap();
    bench.delivered("t", ["polled", "watched"]);
}
