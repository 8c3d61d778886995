//! A daemon is killed at each place between two steps, one after the other, and started again: the
//! contract holds. No file is in two dispositions, none is overwritten, none is lost, each is
//! delivered at least once, and only attempts in flight repeat.
//!
//! The places are those of [`POINTS`]; what a scene comes by is noted in a life without a death.

#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Env, PATIENCE, skip};
use dagd::io::failpoint::POINTS;

/// What the tests of the disposer itself walk: file systems that cannot rename without replacing,
/// and what goes back because somebody was faster.
const ELSEWHERE: [&str; 2] = ["dispose.linked", "dispose.put_back"];

/// One configuration, what is dropped, and where it must end.
struct Scene {
    name: &'static str,
    /// The keys of the trigger, `{far}` is another file system.
    trigger: &'static str,
    /// What is there before: path and content.
    before: &'static [(&'static str, &'static str)],
    /// What is dropped: name and content; `bad` fails.
    drops: &'static [(&'static str, &'static str)],
    /// What must be there in the end, beside what the test itself writes, and nothing else.
    after: &'static [(&'static str, &'static str)],
}

const SCENES: [Scene; 14] = [
    Scene {
        name: "a move",
        trigger: r#"move = "done/{name}""#,
        before: &[("done/a.csv", "other")],
        drops: &[("a.csv", "A"), ("b.csv", "B")],
        after: &[("done/a.csv", "other"), ("done/a.*.csv", "A"), ("done/b.csv", "B")],
    },
    Scene {
        name: "a move across",
        trigger: r#"move = "{far}/done/{name}""#,
        before: &[("{far}/done/a.csv", "other")],
        drops: &[("a.csv", "A")],
        after: &[("{far}/done/a.csv", "other"), ("{far}/done/a.*.csv", "A")],
    },
    Scene {
        name: "taken away and moved",
        trigger: "pre_move = \"work/{name}\"\nmove = \"done/{name}\"",
        before: &[("work/a.csv", "other"), ("done/a.csv", "another")],
        drops: &[("a.csv", "A")],
        after: &[("work/a.csv", "other"), ("done/a.csv", "another"), ("done/a.*.csv", "A")],
    },
    Scene {
        name: "taken away and moved across",
        trigger: "pre_move = \"{far}/work/\"\nmove = \"done/\"",
        before: &[],
        drops: &[("a.csv", "A")],
        after: &[("done/a.csv", "A")],
    },
    Scene {
        name: "deleted",
        trigger: "delete = true\ndone_file = \"{name}.done\"",
        before: &[("inbox/a.csv.done", "done"), ("inbox/b.csv.done", "b")],
        drops: &[("a.csv", "A")],
        after: &[("inbox/b.csv.done", "b")],
    },
    Scene {
        name: "taken away, then deleted",
        trigger: "pre_move = \"work/\"\ndelete = true",
        before: &[],
        drops: &[("a.csv", "A")],
        after: &[],
    },
    Scene {
        name: "failed and moved",
        trigger: "pre_move = \"work/\"\nmove = \"done/\"\nmove_failed = \"{far}/failed/\"",
        before: &[],
        drops: &[("bad.csv", "A"), ("b.csv", "B")],
        after: &[("{far}/failed/bad.csv", "A"), ("done/b.csv", "B")],
    },
    Scene {
        name: "failed and left",
        trigger: r#"pre_move = "work/""#,
        before: &[],
        drops: &[("bad.csv", "A")],
        after: &[("work/bad.csv", "A")],
    },
    Scene {
        name: "replaced",
        trigger: "move = \"done/{name}\"\non_conflict = \"replace\"",
        before: &[("done/a.csv", "other")],
        drops: &[("a.csv", "A")],
        after: &[("done/a.csv", "A")],
    },
    Scene {
        name: "replaced across",
        trigger: "move = \"{far}/done/{name}\"\non_conflict = \"replace\"",
        before: &[("{far}/done/a.csv", "other")],
        drops: &[("a.csv", "A")],
        after: &[("{far}/done/a.csv", "A")],
    },
    Scene {
        name: "a batch",
        trigger: "fan_out = \"batch\"\nbatch_max_files = 3\npre_move = \"work/\"\nmove = \"done/\"",
        before: &[],
        drops: &[("a.csv", "A"), ("b.csv", "B"), ("c.csv", "C")],
        after: &[("done/a.csv", "A"), ("done/b.csv", "B"), ("done/c.csv", "C")],
    },
    Scene {
        name: "a pair across",
        trigger: "move = \"{far}/done/\"\ndone_file = \"{name}.done\"",
        before: &[("inbox/a.csv.done", "done")],
        drops: &[("a.csv", "A")],
        after: &[("{far}/done/a.csv", "A"), ("{far}/done/a.csv.done", "done")],
    },
    Scene {
        name: "a folder across",
        trigger: "file_type = \"dir\"\ndone_file = \"_SUCCESS\"\nmove = \"{far}/done/\"",
        before: &[],
        drops: &[("a.csv/", "A")],
        after: &[("{far}/done/a.csv", "A")],
    },
    Scene {
        name: "a folder taken away and deleted",
        trigger: "file_type = \"dir\"\ndone_file = \"_SUCCESS\"\npre_move = \"work/\"\n\
                  delete = true",
        before: &[],
        drops: &[("a.csv/", "A")],
        after: &[],
    },
];

