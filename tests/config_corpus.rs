//! The corpus of configurations: each valid one resolves, each invalid one is explained.
//!
//! The explanations are snapshots beside the files. A configuration is a file, or a folder with
//! `dagd.toml` and `conf.d`. All are read as if they lay in `/etc/dagd`.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dagd::config::keys::{CONTROL, DAEMON, RETENTION, RETRY, ROOT, TASK, TRIGGER};
use dagd::config::{Resolved, SourceText, Surroundings, diff, resolve};
use dagd::core::task::Body;
use dagd::core::template::Template;
use dagd::core::trigger::{FanOut, InitialScan, Overlap, ReadLock};

fn corpus(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(kind);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    cases.sort();
    cases
}

fn sources(case: &Path) -> Vec<SourceText> {
    let text = |path: &Path, name: &str| SourceText {
        path: Path::new("/etc/dagd").join(name),
        text: std::fs::read_to_string(path).unwrap(),
    };
    if case.is_file() {
        return vec![text(case, "dagd.toml")];
    }
    let mut sources = vec![text(&case.join("dagd.toml"), "dagd.toml")];
    let mut parts: Vec<PathBuf> =
        std::fs::read_dir(case.join("conf.d")).unwrap().map(|part| part.unwrap().path()).collect();
    parts.sort();
    for part in parts {
        let name = format!("conf.d/{}", part.file_name().unwrap().to_str().unwrap());
        sources.push(text(&part, &name));
    }
    sources
}

fn around() -> Surroundings {
    Surroundings {
        is_root: true,
        cpus: 4,
        state_directory: None,
        runtime_directory: None,
        xdg_state_home: None,
        xdg_runtime_dir: None,
        home: Some("/root".into()),
        uid: 0,
        group: |name| ["operators", "adm"].contains(&name).then_some(300),
    }
}

fn one(text: &str) -> Result<Resolved, String> {
    let source = SourceText { path: "/etc/dagd/dagd.toml".into(), text: text.to_owned() };
    resolve(&[source], &around()).map_err(|wrong| wrong.to_string())
}

#[test]
fn valid_ones_resolve() {
    let cases = corpus("valid");
    assert!(cases.len() >= 5, "the corpus is there");
    for case in cases {
        if let Err(wrong) = resolve(&sources(&case), &around()) {
            panic!("{}:\n{wrong}", case.display());
        }
    }
}

#[test]
fn invalid_ones_are_explained() {
    let cases = corpus("invalid");
    assert!(cases.len() >= 40, "the corpus is there");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("config/invalid");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut known = BTreeSet::new();
    for case in cases {
        let name = case.file_stem().unwrap().to_str().unwrap().to_owned();
        let Err(wrong) = resolve(&sources(&case), &around()) else {
            panic!("{} is taken for valid", case.display());
        };
        assert_eq!(wrong.to_string().matches("error: ").count(), wrong.len(), "{name}");
        settings.bind(|| insta::assert_snapshot!(name.clone(), wrong.to_string()));
        known.insert(format!("{name}.snap"));
    }
    for entry in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/invalid"))
            .unwrap()
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let left_over = path.extension().is_some_and(|ext| ext == "snap") && !known.contains(name);
        assert!(!left_over, "{name} belongs to no file");
    }
}

#[test]
fn the_reference_is_valid_and_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dagd.toml");
    let text = std::fs::read_to_string(path).unwrap();
    if let Err(wrong) = one(&text) {
        panic!("{wrong}");
    }
    for scope in [&ROOT, &DAEMON, &CONTROL, &RETENTION, &TASK, &RETRY, &TRIGGER] {
        for key in scope.keys {
            let there = text.lines().any(|line| {
                let words = line.trim_start_matches(['#', '[', ' ']);
                words.strip_prefix(key).is_some_and(|rest| {
                    rest.trim_start().starts_with('=') || rest.starts_with(['.', ']'])
                }) || line.contains(&format!("{{ {key} ="))
                    || line.contains(&format!(", {key} ="))
            });
            assert!(there, "`{key}` of {} is missing in config/dagd.toml", scope.what);
        }
    }
}

/// The text of a valid case, resolved.
fn case(name: &str) -> Resolved {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid").join(name);
    resolve(&sources(&path), &around()).map_err(|wrong| wrong.to_string()).unwrap()
}

