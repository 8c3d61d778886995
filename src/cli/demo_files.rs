//! What the demo writes: two configurations, and files to drop.
//!
//! Plain text that a newcomer may read afterwards.

/// The first configuration.
pub const CONFIG: &str = r#"# The configuration of `dagd demo`. Relative paths are relative to this file.

[daemon]
state_dir = "state"
runtime_dir = "run"

# checksum -> count -> report, and alert if one of them fails.

[tasks.checksum]
command = ["sha256sum", "{path}"]

[tasks.count]
needs = ["checksum"]
shell = '''
head -n 1 "$DAGD_PATH" | grep -q '^item,amount$' || { echo "no heading in $DAGD_REL"; exit 65; }
echo "rows=$(($(wc -l < "$DAGD_PATH") - 1))" >> "$DAGD_OUTPUT"
'''

[tasks.report]
needs = ["count"]
command = ["echo", "{name}: {out.count.rows} rows"]

[tasks.alert]
needs = ["checksum", "count"]
rule = "one_failed"
command = ["echo", "{name} is broken, failed in {failed}"]

[tasks.rotate]
command = ["echo", "rotated on {signal}"]

[triggers.orders]
drop = "inbox"
include = ["*.csv"]
run = "checksum+"
move = "done/"
move_failed = "failed/"

[triggers.rotate]
signal = "SIGUSR1"
run = "rotate"
"#;

/// What is appended to it before the reload.
pub const ADDED: &str = r#"
# Added while the daemon ran.

[tasks.read]
command = ["cat", "{path}"]

[triggers.notes]
drop = "notes"
run = "read"
"#;

/// A file to drop.
#[derive(Clone, Copy, Debug)]
pub struct Dropped {
    /// The folder into which it is dropped.
    pub folder: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub content: &'static str,
    /// How its run must end.
    pub state: &'static str,
    /// Where that must take it; `None`: it stays.
    pub lands: Option<&'static str>,
}

/// Two good tables and one without a heading.
pub const ORDERS: [Dropped; 3] = [
    Dropped {
        folder: "inbox",
        name: "monday.csv",
        content: "item,amount\napples,12\npears,7\n",
        state: "succeeded",
        lands: Some("done"),
    },
    Dropped {
        folder: "inbox",
        name: "tuesday.csv",
        content: "item,amount\nplums,30\n",
        state: "succeeded",
        lands: Some("done"),
    },
    Dropped {
        folder: "inbox",
        name: "broken.csv",
        content: "this is no table\n",
        state: "failed",
        lands: Some("failed"),
    },
];

/// For the trigger that the reload brings.
pub const NOTE: Dropped = Dropped {
    folder: "notes",
    name: "hello.txt",
    content: "hello\n",
    state: "succeeded",
    lands: None,
};

#[cfg(test)]
mod tests {
    use super::{ADDED, CONFIG};

    #[test]
    fn both_configurations_are_toml() {
        let tasks = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            table["tasks"].as_table().unwrap().len()
        };
        assert_eq!(tasks(CONFIG), 5);
        assert_eq!(tasks(&format!("{CONFIG}{ADDED}")), 6);
    }
}
