//! The same with whatever can become of files: every few rounds the triggers dispose of theirs in
//! other ways, within and across file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::common::{Env, leftovers, skip};
use crate::{next, rounds};

/// Triggers, each with a folder of its own.
const TRIGGERS: usize = 4;
/// Files that are dropped in a round.
const DROPS: usize = 12;
/// Rounds for which a configuration holds.
const HOLDS: usize = 5;

const HEAD: &str = r#"
[tasks.t]
command = ["sh", "task.sh"]
cwd = "{dir}"
"#;

/// Notes each attempt, each file that it was for with its content, and tells if it is not alone.
const TASK: &str = r#"
for other in live/"$DAGD_RUN".*; do
    [ -e "$other" ] || continue
    pid=${other##*.}
    state=$(sed -n 's/^State:.//p' "/proc/$pid/status" 2>/dev/null) || continue
    case $state in
        "" | Z* | X*) ;;
        *) echo "TWO $DAGD_RUN $pid $$" >> log ;;
    esac
done
: > live/"$DAGD_RUN".$$
echo "A $DAGD_RUN $DAGD_ATTEMPT" >> log
bad=0
for f in $(tr '\0' ' ' < "$DAGD_FILES_NUL"); do
    content=$(cat "$f") || content=MISSING
    echo "E $content $f" >> log
    case $content in *7) bad=1 ;; esac
done
rm live/"$DAGD_RUN".$$
exit $bad
"#;

fn pick<'a>(state: &mut u64, all: &[&'a str]) -> &'a str {
    let at = usize::try_from(next(state) >> 33).unwrap() % all.len();
    all[at]
}

/// A configuration: what becomes of each trigger's files is drawn anew.
fn configuration(state: &mut u64, far: &Path) -> String {
    let mut text = HEAD.to_owned();
    for n in 0..TRIGGERS {
        write!(text, "[triggers.in{n}]\ndrop = \"inbox{n}\"\ninclude = [\"*.csv\"]\nrun = \"t\"\n")
            .unwrap();
        if next(state) & 1 == 0 {
            text += "done_file = \"{name}.done\"\n";
        }
        let far = far.display();
        let place = |state: &mut u64, name: &str| {
            let (near, far) = (format!("{name}{n}/"), format!("{far}/{name}{n}/"));
            if next(state) & 1 == 0 { near } else { far }
        };
        let pre_move = next(state) & 1 == 0;
        if pre_move {
            writeln!(text, "pre_move = \"{}\"", place(state, "work")).unwrap();
        }
        match next(state) % 4 {
            0 => text += "delete = true\n",
            1 if !pre_move => {}
            _ => writeln!(text, "move = \"{}\"", place(state, "done")).unwrap(),
        }
        if next(state) & 1 == 0 {
            writeln!(text, "move_failed = \"{}\"", place(state, "failed")).unwrap();
        }
        let moves = text.rsplit("[triggers").next().unwrap().contains("move");
        let all = if pre_move {
            &["rename", "replace", "fail"][..]
        } else {
            &["rename", "replace", "fail", "keep"]
        };
        if moves {
            writeln!(text, "on_conflict = \"{}\"", pick(state, all)).unwrap();
        }
        if next(state).is_multiple_of(3) {
            text += "fan_out = \"batch\"\nbatch_max_files = 3\nbatch_max_wait = \"20ms\"\n";
        }
    }
    text
}

/// A file that was dropped: its name, its content.
type Token = (String, String);

/// Each file's time tells its number, and so its content, to whoever asks the history. Names come
/// again and again.
const SECONDS: u64 = 1_000_000_000;

fn content_of(number: u64, trigger: &str) -> String {
    format!("{number}.{trigger}")
}

/// Drops a file as a careful producer does; `None` where one of that name is still there.
fn drop_file(env: &Env, state: &mut u64, number: usize) -> Option<Token> {
    let trigger = usize::try_from(next(state) >> 33).unwrap() % TRIGGERS;
    // Some names come again and again.
    let name = if next(state).is_multiple_of(4) {
        format!("same{}.csv", next(state) % 3)
    } else {
        format!("f{number}.csv")
    };
    let inbox = env.at(&format!("inbox{trigger}"));
    let number = number as u64;
    let content = content_of(number, &trigger.to_string());
    let (temporary, path) = (env.at("producing"), inbox.join(&name));
    fs::write(&temporary, &content).unwrap();
    let file = fs::File::options().append(true).open(&temporary).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(SECONDS + number)).unwrap();
    drop(file);
    // Never over another one: that would be lost by its producer, not by dagd.
    fs::hard_link(&temporary, &path).ok()?;
    fs::remove_file(&temporary).unwrap();
    fs::write(inbox.join(format!("{name}.done")), "").unwrap();
    Some((name, content))
}

/// All files with their content, by folder, hidden ones as well.
fn found(folders: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let content = fs::read_to_string(&path).unwrap();
            found.push((path, content));
        }
    }
    found
}

