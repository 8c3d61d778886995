//! Signals by name: which can start work, which can be sent to tasks, and why the rest cannot.
//!
//! Only names and numbers; receiving and sending are the business of the adapters.

/// The first real-time signal, as glibc counts.
const RTMIN: i32 = 34;

/// The last real-time signal.
const RTMAX: i32 = 64;

/// A signal that a trigger can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerSignal {
    /// Its number.
    pub signo: i32,
    /// Whether it queues, with a value.
    pub real_time: bool,
}

const TRIGGERS: [(&str, i32); 3] =
    [("SIGUSR1", libc::SIGUSR1), ("SIGUSR2", libc::SIGUSR2), ("SIGWINCH", libc::SIGWINCH)];

/// Signals that tasks may be told by, beside the real-time ones.
const SENT: [(&str, i32); 9] = [
    ("SIGHUP", libc::SIGHUP),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGALRM", libc::SIGALRM),
    ("SIGTERM", libc::SIGTERM),
    ("SIGCONT", libc::SIGCONT),
    ("SIGWINCH", libc::SIGWINCH),
];

/// Signals that are taken, each with the reason.
const RESERVED: [(&str, &str); 27] = [
    ("SIGHUP", "it makes dagd reload its configuration"),
    ("SIGTERM", "it makes dagd stop"),
    ("SIGINT", "it makes dagd stop"),
    ("SIGQUIT", "a terminal sends it to end a program"),
    ("SIGCHLD", "by it the kernel reports the end of tasks"),
    ("SIGPIPE", "by it the kernel reports a closed pipe"),
    ("SIGIO", "by it the kernel reports broken leases"),
    ("SIGPOLL", "by it the kernel reports broken leases"),
    ("SIGURG", "the kernel sends it for sockets"),
    ("SIGALRM", "it belongs to timers"),
    ("SIGVTALRM", "it belongs to timers"),
    ("SIGPROF", "it belongs to timers"),
    ("SIGTSTP", "it belongs to the job control of shells"),
    ("SIGTTIN", "it belongs to the job control of shells"),
    ("SIGTTOU", "it belongs to the job control of shells"),
    ("SIGCONT", "it belongs to the job control of shells"),
    ("SIGKILL", "no program can receive it"),
    ("SIGSTOP", "no program can receive it"),
    ("SIGSEGV", "it means a crash"),
    ("SIGBUS", "it means a crash"),
    ("SIGFPE", "it means a crash"),
    ("SIGILL", "it means a crash"),
    ("SIGABRT", "it means a crash"),
    ("SIGTRAP", "it belongs to debuggers"),
    ("SIGSYS", "it means a forbidden system call"),
    ("SIGXCPU", "by it the kernel enforces limits"),
    ("SIGXFSZ", "by it the kernel enforces limits"),
];

/// Why a name is no signal that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalFault {
    /// The signal is taken; the text says by what.
    Reserved(&'static str),
    /// The real-time number is out of range.
    OutOfRange,
    /// There is no such name; perhaps this one was meant.
    Unknown(Option<String>),
}

/// The signals that a trigger can be for, for messages.
pub const TRIGGER_HELP: &str = "use SIGUSR1, SIGUSR2, SIGWINCH, or SIGRTMIN+0 to SIGRTMIN+30";

/// The signals that tasks can be sent, for messages.
pub const SENT_HELP: &str = "use SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, \
                             SIGCONT, SIGWINCH, or SIGRTMIN+0 to SIGRTMIN+30";

/// The signal that `name` is, if a trigger can be for it.
pub fn for_trigger(name: &str) -> Result<TriggerSignal, SignalFault> {
    if let Some((_, signo)) = TRIGGERS.iter().find(|(known, _)| *known == name) {
        return Ok(TriggerSignal { signo: *signo, real_time: false });
    }
    if let Some(real_time) = real_time(name) {
        return real_time.map(|signo| TriggerSignal { signo, real_time: true });
    }
    match RESERVED.iter().find(|(known, _)| *known == name) {
        Some((_, why)) => Err(SignalFault::Reserved(why)),
        None => Err(unknown(name, |full| for_trigger(full).is_ok())),
    }
}

/// The number of the signal `name`, if tasks can be sent it.
pub fn for_tasks(name: &str) -> Result<i32, SignalFault> {
    if let Some((_, signo)) = SENT.iter().find(|(known, _)| *known == name) {
        return Ok(*signo);
    }
    match (real_time(name), name) {
        (Some(real_time), _) => real_time,
        (None, "SIGKILL") => Err(SignalFault::Reserved(
            "it ends a task without a word; use on_overlap = \"restart\"",
        )),
        (None, "SIGSTOP") => Err(SignalFault::Reserved("it halts a task for ever")),
        (None, _) => Err(unknown(name, |full| for_tasks(full).is_ok())),
    }
}

/// `SIGRTMIN+n` or `SIGRTMAX-n`; `None` if it is neither in shape.
fn real_time(name: &str) -> Option<Result<i32, SignalFault>> {
    let (base, rest, sign) = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(rest), _) => (RTMIN, rest, '+'),
        (None, Some(rest)) => (RTMAX, rest, '-'),
        (None, None) => return None,
    };
    if rest.is_empty() {
        return Some(Ok(base));
    }
    let digits = rest.strip_prefix(sign)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset = digits.parse::<i32>().ok().filter(|&offset| offset <= RTMAX - RTMIN);
    Some(
        offset
            .ok_or(SignalFault::OutOfRange)
            .map(|offset| if sign == '+' { base + offset } else { base - offset }),
    )
}

/// Names in other spellings: `usr1`, `USR1`, `10`.
fn unknown(name: &str, fits: impl Fn(&str) -> bool) -> SignalFault {
    let upper = name.trim().to_ascii_uppercase().replace(' ', "");
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let numbered = SENT.iter().find(|(_, signo)| signo.to_string() == name);
    let meant = numbered.map_or(full, |(name, _)| (*name).to_owned());
    // The same name again would be asked for ever.
    SignalFault::Unknown((meant != name && fits(&meant)).then_some(meant))
}

#[cfg(test)]
mod tests {
    use super::{SignalFault, TriggerSignal, for_tasks, for_trigger};

    #[test]
    fn names() {
        let real_time = |signo| Ok(TriggerSignal { signo, real_time: true });
        assert_eq!(for_trigger("SIGRTMIN"), real_time(34));
        assert_eq!(for_trigger("SIGRTMIN+30"), real_time(64));
        assert_eq!(for_trigger("SIGRTMAX-1"), real_time(63));
        assert_eq!(for_trigger("SIGRTMAX"), real_time(64));
        assert_eq!(for_trigger("SIGRTMIN+31"), Err(SignalFault::OutOfRange));
        assert_eq!(for_trigger("SIGRTMIN-1"), Err(SignalFault::Unknown(None)));
        assert_eq!(for_trigger("usr1"), Err(SignalFault::Unknown(Some("SIGUSR1".into()))));
        assert_eq!(for_trigger("10"), Err(SignalFault::Unknown(Some("SIGUSR1".into()))));
        assert!(matches!(for_trigger("SIGHUP"), Err(SignalFault::Reserved(_))));
        assert_eq!(for_trigger("SIGUSR1").map(|signal| signal.real_time), Ok(false));
        assert_eq!(for_tasks("SIGHUP"), Ok(libc::SIGHUP));
        assert!(matches!(for_tasks("SIGKILL"), Err(SignalFault::Reserved(_))));
    }
}
