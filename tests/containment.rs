//! Tasks as other users and in cgroups of their own: by real daemons, in real cgroups.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Env, have, is_root, skip, through};
use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;

/// A cgroup that a service manager could have made for a daemon; goes with all that is in it.
struct Service(PathBuf);

impl Service {
    /// `None` where there are no cgroups of version 2 to be made; says so.
    fn new(delegated: bool) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let Some(mount) = mounts.iter().find(|dir| dir.join("cgroup.controllers").exists()) else {
            skip("there are no cgroups of version 2");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = mount.join(format!("dagd-test-{}-{number}", std::process::id()));
        if let Err(error) = fs::create_dir(&dir) {
            skip(&format!("cannot make a cgroup: {error}"));
            return None;
        }
        let service = Self(dir);
        if delegated
            && let Err(error) = setxattr(&service.0, "user.delegate", b"1", XattrFlags::empty())
        {
            skip(&format!("cannot mark a cgroup: {error}"));
            return None;
        }
        Some(service)
    }

    /// Words that start a program in it, as a service manager would.
    fn around(&self) -> [&str; 4] {
        let script = "d=$0; [ ! -d $0/daemon ] || d=$0/daemon; \
                      echo $$ > $d/cgroup.procs && exec \"$@\"";
        ["sh", "-c", script, self.0.to_str().unwrap()]
    }

    fn start(&self, env: &mut Env) {
        env.spawn(&mut env.run_by(&self.around()));
        env.await_ready();
    }

    /// The cgroups of attempts that are there.
    fn attempts(&self) -> Vec<String> {
        let names = |dir: &Path| {
            let all = fs::read_dir(dir).unwrap().flatten();
            let dirs = all.filter(|entry| entry.file_type().unwrap().is_dir());
            dirs.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let tops = names(&self.0).into_iter().filter(|name| name != "daemon");
        tops.flat_map(|top| names(&self.0.join(top))).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.kill"), "1").unwrap();
        let empty = || fs::read_to_string(self.0.join("cgroup.events")).unwrap();
        while !empty().contains("populated 0") {
            std::thread::yield_now();
        }
        remove(&self.0);
    }
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            remove(&entry.path());
        }
    }
    fs::remove_dir(dir).unwrap();
}

/// Starts what leaves its group and session, forgets its environment and ignores TERM, and waits
/// until it does so.
const ESCAPE: &str = "setsid -f env -i PATH=\"$PATH\" sh -c 'trap \"\" TERM HUP; echo $$ > pid.new; \
                      mv pid.new pid; sleep 1000; :'; until [ -s pid ]; do sleep 0.01; done";

fn escaped(env: &Env) -> bool {
    lives(&fs::read_to_string(env.at("pid")).unwrap())
}

