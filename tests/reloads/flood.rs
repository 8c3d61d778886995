//! Reload after reload, while files are dropped and signals arrive: none is lost, none doubled, and
//! nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dagd::io::client::Client;
use dagd::wire::FireRequest;

use crate::common::Env;
use crate::common::process::{Held, held, sigqueue};

/// How often it is reloaded, unless `DAGD_RELOADS` says.
const RELOADS: usize = 1000;
/// Files for each.
const FILES: usize = 10;
/// A signal with a value for each so many reloads.
const SIGNAL_EVERY: usize = 2;

/// The kernel's number of SIGRTMIN+1.
const SIGNO: i32 = 35;

/// The first configuration, and others: what changes touches the trigger that gets the files, tasks,
/// other triggers with and without folders, and how changes are noticed. Every eighth is not valid.
fn config(round: usize) -> String {
    let of = |each: usize| (round / each).is_multiple_of(2);
    let mut text = format!(
        "[daemon]\nmax_parallel = 2\nretention = {{ runs = 1000000 }}\nreload_on_change = {}\n\
         [tasks.t]\ncommand = [\"true\"]\npriority = {}\n\
         [tasks.v]\nshell = \"echo $DAGD_VALUE >> values\"\ncwd = \"{{dir}}\"\n\
         [triggers.in]\ndrop = \"in\"\nrun = \"t\"\nsettle = \"{}ms\"\nrecursive = true\n\
         [tasks.h]\nshell = \"echo $DAGD_RUN >> fired\"\ncwd = \"{{dir}}\"\n\
         [triggers.v]\nsignal = \"SIGRTMIN+1\"\nrun = \"v\"\n",
        !of(16),
        round % 5,
        usize::from(!of(2)),
    );
    if !of(1) {
        text.push_str("[triggers.beside]\nwatch = \"beside\"\nrun = \"t\"\nread_lock = \"none\"\n");
    }
    if of(3) {
        // They get work, and go and come back.
        text.push_str("[triggers.away]\ndrop = \"away\"\nrun = \"t\"\n");
        text.push_str("[triggers.hand]\nsignal = \"SIGRTMIN+2\"\nrun = \"h\"\n");
    }
    if !of(4) {
        text.push_str("[triggers.usr]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n");
    }
    if !of(32) {
        text.push_str("[triggers.same]\nwatch = \"in\"\nrun = \"v\"\ninclude = [\"nothing\"]\n");
    }
    if round % 8 == 7 {
        text.push_str("[triggers.bad]\ndrop = \"in\"\nrun = \"no_such_task\"\n");
    }
    text
}

fn reloads() -> usize {
    std::env::var("DAGD_RELOADS").map_or(RELOADS, |many| many.parse().unwrap())
}

fn drop_files(dir: &Path, from: usize, to: usize) {
    for n in from..to {
        // In folders that are new as well, and moved in as well as written.
        let into = dir.join(format!("{}", n / 100));
        fs::create_dir_all(&into).unwrap();
        let path = into.join(format!("f{n}"));
        if n.is_multiple_of(3) {
            let part = dir.join(".moved.part");
            fs::write(&part, "x").unwrap();
            fs::rename(part, path).unwrap();
        } else {
            fs::write(path, "x").unwrap();
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_left_behind() {
    let rounds = reloads();
    let mut env = Env::new(&config(0));
    let inbox = env.mkdir("in");
    env.mkdir("beside/a/b");
    let away = env.mkdir("away");
    for folder in 0..=rounds * FILES / 100 {
        env.mkdir(&format!("in/{folder}"));
    }
    env.start();
    // What is started at the first need is there from now on.
    drop_files(&inbox, rounds * FILES, rounds * FILES + 10);
    sigqueue(env.pid(), SIGNO, -1);
    env.await_ended(11);
    env.await_idle();
    let before = held(env.pid());
    let pid = env.pid();
    let client = Client::new(&env.at("run/dagd.sock")).unwrap();
    let (mut good, mut bad, mut fired) = (0, 0, 0);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| {
            for round in 0..rounds {
                drop_files(&inbox, round * FILES, (round + 1) * FILES);
                fs::write(away.join(format!("w{round}")), "x").unwrap();
                if round.is_multiple_of(SIGNAL_EVERY) {
                    sigqueue(pid, SIGNO, i32::try_from(round).unwrap());
                }
                if round.is_multiple_of(7) {
                    // One for a trigger that is there now and then: it must not end the daemon.
                    env_signal(pid, 10);
                }
            }
        });
        for round in 1..=rounds {
            env.hear();
            env.configure(&config(round));
            if round.is_multiple_of(5) {
                env_signal(pid, 1);
                continue;
            }
            let answer = client.reload().unwrap();
            let (valid, other) = (round % 8 != 7, &answer.text);
            assert_eq!(answer.ok, valid, "{other}");
            *(if answer.ok { &mut good } else { &mut bad }) += 1;
            // So many that some wait when it goes.
            for _ in 0..4 {
                let trigger = Some("hand".to_owned());
                let hand = FireRequest { trigger, select: None, paths_b64: Vec::new() };
                fired += u64::from(client.fire(&hand).is_ok());
            }
        }
        dropping.join().unwrap();
    });
    env.hear();
    env.configure(&config(0));
    env.ok(&["reload"]);
    println!(
        "{rounds} reloads: {good} put in force and {bad} refused, of those that were asked for"
    );
    check(&env, rounds, fired, &before);
    assert!(env.stop());
}

