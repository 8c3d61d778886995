//! Every example, run as its reader would run it: copied, checked, started, fed with real input.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Env, have, skip};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of an example, which `dagd check` finds valid.
fn example(name: &str) -> Env {
    let env = Env::copy_of(&root().join("config/examples").join(name), "state/run/dagd.sock");
    assert!(env.ok(&["check"]).contains("valid"));
    env
}

/// What a program prints; it must succeed.
fn prints(dir: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

/// The run of the file called `rel`, of which there must be one.
fn run_of(env: &Env, rel: &str) -> Value {
    let runs = env.runs();
    let mine = |run: &&Value| run["files"].as_array().unwrap().iter().any(|f| f["rel"] == rel);
    let found: Vec<&Value> = runs.iter().filter(mine).collect();
    assert_eq!(found.len(), 1, "{rel}: {runs:#?}");
    env.json(&["show", &found[0]["id"].to_string()])
}

/// Where the run of the file called `rel` moved it.
fn moved(env: &Env, rel: &str) -> PathBuf {
    let run = run_of(env, rel);
    PathBuf::from(run["files"][0]["moved_to"]["path"].as_str().unwrap_or_default())
}

fn task_state(run: &Value, name: &str) -> String {
    let tasks = run["tasks"].as_array().unwrap();
    let task = tasks.iter().find(|task| task["name"] == name).unwrap();
    task["state"].as_str().unwrap().to_owned()
}

#[test]
fn every_configuration_that_we_ship_is_valid_and_tested() {
    let env = Env::new("");
    let reference = root().join("config/dagd.toml").display().to_string();
    assert!(env.ok(&["--config", &reference, "check"]).contains("valid"));
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("config/examples")).unwrap() {
        let entry = entry.unwrap();
        let config = entry.path().join("dagd.toml").display().to_string();
        assert!(env.ok(&["--config", &config, "check"]).contains("valid"), "{config}");
        found.push(entry.file_name().into_string().unwrap());
    }
    found.sort();
    let tested = [
        "csv-to-sqlite",
        "instrument-results",
        "rebuild-on-change",
        "rotate-on-signal",
        "thumbnails",
    ];
    assert_eq!(found, tested, "each example has its test here");
}

#[test]
fn csv_to_sqlite() {
    if !have("sqlite3") {
        return;
    }
    let mut env = example("csv-to-sqlite");
    let folder = env.path().to_owned();
    let select = |query: &str| prints(&folder, "sqlite3", &["orders.db", query]);
    let good = "day,item,amount\n2024-05-01,apples,3\n2024-05-01,\"pears, ripe\",4\n";
    fs::write(env.at("sums/tuesday.csv.sha256"), {
        let summed = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut summed = summed.unwrap();
        let body = "day,item,amount\n2024-05-02,apples,5\n";
        std::io::Write::write_all(&mut summed.stdin.take().unwrap(), body.as_bytes()).unwrap();
        summed.wait_with_output().unwrap().stdout
    })
    .unwrap();
    fs::write(env.at("sums/false.csv.sha256"), format!("{}  false.csv\n", "0".repeat(64))).unwrap();
    env.start();
    fs::write(env.at("inbox/o'brien.csv"), good).unwrap();
    fs::write(env.at("inbox/tuesday.csv"), "day,item,amount\n2024-05-02,apples,5\n").unwrap();
    fs::write(env.at("inbox/broken.csv"), "day,item,amount\n2024-05-03,apples,many\n").unwrap();
    fs::write(env.at("inbox/short.csv"), "day,item,amount\n2024-05-03,apples\n").unwrap();
    fs::write(env.at("inbox/false.csv"), good).unwrap();
    fs::write(env.at("inbox/letter.txt"), "no table").unwrap();
    env.await_ended(5);
    env.await_idle();
    let rows = "2024-05-01|apples|3\n2024-05-01|pears, ripe|4\n2024-05-02|apples|5\n";
    assert_eq!(select("select day, item, amount from orders order by day, item"), rows);
    assert_eq!(select("select distinct length(sha256) from orders"), "64\n");
    let today = |path: &Path| path.starts_with(env.at("done")) && path.is_file();
    for name in ["o'brien.csv", "tuesday.csv"] {
        assert!(today(&moved(&env, name)), "{name}");
        assert_eq!(task_state(&run_of(&env, name), "alert"), "skipped");
    }
    let bad = [("broken.csv", "load"), ("short.csv", "load"), ("false.csv", "checksum")];
    let alerts = read(env.at("alerts.log"));
    assert_eq!(alerts.lines().count(), bad.len(), "{alerts}");
    for (name, task) in bad {
        let run = run_of(&env, name);
        assert_eq!(run["state"], "failed", "although its alert succeeded: {run}");
        let states = (task_state(&run, task), task_state(&run, "alert"));
        assert_eq!(states, ("failed".to_owned(), "succeeded".to_owned()));
        assert_eq!(moved(&env, name), env.at("failed").join(name));
        let line = alerts.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.ends_with(&format!("failed at {task}")), "{line}");
    }
    assert!(env.at("inbox/letter.txt").exists());
    let report = read(env.at("report.txt"));
    assert!(report.contains("pears, ripe") && report.contains("2024-05-02"), "{report}");
    // Corrected and sent again, it replaces its rows.
    fs::write(env.at("inbox/tuesday.csv"), "day,item,amount\n2024-05-02,apples,6\n").unwrap();
    env.await_ended(6);
    let newest = &env.runs()[0];
    assert_eq!(newest["state"], "failed", "its checksum is that of the first one");
    fs::remove_file(env.at("sums/tuesday.csv.sha256")).unwrap();
    env.ok(&["retry", &newest["id"].to_string(), "--wait"]);
    assert_eq!(select("select amount from orders where source = 'tuesday.csv'"), "6\n");
}

