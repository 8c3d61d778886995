//! Reads as whom a task runs, and how much it may take.
//!
//! Only what is written: whether it can hold on a machine is no question of the text.

use std::collections::BTreeMap;

use super::diagnostics::Problem;
use super::reader::{Reader, Value};
use super::task::not_zero;
use super::words;
use crate::core::confine::{Confine, Containment, Resource, Rlimit};

/// The most processors that a task can be limited to.
const CPUS_MAX: f64 = 4_096.0;

/// The least share of a processor: the kernel counts in slices of no less than this.
const CPUS_MIN: f64 = 0.01;

/// The most processes that the kernel can number.
const PIDS_MAX: i64 = 4_194_304;

/// The largest count of a limit that is none of bytes or time.
const COUNT_MAX: i64 = 1 << 40;

/// The keys that [`read`] takes.
pub const KEYS: [&str; 9] = [
    "user",
    "group",
    "umask",
    "nice",
    "rlimits",
    "containment",
    "memory_max",
    "cpu_max",
    "pids_max",
];

/// The words for how processes are kept together.
pub const CONTAINMENTS: [(&str, Containment); 3] =
    [("auto", Containment::Auto), ("cgroup", Containment::Cgroup), ("group", Containment::Group)];

/// Reads one of [`KEYS`].
pub fn read<'s>(confine: &mut Confine, reader: &mut Reader<'s>, value: Value<'s>) {
    match value.name {
        "user" => confine.user = account(reader, value),
        "group" => confine.group = account(reader, value),
        "umask" => confine.umask = umask(reader, value),
        "nice" => confine.nice = reader.int(value, -20..=19).and_then(|nice| nice.try_into().ok()),
        "rlimits" => confine.rlimits = rlimits(reader, value),
        "containment" => confine.containment = reader.choice(value, &CONTAINMENTS, &[]),
        "memory_max" => {
            let help = "leave it out for no limit";
            confine.memory_max =
                reader.size(value).filter(|&max| not_zero(reader, value, max == 0, help));
        }
        "cpu_max" => confine.cpu_max = cpus(reader, value),
        _ => {
            let read = reader.int(value, 1..=PIDS_MAX);
            confine.pids_max = read.and_then(|max| max.try_into().ok());
        }
    }
}

/// What is not written comes from the defaults. `None` if nothing is asked for.
pub fn merged(own: Confine, defaults: &Confine) -> Option<Box<Confine>> {
    let mut rlimits = defaults.rlimits.clone();
    rlimits.extend(own.rlimits);
    let whole = Confine {
        user: own.user.or_else(|| defaults.user.clone()),
        group: own.group.or_else(|| defaults.group.clone()),
        umask: own.umask.or(defaults.umask),
        nice: own.nice.or(defaults.nice),
        rlimits,
        containment: own.containment.or(defaults.containment),
        memory_max: own.memory_max.or(defaults.memory_max),
        cpu_max: own.cpu_max.or(defaults.cpu_max),
        pids_max: own.pids_max.or(defaults.pids_max),
    };
    (whole != Confine::default()).then(|| Box::new(whole))
}

/// The keys in which two tasks differ, each with whether they agree.
pub fn compared(old: &Confine, new: &Confine) -> [(&'static str, bool); 9] {
    [
        ("user", old.user == new.user),
        ("group", old.group == new.group),
        ("umask", old.umask == new.umask),
        ("nice", old.nice == new.nice),
        ("rlimits", old.rlimits == new.rlimits),
        ("containment", old.containment == new.containment),
        ("memory_max", old.memory_max == new.memory_max),
        ("cpu_max", old.cpu_max == new.cpu_max),
        ("pids_max", old.pids_max == new.pids_max),
    ]
}

/// The name of a user or group, or its number.
fn account<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<String> {
    let name = reader.text(value)?;
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/');
    if name.is_empty() || name.starts_with('-') || name.contains(odd) {
        let what = format!("`{}` cannot be the name of a {}", words::shown(name), value.name);
        let help = "write a name of the system's, or a number in quotes";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    }
    Some(name.to_owned())
}

fn umask<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<u32> {
    let text = reader.text(value)?;
    let octal = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let read = u32::from_str_radix(text, 8).ok().filter(|&mask| octal && mask <= 0o777);
    if read.is_none() {
        let what = format!("`umask` cannot be \"{}\"", words::shown(text));
        let help = "it is the octal number that umask(1) takes, as in \"027\"";
        reader.note(Problem::at(value.span(), what).help(help));
    }
    read
}

/// A number of processors, in thousandths.
fn cpus<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<u32> {
    let cpus = reader.number(value)?;
    if !(CPUS_MIN..=CPUS_MAX).contains(&cpus) {
        let what = format!("`cpu_max` must be from {CPUS_MIN} to {CPUS_MAX}");
        let help = "it is a number of processors: 0.5 is half of one, 2.0 two";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range")]
    let thousandths = (cpus * 1000.0).round() as u32;
    Some(thousandths)
}

fn rlimits<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> BTreeMap<Resource, Rlimit> {
    let mut limits = BTreeMap::new();
    for entry in reader.table(value, "{ nofile = 4096, core = \"0\" }") {
        let Some((_, resource)) = Resource::ALL.iter().find(|(name, _)| *name == entry.name) else {
            reader.unknown(&super::keys::RLIMITS, entry);
            continue;
        };
        limits.extend(rlimit(reader, entry, *resource).map(|limit| (*resource, limit)));
    }
    limits
}

/// One value for both, or a list of the soft and the hard one.
fn rlimit<'s>(reader: &mut Reader<'s>, value: Value<'s>, of: Resource) -> Option<Rlimit> {
    if !value.is_list() {
        let both = bound(reader, value, of)?;
        return Some(Rlimit { soft: both, hard: both });
    }
    let items = reader.items(value, "limits", "[1024, 4096]");
    let [soft, hard] = items.as_slice() else {
        let what = format!("`{}` takes two limits in a list", value.name);
        let help = "write the soft and the hard one, as in [1024, 4096], or one for both";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    };
    let (soft_at, hard_at) = (*soft, *hard);
    let (soft, hard) = (bound(reader, soft_at, of)?, bound(reader, hard_at, of)?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        let what = "the soft limit is above the hard one";
        reader.note(Problem::at(soft_at.span(), what).also(hard_at.span(), "the hard one"));
        return None;
    }
    Some(Rlimit { soft, hard })
}

/// `Some(None)`: no limit.
#[expect(clippy::option_option, reason = "what could not be read is not what has no limit")]
fn bound<'s>(reader: &mut Reader<'s>, value: Value<'s>, of: Resource) -> Option<Option<u64>> {
    if value.is_text() && reader.text(value) == Some("unlimited") {
        return Some(None);
    }
    match of {
        Resource::Nofile | Resource::Nproc => {
            let read = reader.int(value, 0..=COUNT_MAX)?;
            u64::try_from(read).ok().map(Some)
        }
        Resource::Cpu => {
            let time = reader.duration(value)?;
            let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
            not_zero(reader, value, whole == 0, "write \"unlimited\" for no limit")
                .then_some(Some(whole))
        }
        Resource::As
        | Resource::Core
        | Resource::Data
        | Resource::Fsize
        | Resource::Memlock
        | Resource::Stack => reader.size(value).map(Some),
    }
}
