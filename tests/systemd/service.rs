//! The life of the service: start, reload, signals, restart, stop.

use crate::CONFIG;
use crate::machine::Machine;

#[test]
fn started_means_watching_and_other_users_files_are_proved() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    // What was there before, and what comes the moment that `systemctl start` returns.
    machine.drop_file("before");
    machine.ok("systemctl enable --now dagd
         runuser -u ann -- touch /srv/inbox/after
         systemctl is-active dagd; systemctl is-enabled dagd");
    let status = machine.status();
    let trigger = &status["triggers"][0];
    assert_eq!(trigger["readiness"], "proved", "{status}");
    assert_eq!(trigger["scanning"], false, "{status}");
    assert_eq!(status["state_dir"], "/var/lib/dagd");
    assert_eq!(status["problems"].to_string(), "[]");
    machine.until("test -e /srv/done/before && test -e /srv/done/after");
    assert_eq!(machine.ok("sort /srv/out/noted"), "after dagd\nbefore dagd\n");
    assert_eq!(machine.property("dagd", "StatusText"), "running");
    // A file that another user still writes is not taken for complete.
    machine.ok("runuser -u ann -- sh -c 'exec 3>/srv/inbox/open; exec sleep 1000' 3>&- >/dev/null 2>&1 & echo");
    machine.until("dagd pending | grep open | grep writer");
}

#[test]
fn an_invalid_configuration_fails_the_start_once() {
    let Some(machine) = Machine::installed("[tasks.a]\ncomand = [\"true\"]\n") else { return };
    machine.fails("systemctl start dagd");
    assert_eq!(machine.property("dagd", "ExecMainStatus"), "78");
    assert_eq!(machine.property("dagd", "NRestarts"), "0");
    assert_eq!(machine.property("dagd", "ActiveState"), "failed");
    assert!(machine.journal().contains("did you mean `command`"), "{}", machine.journal());
}

#[test]
fn reload_succeeds_or_fails_as_the_configuration_does() {
    let Some(machine) = Machine::started(CONFIG) else { return };
    let pid = machine.property("dagd", "MainPID");
    let second = "[triggers.second]\ndrop = \"/srv/second\"\nrun = \"note\"\n";
    machine.ok("install -d -o dagd /srv/second");
    machine.write("/etc/dagd/dagd.toml", &format!("{CONFIG}{second}"));
    // When it returns, the new folder is watched.
    machine.ok("systemctl reload dagd; touch /srv/second/file");
    machine.until("grep 'file dagd' /srv/out/noted");
    machine.write("/etc/dagd/dagd.toml", &format!("{CONFIG}{second}[triggers.bad]\nrun = 5\n"));
    machine.fails("systemctl reload dagd");
    assert_eq!(machine.property("dagd", "ActiveState"), "active");
    assert_eq!(machine.property("dagd", "MainPID"), pid, "{}", machine.journal());
    assert!(machine.property("dagd", "StatusText").starts_with("reload failed: "));
    assert_eq!(machine.status()["triggers"].as_array().unwrap().len(), 2);
    machine.ok("touch /srv/second/still");
    machine.until("grep 'still dagd' /srv/out/noted");
    // SIGHUP is the same reload: this one fails, the next one is whole again.
    machine.ok("systemctl kill --kill-whom=main --signal=SIGHUP dagd");
    machine.write("/etc/dagd/dagd.toml", CONFIG);
    machine.ok("systemctl reload dagd");
    assert_eq!(machine.status()["triggers"].as_array().unwrap().len(), 1);
    assert_eq!(machine.property("dagd", "StatusText"), "running");
}

#[test]
fn a_signal_to_the_unit_is_an_event_and_reaches_no_task() {
    let config = format!(
        r#"{CONFIG}
[tasks.long]
shell = 'echo begun > /srv/out/long; read go < /srv/out/fifo; echo ended >> /srv/out/long'
[tasks.rotate]
shell = 'echo "$DAGD_SIGNAL" >> /srv/out/signals'
[triggers.usr1]
signal = "SIGUSR1"
run = "rotate"
"#
    );
    let Some(machine) = Machine::started(&config) else { return };
    machine.ok("mkfifo -m 666 /srv/out/fifo; dagd fire --select long");
    machine.until("test -e /srv/out/long");
    machine.ok("systemctl kill --kill-whom=main --signal=SIGUSR1 dagd");
    machine.until("grep SIGUSR1 /srv/out/signals");
    machine.ok("echo go > /srv/out/fifo");
    machine.until(
        "dagd runs --json | tr -d ' \\n' | grep -o '\"state\":\"succeeded\"' | wc -l | grep -x 2",
    );
    assert_eq!(machine.ok("cat /srv/out/long"), "begun\nended\n");
    assert_eq!(machine.property("dagd", "NRestarts"), "0");
}

#[test]
fn a_restart_in_mid_run_repeats_what_it_interrupted() {
    let config = format!(
        r#"{CONFIG}
[daemon]
stop_timeout = "0s"
[tasks.long]
shell = '''
echo "$DAGD_ATTEMPT" >> /srv/out/long
setsid sleep 100007 &
[ -e /srv/out/again ] || sleep 100006
'''
"#
    );
    let Some(machine) = Machine::started(&config) else { return };
    let pid = machine.property("dagd", "MainPID");
    machine.ok("dagd fire --select long");
    machine.until("pgrep -fx 'sleep 100006' && pgrep -fx 'sleep 100007'");
    machine.ok("touch /srv/out/again; systemctl restart dagd");
    assert_ne!(machine.property("dagd", "MainPID"), pid);
    machine.until("dagd runs | grep succeeded");
    assert_eq!(machine.ok("wc -l < /srv/out/long"), "2\n");
    assert_eq!(machine.property("dagd", "Result"), "success");
    machine.fails("pgrep -fx 'sleep 10000[67]'");
    // Stopped, nothing of it is left, and nothing of it is in the way of the next start.
    machine.ok("systemctl stop dagd");
    assert_eq!(machine.property("dagd", "ActiveState"), "inactive");
    machine.fails("test -e /sys/fs/cgroup/system.slice/dagd.service || pgrep -u dagd");
    machine.ok("systemctl start dagd; dagd status");
}

#[test]
fn a_start_that_fails_for_a_while_comes_true() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    machine.edit("dagd.service", "[Service]\nRestartSec=100ms\n");
    // A disk that takes nothing yet.
    machine.ok("install -d -o dagd -g dagd /var/lib/dagd
         mount -t tmpfs -o ro,uid=$(id -u dagd),gid=$(id -g dagd),mode=750 disk /var/lib/dagd");
    machine.sh("systemctl start dagd");
    machine.until("test $(systemctl show --value --property=NRestarts dagd) -gt 6");
    machine.ok("mount -o remount,rw /var/lib/dagd");
    machine.until("systemctl is-active dagd");
    machine.drop_file("file");
    machine.until("test -e /srv/done/file");
}
