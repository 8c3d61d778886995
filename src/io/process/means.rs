//! What means there are here to keep an attempt's processes together and to limit them, and what of
//! a configuration cannot hold with them.
//!
//! A limit that silently is none would be worse than no start: so it is asked before anything
//! starts, and said with its remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;

use crate::core::confine::{Confine, Containment, Resource};
use crate::core::graph::Graph;
use crate::core::task::OnDaemonStop;

use crate::io::machine::{self, Rights};

use super::cgroup::{self, Found, Tree};
use super::left;
use super::users::{self, Account};

/// The means of one dagd.
#[derive(Debug)]
pub struct Means {
    /// The program of the helper: this one.
    pub helper: CString,
    /// How processes are kept together where a task does not say.
    containment: Containment,
    /// The tree of cgroups, or why there is none.
    tree: Result<Tree, String>,
}

impl Means {
    /// Without cgroups.
    pub fn plain(helper: CString) -> Self {
        let tree = Err("none was asked for".to_owned());
        Self { helper, containment: Containment::Group, tree }
    }

    /// Takes what there is: a tree of cgroups if one is delegated, or if `containment` or a task asks
    /// for cgroups by name. The error says why what was asked for cannot be had.
    pub fn take(containment: Containment, graph: &Graph, instance: &str) -> Result<Self, String> {
        let wish = Wish::of(containment, graph);
        let tree = look(wish).and_then(|found| {
            Tree::take(&found, instance, leaves(graph)).map_err(|error| {
                format!("the cgroup {} cannot be used: {error}", found.own.display())
            })
        });
        match tree {
            Err(why) if wish == Wish::Must => Err(format!(
                "containment = \"cgroup\" cannot hold: {why}; have the service manager delegate a \
                 cgroup (Delegate=yes), or write containment = \"auto\""
            )),
            tree => Ok(Self { helper: itself(), containment, tree }),
        }
    }

    /// The tree of cgroups, if there is one.
    pub fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref().ok()
    }

    /// Nothing is running any more: gives back what was made.
    pub fn leave(&self) {
        self.tree.iter().for_each(Tree::leave);
    }

    /// The tree in which an attempt of a task has its cgroup; `None`: it has none.
    pub fn tree_for(&self, confine: Option<&Confine>) -> Option<&Tree> {
        let own = confine.and_then(|confine| confine.containment);
        self.tree().filter(|_| own.unwrap_or(self.containment) != Containment::Group)
    }

    /// How processes are kept together here, for people.
    pub fn told(&self) -> String {
        match &self.tree {
            Ok(tree) => {
                let limits: Vec<&str> = tree.controllers().iter().map(String::as_str).collect();
                let limits = if limits.is_empty() {
                    "no limits can be set".to_owned()
                } else {
                    format!("limits by {}", limits.join(", "))
                };
                format!("cgroups in {}; {limits}", tree.path().display())
            }
            Err(why) => format!("process groups; no cgroups: {why}"),
        }
    }

    /// What of a configuration cannot hold.
    pub fn faults(&self, graph: &Graph) -> Vec<Fault> {
        let controllers = self.tree.as_ref().map(|tree| tree.controllers().clone());
        let enabled = controllers.as_ref().is_ok_and(|controllers| !controllers.is_empty());
        let limits = Limits { containment: self.containment, controllers, leaves: leaves(graph) };
        let mut all = faults(graph, &limits);
        if limits.leaves && enabled {
            let text = "on_daemon_stop = \"leave\" cannot hold: this dagd has enabled controllers of \
                        cgroups; restart dagd";
            all.push(lasting(text.to_owned()));
        }
        all
    }
}

/// Something that a configuration asks for and that cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What, and the remedy: a sentence.
    pub text: String,
    /// Whether it may pass without anybody's doing: who keeps the accounts may not be up yet.
    pub passes: bool,
}

