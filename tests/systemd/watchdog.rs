//! The watchdog: a dagd that hangs is started anew, one that is busy, waits for a disk, or stops is not.

use crate::CONFIG;
use crate::machine::Machine;

/// Soon, and late enough for a busy machine.
const SOON: &str = "[Service]\nWatchdogSec=10s\n";

/// It was started anew.
const ANEW: &str = "test $(systemctl show --value --property=NRestarts dagd) -ge 1";

#[test]
fn a_stopped_dagd_is_started_anew() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    machine.edit("dagd.service", SOON);
    machine.ok("systemctl start dagd");
    machine.ok("systemctl kill --kill-whom=main --signal=SIGSTOP dagd");
    machine.drop_file("meanwhile");
    machine.until(ANEW);
    machine.until("systemctl is-active dagd");
    machine.until("test -e /srv/done/meanwhile");
    assert!(machine.journal().contains("Watchdog timeout"), "{}", machine.journal());
}

#[test]
fn an_engine_that_hangs_is_noticed_although_the_rest_is_alive() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    // The engine hangs when it is to move the first file away; the next dagd does not.
    machine.edit("dagd.service", &format!("{SOON}Environment=DAGD_FAILPOINT=!sync.done:1\n"));
    machine.ok("systemctl start dagd");
    machine.edit("dagd.service", SOON);
    machine.drop_file("meanwhile");
    machine.until(ANEW);
    machine.until("test -e /srv/done/meanwhile");
    assert!(machine.journal().contains("Watchdog timeout"), "{}", machine.journal());
}

#[test]
fn one_that_waits_for_a_disk_or_for_its_tasks_is_left_alone() {
    let config = r#"
[daemon]
stop_timeout = "1h"
[tasks.long]
shell = 'echo "$DAGD_REL" > /srv/out/running; read go < /srv/out/fifo'
[triggers.in]
drop = "/srv/inbox"
run = "long"
"#;
    let Some(machine) = Machine::installed(config) else { return };
    machine.edit("dagd.service", &format!("{SOON}TimeoutStopSec=1s\n"));
    machine.ok("install -d -o dagd -g dagd /var/lib/dagd
         mount -t tmpfs -o size=2m,uid=$(id -u dagd),gid=$(id -g dagd),mode=750 disk /var/lib/dagd
         mkfifo -m 666 /srv/out/fifo
         systemctl start dagd
         dd if=/dev/zero of=/var/lib/dagd/full bs=4k status=none || true");
    // More than fits into what the database has already.
    machine.ok("for n in $(seq 2000); do echo > /srv/inbox/$n; done");
    machine.until("systemctl show --property=StatusText dagd | grep stalled");
    machine.outlives_the_watchdog();
    machine.ok("rm /var/lib/dagd/full");
    machine.until(
        "systemctl show --property=StatusText dagd | grep running; test -e /srv/out/running",
    );
    // It is given the time to stop that its own configuration says.
    machine.ok("systemctl stop --no-block dagd");
    machine.until("test $(systemctl show --value --property=SubState dagd) = stop-sigterm");
    machine.outlives_the_watchdog();
    assert_eq!(machine.property("dagd", "SubState"), "stop-sigterm", "{}", machine.journal());
    // A second signal hastens.
    machine.ok("systemctl kill --kill-whom=main --signal=SIGTERM dagd");
    machine.until("test $(systemctl show --value --property=ActiveState dagd) = inactive");
    assert_eq!(machine.property("dagd", "Result"), "success");
}

impl Machine {
    /// Time passes, half as much again as the watchdog forgives.
    fn outlives_the_watchdog(&self) {
        let now = "cut -d. -f1 /proc/uptime";
        let begun: u64 = self.ok(now).trim().parse().unwrap();
        self.until(&format!("test $({now}) -gt {}", begun + 15));
        assert_eq!(self.property("dagd", "NRestarts"), "0", "{}", self.journal());
        assert_eq!(self.property("dagd", "Result"), "success", "{}", self.journal());
    }
}
