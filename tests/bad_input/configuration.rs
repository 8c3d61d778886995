//! Configurations that are wrong: exit 78, everything at once, each with its place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Env, skip};

/// One error of each kind, in two files.
const WRONG: &str = r#"[daemon]
max_paralel = 2

[pools]
db = 1

[tasks.a]
command = ["true"]
needs = ["b"]

[tasks.b]
command = ["true"]
needs = ["a"]

[tasks.ok]
command = ["true"]

[tasks.unknown]
command = ["echo", "{nonsense}"]

[tasks.unfilled]
command = ["echo", "{signal}"]

[tasks.lonely]
command = ["true"]
needs = ["gone"]

[tasks.typed]
command = "true"

[tasks.greedy]
command = ["true"]
uses = { db = 2 }

[tasks.poolless]
command = ["true"]
uses = { nodb = 1 }
timeout = "5 parsecs"

[triggers.pattern]
drop = "inbox1"
include = ["[a"]
run = "ok"

[triggers.selector]
drop = "inbox2"
run = "ok+ &"

[triggers.nobody]
drop = "inbox3"
run = "nosuch"

[triggers.unfillable]
drop = "inbox4"
run = "unfilled"
"#;

const ALSO_WRONG: &str = r#"[triggers.deadly]
signal = "SIGKILL"
run = "ok"

[tasks.ok]
command = ["true"]
"#;

/// What must be complained about: file, the line that is shown, its marked part.
const ERRORS: [(&str, &str, &str); 14] = [
    ("dagd.toml", "max_paralel = 2", "max_paralel"),
    ("dagd.toml", "needs = [\"b\"]", "\"b\""),
    ("dagd.toml", "command = [\"echo\", \"{nonsense}\"]", "{nonsense}"),
    ("dagd.toml", "command = [\"echo\", \"{signal}\"]", "{signal}"),
    ("dagd.toml", "needs = [\"gone\"]", "\"gone\""),
    ("dagd.toml", "command = \"true\"", "\"true\""),
    ("dagd.toml", "uses = { db = 2 }", "db"),
    ("dagd.toml", "uses = { nodb = 1 }", "nodb"),
    ("dagd.toml", "timeout = \"5 parsecs\"", "\"5 parsecs\""),
    ("dagd.toml", "include = [\"[a\"]", "\"[a\""),
    ("dagd.toml", "run = \"ok+ &\"", "\""),
    ("dagd.toml", "run = \"nosuch\"", "nosuch"),
    ("10-more.toml", "signal = \"SIGKILL\"", "\"SIGKILL\""),
    ("10-more.toml", "[tasks.ok]", "ok"),
];

/// Whether `report` has an error with this file, a line and column that are those of `marked` in
/// `line`, the line itself, and a caret under it.
fn points_at(report: &str, source: &str, (file, line, marked): (&str, &str, &str)) -> bool {
    let number = source.lines().position(|text| text == line).unwrap() + 1;
    let column = line.rfind(marked).unwrap() + 1;
    let lines: Vec<&str> = report.lines().collect();
    let shown = |at: usize| {
        let prefix = format!("{number} | ");
        let text = lines.get(at).and_then(|text| text.trim_start().strip_prefix(&prefix));
        let below = lines.get(at + 1).and_then(|text| text.split_once("| "));
        text == Some(line) && below.is_some_and(|(_, marks)| marks.find('^') == Some(column - 1))
    };
    let place = format!("{file}:{number}:");
    let headed = lines.iter().any(|text| text.contains("-->") && text.contains(&place));
    headed && (0..lines.len()).any(shown)
}

#[test]
fn all_errors_at_once_each_with_its_place() {
    let env = Env::new(WRONG);
    env.mkdir("conf.d");
    fs::write(env.at("conf.d/10-more.toml"), ALSO_WRONG).unwrap();
    let whole = fs::read_to_string(env.at("dagd.toml")).unwrap();
    let check = env.run(&["check"]);
    assert_eq!(check.status.code(), Some(78));
    let report = String::from_utf8(check.stderr).unwrap();
    for error in ERRORS {
        let source = if error.0 == "dagd.toml" { &whole } else { ALSO_WRONG };
        assert!(points_at(&report, source, error), "{error:?} is not in\n{report}");
    }
    let count = report.lines().filter(|line| line.starts_with("error")).count();
    assert_eq!(count, ERRORS.len(), "{report}");
    assert!(report.contains("a → b → a"), "the whole circle: {report}");
    for verb in [&["run"][..], &["start"], &["once", "--select", "ok"]] {
        let output = env.run(verb);
        assert_eq!(output.status.code(), Some(78), "{verb:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), report, "{verb:?}");
    }
    assert!(!env.at("state").exists(), "nothing was begun");
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let env = Env::new("[tasks.a]\ncommand = [\"true\"]\n");
    assert!(env.run(&["check"]).status.success());
    env.mkdir("conf.d");
    let more = env.at("conf.d/10-more.toml");
    fs::write(&more, "[tasks.b]\ncommand = [\"true\"]\n").unwrap();
    for file in [env.at("dagd.toml"), more] {
        let allow = |bits| fs::set_permissions(&file, fs::Permissions::from_mode(bits)).unwrap();
        allow(0o646);
        for verb in [&["check"][..], &["run"], &["start"], &["once", "--select", "a"]] {
            let output = env.run(verb);
            assert_eq!(output.status.code(), Some(78), "{verb:?}: {output:?}");
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains(file.to_str().unwrap()) && text.contains("chmod"), "{text}");
        }
        allow(0o644);
    }
    assert!(env.run(&["check"]).status.success());
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !crate::common::is_root() {
        return skip("only root can give files away");
    }
    let env = Env::new("[tasks.a]\ncommand = [\"true\"]\n");
    std::os::unix::fs::chown(env.at("dagd.toml"), Some(12345), None).unwrap();
    let output = env.run(&["check"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("12345"));
}

#[test]
fn what_is_no_configuration_at_all() {
    let env = Env::new("");
    let file = env.at("dagd.toml");
    let cases: [&[u8]; 5] =
        [b"\xff\xfe\x00", b"[tasks.a\n", b"a = 1\na = 2\n", b"[tasks]\na = 3\n", b"\0"];
    for bad in cases {
        fs::write(&file, bad).unwrap();
        let output = env.run(&["check"]);
        assert_eq!(output.status.code(), Some(78), "{bad:?}: {output:?}");
        assert!(!output.stderr.is_empty() && !output.stderr.contains(&0), "{bad:?}: {output:?}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(env.run(&["check"]).status.code(), Some(78), "no file");
    fs::create_dir(&file).unwrap();
    assert_eq!(env.run(&["check"]).status.code(), Some(78), "a folder");
    fs::remove_dir(&file).unwrap();
    std::os::unix::fs::symlink("dagd.toml", &file).unwrap();
    assert_eq!(env.run(&["check"]).status.code(), Some(78), "a link to itself");
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert_eq!(env.run(&["check"]).status.code(), Some(78), "a pipe that nobody writes");
}