/// What could not hold for a daemon that was started as this process was, in sentences; changes
/// nothing.
pub fn foresee(containment: Containment, graph: &Graph) -> Vec<String> {
    let wish = Wish::of(containment, graph);
    let found = look(wish);
    let mut all = Vec::new();
    if let (Containment::Cgroup, Err(why)) = (containment, &found) {
        all.push(format!("containment = \"cgroup\" cannot hold: {why}"));
    }
    let controllers = found.as_ref().map(|found| found.controllers.clone());
    let faults = faults(graph, &Limits { containment, controllers, leaves: leaves(graph) });
    all.extend(faults.into_iter().map(|fault| fault.text));
    all
}

/// How much cgroups are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Not at all.
    No,
    /// Where they are delegated.
    May,
    /// By name.
    Must,
}

impl Wish {
    fn of(containment: Containment, graph: &Graph) -> Self {
        let tasks = graph.nodes().filter_map(|ix| graph.task(ix).confine.as_ref()?.containment);
        tasks
            .chain([containment])
            .map(|wish| match wish {
                Containment::Group => Self::No,
                Containment::Auto => Self::May,
                Containment::Cgroup => Self::Must,
            })
            .max_by_key(|wish| *wish as u8)
            .unwrap_or(Self::No)
    }
}

/// Whether attempts may go on without dagd.
fn leaves(graph: &Graph) -> bool {
    graph.nodes().any(|ix| graph.task(ix).on_daemon_stop == OnDaemonStop::Leave)
}

fn look(wish: Wish) -> Result<Found, String> {
    if wish == Wish::No {
        return Err("containment = \"group\"".to_owned());
    }
    let found = cgroup::find()?;
    if wish == Wish::May && !found.delegated {
        return Err(format!("{} is not delegated to dagd", found.own.display()));
    }
    Ok(found)
}

/// What limits of cgroups could be set.
struct Limits<'a> {
    containment: Containment,
    /// The controllers, or why there are none.
    controllers: Result<BTreeSet<String>, &'a String>,
    /// Whether attempts may go on without dagd: then no controller is enabled.
    leaves: bool,
}

fn faults(graph: &Graph, limits: &Limits<'_>) -> Vec<Fault> {
    let rights = Rights::of(std::process::id()).ok();
    let mut powers = Powers { rights, ..Powers::default() };
    let mut all: BTreeMap<Fault, Vec<&str>> = BTreeMap::new();
    for task in graph.nodes().map(|ix| graph.task(ix)) {
        if task.on_daemon_stop == OnDaemonStop::Leave
            && let Some(why) = left::refusal()
        {
            let text = format!("on_daemon_stop = \"leave\" cannot hold: {why}");
            all.entry(lasting(text)).or_default().push(&task.name);
        }
        let own = task.confine.as_ref().and_then(|confine| confine.containment);
        if task.on_daemon_stop == OnDaemonStop::Leave
            && own.unwrap_or(limits.containment) == Containment::Cgroup
        {
            let text = "on_daemon_stop = \"leave\" cannot hold with containment = \"cgroup\": what goes \
                        on without dagd is in no cgroup of its own; write containment = \"group\" \
                        for it, or remove the key";
            all.entry(lasting(text.to_owned())).or_default().push(&task.name);
        }
        let Some(confine) = &task.confine else { continue };
        let limits = limits.faults(confine).into_iter().map(lasting);
        for fault in limits.chain(powers.faults(confine)) {
            all.entry(fault).or_default().push(&task.name);
        }
    }
    let told = |(fault, tasks): (Fault, Vec<&str>)| {
        let more = match tasks.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Fault { text: format!("task `{}`{more}: {}", tasks[0], fault.text), ..fault }
    };
    all.into_iter().map(told).collect()
}

fn lasting(text: String) -> Fault {
    Fault { text, passes: false }
}

fn passing(text: String) -> Fault {
    Fault { text, passes: true }
}

