//! Limits of memory, processors and processes: in a small virtual machine, whose kernel has the
//! controllers that they need. It boots once, for all checks, and is emulated: any machine can.
//!
//! What runs in it is `tests/vm/init`; the kernel lies where `DAGD_VM` says (`tests/run` brings it).

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{have, skip};
use serde_json::Value;

/// Seconds for the machine to boot, do its work and end; it needs a fraction of that.
const SECONDS_MAX: &str = "110";

#[test]
fn limits_hold_and_what_was_used_is_told() {
    let Some(kernel) = kernel() else { return };
    if !["qemu-system-x86_64", "cpio", "busybox", "ldd"].iter().all(|program| have(program)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (told, text) = boot(&kernel, &initrd(dir.path()), &dir.path().join("told"));
    let lines = told.lines().filter_map(|line| line.trim().split_once(' '));
    let told: BTreeMap<&str, &str> = lines.map(|(key, value)| (key, value.trim())).collect();
    assert_eq!(told.get("END"), Some(&"0"), "{told:?}\n{text}");
    let told = |key: &str| *told.get(key).unwrap_or_else(|| panic!("no {key}: {text}"));
    let json = |key: &str| -> Value {
        serde_json::from_str(told(key)).unwrap_or_else(|error| panic!("{key}: {error}: {text}"))
    };
    let status = json("status");
    let containment = status["containment"].as_str().unwrap();
    assert!(containment.ends_with("; limits by cpu, memory, pids"), "{containment}");

    let oom = task(&json("oom"));
    assert_eq!(oom["state"], "failed", "{oom}");
    let tries = oom["attempts"].as_array().unwrap();
    assert_eq!(tries.len(), 2, "it was tried again, as it asks for: {oom}");
    for row in tries {
        assert!(row["error"].as_str().unwrap().starts_with("oom: "), "{row}");
        assert_eq!(row["signal"], 9);
        let peak = row["memory_peak"].as_u64().unwrap();
        assert!((30 << 20..=32 << 20).contains(&peak), "{row}");
    }
    assert!(!told("oom-log").contains("survived"), "all of it was killed: {}", told("oom-log"));

    let fits = task(&json("fits"));
    assert_eq!(fits["state"], "succeeded", "{fits}");
    let peak = fits["attempts"][0]["memory_peak"].as_u64().unwrap();
    assert!((50_000_000..=256 << 20).contains(&peak), "{fits}");
    assert!(fits["attempts"][0]["cpu_us"].as_u64().unwrap() > 0, "{fits}");

    assert!(told("fits-log").ends_with(" 0"), "no swap beside it: {}", told("fits-log"));

    let signal = task(&json("signal"));
    let tries = signal["attempts"].as_array().unwrap();
    assert_eq!((tries.len(), &tries[0]["error"]), (1, &Value::Null), "no oom: {signal}");

    let pids = task(&json("pids"));
    assert_eq!(pids["state"], "failed", "{pids}");
    assert_eq!(pids["attempts"][0]["leftovers"], 4, "with the shell that is five: {pids}");
    assert!(told("pids-log").contains("can't fork"), "{}", told("pids-log"));

    assert_eq!(task(&json("cpu"))["state"], "succeeded", "it was held back");
    assert!(told("cpu-log").ends_with(" 20000 100000"), "{}", told("cpu-log"));
    assert!(told("free-log").ends_with(" max max max 100000"), "{}", told("free-log"));
    assert_eq!(told("cgroups"), "0", "none outlives its attempt");
}

/// The only task of a run.
fn task(run: &Value) -> Value {
    run["tasks"][0].clone()
}

fn kernel() -> Option<PathBuf> {
    let dir = std::env::var_os("DAGD_VM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-data/vm"),
        PathBuf::from,
    );
    let kernel = dir.join("vmlinuz");
    if !kernel.exists() {
        skip(&format!("there is no kernel for a virtual machine at {}", kernel.display()));
        return None;
    }
    Some(kernel)
}

/// The root of the machine: dagd with its libraries, and a shell.
fn initrd(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for folder in ["bin", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let place = |from: &Path, to: &str| {
        let to = root.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let dagd = Path::new(env!("CARGO_BIN_EXE_dagd"));
    let own = place(dagd, "bin/dagd");
    // Only to boot sooner.
    Command::new("strip").arg(&own).status().ok();
    let busybox = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("busybox"))
        .find(|path| path.is_file());
    place(&busybox.unwrap(), "bin/busybox");
    place(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/init"), "init");
    let needed = Command::new("ldd").arg(dagd).output().unwrap();
    for word in String::from_utf8(needed.stdout).unwrap().split_whitespace() {
        if word.starts_with('/') {
            place(Path::new(word), word.trim_start_matches('/'));
        }
    }
    let image = dir.join("initrd");
    let pack = "cd \"$0\" && find . | cpio -o -H newc --quiet > \"$1\"";
    let packed = Command::new("sh").args(["-c", pack]).arg(&root).arg(&image).status().unwrap();
    assert!(packed.success());
    image
}

/// What the machine told on its second port, and what was said on the first: by the kernel, too.
fn boot(kernel: &Path, initrd: &Path, told: &Path) -> (String, String) {
    // Without cx16: emulated, that instruction stops some kernels.
    let cpu = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,-cx16";
    let output = Command::new("timeout")
        .args(["-k", "5", SECONDS_MAX, "qemu-system-x86_64", "-accel", "tcg", "-cpu", cpu])
        .args(["-m", "768", "-display", "none", "-no-reboot", "-net", "none", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .args(["-monitor", "none", "-serial", "stdio", "-serial"])
        .arg(format!("file:{}", told.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&fs::read(told).unwrap()), text(&output.stdout))
}
