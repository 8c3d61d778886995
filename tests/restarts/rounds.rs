//! Rounds of starts and ends of the daemon in the middle of its work.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::common::{Env, leftovers};

/// Rounds in all, unless `DAGD_RESTARTS` says.
const ROUNDS: usize = 300;
/// Daemons that go through them side by side: each mostly waits for its tasks.
const DAEMONS: usize = 5;
/// Files for each round.
const FILES: usize = 5;

/// Long and stubborn tasks take part of a second, so that most ends of the daemon meet one.
const CONFIG: &str = r#"
[daemon]
max_parallel = 6
stop_timeout = "50ms"
retention = { runs = 1000000 }
[defaults.task]
kill_after = "50ms"
[tasks.short]
command = ["sh", "{dir}/task.sh", "{task}"]
[tasks.long]
command = ["sh", "{dir}/task.sh", "{task}"]
[tasks.forking]
command = ["sh", "{dir}/task.sh", "{task}"]
[tasks.leaving]
command = ["sh", "{dir}/task.sh", "{task}"]
[tasks.stubborn]
command = ["sh", "{dir}/task.sh", "{task}"]
[tasks.failing]
command = ["sh", "{dir}/task.sh", "{task}"]
allow_failure = true
[tasks.staying]
command = ["sh", "{dir}/task.sh", "{task}"]
on_daemon_stop = "leave"
allow_failure = true
[tasks.last]
command = ["sh", "{dir}/task.sh", "{task}"]
needs = ["short", "long", "forking", "leaving", "stubborn", "failing", "staying"]
rule = "all_done"
[triggers.in]
drop = "in"
run = "*"
move = "done/"
move_failed = "failed/"
"#;

