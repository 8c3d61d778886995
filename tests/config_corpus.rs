//! The corpus of configurations: each valid one resolves, each invalid one is explained.
//!
//! The explanations are snapshots beside the files. A configuration is a file, or a folder with
//! `dagd.toml` and `conf.d`. All are read as if they lay in `/etc/dagd`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dagd::config::{Resolved, SourceText, Surroundings, resolve};

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
        xdg_state_home: None,
        xdg_runtime_dir: None,
        home: Some("/root".into()),
        uid: 0,
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
        let name = entry.unwrap().file_name().into_string().unwrap();
        let left_over = name.ends_with(".snap") && !known.contains(&name);
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
    use dagd::config::keys::{DAEMON, RETENTION, RETRY, ROOT, TASK, TRIGGER};
    for scope in [&ROOT, &DAEMON, &RETENTION, &TASK, &RETRY, &TRIGGER] {
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
