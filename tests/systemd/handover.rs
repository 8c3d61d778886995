//! What systemd hands over, and what of it reaches tasks: sockets, capabilities, credentials, users.

use crate::CONFIG;
use crate::machine::Machine;

#[test]
fn the_socket_is_there_before_dagd_and_outlives_it() {
    let config = format!(
        "{CONFIG}[tasks.look]\nshell = 'env > /srv/out/env; ls -l /proc/self/fd > /srv/out/fds'\n\
         env_pass = [\"LISTEN_FDS\", \"LISTEN_PID\", \"LISTEN_FDNAMES\"]\n"
    );
    let Some(machine) = Machine::installed(&config) else { return };
    machine.ok("systemctl enable --now dagd.socket");
    // Who only looks at the machine starts nothing.
    machine.sh("dagd doctor");
    assert_eq!(machine.property("dagd", "ActiveState"), "inactive");
    // Who asks starts it, and is answered.
    machine.ok("dagd status");
    machine.until("systemctl is-active dagd");
    let found = machine.sh("dagd doctor");
    let found = String::from_utf8(found.stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(found.contains(&format!("version {version}, pid ")), "{found}");
    machine.ok("dagd fire --wait --select look");
    assert!(!machine.ok("cat /srv/out/env").contains("LISTEN"));
    assert!(
        !machine.ok("cat /srv/out/fds").contains("socket"),
        "{}",
        machine.ok("cat /srv/out/fds")
    );
    // Who asks while it is restarted waits; nobody is refused.
    machine.ok("systemctl restart --no-block dagd
         while systemctl list-jobs | grep -q dagd.service; do dagd status > /dev/null; done
         dagd status");
    machine.ok("systemctl reload dagd; systemctl stop dagd.service 2>/dev/null; test -S /run/dagd/dagd.sock");
    // The history alone is looked into: nobody is asked.
    machine.ok("dagd runs");
    assert_eq!(machine.ok("stat -c '%U %G %a' /run/dagd/dagd.sock"), "dagd dagd 660\n");
    machine.ok("systemctl stop dagd.socket dagd.service; test ! -e /run/dagd/dagd.sock");
}

#[test]
fn a_group_that_may_act_and_cannot_connect_is_told() {
    let config = format!("[control]\nwrite_group = \"operators\"\n{CONFIG}");
    let Some(machine) = Machine::installed(&config) else { return };
    machine.ok("groupadd operators; usermod -aG operators ann; systemctl enable --now dagd.socket
         dagd status");
    let acts = "runuser -u ann -- dagd pause in";
    assert!(machine.fails(acts).contains("permission denied"));
    let told = "group `operators` may act and cannot connect: `systemctl edit dagd.socket`";
    assert!(machine.journal().contains(told), "{}", machine.journal());
    // What it says helps.
    machine.edit("dagd.socket", "[Socket]\nSocketMode=0666\n");
    machine.ok("systemctl stop dagd.service; systemctl restart dagd.socket; : > /run/mended");
    machine.ok(acts);
    let since = machine.ok("journalctl -u dagd --since=\"$(stat -c %y /run/mended)\"");
    assert!(!since.contains("cannot connect"), "{since}");
}

#[test]
fn who_asks_at_a_socket_hears_that_the_configuration_is_not_valid() {
    let Some(machine) = Machine::installed("[tasks.a]\n") else { return };
    machine.ok("systemctl enable --now dagd.socket");
    let told = machine.fails("dagd status");
    assert!(told.contains("dagd does not start because its configuration is not valid"), "{told}");
    machine.until("systemctl is-failed dagd.service");
    machine.ok("systemctl is-active dagd.socket");
    // To mend it is enough.
    machine.write("/etc/dagd/dagd.toml", CONFIG);
    machine.ok("dagd status");
}

#[test]
fn no_task_has_a_capability() {
    let config =
        format!("{CONFIG}[tasks.look]\nshell = 'cat /proc/self/status > /srv/out/status'\n");
    let Some(machine) = Machine::started(&config) else { return };
    machine.ok("dagd fire --wait --select look");
    let status = machine.ok("cat /srv/out/status");
    for set in ["CapEff", "CapPrm", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    let own = machine.ok("cat /proc/$(systemctl show --value --property=MainPID dagd)/status");
    // CAP_LEASE alone.
    assert!(own.contains("CapEff:\t0000000010000000\n"), "{own}");
    assert!(own.contains("CapBnd:\t0000000010000000\n"), "{own}");
}

#[test]
fn credentials_reach_the_tasks_that_name_them() {
    let config = r#"
[tasks.named]
shell = 'cat "$CREDENTIALS_DIRECTORY/db" > /srv/out/named'
credentials = ["db"]
[tasks.other]
shell = 'echo "${CREDENTIALS_DIRECTORY-none}" > /srv/out/other'
[tasks.absent]
shell = 'touch /srv/out/absent'
credentials = ["db", "api"]
"#;
    let Some(machine) = Machine::installed(config) else { return };
    machine.write("/etc/dagd/db.secret", "hunter2");
    machine.edit("dagd.service", "[Service]\nLoadCredential=db:/etc/dagd/db.secret\n");
    machine.ok("chmod 600 /etc/dagd/db.secret; systemctl start dagd; dagd fire --wait --select named,other");
    assert_eq!(machine.ok("cat /srv/out/named"), "hunter2");
    assert_eq!(machine.ok("cat /srv/out/other"), "none\n");
    let failed = machine.fails("dagd fire --wait --select absent; test -e /srv/out/absent");
    let shown = machine.ok("dagd runs | head -n 2; dagd show 2");
    assert!(shown.contains("LoadCredential=api:FILE"), "{failed}{shown}");
}

#[test]
fn an_instance_may_have_a_dynamic_user() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    let config = r#"
[tasks.note]
shell = 'id -u > "$HOME_OF_NOTES/$DAGD_REL"'
env = { HOME_OF_NOTES = "/var/lib/dagd-lab" }
[triggers.in]
drop = "/srv/lab"
run = "note"
read_lock = "lease"
"#;
    machine.write("/etc/dagd/lab/dagd.toml", config);
    machine.ok(
        "install -D -m 644 /usr/src/dagd/systemd/drop-ins/dynamic.conf /etc/systemd/system/dagd@lab.service.d/dynamic.conf
         install -d -m 1777 /srv/lab; systemctl daemon-reload; systemctl start dagd@lab",
    );
    machine.ok("runuser -u ann -- touch /srv/lab/file");
    machine.until("dagd --socket /run/dagd-lab/dagd.sock runs | grep succeeded");
    let uid: u32 = machine.ok("cat /var/lib/private/dagd-lab/file").trim().parse().unwrap();
    assert!((61184..=65519).contains(&uid), "{uid}");
    machine.ok("systemctl reload dagd@lab");
    // Beside it the machine's own.
    machine.ok("systemctl start dagd; dagd status; systemctl stop dagd@lab; dagd status");
    machine.ok("test -e /var/lib/private/dagd-lab/dagd.db; test -e /var/lib/dagd/dagd.db");
}

#[test]
fn a_user_has_a_dagd_of_its_own() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    let config = "[tasks.a]\nshell = 'touch made'\ncwd = \"/home/ann\"\n";
    machine.write("/home/ann/.config/dagd/dagd.toml", config);
    machine.ok(
        "install -D -m 644 /usr/src/dagd/systemd/user/dagd.service /home/ann/.config/systemd/user/dagd.service
         chown -R ann: /home/ann; systemctl start user@$(id -u ann)",
    );
    let ann = "runuser -u ann -- env HOME=/home/ann XDG_RUNTIME_DIR=/run/user/$(id -u ann)";
    machine.ok(&format!("{ann} systemctl --user enable --now dagd"));
    machine.ok(&format!("{ann} dagd fire --wait --select a; test -e /home/ann/made"));
    machine.ok(&format!("{ann} systemctl --user reload dagd"));
    machine.ok("test -e /home/ann/.local/state/dagd/dagd.db");
    machine.write("/home/ann/.config/dagd/dagd.toml", "[tasks.a]\n");
    machine.fails(&format!("{ann} systemctl --user reload dagd"));
    machine.ok(&format!("{ann} systemctl --user is-active dagd"));
}
