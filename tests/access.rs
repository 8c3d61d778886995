//! Who may look and who may act: real users and groups at a real daemon.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Command, Output, Stdio};

use common::{Env, have, is_root, skip, through};

const TASKS: &str = "[tasks.a]\ncommand = [\"true\"]\n[triggers.in]\ndrop = \"in\"\nrun = \"a\"\n";

/// A group that is nobody's but those that a test puts into it, and which has no name.
const OPERATORS: &str = "4242424";

/// Somebody who is neither root nor the user that dagd runs as.
const SOMEBODY: [&str; 2] = ["setpriv", "--reuid=4241001"];

/// A folder that everybody may pass, with a program that everybody may run; `None` where we cannot
/// be others.
fn world(control: &str) -> Option<Env> {
    if !is_root() {
        skip("to be other users needs root");
        return None;
    }
    if !have("setpriv") {
        return None;
    }
    let env = Env::new(&format!("{control}{TASKS}"));
    env.mkdir("in");
    fs::set_permissions(env.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_dagd"), env.at("dagd")).unwrap();
    Some(env)
}

/// Runs `dagd` as somebody in these groups, the first of which is the one of the process.
fn ask(env: &Env, groups: &[&str], args: &[&str]) -> (i32, String, String) {
    let first = format!("--regid={}", groups[0]);
    let others = match &groups[1..] {
        [] => "--clear-groups".to_owned(),
        others => format!("--groups={}", others.join(",")),
    };
    let around = [&SOMEBODY[..], &[&first, &others]].concat();
    let asked = env.command(args);
    let mut dagd = Command::new(env.at("dagd"));
    dagd.args(args).envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // The configuration is not for everybody's eyes.
    dagd.env_remove("DAGD_CONFIG").current_dir("/");
    told(&through(&around, &dagd).output().unwrap())
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// May do all.
fn acts(env: &Env, groups: &[&str]) {
    let (code, out, error) = ask(env, groups, &["fire", "--select", "a", "--wait"]);
    assert_eq!((code, error.as_str()), (0, ""), "{groups:?}: {out}");
    assert_eq!(ask(env, groups, &["status"]).0, 0, "{groups:?}");
}

/// May look, and is told why no more.
fn looks(env: &Env, groups: &[&str], why: &[&str]) {
    for look in [&["status"][..], &["runs"], &["pending", "--json"]] {
        let (code, _, error) = ask(env, groups, look);
        assert_eq!(code, 0, "{groups:?} {look:?}: {error}");
    }
    for act in [&["fire", "--select", "a"][..], &["pause", "in"], &["reload"], &["stop"]] {
        refused(env, groups, act, why);
    }
}

fn refused(env: &Env, groups: &[&str], args: &[&str], why: &[&str]) {
    let (code, out, error) = ask(env, groups, args);
    assert_eq!((code, out.as_str()), (1, ""), "{groups:?} {args:?}: {error}");
    for why in why {
        assert!(error.contains(why), "{groups:?} {args:?}: {error}");
    }
}

#[test]
fn the_write_group_acts_its_own_group_looks_and_others_are_told() {
    let Some(mut env) = world(&format!("[control]\nwrite_group = \"{OPERATORS}\"\n")) else {
        return;
    };
    env.start();
    acts(&env, &[OPERATORS]);
    acts(&env, &["4241001", OPERATORS]);
    // In more groups than fit a first question.
    let mut many: Vec<String> = (4_300_000..4_300_200).map(|group| group.to_string()).collect();
    many.push(OPERATORS.to_owned());
    acts(&env, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let why = ["you may look and not act", &format!("usermod -aG {OPERATORS} NAME")];
    looks(&env, &["0"], &why);
    looks(&env, &["4241001", "0"], &why);
    let why = [
        "only root and user 0 may control dagd",
        &format!("group `{OPERATORS}` may act"),
        "its own group 0 may look",
    ];
    for args in [&["status"][..], &["fire", "--select", "a"], &["stop"], &["logs", "1"]] {
        refused(&env, &["4241001"], args, &why);
    }
    // A reload cannot change who may come in.
    env.configure(TASKS);
    let (code, _, error) = told(&env.run(&["reload"]));
    assert_eq!(code, 78);
    assert!(error.contains("write_group \"4242424\" → \"none\": restart dagd"), "{error}");
    assert!(env.stop());
}

#[test]
fn without_a_write_group_others_cannot_even_connect() {
    let Some(mut env) = world("") else { return };
    env.start();
    let socket = fs::metadata(env.at("run/dagd.sock")).unwrap();
    assert_eq!((socket.mode() & 0o7777, socket.gid()), (0o660, 0));
    looks(&env, &["0"], &["you may look and not act", "[control] write_group names a group"]);
    let why = ["dagd.sock: permission denied; ", "[control] write_group names a group"];
    for args in [&["status"][..], &["runs"], &["stop"]] {
        refused(&env, &["4241001"], args, &why);
    }
    assert!(env.stop());
}

#[test]
fn a_daemon_of_its_own_user_is_controlled_by_that_user_and_root() {
    let Some(mut env) = world("") else { return };
    let own = "4241002";
    let mut chown = Command::new("chown");
    chown.arg("-R").arg(format!("{own}:{own}")).arg(env.path());
    assert!(chown.status().unwrap().success());
    let dagd = env.command(&["run"]);
    let inside = Command::new(env.at("dagd"));
    let around = ["setpriv", "--reuid", own, "--regid", own, "--clear-groups"];
    let mut whole = through(&around, &inside);
    whole.arg("run").current_dir(env.path());
    whole.envs(dagd.get_envs().filter_map(|(name, value)| Some((name, value?))));
    env.spawn(&mut whole);
    env.await_ready();
    assert_eq!(fs::metadata(env.at("run/dagd.sock")).unwrap().gid().to_string(), own);
    assert_eq!(env.json(&["status"])["state"], "running", "root may all");
    looks(&env, &[own], &[&format!("root and user {own}")]);
    refused(&env, &["4241001"], &["status"], &["permission denied"]);
    // The folder of the socket is its own, and what is in it no one else can list.
    let mode = |rel: &str| fs::metadata(env.at(rel)).unwrap().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/events"), mode("run/outputs")), (0o755, 0o700, 0o711));
    env.ok(&["stop"]);
    env.await_end();
    // Another's folder could hold another's socket.
    assert!(Command::new("chown").arg("4241003").arg(env.at("run")).status().unwrap().success());
    env.spawn(&mut whole);
    assert_eq!(env.await_end().code(), Some(1));
    assert!(env.log().contains("it belongs to user 4241003"), "{}", env.log());
}

/// Many who came in and do not go: connections of one process.
struct Crowd(Child);

impl Crowd {
    /// Somebody in these groups, who sends this on each of 200 connections and reads nothing.
    fn of(env: &Env, groups: &[&str], request: &str) -> Self {
        let many = r#"
            use Socket;
            $| = 1;
            $SIG{PIPE} = 'IGNORE';
            for (1..200) {
                socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
                connect($s, pack_sockaddr_un($ARGV[0])) or die;
                syswrite($s, $ARGV[1]);
                push @held, $s;
            }
            print "held\n";
            <STDIN>;
        "#;
        let mut perl = Command::new("perl");
        perl.args(["-e", many]).arg(env.at("run/dagd.sock")).arg(request);
        let first = format!("--regid={}", groups[0]);
        let around = [&SOMEBODY[..], &[&first, "--clear-groups"]].concat();
        let mut perl = through(&around, &perl);
        let mut perl = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(perl.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(perl)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn strangers_take_no_room_from_others() {
    let Some(mut env) = world(&format!("[control]\nwrite_group = \"{OPERATORS}\"\n")) else {
        return;
    };
    if !have("perl") {
        return;
    }
    env.start();
    let crowd = Crowd::of(&env, &["4241001"], "");
    acts(&env, &[OPERATORS]);
    looks(&env, &["0"], &[]);
    env.ok(&["fire", "--select", "a", "--wait"]);
    drop(crowd);
    assert!(env.stop());
}

#[test]
fn who_may_only_look_takes_no_room_from_who_may_act() {
    let big = "[tasks.big]\nshell = \"head -c 4000000 /dev/zero\"\n";
    let Some(mut env) = world(&format!("[control]\nwrite_group = \"{OPERATORS}\"\n{big}")) else {
        return;
    };
    if !have("perl") {
        return;
    }
    env.start();
    env.ok(&["fire", "--select", "big", "--wait"]);
    // More than fits into the socket, and nobody takes it.
    let unread = |query| format!("GET /v1/runs/1/logs/big?{query} HTTP/1.1\r\nHost: d\r\n\r\n");
    let all = [
        (unread("follow=0"), "32 clients who may look and not act"),
        (unread("follow=1"), "24 clients already wait or follow"),
        (String::new(), ""),
    ];
    for (request, full) in all {
        let crowd = Crowd::of(&env, &["0"], &request);
        // Once those of the crowd that found no room have been told.
        let told = || ask(&env, &["0"], &["logs", "1/big", "-f"]).2;
        env.wait("to be told", || full.is_empty() || told().contains(full));
        acts(&env, &[OPERATORS]);
        env.ok(&["fire", "--select", "a", "--wait"]);
        env.ok(&["reload"]);
        drop(crowd);
        env.wait("room to look", || ask(&env, &["0"], &["status"]).0 == 0);
    }
    // Who may act does not keep the stop from going on by not reading.
    let crowd = Crowd::of(&env, &["0"], &unread("follow=0"));
    env.ok(&["stop"]);
    assert!(env.await_end().success());
    drop(crowd);
}