/// Says when it begins and ends. Tells if another attempt at the same is alive: by the lock that it
/// holds for as long as any process of it has it open. The one that goes on without the daemon ends
/// as its run's number says, and leaves behind what carries its token and what does not.
const TASK: &str = r#"
dir=${0%/*}
me=$1.$DAGD_RUN
case $1 in
    stubborn) trap '' TERM; cd $dir ;;
    staying) ;;
    *) cd $dir ;;
esac
exec 9>> "$dir/live/$me"
flock -n 9 || echo "TWO $me" >> $dir/log
echo "S $me" >> $dir/log
case $1 in
    long) sleep 0.3 ;;
    forking) for n in 1 2 3; do (sleep 1000 & sleep 1000) & done ;;
    leaving) setsid sh -c 'trap "" TERM HUP; sleep 1000' & setsid setsid sleep 1000 & ;;
    stubborn) sleep 0.2; sleep 0.1 ;;
    staying) sleep 0.2; sleep 1000 & setsid env -i cat $dir/staying 9>&- & ;;
esac
echo "E $me" >> $dir/log
case $1 in
    failing) exit 3 ;;
    staying) exit $((DAGD_RUN % 5)) ;;
esac
"#;

fn rounds() -> usize {
    std::env::var("DAGD_RESTARTS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// A generator that needs no crate: the moments are random enough, and repeatable.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// All processes that were started below this folder, by what they carry or hold; `staying`: also
/// those that go on without a daemon.
fn processes(env: &Env, staying: bool) -> Vec<String> {
    let path = env.path().to_str().unwrap();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let dir = process.path();
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| fs::read(dir.join(name)).unwrap_or_default();
        let (environ, cmdline) = (read("environ"), read("cmdline"));
        let has = |text: &[u8], part: &str| text.windows(part.len()).any(|p| p == part.as_bytes());
        if !staying && (has(&environ, "DAGD_TASK=staying") || has(&cmdline, "staying")) {
            continue;
        }
        let cwd = fs::read_link(dir.join("cwd")).unwrap_or_default();
        if has(&environ, path) || has(&cmdline, path) || cwd.starts_with(path) {
            let mut words = environ.split(|&byte| byte == 0).map(String::from_utf8_lossy);
            let of = words.find(|word| word.starts_with("DAGD_ATTEMPT_ID="));
            let line = String::from_utf8_lossy(&cmdline).replace('\0', " ");
            found.push(format!("{pid} {line}of {}", of.unwrap_or_default()));
        }
    }
    found
}

/// How the daemon was ended, and how often.
#[derive(Default)]
struct Ends {
    stops: usize,
    hastened: usize,
    kills: usize,
}

#[test]
fn nothing_is_left_behind_and_no_attempt_runs_twice_at_once() {
    let each = rounds().div_ceil(DAEMONS);
    std::thread::scope(|scope| {
        for daemon in 1..=DAEMONS as u64 {
            scope.spawn(move || world(0x2545_f491_4f6c_dd1d_u64.wrapping_mul(daemon), each));
        }
    });
}

fn world(mut seed: u64, rounds: usize) {
    let mut env = Env::new(CONFIG);
    let inbox = env.mkdir("in");
    env.mkdir("live");
    fs::write(env.at("task.sh"), TASK).unwrap();
    let staying = env.at("staying");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &staying, FileType::Fifo, mode, 0).unwrap();
    let mut ends = Ends::default();
    for round in 0..rounds {
        env.start();
        for n in 0..FILES {
            fs::write(inbox.join(format!("f{round}-{n}")), "x").unwrap();
        }
        std::thread::sleep(Duration::from_micros(next(&mut seed) % 400_000));
        match next(&mut seed) % 4 {
            0 => {
                assert!(env.stop(), "a graceful stop in round {round}");
                ends.stops += 1;
            }
            1 => {
                env.signal(15);
                // It may have stopped by then.
                std::thread::sleep(Duration::from_micros(next(&mut seed) % 30_000));
                if !env.has_ended() {
                    env.signal(15);
                    env.signal(2);
                }
                assert!(env.await_end().success(), "a hastened stop in round {round}");
                ends.hastened += 1;
            }
            _ => {
                env.kill();
                ends.kills += 1;
                continue;
            }
        }
        // After a stop nothing is left at once; after a kill the next start sees to that.
        assert_eq!(processes(&env, false), [""; 0], "processes after a stop in round {round}");
    }
    env.start();
    let files = rounds * FILES;
    env.wait_for("all files", files as u64, || {
        let count = |dir: &str| fs::read_dir(env.at(dir)).map_or(0, |dir| dir.count() as u64);
        count("done") + count("failed")
    });
    env.await_idle();
    assert!(env.stop());
    assert_eq!(processes(&env, true), [""; 0], "no process survives");
    assert_eq!(leftovers(&env.at("state")), [0; 0]);

    let log = fs::read_to_string(env.at("log")).unwrap();
    let two: Vec<&str> = log.lines().filter(|line| line.starts_with("TWO")).collect();
    assert_eq!(two, [""; 0], "two attempts at one task were alive");
    check_ends(&env, &log, files);
    check_staying(&env, &log, files);
    let Ends { stops, hastened, kills } = ends;
    println!("{rounds} rounds: {stops} stops, {hastened} hastened, {kills} kills; {files} runs");
}

/// Every run has ended as it should: well, unless one of its attempts was in flight at four kills.
fn check_ends(env: &Env, log: &str, files: usize) {
    let ends: BTreeSet<&str> = log.lines().filter_map(|line| line.strip_prefix("E ")).collect();
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let files = i64::try_from(files).unwrap();
    assert_eq!(one("select count(*) from runs"), files, "one run for each file");
    let lost = one("select count(*) from runs where state = 'failed'");
    assert_eq!(one("select count(*) from runs where state = 'succeeded'"), files - lost);
    let without = "select count(*) from runs r where state = 'failed' and not exists \
                   (select 1 from tasks t where t.run = r.id and t.state = 'lost')";
    assert_eq!(one(without), 0, "only what was lost again and again fails a run");
    let early = "select count(*) from tasks t where state = 'lost' and \
                 (select count(*) from attempts a where a.run = t.run and a.task = t.name) < 4";
    assert_eq!(one(early), 0, "an attempt that is lost is made anew three times");
    let gone = one("select count(*) from tasks where state = 'lost'");
    let all = one("select count(*) from tasks where state in ('succeeded', 'failed', 'lost')");
    assert_eq!(all, files * 8, "every task has come to its end");
    let failed =
        "select count(*) from tasks where state = 'failed' and name not in ('failing', 'staying')";
    assert_eq!(one(failed), 0);
    assert!(i64::try_from(ends.len()).unwrap() >= files * 8 - gone, "and has told so");
    assert_eq!(one("select count(*) from live where kind in ('run', 'item')"), 0);
    println!("{lost} runs had an attempt that was lost four times");
}

/// What goes on without the daemon has run once for each file, and each end is known as it was.
fn check_staying(env: &Env, log: &str, files: usize) {
    let begun = log.lines().filter_map(|line| line.strip_prefix("S staying."));
    let runs: Vec<i64> = begun.map(|run| run.parse().unwrap()).collect();
    let distinct: BTreeSet<i64> = runs.iter().copied().collect();
    assert_eq!((runs.len(), distinct.len()), (files, files), "each has begun, and once");
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let sql = "select exit_code, leftovers from attempts where run = ? and task = 'staying' \
               order by attempt desc limit 1";
    for run in runs {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?));
        let (code, leftovers): (_, i64) = db.query_row(sql, [run], row).unwrap();
        assert_eq!((code, leftovers), (Some(run % 5), 2), "run {run}");
    }
}