#[test]
fn instrument_results() {
    let mut env = example("instrument-results");
    env.start();
    for folder in ["inbox/m1", "inbox/deep/m2"] {
        env.mkdir(folder);
    }
    let numbers = |n: u32| (1..=n).map(|n| n.to_string() + "\n").collect::<String>();
    fs::write(env.at("inbox/m1/spectrum.dat"), numbers(1000)).unwrap();
    fs::write(env.at("inbox/m1/second run.csv"), numbers(10)).unwrap();
    fs::write(env.at("inbox/m1/notes.txt"), "not a result").unwrap();
    fs::write(env.at("inbox/deep/m2/spectrum.dat"), numbers(2000)).unwrap();
    fs::write(env.at("inbox/deep/m2/broken-off.dat"), "").unwrap();
    env.await_ended(4);
    env.await_idle();
    let sums = |folder: &str| prints(&env.at(folder), "sha256sum", &["-c", "SHA256SUMS"]);
    assert_eq!(sums("archive/m1"), "second run.csv: OK\nspectrum.dat: OK\n");
    assert_eq!(sums("archive/deep/m2"), "spectrum.dat: OK\n");
    assert_eq!(read(env.at("archive/m1/spectrum.dat")), numbers(1000));
    let results =
        ["m1/spectrum.dat", "m1/second run.csv", "deep/m2/spectrum.dat", "deep/m2/broken-off.dat"];
    for rel in results {
        assert_eq!(run_of(&env, rel)["state"], "succeeded");
        assert_eq!(moved(&env, rel), env.at("processed").join(rel));
        assert!(!env.at("inbox").join(rel).exists(), "{rel}");
    }
    let empty = run_of(&env, "deep/m2/broken-off.dat");
    let states = ["checksum", "archive", "index"].map(|name| task_state(&empty, name));
    assert_eq!(states, ["skipped", "skipped", "skipped"]);
    assert!(env.at("inbox/m1/notes.txt").exists());
}

#[test]
fn rebuild_on_change() {
    let mut env = example("rebuild-on-change");
    env.start();
    // The first start builds what is there.
    env.await_ended(1);
    assert!(read(env.at("site/public/index.html")).ends_with("</pre>\n"));
    fs::write(env.at("site/hello.txt"), "a < b & c\n").unwrap();
    let page = env.at("site/public/hello.html");
    env.wait("a new page", || read(&page).contains("a &lt; b &amp; c\n</pre>"));
    fs::write(env.at("site/hello.txt"), "other words\n").unwrap();
    env.wait("a changed page", || read(&page).contains("other words"));
    // Or the build that is still at work removes the page, and the next finds nothing to do.
    env.await_idle();
    fs::remove_file(env.at("site/hello.txt")).unwrap();
    env.wait("a removed page", || !page.exists());
    env.await_idle();
    let runs = env.runs();
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
    assert!(runs.len() <= 4, "what a build writes asks for no build: {}", runs.len());
    let log = env.ok(&["logs", &format!("{}/build", runs[0]["id"])]);
    assert_eq!(log, "removed site/public/hello.html\n");
}

#[test]
fn rotate_on_signal() {
    if !have("gzip") {
        return;
    }
    let mut env = example("rotate-on-signal");
    let first = read(env.at("logs/example.log"));
    assert!(!first.is_empty());
    env.start();
    let archives = || {
        let names = fs::read_dir(env.at("logs")).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<PathBuf> =
            names.filter(|path| path.extension().is_some_and(|ext| ext == "gz")).collect();
        names.sort();
        names
    };
    let unpacked = |path: &Path| prints(env.path(), "gzip", &["-dc", path.to_str().unwrap()]);
    env.signal(10);
    env.await_ended(1);
    let found = archives();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(unpacked(&found[0]), first);
    assert_eq!(read(env.at("logs/example.log")), "", "and goes on empty");
    for n in 2..=7 {
        fs::write(env.at("logs/example.log"), format!("line {n}\n")).unwrap();
        env.signal(10);
        env.await_ended(n);
    }
    let kept: Vec<String> = archives().iter().map(|path| unpacked(path)).collect();
    let wanted: Vec<String> = (3..=7).map(|n| format!("line {n}\n")).collect();
    assert_eq!(kept, wanted, "the five newest");
    let runs = env.runs();
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
}

