//! Every key that has a meaning, and every key that will have one.
//!
//! Only names: what the values are is told by the modules that read them.

/// A kind of table.
#[derive(Debug)]
pub struct Scope {
    /// What the table is, for messages.
    pub what: &'static str,
    /// Keys that mean something.
    pub keys: &'static [&'static str],
    /// Keys that will mean something; they are refused, but not as misspelt.
    pub later: &'static [&'static str],
}

/// A whole file.
pub const ROOT: Scope = Scope {
    what: "a configuration file",
    keys: &["daemon", "control", "pools", "defaults", "tasks", "triggers"],
    later: &["executors", "nats", "slurm", "include"],
};

/// `[daemon]`.
pub const DAEMON: Scope = Scope {
    what: "[daemon]",
    keys: &[
        "state_dir",
        "runtime_dir",
        "max_parallel",
        "max_live_runs",
        "retention",
        "stop_timeout",
        "durability",
        "containment",
        "reload_on_change",
    ],
    later: &["backend", "poll_interval"],
};

/// `[control]`.
pub const CONTROL: Scope = Scope { what: "[control]", keys: &["write_group"], later: &[] };

/// `retention` in `[daemon]`.
pub const RETENTION: Scope =
    Scope { what: "`retention`", keys: &["runs", "age", "logs"], later: &[] };

/// `[defaults]`.
pub const DEFAULTS: Scope = Scope { what: "[defaults]", keys: &["task", "trigger"], later: &[] };

/// A task.
pub const TASK: Scope = Scope {
    what: "a task",
    keys: &[
        "needs",
        "command",
        "shell",
        "shell_program",
        "env",
        "env_pass",
        "env_file",
        "credentials",
        "cwd",
        "outputs",
        "timeout",
        "kill_after",
        "retry",
        "success",
        "skip",
        "uses",
        "priority",
        "tags",
        "allow_failure",
        "on_crash",
        "on_daemon_stop",
        "rule",
        "log_max",
        "user",
        "group",
        "umask",
        "nice",
        "rlimits",
        "containment",
        "memory_max",
        "cpu_max",
        "pids_max",
    ],
    later: &["executor", "cpu_weight", "io_weight"],
};

/// `rlimits` of a task.
pub const RLIMITS: Scope = Scope {
    what: "`rlimits`",
    keys: &["as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack"],
    later: &[],
};

/// `retry` of a task.
pub const RETRY: Scope = Scope {
    what: "`retry`",
    keys: &["max", "delay", "factor", "max_delay", "jitter", "on", "never_on"],
    later: &[],
};

/// A trigger of any kind.
pub const TRIGGER: Scope = Scope {
    what: "a trigger",
    keys: &[
        "drop",
        "watch",
        "signal",
        "schedule",
        "absent",
        "timezone",
        "catch_up",
        "of",
        "run",
        "recursive",
        "include",
        "exclude",
        "default_ignores",
        "hidden",
        "kinds",
        "read_lock",
        "stability_threshold",
        "settle",
        "max_wait",
        "fan_out",
        "on_overlap",
        "overlap_signal",
        "allow_loss",
        "max_runs",
        "order_key",
        "on_removal",
        "initial_scan",
        "initial_max",
        "move",
        "move_failed",
        "reconcile_interval",
        "sender_uid",
        "min_depth",
        "max_depth",
        "gitignore",
        "file_type",
        "min_size",
        "max_size",
        "min_age",
        "follow_symlinks",
        "cross_filesystem",
        "done_file",
        "checksum_file",
        "set",
        "set_key",
        "ready_alarm",
        "batch_max_files",
        "batch_max_wait",
        "sort_by",
        "rate_limit",
        "pre_move",
        "delete",
        "on_conflict",
        "idempotent_key",
        "backend",
        "poll_interval",
        "max_hops",
        "renamed_from",
    ],
    later: &["subject"],
};

/// Keys of a trigger that mean something for a folder only.
pub const FOLDER_ONLY: &[&str] = &[
    "recursive",
    "include",
    "exclude",
    "default_ignores",
    "hidden",
    "kinds",
    "read_lock",
    "stability_threshold",
    "settle",
    "max_wait",
    "fan_out",
    "initial_scan",
    "reconcile_interval",
    "min_depth",
    "max_depth",
    "gitignore",
    "file_type",
    "min_size",
    "max_size",
    "min_age",
    "follow_symlinks",
    "cross_filesystem",
    "done_file",
    "checksum_file",
    "set",
    "set_key",
    "ready_alarm",
    "batch_max_files",
    "batch_max_wait",
    "sort_by",
    "idempotent_key",
    "backend",
    "poll_interval",
    "max_hops",
    "renamed_from",
];

/// Keys of a trigger that mean something for a drop folder only.
pub const DROP_ONLY: &[&str] = &[
    "pre_move",
    "move",
    "move_failed",
    "delete",
    "on_conflict",
    "order_key",
    "allow_loss",
    "initial_max",
];

/// Keys of a trigger that mean something for a signal only.
pub const SIGNAL_ONLY: &[&str] = &["sender_uid"];

/// Keys of a trigger that mean something for a schedule only.
pub const SCHEDULE_ONLY: &[&str] = &["timezone", "catch_up"];

/// Keys of a trigger that mean something for an absence only.
pub const ABSENCE_ONLY: &[&str] = &["of"];

/// The kind of table that `key` belongs into, for messages.
pub fn elsewhere(key: &str) -> Option<&'static str> {
    let scopes = [
        (&TASK, "a task"),
        (&TRIGGER, "a trigger"),
        (&DAEMON, "[daemon]"),
        (&CONTROL, "[control]"),
    ];
    let (_, home) = scopes.iter().find(|(scope, _)| scope.keys.contains(&key))?;
    Some(home)
}
