//! A daemon whose task notes what it sees of each file, and what should be seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Env, PATIENCE};

/// Bytes of each source: many pages, and no round number.
pub(crate) const SIZE: usize = 300_007;

/// Bytes of `s` in `head`.
const HEAD: usize = 1000;

/// The task, and where its notes are. A note is one line, appended by one write.
const SEE: &str = r#"
[tasks.see]
shell = 'echo "$(sha256sum < "$DAGD_PATH" | cut -c 1-64) $DAGD_TRIGGER $DAGD_REL" >> seen'
cwd = "{dir}"
"#;

/// What is delivered, or should be: the path below its trigger's folder and the content's name.
pub(crate) type Delivery = (String, String);

/// A folder with two sources of the same size, `s` and `t`, the first bytes of `s` as `head`, an
/// `empty` file, and a daemon.
pub(crate) struct World {
    pub(crate) env: Env,
    /// What is known of contents: from checksum to name.
    contents: BTreeMap<String, String>,
    /// All that should have been delivered so far.
    wanted: Vec<Delivery>,
    barriers: u32,
}

impl World {
    /// A world with these triggers; the first one is called `in`, is recursive, and its folder is
    /// `in`. Nothing is started.
    pub(crate) fn new(triggers: &str) -> Self {
        let env = Env::new(&format!("{SEE}{triggers}"));
        for dir in ["in/barrier", "out"] {
            env.mkdir(dir);
        }
        let mut world = Self { env, contents: BTreeMap::new(), wanted: Vec::new(), barriers: 0 };
        // Modified long ago, and not at the same time: programs keep that for their copies.
        for (name, first, year) in [("s", 1, "2001"), ("t", 2, "2002")] {
            fs::write(world.env.at(name), bytes(first)).unwrap();
            world.sh(&format!("touch -d {year}-02-03 {name}"), &[]);
            world.know_own(name);
        }
        for (name, text) in [("head", &bytes(1)[..HEAD]), ("empty", &[])] {
            fs::write(world.env.at(name), text).unwrap();
            world.know_own(name);
        }
        world
    }

    /// The source `s`.
    pub(crate) fn source(&self) -> PathBuf {
        self.env.at("s")
    }

    /// Gives the present content of a file a name.
    pub(crate) fn know(&mut self, name: &str, path: &Path) {
        self.contents.insert(sha256(path), name.to_owned());
    }

    fn know_own(&mut self, name: &str) {
        self.know(name, &self.env.at(name));
    }

    /// Runs a script in the world's folder, as a shell that ends at the first failure.
    pub(crate) fn sh(&self, script: &str, env: &[(&str, &Path)]) {
        self.sh_by(&["sh"], script, env);
    }

    /// The same; `words` lead to the shell.
    pub(crate) fn sh_by(&self, words: &[&str], script: &str, env: &[(&str, &Path)]) {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["-ec", script]).current_dir(self.env.path());
        let output = command.envs(env.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// What the task has seen, in no particular order.
    pub(crate) fn seen(&self) -> Vec<Delivery> {
        let notes = fs::read_to_string(self.env.at("seen")).unwrap_or_default();
        let whole = notes.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole
            .map(|line| {
                let mut words = line.trim_end().splitn(3, ' ');
                let (sha, _trigger) = (words.next().unwrap(), words.next().unwrap());
                let content =
                    self.contents.get(sha).cloned().unwrap_or_else(|| "something else".into());
                (words.next().unwrap().to_owned(), content)
            })
            .collect()
    }

    /// Asks that beyond all that was wanted before exactly these are delivered, and waits for it.
    pub(crate) fn delivers(&mut self, more: impl IntoIterator<Item = Delivery>) {
        self.delivers_first(more);
        // What happened before this file is dealt with when it has been delivered.
        let rel = format!("barrier/{}", self.barriers);
        self.barriers += 1;
        fs::copy(self.source(), self.env.at("in").join(&rel)).unwrap();
        self.wanted.push((rel, "s".to_owned()));
        self.arrived();
        self.env.await_idle();
        let (missing, surplus) = self.difference();
        assert!(missing.is_empty() && surplus.is_empty(), "{missing:?} missing, {surplus:?} more");
    }

    /// The same, but does not wait for what might come besides.
    pub(crate) fn delivers_first(&mut self, more: impl IntoIterator<Item = Delivery>) {
        self.wanted.extend(more);
        self.arrived();
    }

    /// Waits until nothing that is wanted is missing; ends at once if there is more than that.
    fn arrived(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (missing, surplus) = self.difference();
            assert!(surplus.is_empty(), "{surplus:?} too many, {missing:?} missing");
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{missing:?} missing\n{}", self.env.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What is wanted and was not seen, and the other way round.
    fn difference(&self) -> (Vec<Delivery>, Vec<Delivery>) {
        let (mut missing, mut surplus) = (self.wanted.clone(), Vec::new());
        for seen in self.seen() {
            match missing.iter().position(|wanted| *wanted == seen) {
                Some(at) => drop(missing.swap_remove(at)),
                None => surplus.push(seen),
            }
        }
        (missing, surplus)
    }

    /// How the status says that completeness is known under a trigger.
    pub(crate) fn readiness(&self, trigger: &str) -> String {
        let status = self.env.json(&["status"]);
        let all = status["triggers"].as_array().unwrap();
        let found = all.iter().find(|found| found["name"] == trigger).unwrap();
        found["readiness"].as_str().unwrap().to_owned()
    }

    /// Waits until a file below some trigger's folder waits for this reason.
    pub(crate) fn waits(&self, rel: &str, reason: &str) {
        self.env.wait(&format!("{rel} to wait because {reason}"), || {
            let pending = self.env.json(&["pending"]);
            pending.as_array().unwrap().iter().any(|entry| {
                let path = entry["file"]["path"].as_str().unwrap_or_default();
                path.ends_with(rel) && entry["reason"].as_str().unwrap().contains(reason)
            })
        });
    }
}

/// One delivery.
pub(crate) fn one(rel: &str, content: &str) -> Delivery {
    (rel.to_owned(), content.to_owned())
}

/// The bytes of a source: the same in each run, and no two blocks alike.
pub(crate) fn bytes(first: u32) -> Vec<u8> {
    let mut state = first;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..SIZE).map(|_| next()).collect()
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}
