//! Tasks that go on while the service does not, and what the journal knows of a run.

use super::CONFIG;
use super::machine::Machine;

/// A task that goes on until it may end, and then still has what it had.
const LONG: &str = r#"
[tasks.long]
shell = '''
echo "$DAGD_ATTEMPT" >> /srv/out/long
kept=$(mktemp)
shared=$(ipcmk -M 8 | tr -dc 0-9)
while [ ! -e /srv/out/go ]; do sleep 0.1; done
test -e "$kept" && rm "$kept" && mktemp && test -s "$DAGD_EVENT_JSON" && ipcrm -m "$shared" && exit 3
'''
on_daemon_stop = "leave"
"#;

/// Copies drop-ins to a unit.
fn drop_ins(machine: &Machine, unit: &str, names: &[&str]) {
    machine.ok(&format!("mkdir -p /etc/systemd/system/{unit}.d"));
    for name in names {
        let (from, to) = ("/usr/src/dagd/systemd/drop-ins", "/etc/systemd/system");
        machine.ok(&format!("cp {from}/{name} {to}/{unit}.d/"));
    }
    machine.ok("systemctl daemon-reload");
}

#[test]
fn tasks_go_on_through_restarts_where_the_unit_lets_them() {
    let Some(machine) = Machine::installed(&format!("{CONFIG}{LONG}")) else { return };
    machine.fails("systemctl start dagd");
    let journal = machine.journal();
    assert!(journal.contains("leave.conf"), "{journal}");
    machine.ok("systemctl reset-failed dagd");
    drop_ins(&machine, "dagd.service", &["leave.conf"]);
    machine.ok("systemctl start dagd; dagd fire --select long");
    machine.until("test -e /srv/out/long");
    let running = |machine: &Machine| machine.status()["running"].as_u64();
    machine.ok("systemctl restart dagd");
    assert_eq!(running(&machine), Some(1));
    machine.ok("systemctl stop dagd; pgrep -u dagd sh; systemctl start dagd");
    assert_eq!(running(&machine), Some(1));
    let pid = machine.property("dagd", "MainPID");
    machine.ok("systemctl kill --signal=KILL --kill-whom=main dagd");
    machine.until(&format!("dagd status | grep running && ! dagd status | grep 'pid {pid},'"));
    assert_eq!(running(&machine), Some(1));
    machine.ok("touch /srv/out/go");
    machine.until("dagd runs | grep failed");
    assert_eq!(machine.ok("cat /srv/out/long"), "1\n");
    let shown: serde_json::Value = serde_json::from_str(&machine.ok("dagd show 1 --json")).unwrap();
    let attempts = shown["tasks"][0]["attempts"].as_array().unwrap();
    let log = machine.ok("dagd logs 1/long");
    let ended = (attempts.len(), attempts[0]["exit_code"].as_i64());
    assert_eq!(ended, (1, Some(3)), "{shown} {log}");
    // What dagd told of the run, by its number and by its task, through all its lives.
    let of = |field: &str| machine.ok(&format!("journalctl --sync; journalctl -o cat {field}"));
    let (run, task) = (of("DAGD_RUN=1"), of("DAGD_RUN=1 DAGD_TASK=long"));
    assert!(run.contains("run failed"), "{run}");
    assert!(task.contains("long") && !task.contains("run failed"), "{task}");
}

#[test]
fn a_user_who_ceases_to_be_leaves_no_tasks() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    machine.write("/etc/dagd/lab/dagd.toml", LONG);
    drop_ins(&machine, "dagd@lab.service", &["dynamic.conf", "leave.conf"]);
    machine.fails("systemctl start dagd@lab");
    let journal = machine.ok("journalctl -u dagd@lab");
    assert!(journal.contains("DynamicUser="), "{journal}");
}