#[test]
fn thumbnails() {
    let version = Command::new("convert").arg("-version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("ImageMagick"))
    {
        skip("ImageMagick's `convert` is not installed");
        return;
    }
    let mut env = example("thumbnails");
    env.start();
    fs::write(env.at("inbox/wide.png"), png(800, 600)).unwrap();
    fs::write(env.at("inbox/a & b?.png"), png(90, 400)).unwrap();
    fs::write(env.at("inbox/tiny.png"), png(16, 8)).unwrap();
    fs::write(env.at("inbox/none.png"), "no picture at all").unwrap();
    let whole = png(100, 100);
    fs::write(env.at("inbox/cut.png"), &whole[..40]).unwrap();
    env.await_ended(5);
    env.await_idle();
    let thumbnails = env.at("thumbnails");
    let size = |name: &str| {
        // By its content: in a name ImageMagick gives ? a meaning.
        let file = fs::File::open(thumbnails.join(name)).unwrap();
        let mut identify = Command::new("identify");
        let output = identify.args(["-format", "%m %w %h", "-"]).stdin(file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(size("wide.png.jpg"), "JPEG 320 240");
    assert_eq!(size("a & b?.png.jpg"), "JPEG 72 320");
    assert_eq!(size("tiny.png.jpg"), "JPEG 16 8", "never enlarged");
    let bytes = |path: PathBuf| fs::metadata(path).unwrap().len();
    assert!(bytes(env.at("thumbnails/wide.png.jpg")) < bytes(env.at("originals/wide.png")));
    assert_eq!(fs::read(env.at("originals/wide.png")).unwrap(), png(800, 600));
    for name in ["none.png", "cut.png"] {
        assert_eq!(moved(&env, name), env.at("rejected").join(name));
        assert!(!env.at("thumbnails").join(format!("{name}.jpg")).exists());
        assert_eq!(run_of(&env, name)["state"], "failed");
    }
    let page = read(env.at("thumbnails/index.html"));
    assert_eq!(page.matches("<img").count(), 3, "{page}");
    assert!(page.contains("src=\"./a &amp; b%3F.png.jpg\""), "{page}");
}

/// A picture of noise, which no compression makes small, as a PNG without compression.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let mut raw = Vec::new();
    for _ in 0..height {
        // No filter for this line.
        raw.extend([0]);
        for _ in 0..3 * width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            raw.push(state.to_be_bytes()[0]);
        }
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in &raw {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut data = vec![0x78, 0x01];
    let blocks = raw.chunks(0xFFFF);
    let last = blocks.len() - 1;
    for (n, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        data.push(u8::from(n == last));
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend(block);
    }
    data.extend((b << 16 | a).to_be_bytes());
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, body) in [(b"IHDR", head), (b"IDAT", data), (b"IEND", Vec::new())] {
        file.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        let chunk = [&kind[..], &body].concat();
        file.extend(&chunk);
        file.extend(crc(&chunk).to_be_bytes());
    }
    file
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (0..8).fold(crc, |crc, _| crc >> 1 ^ (0xEDB8_8320 * (crc & 1)));
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ step((crc ^ u32::from(byte)) & 0xFF))
}

/// The first fenced block in `language` behind `heading`.
fn block<'a>(text: &'a str, heading: &str, language: &str) -> &'a str {
    let behind = &text[text.find(&format!("\n{heading}\n")).unwrap()..];
    let begin = format!("\n```{language}\n");
    let inside = &behind[behind.find(&begin).unwrap() + begin.len()..];
    &inside[..=inside.find("\n```").unwrap()]
}

#[test]
fn the_readme_quick_start_works_when_pasted() {
    let readme = read(root().join("README.md"));
    let script = block(&readme, "## Quick start", "sh");
    let home = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_dagd")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("timeout");
    let shell = shell.args(["60", "sh", "-eu"]).stdin(Stdio::piped()).env("HOME", home.path());
    let shell = shell.env("PATH", path).env_remove("DAGD_CONFIG").env_remove("DAGD_SOCKET");
    let mut shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{error}");
    // What the text behind it says.
    let folder = home.path().join("first");
    assert!(folder.join("done/hello.txt").is_file());
    let report = read(folder.join("report.txt"));
    assert!(report.contains("hello.txt") && report.contains("5891b5b522d5df08"), "{report}");
    assert!(out.contains("succeeded"), "{out}");
    assert!(!folder.join("state/run/dagd.sock").exists(), "the daemon is stopped");
}