#[test]
fn nothing_is_lost_whatever_becomes_of_files() {
    let Ok(far) = tempfile::TempDir::new_in("/dev/shm") else {
        return skip("/dev/shm is no second file system here");
    };
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut env = Env::new(&configuration(&mut state, far.path()));
    env.mkdir("live");
    fs::write(env.at("task.sh"), TASK).unwrap();
    for n in 0..TRIGGERS {
        env.mkdir(&format!("inbox{n}"));
    }
    let rounds = rounds(200);
    let (mut tokens, mut number) = (Vec::new(), 0);
    for round in 0..rounds {
        if round % HOLDS == 0 {
            env.configure(&configuration(&mut state, far.path()));
        }
        env.start();
        for _ in 0..DROPS {
            tokens.extend(drop_file(&env, &mut state, number));
            number += 1;
        }
        std::thread::sleep(Duration::from_micros(next(&mut state) % 150_000));
        env.kill();
    }
    env.start();
    let log = || fs::read_to_string(env.at("log")).unwrap_or_default();
    env.wait("all deliveries", || {
        let (log, refused) = (log(), refused(&env));
        let delivered: BTreeSet<&str> = deliveries(&log).map(|(content, _)| content).collect();
        let dealt = |content: &String| delivered.contains(&**content) || refused.contains(content);
        tokens.iter().all(|(_, content)| dealt(content))
    });
    env.await_idle();
    check(&env, far.path(), &tokens, rounds);
    assert!(env.stop());
    assert_eq!(leftovers(&env.at("state")), [0; 0], "no process survives");
}

/// Each content that a task was started for, and where.
fn deliveries(log: &str) -> impl Iterator<Item = (&str, &str)> {
    log.lines().filter_map(|line| line.strip_prefix("E ")?.split_once(' '))
}

fn check(env: &Env, far: &Path, tokens: &[Token], rounds: usize) {
    let log = fs::read_to_string(env.at("log")).unwrap();
    let lines = |word: &'static str| log.lines().filter_map(move |line| line.strip_prefix(word));
    assert_eq!(lines("TWO").collect::<Vec<_>>(), [""; 0], "two attempts of one task were alive");
    let delivered: BTreeSet<&str> = deliveries(&log).map(|(content, _)| content).collect();
    assert!(!delivered.contains("MISSING"), "no task looks for its file in vain");
    let attempts = lines("A ").count();
    let begun: BTreeSet<&str> = lines("A ").filter_map(|line| line.split(' ').next()).collect();
    let repeats = attempts - begun.len();
    assert!(repeats <= 2 * rounds, "{repeats} repeats for {rounds} kills of two slots");

    let folders = |root: &Path| {
        let names = ["inbox", "work", "done", "failed"];
        let all =
            names.into_iter().flat_map(|name| (0..TRIGGERS).map(move |n| format!("{name}{n}")));
        all.map(|name| root.join(name)).collect::<Vec<_>>()
    };
    let found = found(&[folders(env.path()), folders(far)].concat());
    let mut places: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for (path, content) in &found {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with(".dagd-"), "{} is left lying about", path.display());
        if !content.is_empty() {
            places.entry(content).or_default().push(path);
        }
    }
    let (gone, refused) = (gone(env, &log), refused(env));
    let outcomes = outcomes(env);
    println!("{} kills, {repeats} repeats, {} files: {outcomes:?}", rounds, tokens.len());
    for outcome in ["moved", "deleted", "failed", ""] {
        assert!(outcomes.contains_key(outcome), "some are {outcome}: {outcomes:?}");
    }
    for (name, content) in tokens {
        let dealt = delivered.contains(content.as_str()) || refused.contains(content);
        assert!(dealt, "{content} ({name}) was never delivered");
        match places.get(content.as_str()).map_or(&[][..], Vec::as_slice) {
            [_] => {}
            [] => {
                assert!(gone.contains(content), "{content} ({name}) is lost");
            }
            more => panic!("{content} is in two places: {more:?}"),
        }
    }
}

/// What became of files, how often.
fn outcomes(env: &Env) -> BTreeMap<String, u32> {
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let sql = "select coalesce(outcome, ''), count(*) from run_files group by 1";
    let mut query = db.prepare(sql).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// What the history says of files: the content of each, and what else is asked for.
fn told(env: &Env, rest: &str) -> Vec<(String, Option<String>)> {
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let sql = format!("select substr(trigger, 3), mtime_ns, cast(moved_to as text) {rest}");
    let mut query = db.prepare(&sql).unwrap();
    let rows = query.query_map([], |row| {
        let seconds = row.get::<_, i64>(1)?.unsigned_abs() / 1_000_000_000;
        Ok((content_of(seconds - SECONDS, &row.get::<_, String>(0)?), row.get(2)?))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Contents of runs that failed before their tasks: `pre_move` found its target taken, and
/// `on_conflict` is `fail`.
fn refused(env: &Env) -> BTreeSet<String> {
    let rest = "from runs join run_files on run_files.run = id join tasks on tasks.run = id \
                where cause like '%on_conflict is \"fail\"%'";
    told(env, rest).into_iter().map(|(content, _)| content).collect()
}

/// Contents that may be nowhere: the history says that they were deleted, or taken to where another
/// one was as well, by the end of its run or before its task.
fn gone(env: &Env, log: &str) -> BTreeSet<String> {
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let sound: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let live = "select count(*) from live where kind in ('run', 'item')";
    assert_eq!(db.query_row(live, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let deleted = told(env, "from runs join run_files on run = id where outcome = 'deleted'");
    let placed = told(env, "from runs join run_files on run = id where outcome = 'moved'");
    let mut at: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let moves = placed.iter().filter_map(|(content, place)| Some((&**content, place.as_deref()?)));
    for (content, place) in moves.clone().chain(deliveries(log)) {
        at.entry(place).or_default().insert(content);
    }
    let shared = moves.filter(|(_, place)| at[place].len() > 1).map(|(content, _)| content);
    deleted.iter().map(|(content, _)| &**content).chain(shared).map(str::to_owned).collect()
}
