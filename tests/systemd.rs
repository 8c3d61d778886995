//! dagd under a real systemd, booted as the first process of a container: what the units in `systemd/`
//! promise is what operators get.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that goes wrong"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;
#[path = "systemd/handover.rs"]
mod handover;
#[path = "systemd/left.rs"]
mod left;
#[path = "systemd/machine.rs"]
mod machine;
#[path = "systemd/service.rs"]
mod service;
#[path = "systemd/start.rs"]
mod start;
#[path = "systemd/units.rs"]
mod units;
#[path = "systemd/watchdog.rs"]
mod watchdog;

use machine::Machine;

/// Anybody drops files, a task notes each, dagd moves it away.
const CONFIG: &str = r#"
[tasks.note]
shell = 'echo "$DAGD_REL $(id -un)" >> /srv/out/noted'
[triggers.in]
drop = "/srv/inbox"
run = "note"
move = "/srv/done/"
"#;

impl Machine {
    /// A machine with dagd installed as the README says and folders for its tasks; dagd does not run
    /// yet. `None`: not to be had here, which was told.
    fn installed(config: &str) -> Option<Self> {
        let machine = Self::boot()?;
        machine.install(config);
        machine.ok("install -d -o dagd -g dagd /srv/done /srv/out");
        Some(machine)
    }

    /// The same with dagd started.
    fn started(config: &str) -> Option<Self> {
        let machine = Self::installed(config)?;
        machine.ok("systemctl enable --now dagd");
        Some(machine)
    }

    /// Another user drops a file.
    fn drop_file(&self, name: &str) {
        self.ok(&format!("runuser -u ann -- sh -c 'echo content > /srv/inbox/{name}'"));
    }

    /// Changes the unit as `systemctl edit` does.
    fn edit(&self, unit: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), text);
        self.ok("systemctl daemon-reload");
    }

    /// What `dagd status` says.
    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok("dagd status --json")).unwrap()
    }
}
