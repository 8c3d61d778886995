//! The units themselves: what systemd says of them, and that dagd works under each.

use std::fs;
use std::path::Path;

use crate::CONFIG;
use crate::machine::{Machine, SOURCES};

fn text(unit: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The settings of a unit, without comments.
fn settings(unit: &str) -> Vec<String> {
    let lines = text(unit);
    lines.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect()
}

fn drop_ins() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/drop-ins");
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_instance_is_as_the_service_is() {
    let own = |line: &String| {
        let line = line.replace("/etc/dagd/dagd.toml", "/etc/dagd/%i/dagd.toml");
        let line = line.replace("%t/dagd/", "%t/dagd-%i/").replace(" dagd.socket", "");
        let line = line.replace("Description=dagd,", "Description=dagd %i,");
        match line.as_str() {
            "StateDirectory=dagd" | "RuntimeDirectory=dagd" => format!("{line}-%i"),
            "ConfigurationDirectory=dagd" => format!("{line}/%i"),
            _ => line,
        }
    };
    let expected: Vec<_> = settings("dagd.service").iter().map(own).collect();
    assert_eq!(settings("dagd@.service"), expected);
}

#[test]
fn each_drop_in_tells_what_it_costs() {
    for name in drop_ins() {
        assert!(
            text(&format!("drop-ins/{name}")).replace("\n# ", " ").contains("What it costs: - "),
            "{name}"
        );
        let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the README");
    }
}

#[test]
fn systemd_finds_no_fault_and_little_exposure() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    let verify = |units: &str| {
        let output = machine.sh(&format!("systemd-analyze verify {units} 2>&1"));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.is_empty(), "{units}: {said}");
    };
    // Exposure times ten, at most.
    let exposed = |most: u32, unit: &str| {
        machine.ok(&format!(
            "systemd-analyze security --no-pager --offline=true --threshold={most} {unit}"
        ));
    };
    let dir = "/etc/systemd/system";
    let units = format!("{dir}/dagd.service {dir}/dagd@lab.service {dir}/dagd.socket");
    verify(&units);
    exposed(22, "/etc/systemd/system/dagd.service");
    exposed(22, "/etc/systemd/system/dagd@.service");
    for name in drop_ins() {
        machine.ok(&format!(
            "for unit in dagd dagd@; do
                 mkdir -p /etc/systemd/system/$unit.service.d
                 cp {SOURCES}/systemd/drop-ins/{name} /etc/systemd/system/$unit.service.d/
             done"
        ));
        verify(&units);
        if name == "hardened.conf" {
            exposed(15, "/etc/systemd/system/dagd.service");
        }
        machine.ok("rm -r /etc/systemd/system/dagd.service.d /etc/systemd/system/dagd@.service.d");
    }
    machine.ok("systemctl start user@$(id -u ann)");
    let ann = "runuser -u ann -- env HOME=/home/ann XDG_RUNTIME_DIR=/run/user/$(id -u ann)";
    let own =
        format!("{ann} systemd-analyze verify --user {SOURCES}/systemd/user/dagd.service 2>&1");
    assert_eq!(machine.ok(&own), "");
}

#[test]
fn dagd_works_under_each_drop_in() {
    let Some(machine) = Machine::installed(CONFIG) else { return };
    for name in drop_ins().iter().filter(|name| *name != "dynamic.conf") {
        let (config, user) = match name.as_str() {
            "fanotify.conf" => (format!("{CONFIG}backend = \"fanotify\"\n"), "dagd"),
            // Somebody who may write there.
            "users.conf" => (format!("{CONFIG}[defaults.task]\nuser = \"ann\"\n"), "ann"),
            _ => (CONFIG.to_owned(), "dagd"),
        };
        machine.write("/etc/dagd/dagd.toml", &config);
        machine.ok(&format!("rm -f /srv/out/noted; chown {user} /srv/out"));
        machine.ok(&format!(
            "mkdir -p /etc/systemd/system/dagd.service.d; rm -f /etc/systemd/system/dagd.service.d/*
             cp {SOURCES}/systemd/drop-ins/{name} /etc/systemd/system/dagd.service.d/
             systemctl daemon-reload; systemctl restart dagd"
        ));
        machine.drop_file(name);
        machine.until(&format!("test -e /srv/done/{name}"));
        let noted = machine.ok(&format!("grep {name} /srv/out/noted"));
        assert_eq!(noted, format!("{name} {user}\n"));
        assert_eq!(machine.status()["problems"].to_string(), "[]", "{name}");
        machine.ok("systemctl reload dagd");
    }
}
