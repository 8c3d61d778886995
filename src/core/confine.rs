//! As whom an attempt runs, and how much it may take: plain values.
//!
//! The core only carries them. What they come to is done by the executor, and whether they can hold
//! on this machine is asked before anything starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the processes of an attempt are kept together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// In a cgroup where one is delegated to dagd, else as a process group.
    #[default]
    Auto,
    /// In a cgroup; refused where that cannot be had.
    Cgroup,
    /// As a process group, with a sweep for the attempt's token.
    Group,
}

/// What a task's attempts run as and may take, where that differs from dagd itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// The user, by name or number, with the groups that it is in.
    pub user: Option<String>,
    /// The group, by name or number, in place of the user's.
    pub group: Option<String>,
    /// Permissions that new files do not get, 0 to 0o777.
    pub umask: Option<u32>,
    /// Nice value, -20 to 19.
    pub nice: Option<i32>,
    /// Limits of each process.
    pub rlimits: BTreeMap<Resource, Rlimit>,
    /// How its processes are kept together; `None`: as the daemon's configuration says.
    pub containment: Option<Containment>,
    /// Bytes of memory of all processes together.
    pub memory_max: Option<u64>,
    /// Thousandths of a processor of all processes together.
    pub cpu_max: Option<u32>,
    /// Processes and threads together.
    pub pids_max: Option<u32>,
}

impl Confine {
    /// Whether anything is asked for that each process has for itself, cgroup or not.
    pub fn changes_process(&self) -> bool {
        let Self { user, group, umask, nice, rlimits, .. } = self;
        user.is_some()
            || group.is_some()
            || umask.is_some()
            || nice.is_some()
            || !rlimits.is_empty()
    }

    /// The limits that only a cgroup holds, as the key of each and the controller that it needs.
    pub fn limits(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let all = [
            (self.memory_max.is_some(), ("memory_max", "memory")),
            (self.cpu_max.is_some(), ("cpu_max", "cpu")),
            (self.pids_max.is_some(), ("pids_max", "pids")),
        ];
        all.into_iter().filter_map(|(asked, limit)| asked.then_some(limit))
    }
}

/// What a process can be limited in: the names of `setrlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Bytes of address space.
    As,
    /// Bytes of a core file.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of data.
    Data,
    /// Bytes of a file that it writes.
    Fsize,
    /// Bytes locked into memory.
    Memlock,
    /// Open files.
    Nofile,
    /// Processes of its user.
    Nproc,
    /// Bytes of stack.
    Stack,
}

impl Resource {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 9] = [
        ("as", Self::As),
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::Fsize),
        ("memlock", Self::Memlock),
        ("nofile", Self::Nofile),
        ("nproc", Self::Nproc),
        ("stack", Self::Stack),
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, resource)| *resource == self).map_or("", |(name, _)| name)
    }
}

/// A soft limit and the hard one above it; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What holds.
    pub soft: Option<u64>,
    /// Up to where the process may raise it.
    pub hard: Option<u64>,
}

/// What an attempt used, as far as the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of memory at the most. In a cgroup with the memory controller: of all processes
    /// together; else of the largest process, where that is more than dagd itself has.
    pub memory_peak: Option<u64>,
    /// Microseconds of processor time. In a cgroup: of all processes; else of the command and what
    /// it waited for.
    pub cpu_us: Option<u64>,
}

impl Usage {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