/// Notes each start and each end of an attempt, with the content of the file that it found.
const CONFIG: &str = r#"
[tasks.t]
shell = '''
for f in $(tr '\0' ' ' < "$DAGD_FILES_NUL"); do echo "S $f $DAGD_ATTEMPT" >> log; done
for f in $(tr '\0' ' ' < "$DAGD_FILES_NUL"); do
    [ ! -d "$f" ] || f=$f/data
    echo "E $(cat "$f")" >> log
done
case "$(tr '\0' ' ' < "$DAGD_FILES_NUL")" in *bad*) exit 1;; esac
'''
cwd = "{dir}"
[triggers.in]
drop = "inbox"
include = ["*.csv"]
run = "t"
"#;

/// A folder on another file system.
fn far() -> Option<tempfile::TempDir> {
    let near = tempfile::tempdir().unwrap();
    let dev = |path: &Path| fs::metadata(path).unwrap().dev();
    let far = tempfile::TempDir::new_in("/dev/shm").ok();
    far.filter(|far| dev(far.path()) != dev(near.path()))
}

/// A life of a scene.
struct Life<'a> {
    env: Env,
    far: &'a Path,
    scene: &'a Scene,
}

impl<'a> Life<'a> {
    fn new(scene: &'a Scene, far: &'a Path) -> Self {
        let trigger = scene.trigger.replace("{far}", far.to_str().unwrap());
        let env = Env::new(&format!("{CONFIG}{trigger}\n"));
        let life = Self { env, far, scene };
        life.env.mkdir("inbox");
        for (path, content) in scene.before {
            let path = life.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        life
    }

    fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix("{far}/") {
            Some(rel) => self.far.join(rel),
            None => self.env.at(text),
        }
    }

    fn drop_files(&self) {
        for (name, content) in self.scene.drops {
            // Closed and complete at once.
            let temporary = self.env.at("producing");
            if name.ends_with('/') {
                fs::create_dir(&temporary).unwrap();
                fs::write(temporary.join("data"), content).unwrap();
                fs::write(temporary.join("_SUCCESS"), "").unwrap();
            } else {
                fs::write(&temporary, content).unwrap();
            }
            fs::rename(&temporary, self.env.at(&format!("inbox/{name}"))).unwrap();
        }
    }

    fn spawn(&mut self, failpoint: &str) {
        let mut command = self.env.command(&["run"]);
        if !failpoint.is_empty() {
            command.env("DAGD_FAILPOINT", failpoint);
        }
        self.env.spawn(&mut command);
    }

    /// Where all files are, by content, beside what the test and the daemon have for themselves.
    fn found(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        let near = ["inbox", "work", "done", "failed"].map(|name| (self.env.at(name), name));
        let far =
            ["work", "done", "failed"].map(|name| (self.far.join(name), format!("{{far}}/{name}")));
        let near = near.map(|(path, name)| (path, name.to_owned()));
        for (folder, shown) in near.into_iter().chain(far) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let path = entry.path();
                let path = if path.is_dir() { path.join("data") } else { path };
                // It may be on its way at this moment.
                let Ok(content) = fs::read_to_string(path) else { continue };
                found.insert((format!("{shown}/{name}"), content));
            }
        }
        found
    }

    /// Whether all files are where they must end.
    fn is_done(&self) -> bool {
        let found = self.found();
        let after = self.scene.after;
        let fits = |(path, content): &(String, String)| {
            after.iter().any(|(wanted, text)| text == content && matches(wanted, path))
        };
        found.len() == after.len() && found.iter().all(fits)
    }

    /// Waits until it is done and nothing lives any more, or until the daemon has died.
    fn await_end(&mut self, context: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.env.has_ended() {
                return false;
            }
            if self.is_done() && self.is_quiet() {
                return true;
            }
            let (found, log) = (self.found(), self.env.log());
            assert!(Instant::now() < deadline, "{context}: {found:?}\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether nothing is stored as alive.
    fn is_quiet(&self) -> bool {
        let Ok(db) = rusqlite::Connection::open(self.env.at("state/dagd.db")) else { return false };
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        let live = "select count(*) from live where kind in ('run', 'item')";
        let runs = "select count(*) from run_files";
        let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
        let files = i64::try_from(self.scene.drops.len()).unwrap();
        one(live).is_ok_and(|live| live == 0) && one(runs).is_ok_and(|runs| runs == files)
    }

    /// What was delivered: each content at least once, and what was begun twice only once more.
    fn check(&self, context: &str) {
        let log = fs::read_to_string(self.env.at("log")).unwrap();
        for (_, content) in self.scene.drops {
            let line = format!("E {content}");
            assert!(log.lines().any(|other| other == line), "{context}: {content} in {log}");
        }
        let mut attempts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for start in log.lines().filter_map(|line| line.strip_prefix("S ")) {
            let (file, attempt) = start.rsplit_once(' ').unwrap();
            attempts.entry(file).or_default().push(attempt);
        }
        // Of an attempt that was recorded and not begun the task knows nothing.
        let fine = |tries: &Vec<&str>| [&["1"][..], &["2"], &["1", "2"]].contains(&&**tries);
        assert!(attempts.values().all(fine), "{context}: {log}");
        for folder in ["inbox", "work", "done"].map(|name| self.env.at(name)) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap();
                assert!(!name.starts_with(".dagd-"), "{context}: {name} is left lying about");
            }
        }
        let states = self.env.runs();
        let failed = states.iter().filter(|run| run["state"] == "failed").count();
        let bad = self.scene.drops.iter().filter(|(name, _)| name.contains("bad")).count();
        assert_eq!(failed, bad, "{context}: {states:?}");
    }
}