fn lives(pid: &str) -> bool {
    // A dead one may be there until whoever inherited it has looked.
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ") && !status.contains("State:\tX")
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

fn containment(env: &Env) -> String {
    env.json(&["status"])["containment"].as_str().unwrap().to_owned()
}

fn attempt(task: &Value) -> &Value {
    task["attempts"].as_array().unwrap().last().unwrap()
}

/// Whether this process may become others.
fn may_change_users() -> bool {
    if !is_root() {
        skip("only root can run tasks as other users");
    }
    is_root()
}

/// A folder that others may enter.
fn open(config: &str) -> Env {
    let env = Env::new(config);
    fs::set_permissions(env.path(), fs::Permissions::from_mode(0o755)).unwrap();
    env
}

#[test]
fn a_task_runs_as_its_user() {
    if !may_change_users() {
        return;
    }
    let env = open(
        r#"
[defaults.task]
user = "nobody"
[tasks.who]
umask = "027"
env = { USER = "told" }
shell = """
exec 2>&1
id -u; id -g; id -G; umask; pwd; echo "$HOME $USER $LOGNAME"
cat "$DAGD_FILES_NUL" "$DAGD_EVENT_JSON"
echo by name >> /dev/stdout
sed -n '/^Sig[BIC]/p; /^Cap[IPEA]/p' /proc/self/status
echo me=$(id -un) >> "$DAGD_OUTPUT"
stat -c '%a %u' "$DAGD_OUTPUT" "${DAGD_OUTPUT%/*}" "$DAGD_EVENT_JSON"
ls "${DAGD_OUTPUT%/*}/.." || echo unlisted
"""
[tasks.next]
needs = ["who"]
group = "daemon"
shell = 'echo "{out.who.me}"; id -gn; echo "$WHO"'
env = { WHO = "{out.who.me}" }
"#,
    );
    env.ok(&["once", "--keep", "--select", "who+"]);
    let log = fs::read_to_string(env.at("state/logs/1.who.1.log")).unwrap();
    let mut lines = log.lines();
    let mut next = || lines.next().unwrap();
    let nobody = [(); 3].map(|()| next());
    assert_eq!(nobody, ["65534"; 3], "{log}");
    assert_eq!([next(), next(), next()], ["0027", "/", "/nonexistent told nobody"], "{log}");
    assert!(next().starts_with("{\"run\":1,"), "{log}");
    assert_eq!(next(), "by name");
    for line in lines.by_ref().take(7) {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    let rest: Vec<&str> = lines.collect();
    assert_eq!(rest[..3], ["640 65534", "700 65534", "400 65534"], "{log}");
    assert_eq!(rest.last(), Some(&"unlisted"), "{log}");
    let log = fs::read_to_string(env.at("state/logs/1.next.1.log")).unwrap();
    assert_eq!(log, "{out.who.me}\ndaemon\nnobody\n");
    let meta = fs::metadata(env.at("state/logs/1.who.1.log")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), 0, "the log is dagd's again");
    assert_eq!(fs::read_dir(env.at("run/outputs")).unwrap().count(), 0);
}

#[test]
fn what_a_user_may_not_do_is_said() {
    if !may_change_users() {
        return;
    }
    let env = open(
        r#"
[defaults.task]
user = "nobody"
[tasks.program]
command = ["./secret"]
cwd = "{dir}"
[tasks.folder]
command = ["true"]
cwd = "{dir}/closed"
"#,
    );
    fs::write(env.at("secret"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(env.at("secret"), fs::Permissions::from_mode(0o700)).unwrap();
    let closed = env.mkdir("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(env.run(&["once", "--keep", "--select", "*"]).status.code(), Some(1));
    for (task, told) in [
        ("program", ["/secret` as user `nobody`", "let it be read and run"]),
        ("folder", ["closed`: Permission denied", "as user `nobody`"]),
    ] {
        let task = env.task(1, task);
        let error = attempt(&task)["error"].as_str().unwrap();
        assert!(told.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn what_cannot_hold_is_refused_with_its_remedy() {
    let mut cases = vec![
        ("user = \"no-such\"", "there is no user `no-such`"),
        ("group = \"no-such\"", "there is no group `no-such`"),
        ("group = \"4294967295\"", "there is no group `4294967295`"),
        ("user = \"no-such\"\ncontainment = \"group\"\npids_max = 5", "pids_max cannot hold with"),
        ("containment = \"group\"\npids_max = 5", "pids_max cannot hold with containment"),
        (
            "containment = \"cgroup\"\non_daemon_stop = \"leave\"",
            "on_daemon_stop = \"leave\" cannot hold with containment = \"cgroup\"",
        ),
    ];
    if is_root() {
        // No cgroup is marked as ours here.
        cases.push(("memory_max = \"64MiB\"", "memory_max cannot hold: there are no cgroups"));
    }
    for (key, told) in cases {
        let env = Env::new(&format!("[tasks.t]\ncommand = [\"true\"]\n{key}\n"));
        let refused = env.run(&["run"]);
        // Who keeps the accounts may not be up yet: the next start may find the user.
        let code = if told.starts_with("there is no ") { 1 } else { 78 };
        assert_eq!(refused.status.code(), Some(code), "{}", text(&refused));
        assert!(text(&refused).contains(told), "{key}: {}", text(&refused));
        let checked = env.ok(&["check"]);
        assert!(checked.contains("warning: task `t`: ") && checked.contains(told), "{checked}");
    }
}

#[test]
fn capabilities_that_no_helper_would_have_count_for_nothing() {
    if !have("setpriv") || !may_change_users() {
        return;
    }
    let env = open("[tasks.t]\ncommand = [\"true\"]\nuser = \"daemon\"\nnice = -5\n");
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let with = ["--inh-caps=+setuid,+setgid,+sys_nice", "--ambient-caps=+setuid,+setgid,+sys_nice"];
    let around: Vec<&str> = nobody.into_iter().chain(with).collect();
    let checked = through(&around, &env.command(&["check"])).output().unwrap();
    for told in ["user = \"daemon\" cannot hold", "nice = -5 cannot hold"] {
        assert!(text(&checked).contains(told), "{}", text(&checked));
    }
}

#[test]
fn limits_of_a_task_are_none_of_dagd_while_it_prepares_it() {
    if !may_change_users() {
        return;
    }
    let limits = ["fsize = \"0B\"", "nofile = 4", "nofile = 4, as = \"16MiB\", fsize = \"1B\""];
    for limits in limits {
        let env = open(&format!(
            "[tasks.t]\ncommand = [\"true\"]\nuser = \"nobody\"\nrlimits = {{ {limits} }}\n"
        ));
        let output = env.run(&["once", "--keep", "--select", "t"]);
        assert!(output.status.success(), "{limits}: {}", text(&output));
    }
}

#[test]
fn once_runs_tasks_of_other_users_in_a_folder_that_nobody_can_guess() {
    if !may_change_users() {
        return;
    }
    let env = open("[tasks.t]\nshell = 'id -u; cat $DAGD_EVENT_JSON; exit 3'\nuser = \"nobody\"\n");
    let temporary = env.mkdir("tmp");
    let mut command = env.command(&["once", "--select", "t"]);
    let output = command.env("TMPDIR", &temporary).output().unwrap();
    let kept = fs::read_dir(&temporary).unwrap().next().unwrap().unwrap();
    let log = fs::read_to_string(kept.path().join("state/logs/1.t.1.log")).unwrap_or_default();
    assert!(log.starts_with("65534\n{\"run\":1,"), "{log}: {}", text(&output));
    let name = kept.file_name().into_string().unwrap();
    assert!(name.len() > "dagd-once-".len() + 30, "{name}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept.path()), 0o711);
    assert_eq!(mode(&kept.path().join("state")), 0o700);
}

#[test]
fn credentials_can_be_read_by_the_tasks_user() {
    if !may_change_users() {
        return;
    }
    let env = open(
        r#"
[tasks.t]
user = "nobody"
credentials = ["db"]
shell = """
cat "$CREDENTIALS_DIRECTORY/db"
ls "$CREDENTIALS_DIRECTORY"
stat -c '%a %u' "$CREDENTIALS_DIRECTORY" "$CREDENTIALS_DIRECTORY/db"
"""
"#,
    );
    let folder = env.mkdir("credentials");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["db", "other"] {
        fs::write(folder.join(name), "hunter2\n").unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o400)).unwrap();
    }
    let mut once = env.command(&["once", "--keep", "--select", "t"]);
    let output = once.env("CREDENTIALS_DIRECTORY", &folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let log = fs::read_to_string(env.at("state/logs/1.t.1.log")).unwrap();
    assert_eq!(log, "hunter2\ndb\n700 65534\n400 65534\n");
    assert_eq!(fs::read_dir(env.at("run/outputs")).unwrap().count(), 0, "they go with it");
}

#[test]
fn a_reload_to_what_cannot_hold_changes_nothing() {
    let mut env = Env::new("[tasks.t]\ncommand = [\"true\"]\n");
    env.start();
    env.configure(
        "[tasks.t]\ncommand = [\"true\"]\ncontainment = \"group\"\nmemory_max = \"1GiB\"\n",
    );
    let refused = env.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused).contains("memory_max cannot hold"), "{}", text(&refused));
    env.configure("[daemon]\ncontainment = \"group\"\n[tasks.t]\ncommand = [\"true\"]\n");
    let refused = env.run(&["reload"]);
    assert!(text(&refused).contains("restart dagd to change it"), "{}", text(&refused));
    env.ok(&["fire", "--select", "t", "--wait"]);
    assert!(env.stop());
}

const CONTAINED: &str = r#"
[defaults.task]
cwd = "{dir}"
kill_after = "10ms"
[tasks.where]
shell = "cat /proc/self/cgroup; cat /proc/$PPID/cgroup"
[tasks.leaves]
shell = '''
for mount in /sys/fs/cgroup /sys/fs/cgroup/unified; do
    own=$mount$(sed -n s/^0:://p /proc/self/cgroup)
    [ ! -e $own/cgroup.procs ] || { mkdir $own/below; echo $$ > $own/below/cgroup.procs; break; }
done
ESCAPE
'''
[tasks.slow]
shell = '''trap "" TERM; ESCAPE; while :; do sleep 1; done'''
timeout = "100ms"
[tasks.long]
shell = '''ESCAPE; sleep 1000'''
[tasks.group]
containment = "group"
shell = "cat /proc/self/cgroup"
"#;

fn contained() -> String {
    CONTAINED.replace("ESCAPE", ESCAPE)
}

#[test]
fn attempts_have_cgroups_of_their_own() {
    let Some(service) = Service::new(true) else { return };
    let mut env = Env::new(&contained());
    service.start(&mut env);
    let told = containment(&env);
    assert!(told.starts_with(&format!("cgroups in {}/", service.0.display())), "{told}");
    let own = fs::read_to_string(format!("/proc/{}/cgroup", env.pid())).unwrap();
    assert!(own.trim_end().ends_with("/daemon"), "{own}");
    env.ok(&["fire", "--select", "where", "--wait"]);
    let log = fs::read_to_string(env.at("state/logs/1.where.1.log")).unwrap();
    let of = |line: &str| line.strip_prefix("0::").map(str::to_owned);
    let lines: Vec<String> = log.lines().filter_map(of).collect();
    assert!(lines[0].ends_with("/1.where.1") && lines[1].ends_with("/daemon"), "{log}");
    let row = env.task(1, "where");
    assert!(attempt(&row)["cpu_us"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(service.attempts(), [""; 0], "it went with its attempt");
    env.ok(&["fire", "--select", "group", "--wait"]);
    let log = fs::read_to_string(env.at("state/logs/2.group.1.log")).unwrap();
    assert!(log.lines().any(|line| line.starts_with("0::") && line.ends_with("/daemon")), "{log}");
    assert!(env.stop());
    let left: Vec<_> = fs::read_dir(&service.0).unwrap().flatten().collect();
    let left = left.iter().filter(|entry| entry.file_type().unwrap().is_dir());
    assert_eq!(left.map(fs::DirEntry::file_name).collect::<Vec<_>>(), ["daemon"]);
}

#[test]
fn nothing_outlives_its_attempt_in_a_cgroup() {
    let Some(service) = Service::new(true) else { return };
    let mut env = Env::new(&contained());
    service.start(&mut env);
    let mut run = 0;
    let mut again = |env: &Env| {
        run += 1;
        fs::remove_file(env.at("pid")).ok();
        run
    };
    let run = again(&env);
    env.ok(&["fire", "--select", "leaves", "--wait"]);
    assert!(!escaped(&env), "by the end of its task");
    assert!(attempt(&env.task(run, "leaves"))["leftovers"].as_u64().unwrap() >= 1);

    let run = again(&env);
    assert_eq!(env.run(&["fire", "--select", "slow", "--wait"]).status.code(), Some(1));
    assert!(!escaped(&env), "by a time limit");
    assert_eq!(env.task(run, "slow")["state"], "timed_out");

    let run = again(&env);
    env.ok(&["fire", "--select", "long"]);
    env.wait("the task", || env.at("pid").exists());
    assert!(escaped(&env));
    env.ok(&["cancel", &run.to_string()]);
    env.await_ended(run);
    assert!(!escaped(&env), "by a cancel");
    assert_eq!(service.attempts(), [""; 0]);
    assert!(env.stop());
}

#[test]
fn what_a_killed_daemon_left_is_ended_before_anything_starts() {
    let Some(service) = Service::new(true) else { return };
    let mut env = Env::new(&contained());
    service.start(&mut env);
    env.ok(&["fire", "--select", "long"]);
    env.wait("the task", || env.at("pid").exists());
    env.kill();
    assert!(escaped(&env));
    assert_eq!(service.attempts(), ["1.long.1"]);
    let first = fs::read_to_string(env.at("pid")).unwrap();
    fs::remove_file(env.at("pid")).unwrap();
    service.start(&mut env);
    assert!(!lives(&first), "{first}");
    env.wait("the task again", || env.at("pid").exists());
    assert_eq!(service.attempts(), ["1.long.2"]);
    env.ok(&["cancel", "1"]);
    env.await_ended(1);
    assert!(!escaped(&env));
    assert!(env.stop());
}

#[test]
fn what_a_killed_daemon_left_in_cgroups_is_ended_whatever_the_next_one_uses() {
    let Some(service) = Service::new(true) else { return };
    let mut env = Env::new(&contained());
    service.start(&mut env);
    env.ok(&["fire", "--select", "long"]);
    env.wait("the task", || env.at("pid").exists());
    env.kill();
    let first = fs::read_to_string(env.at("pid")).unwrap();
    fs::remove_file(env.at("pid")).unwrap();
    env.configure(&format!("[daemon]\ncontainment = \"group\"\n{}", contained()));
    service.start(&mut env);
    assert!(!lives(&first), "{first}");
    assert_eq!(service.attempts(), [""; 0]);
    env.wait("the task again", || env.at("pid").exists());
    env.ok(&["cancel", "1"]);
    env.await_ended(1);
    assert!(env.stop());
}

#[test]
fn a_cgroup_is_taken_where_it_is_ours_or_asked_for() {
    let Some(service) = Service::new(false) else { return };
    let mut env = Env::new("[tasks.t]\ncommand = [\"true\"]\n");
    service.start(&mut env);
    let told = containment(&env);
    assert!(
        told.starts_with("process groups; no cgroups: ") && told.contains("not delegated"),
        "{told}"
    );
    assert!(env.stop());
    env.configure("[daemon]\ncontainment = \"cgroup\"\n[tasks.t]\ncommand = [\"true\"]\n");
    service.start(&mut env);
    assert!(containment(&env).starts_with("cgroups in "), "{}", containment(&env));
    env.ok(&["fire", "--select", "t", "--wait"]);
    assert!(env.stop());
    env.configure("[daemon]\ncontainment = \"group\"\n[tasks.t]\ncommand = [\"true\"]\n");
    service.start(&mut env);
    assert!(containment(&env).starts_with("process groups; "), "{}", containment(&env));
    assert!(env.stop());
}