#[test]
fn what_is_written_is_what_is_meant() {
    let Resolved { model, settings, warnings } = case("design.toml");
    assert_eq!((model.slots, model.max_live_runs), (8, 64));
    assert_eq!(settings.retention.logs, 10 << 30);
    assert_eq!(warnings, Vec::<String>::new());
    let task = |name: &str| model.graph.task(model.graph.find(name).unwrap());
    assert_eq!(task("checksum").timeout, Some(Duration::from_hours(1)), "from the defaults");
    let load = task("load");
    assert_eq!(load.timeout, Some(Duration::from_mins(10)));
    assert_eq!(load.retry.on.len(), 2);
    assert!(matches!(&load.body, Body::Shell { program, .. } if program == &["/bin/sh", "-ec"]));
    let orders = &model.triggers["orders"];
    let folder = orders.folder().unwrap();
    assert_eq!((orders.overlap, orders.max_runs), (Overlap::Queue, None));
    assert_eq!((folder.settle, folder.settle_empty), (Duration::ZERO, Duration::from_secs(2)));
    assert_eq!((folder.read_lock, folder.initial_max), (ReadLock::Auto, 10_000));
    assert_eq!(
        folder.move_to.clone().unwrap(),
        Template::parse("/srv/done/{date:%Y%m%d}/{rel}").unwrap()
    );
    let site = &model.triggers["site"];
    let folder = site.folder().unwrap();
    assert_eq!((site.overlap, site.max_runs), (Overlap::Coalesce, Some(1)));
    assert_eq!((folder.recursive, folder.fan_out), (true, FanOut::Batch));
    assert_eq!(
        (folder.settle, folder.max_wait),
        (Duration::from_millis(100), Some(Duration::from_secs(5)))
    );
    assert_eq!((folder.initial_scan, folder.kinds.len()), (InitialScan::Baseline, 3));
    assert_eq!(folder.filter.rejects(&"a/b".into()), None, "the pattern is **/* when recursive");
    assert_eq!(model.triggers["rotate"].overlap, Overlap::Coalesce);
}

#[test]
fn what_gathers_has_one_limit_at_least() {
    let trigger = |keys: &str| {
        let text = format!("[tasks.a]\ncommand = [\"a\"]\n[triggers.t]\nrun = \"a\"\n{keys}");
        one(&text).unwrap().model.triggers["t"].folder().unwrap().clone()
    };
    let waits = |keys: &str| {
        let folder = trigger(keys);
        (folder.settle.as_millis(), folder.batch_max_wait.map(|wait| wait.as_secs()))
    };
    let dir = "drop = \"/in\"\nrecursive = true\nfan_out = \"dir\"\n";
    assert_eq!(waits(dir), (0, Some(5)));
    assert_eq!(waits(&format!("{dir}settle = \"9s\"")), (9000, None), "quiet alone tells");
    assert_eq!(waits(&format!("{dir}settle = \"9s\"\nbatch_max_wait = \"1m\"")), (9000, Some(60)));
    assert_eq!(waits("watch = \"/in\""), (100, None));
    assert_eq!(waits("watch = \"/in\"\nsettle = \"0\""), (0, Some(5)));
    let set = "set = [\"*.x\", \"*.y\"]\nset_key = \"^[0-9]+\"";
    assert_eq!(waits(&format!("drop = \"/in\"\n{set}")), (0, None), "a complete set is complete");
    let watched = trigger(&format!("watch = \"/in\"\n{set}"));
    assert_eq!(watched.kinds.len(), 2, "what is gone completes nothing");
    assert!(watched.filter.rejects(&"a.x".into()).is_some(), "it has no key");
}

#[test]
fn paths_begin_in_the_folder_of_their_file() {
    let Resolved { model, .. } = case("three_files");
    let a = model.graph.task(model.graph.find("a").unwrap());
    let Body::Command(arguments) = &a.body else { panic!("a is a command") };
    assert_eq!(arguments[0], Template::parse("/etc/dagd/conf.d/check.sh").unwrap());
    let root = |name: &str| model.triggers[name].folder().unwrap().root.clone();
    assert_eq!(root("in"), PathBuf::from("/etc/dagd/conf.d/inbox"));
    assert!(model.triggers["in"].folder().unwrap().move_to.is_some(), "by default");
    assert!(model.triggers["tree"].folder().unwrap().move_to.is_none(), "not for a watched tree");
    assert_eq!(model.triggers["real_time"].overlap, Overlap::Queue);
}

#[test]
fn defaults_follow_the_surroundings() {
    let mut user = around();
    user.is_root = false;
    user.uid = 1000;
    user.home = Some("/home/u".into());
    let of = |around: &Surroundings| {
        let source = SourceText { path: "/cfg/dagd.toml".into(), text: String::new() };
        resolve(&[source], around)
    };
    let resolved = of(&user).unwrap();
    assert_eq!(resolved.settings.state_dir, PathBuf::from("/home/u/.local/state/dagd"));
    assert_eq!(resolved.settings.runtime_dir, PathBuf::from("/tmp/dagd-1000"));
    assert_eq!((resolved.model.slots, resolved.model.max_live_runs), (4, 64));
    user.xdg_state_home = Some("/s".into());
    user.xdg_runtime_dir = Some("/run/user/1000".into());
    let resolved = of(&user).unwrap();
    assert_eq!(resolved.settings.state_dir, PathBuf::from("/s/dagd"));
    assert_eq!(resolved.settings.runtime_dir, PathBuf::from("/run/user/1000/dagd"));
    user.xdg_state_home = None;
    user.home = None;
    assert!(of(&user).unwrap_err().to_string().contains("state_dir"));
}