/// `*` stands for the number that a run puts into a free name.
fn matches(wanted: &str, path: &str) -> bool {
    match wanted.split_once('*') {
        Some((before, after)) => {
            let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            middle.is_some_and(|middle| middle.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        }
        None => wanted == path,
    }
}

/// How often a life without a death comes by each place.
fn points(scene: &Scene) -> BTreeMap<String, u32> {
    let far = far().unwrap();
    let mut life = Life::new(scene, far.path());
    let noted = life.env.at("noted");
    life.spawn(&format!("@{}", noted.display()));
    life.env.await_ready();
    life.drop_files();
    assert!(life.await_end(scene.name), "{}: the daemon died by itself", scene.name);
    life.check(scene.name);
    assert!(life.env.stop());
    let mut points = BTreeMap::new();
    for line in fs::read_to_string(noted).unwrap().lines() {
        *points.entry(line.to_owned()).or_default() += 1;
    }
    points
}

/// Dies at the n-th time at the place, and lives on. Whether it died there.
fn dies(scene: &Scene, point: &str, nth: u32) -> bool {
    let context = format!("{} killed at {point} #{nth}", scene.name);
    let far = far().unwrap();
    let mut life = Life::new(scene, far.path());
    // The files are there before: at a place of the start there is work as well.
    life.drop_files();
    life.spawn(&format!("{point}:{nth}"));
    let survived = life.await_end(&context);
    life.env.kill();
    life.spawn("");
    life.env.await_ready();
    assert!(life.await_end(&context), "{context}: the second daemon died\n{}", life.env.log());
    life.check(&context);
    assert!(life.env.stop(), "{context}");
    assert!(life.is_done(), "{context}: {:?}", life.found());
    !survived
}

/// Kills a daemon at each place that the scene comes by.
fn walk(at: usize) {
    if far().is_none() {
        return skip("/dev/shm is no second file system here");
    }
    let scene = &SCENES[at];
    let (mut deaths, mut survived) = (0, Vec::new());
    for (point, times) in points(scene) {
        // With files that are there before, it may come by less often than in that other life.
        let died = (1..=times).filter(|&nth| dies(scene, &point, nth)).count();
        deaths += died;
        if died == 0 {
            survived.push(point);
        }
    }
    assert_eq!(survived, [""; 0], "{}: no death there in {deaths} deaths", scene.name);
}

#[test]
fn every_place_is_come_by() {
    if far().is_none() {
        return skip("/dev/shm is no second file system here");
    }
    let mut missing: BTreeSet<&str> = POINTS.into_iter().collect();
    for scene in &SCENES {
        let points = points(scene);
        missing.retain(|point| !points.contains_key(*point));
    }
    assert_eq!(missing, ELSEWHERE.into_iter().collect());
}

#[test]
fn every_place_is_in_the_sources() {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.split("failpoint!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.filter(|name| POINTS.contains(name)).map(str::to_owned));
        }
    }
    assert_eq!(found, POINTS.into_iter().map(str::to_owned).collect());
}

macro_rules! walks {
    ($($name:ident = $at:literal,)*) => {
        $(
            #[test]
            fn $name() {
                walk($at);
            }
        )*

        #[test]
        fn every_scene_is_walked() {
            let walked = [$($at),*];
            assert!(walked.into_iter().eq(0..SCENES.len()));
        }
    };
}

walks! {
    a_death_during_a_move = 0,
    a_death_during_a_move_across = 1,
    a_death_while_taken_away = 2,
    a_death_while_taken_away_across = 3,
    a_death_during_a_removal = 4,
    a_death_during_a_removal_from_elsewhere = 5,
    a_death_after_a_failure = 6,
    a_death_where_it_is_left = 7,
    a_death_during_a_replacement = 8,
    a_death_during_a_replacement_across = 9,
    a_death_during_a_batch = 10,
    a_death_between_a_pair = 11,
    a_death_with_a_folder_across = 12,
    a_death_with_a_folder = 13,
}