impl Limits<'_> {
    fn faults(&self, confine: &Confine) -> Vec<String> {
        let group = confine.containment.unwrap_or(self.containment) == Containment::Group;
        let fault = |(key, controller): (&str, &str)| match &self.controllers {
            _ if group => Some(format!(
                "{key} cannot hold with containment = \"group\"; remove one of the two"
            )),
            _ if self.leaves => Some(format!(
                "{key} cannot hold in a configuration with on_daemon_stop = \"leave\": what goes on \
                 without dagd would keep it from being started again; have another dagd for one of \
                 the two"
            )),
            Err(why) => Some(format!(
                "{key} cannot hold: there are no cgroups ({why}); have the service manager delegate \
                 one (Delegate=yes), or remove the key"
            )),
            Ok(controllers) if !controllers.contains(controller) => Some(format!(
                "{key} cannot hold: the controller `{controller}` is not to be had in dagd's cgroup; \
                 delegate it (Delegate=yes, and no process of others beside dagd), or remove the key"
            )),
            Ok(_) => None,
        };
        let mut faults: Vec<String> = confine.limits().filter_map(fault).collect();
        if let (Some(Containment::Cgroup), Err(why)) = (confine.containment, &self.controllers) {
            faults.push(format!(
                "containment = \"cgroup\" cannot hold: {why}; restart dagd under a cgroup that is \
                 delegated to it, or remove the key"
            ));
        }
        faults
    }
}

/// What this process may change of its children; users are looked up once.
#[derive(Default)]
struct Powers {
    /// Those of this process; none if they cannot be read.
    rights: Option<Rights>,
    accounts: BTreeMap<String, Result<u32, String>>,
    groups: BTreeMap<String, Result<u32, String>>,
}

impl Powers {
    /// Whether the helper would have a capability: only root's programs have what root has.
    fn has(&self, bit: u32) -> bool {
        self.rights.is_some_and(|rights| rights.uid == 0 && rights.has(bit))
    }

    fn faults(&mut self, confine: &Confine) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(name) = &confine.user {
            let look = || Account::named(name).map(|account| account.uid);
            match self.accounts.entry(name.clone()).or_insert_with(look).clone() {
                Err(why) => faults.push(passing(why)),
                Ok(uid) if uid == rustix::process::geteuid().as_raw() => {}
                Ok(_) if self.has(machine::SETUID) && self.has(machine::SETGID) => {}
                Ok(_) => faults.push(lasting(format!(
                    "user = \"{name}\" cannot hold: dagd may not become another user; run it as root \
                     with CAP_SETUID and CAP_SETGID, or remove the key"
                ))),
            }
        }
        if let Some(name) = &confine.group {
            match self.groups.entry(name.clone()).or_insert_with(|| users::group(name)).clone() {
                Err(why) => faults.push(passing(why)),
                Ok(gid) if gid == rustix::process::getegid().as_raw() => {}
                Ok(_) if self.has(machine::SETGID) => {}
                Ok(_) => faults.push(lasting(format!(
                    "group = \"{name}\" cannot hold: dagd may not change its group; run it as root \
                     with CAP_SETGID, or remove the key"
                ))),
            }
        }
        if let Some(nice) = confine.nice
            && nice < own_nice()
            && !self.has(machine::SYS_NICE)
        {
            faults.push(lasting(format!(
                "nice = {nice} cannot hold: it would be ahead of dagd itself, which needs \
                 CAP_SYS_NICE; raise it, or remove the key"
            )));
        }
        for (of, limit) in &confine.rlimits {
            let most = hard(*of);
            if limit.hard.unwrap_or(u64::MAX) > most && !self.has(machine::SYS_RESOURCE) {
                let name = of.word();
                faults.push(lasting(format!(
                    "rlimits.{name} cannot hold: dagd's own limit is {most}, and raising it needs \
                     CAP_SYS_RESOURCE; raise dagd's own (Limit{}=), or lower this one",
                    name.to_uppercase()
                )));
            }
        }
        faults
    }
}

fn own_nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or(0)
}

/// The hard limit of this process.
fn hard(of: Resource) -> u64 {
    rustix::process::getrlimit(super::child::kernels(of)).maximum.unwrap_or(u64::MAX)
}

/// The program that runs now, even if another lies at its path by then.
fn itself() -> CString {
    c"/proc/self/exe".to_owned()
}
