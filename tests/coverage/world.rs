//! What the tests of the coverage share: tasks that write down what they got, daemons that run in
//! namespaces or as somebody else, and waiting that ends when nothing moves any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

pub(crate) use crate::common::namespaces::{can, inside};
use crate::common::{Env, PATIENCE};

/// Tasks that write down what they got: `batch` for a run with many files, `each` for a run with
/// one, whose few bytes no other run's can get between.
pub(crate) const TASKS: &str = r#"
[tasks.batch]
shell = "cp \"$DAGD_FILES_NUL\" got/batch-$DAGD_RUN"
cwd = "{dir}"
[tasks.each]
shell = "printf '%s\\0' \"$DAGD_PATH\" >> got/each"
cwd = "{dir}"
"#;

/// An environment with [`TASKS`], `triggers`, and the folder that the tasks write to.
pub(crate) fn world(triggers: &str) -> Env {
    let env = Env::new(&format!("{TASKS}{triggers}"));
    env.mkdir("got");
    env
}

/// What the tasks got: paths below the folder, and how often.
pub(crate) fn got(env: &Env) -> BTreeMap<Vec<u8>, usize> {
    let mut seen = BTreeMap::new();
    let top = env.path().as_os_str().as_bytes();
    for entry in fs::read_dir(env.at("got")).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        for path in text.split(|&byte| byte == 0).filter(|path| !path.is_empty()) {
            let rel = path.strip_prefix(top).and_then(|rel| rel.strip_prefix(b"/"));
            *seen.entry(rel.unwrap_or(path).to_vec()).or_default() += 1;
        }
    }
    seen
}

/// Waits until all the files that are wanted were delivered and all is quiet; then exactly those
/// must have been, each once. `wanted` are paths below the folder.
pub(crate) fn exactly<P: AsRef<[u8]>>(env: &Env, wanted: impl IntoIterator<Item = P>) {
    exactly_or(env, wanted, &BTreeSet::new());
}

/// The same; those in `between` may have been delivered as well, once.
pub(crate) fn exactly_or<P: AsRef<[u8]>>(
    env: &Env,
    wanted: impl IntoIterator<Item = P>,
    between: &BTreeSet<String>,
) {
    let wanted: BTreeSet<Vec<u8>> = wanted.into_iter().map(|path| path.as_ref().to_vec()).collect();
    while_it_goes_on(env, &format!("{} files", wanted.len()), || {
        let seen = got(env);
        let missing = wanted.iter().filter(|path| !seen.contains_key(*path)).count();
        (missing == 0, missing as u64)
    });
    env.await_idle();
    let may = |path: &[u8]| {
        wanted.contains(path) || std::str::from_utf8(path).is_ok_and(|path| between.contains(path))
    };
    let wrong: Vec<String> = got(env)
        .iter()
        .filter(|(path, times)| **times > 1 || !may(path))
        .map(|(path, times)| format!("{times} × {}", path.escape_ascii()))
        .collect();
    assert!(wrong.is_empty(), "{} files such as {:?}", wrong.len(), &wrong[..wrong.len().min(9)]);
}

/// Waits until `done`, as long as what it counts changes.
pub(crate) fn while_it_goes_on(env: &Env, what: &str, done: impl Fn() -> (bool, u64)) {
    let (mut last, mut moved) = (u64::MAX, Instant::now());
    loop {
        let (over, count) = done();
        if over {
            return;
        }
        if count != last {
            (last, moved) = (count, Instant::now());
        }
        assert!(moved.elapsed() < PATIENCE, "{what}: {count} are left for a minute\n{}", env.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// What `status` says is not as it should be.
pub(crate) fn problems(env: &Env) -> Vec<String> {
    let status = env.json(&["status"]);
    let problems = status["problems"].as_array().unwrap().iter();
    problems.map(|line| line.as_str().unwrap().to_owned()).collect()
}
