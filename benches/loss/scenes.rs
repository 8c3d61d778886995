//! What happens in the folder, and what is expected of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::tools::{Place, Running, Tool};

/// What is expected: each file with its full size.
pub(crate) type Expected = BTreeMap<PathBuf, u64>;

/// A piece of work for a contestant.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&Tool, &Place) -> (Expected, Running),
}

/// Content of a file, in bytes.
const CONTENT: &[u8] = &[b'x'; 1000];

pub(crate) const SCENES: [Scene; 8] = [
    Scene { name: "one by one", play: producers },
    Scene { name: "20,000 at once", play: burst },
    Scene { name: "500 new folders", play: folders },
    Scene { name: "100 trees moved in", play: trees },
    Scene { name: "200 folders renamed", play: renamed },
    Scene { name: "slow writers", play: slow },
    Scene { name: "frozen, 30,000", play: frozen },
    Scene { name: "down, 100", play: down },
];

fn file(dir: &Path, name: &str, expected: &mut Expected) {
    let path = dir.join(name);
    fs::write(&path, CONTENT).unwrap();
    expected.insert(path, CONTENT.len() as u64);
}

/// 200 files each by five producers, at a pace that no queue minds.
fn producers(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    let mut expected = Expected::new();
    let aside = place.home.join("aside");
    fs::create_dir_all(&aside).unwrap();
    for n in 0..200 {
        file(&place.inbox, &format!("written-{n}"), &mut expected);
        let [moved, linked, preserved] =
            ["moved", "linked", "preserved"].map(|how| place.inbox.join(format!("{how}-{n}")));
        let other = aside.join(format!("{n}"));
        fs::write(&other, CONTENT).unwrap();
        fs::rename(&other, &moved).unwrap();
        fs::write(&other, CONTENT).unwrap();
        fs::hard_link(&other, &linked).unwrap();
        let mut copy = fs::File::create(&preserved).unwrap();
        copy.write_all(CONTENT).unwrap();
        copy.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        expected.extend([moved, linked, preserved].map(|path| (path, CONTENT.len() as u64)));
        std::thread::sleep(Duration::from_millis(10));
    }
    (expected, running)
}

fn burst(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    let mut expected = Expected::new();
    for n in 0..20_000 {
        file(&place.inbox, &format!("f{n}"), &mut expected);
    }
    (expected, running)
}

fn folders(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    let mut expected = Expected::new();
    for n in 0..500 {
        let dir = place.inbox.join(format!("d{n}/b/c"));
        fs::create_dir_all(&dir).unwrap();
        file(&dir, "f", &mut expected);
    }
    (expected, running)
}

fn trees(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    let mut expected = Expected::new();
    for n in 0..100 {
        let (from, to) = (place.home.join(format!("t{n}")), place.inbox.join(format!("t{n}")));
        fs::create_dir_all(from.join("deep")).unwrap();
        let mut inside = Expected::new();
        file(&from, "a", &mut inside);
        file(&from.join("deep"), "b", &mut inside);
        fs::rename(&from, &to).unwrap();
        let there =
            |(path, size): (PathBuf, u64)| (to.join(path.strip_prefix(&from).unwrap()), size);
        expected.extend(inside.into_iter().map(there));
    }
    (expected, running)
}

fn renamed(tool: &Tool, place: &Place) -> (Expected, Running) {
    for n in 0..200 {
        fs::create_dir_all(place.inbox.join(format!("old{n}"))).unwrap();
    }
    let running = tool.start(place);
    let mut expected = Expected::new();
    for n in 0..200 {
        let new = place.inbox.join(format!("new{n}"));
        fs::rename(place.inbox.join(format!("old{n}")), &new).unwrap();
        file(&new, "f", &mut expected);
    }
    (expected, running)
}

/// Ten writers that pause between ten parts; the file is complete at the last.
fn slow(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    let mut expected = Expected::new();
    let paths: Vec<PathBuf> = (0..10).map(|n| place.inbox.join(format!("slow-{n}"))).collect();
    let mut files: Vec<fs::File> =
        paths.iter().map(|path| fs::File::create(path).unwrap()).collect();
    for _ in 0..10 {
        for file in &mut files {
            file.write_all(CONTENT).unwrap();
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    drop(files);
    expected.extend(paths.into_iter().map(|path| (path, 10 * CONTENT.len() as u64)));
    (expected, running)
}

/// The contestant is stopped while the files land: the kernel's queue overflows.
fn frozen(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    running.signal(Signal::STOP);
    let mut expected = Expected::new();
    for n in 0..30_000 {
        file(&place.inbox, &format!("f{n}"), &mut expected);
    }
    running.signal(Signal::CONT);
    (expected, running)
}

/// Twenty files are done; the contestant is stopped, a hundred land, it is started again.
fn down(tool: &Tool, place: &Place) -> (Expected, Running) {
    let running = tool.start(place);
    let mut expected = Expected::new();
    for n in 0..20 {
        file(&place.inbox, &format!("before-{n}"), &mut expected);
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(1));
    running.stop();
    for n in 0..100 {
        file(&place.inbox, &format!("while-{n}"), &mut expected);
    }
    // Its own marker comes after those that landed while it was down.
    Command::new("sync").arg("-f").arg(&place.inbox).status().unwrap();
    (expected, tool.start(place))
}