#[test]
fn a_trigger_is_known_by_its_settings() {
    let rev = |extra: &str| {
        let text = format!(
            "[tasks.a]\ncommand = [\"true\"]\n[triggers.t]\ndrop = \"/srv/in\"\nrun = \"a\"\n{extra}"
        );
        one(&text).unwrap().model.triggers["t"].rev.to_string()
    };
    assert_eq!(rev("").len(), 16);
    assert_eq!(rev(""), rev("settle = \"0\"\nfan_out = \"file\""), "defaults, written out");
    let changes = [
        "settle = \"1s\"",
        "include = [\"*.csv\"]",
        "hidden = true",
        "max_runs = 2",
        "move = \"/srv/done/\"",
        "order_key = \"{stem}\"",
        "kinds = [\"created\"]",
    ];
    let revs: BTreeSet<String> = changes.iter().map(|extra| rev(extra)).chain([rev("")]).collect();
    assert_eq!(revs.len(), changes.len() + 1);
}

#[test]
fn changes_are_told_in_lines() {
    let old = one("[daemon]\nmax_parallel = 2\n[pools]\ngpu = 2\napi = 1\n\
         [tasks.a]\ncommand = [\"true\"]\nuses = { gpu = 1, api = 1 }\n\
         [tasks.gone]\ncommand = [\"true\"]\n\
         [triggers.orders]\ndrop = \"/srv/in\"\nrun = \"a\"\n\
         [triggers.y]\nsignal = \"SIGUSR1\"\nrun = \"a\"\n")
    .unwrap();
    let new = one("[daemon]\nmax_parallel = 3\ndurability = \"full\"\n[pools]\ngpu = 3\n\
         [tasks.a]\ncommand = [\"false\"]\nuses = { gpu = 1 }\ntimeout = \"1m\"\n\
         [tasks.x]\ncommand = [\"true\"]\n\
         [triggers.orders]\ndrop = \"/srv/in\"\nrun = \"a\"\nsettle = \"1s\"\n\
         [triggers.z]\nsignal = \"SIGUSR1\"\nrun = \"x\"\n")
    .unwrap();
    assert_eq!(diff(&old, &old), []);
    let lines: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "~ durability Normal → Full",
            "~ max_parallel 2 → 3",
            "- pool api",
            "~ pool gpu 2 → 3",
            "- task gone",
            "~ task a (command, timeout, uses)",
            "+ task x",
            "- trigger y",
            "~ trigger orders (settle)",
            "+ trigger z",
        ]
    );
}

#[test]
fn no_text_makes_it_panic() {
    let whole = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/design.toml"),
    )
    .unwrap();
    // Every prefix, and every text with one byte replaced by one that means something.
    for end in (0..whole.len()).filter(|&end| whole.is_char_boundary(end)) {
        drop(one(&whole[..end]));
    }
    for at in (0..whole.len()).filter(|&at| whole.as_bytes()[at].is_ascii()).step_by(3) {
        for odd in ["\"", "[", "{", "=", "\n", "\\", "é", "0"] {
            let text = format!("{}{odd}{}", &whole[..at], &whole[at + 1..]);
            drop(one(&text));
        }
    }
}

/// As many tasks as the promise is about; fewer where nothing is optimised.
const TASKS: u32 = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

/// Tasks in layers, each with a few needs.
fn large() -> String {
    let mut text = String::from("[pools]\napi = 4\n[defaults.task]\ntimeout = \"1h\"\n");
    for task in 0..TASKS {
        let needs: Vec<String> = (1..=3)
            .filter_map(|back| task.checked_sub(back * 97))
            .map(|need| format!("\"task_{need:06}\""))
            .collect();
        writeln!(
            text,
            "[tasks.task_{task:06}]\nneeds = [{}]\ncommand = [\"process\", \"--in\", \"{{path}}\", \
             \"--task\", \"{task}\"]\nuses = {{ api = 1 }}\ntags = [\"t{}\"]",
            needs.join(", "),
            task % 10
        )
        .unwrap();
    }
    text.push_str("[triggers.in]\ndrop = \"/srv/in\"\nrun = \"task_000000+\"\n");
    text
}

#[test]
fn a_hundred_thousand_tasks_take_no_time() {
    let text = large();
    let start = std::time::Instant::now();
    let resolved = one(&text).unwrap();
    let took = start.elapsed();
    println!("{} MB, {took:?}", text.len() >> 20);
    assert_eq!(resolved.model.graph.len(), TASKS as usize);
    // To catch what is not linear, not to measure: the machine may be busy.
    assert!(took < Duration::from_secs(10), "{took:?}");
    // Every name is misspelt: still no minutes.
    let wrong = one(&text.replace("\"task_", "\"taks_")).unwrap_err();
    assert!(wrong.ends_with(" more"), "{}", &wrong[wrong.len() - 100..]);
}