/// All is delivered once, and the daemon holds what it held before.
fn check(env: &Env, rounds: usize, fired: u64, before: &Held) {
    let signals = rounds.div_ceil(SIGNAL_EVERY);
    let count = |sql: &str| {
        let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let files = (rounds * FILES + 10) as u64;
    let delivered = "select count(*) from run_files where rel not like 'a/%' and rel like '%/%'";
    let away = "select count(*) from run_files where rel like 'w%'";
    env.wait_for("all files", files, || count(delivered));
    env.wait_for("all files of the folder that came and went", rounds as u64, || count(away));
    env.wait_for("all starts by hand", fired, || lines(env, "fired").len() as u64);
    env.wait_for("all signals", signals as u64 + 1, || {
        fs::read_to_string(env.at("values")).map_or(0, |text| text.lines().count() as u64)
    });
    env.await_idle();

    assert_eq!(count(delivered), files, "no file is delivered twice");
    let all = files + rounds as u64;
    assert_eq!(count("select count(distinct rel) from run_files"), all, "and none is lost");
    assert_eq!(count(away), rounds as u64, "nor of a trigger that was away");
    let runs: BTreeSet<String> = lines(env, "fired").into_iter().collect();
    assert!(fired > rounds as u64 / 4, "{fired} starts by hand");
    assert_eq!(lines(env, "fired").len() as u64, fired, "each start by hand ran once");
    assert_eq!(runs.len() as u64, fired, "each as a run of its own");
    assert_eq!(count("select count(*) from runs where state <> 'succeeded'"), 0);
    let mut values: BTreeMap<i32, usize> = BTreeMap::new();
    for line in fs::read_to_string(env.at("values")).unwrap().lines() {
        *values.entry(line.parse().unwrap()).or_default() += 1;
    }
    assert_eq!(values.len(), signals + 1, "every signal that was queued");
    assert!(values.values().all(|times| *times == 1), "and once: {values:?}");
    let inodes = |held: &Held| {
        let of = |line: &String| line.split(" ino:").nth(1).map(str::to_owned);
        let mut inodes: Vec<_> = held.watches.iter().filter_map(of).collect();
        inodes.sort();
        inodes
    };
    // A look at a file may still be under way; what is left behind stays.
    env.wait("the threads and descriptors that there were", || {
        let now = held(env.pid());
        now.threads == before.threads && now.descriptors == before.descriptors
    });
    let after = held(env.pid());
    assert_eq!(inodes(&after), inodes(before), "no watch is left behind, and none is missing");
    println!(
        "{files} files, {signals} signals, {fired} starts by hand; {} watches, {} descriptors, {} threads before and after",
        after.watches.len(),
        after.descriptors.len(),
        after.threads.len()
    );
}

/// The lines that tasks wrote.
fn lines(env: &Env, name: &str) -> Vec<String> {
    let text = fs::read_to_string(env.at(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A signal by the kernel's call: to start a program for each takes too long.
fn env_signal(pid: i32, signo: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signo).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
