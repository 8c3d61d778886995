//! What the helper is told, in both directions: its orders, as arguments, and its report, through a
//! pipe.
//!
//! Both ends are the same program (a daemon starts itself, not what lies at its path by now), so
//! that the form of the words can change.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::core::confine::{Confine, Resource, Rlimit};

use super::prepare::{Exec, Private};
use super::vars::TOKEN;

/// The first argument of the helper: no verb begins so.
pub const MARK: &str = "@attempt";

/// The descriptor on which the helper reports.
pub const REPORT: i32 = 3;

/// The most bytes of a report: a sentence.
const REPORT_MAX: u64 = 16 << 10;

/// What the helper is to do before it becomes the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The cgroup to join.
    pub cgroup: Option<PathBuf>,
    /// What each process is to be; what only a cgroup holds is not told.
    pub confine: Confine,
    /// Files that are for the task's user alone.
    pub private: Option<Private>,
    /// Where its end is written down, if it is to go on without dagd.
    pub left: Option<PathBuf>,
    /// The working directory.
    pub cwd: OsString,
    /// The program's absolute path.
    pub program: OsString,
    /// Its arguments, the first of which is its own name.
    pub argv: Vec<OsString>,
}

/// The arguments of a helper that is to become `program`.
pub fn arguments(
    exec: &Exec,
    cgroup: Option<&Path>,
    program: &CString,
) -> io::Result<Vec<CString>> {
    let mut words: Vec<Vec<u8>> = vec![b"dagd".to_vec(), MARK.into()];
    let mut tell = |key: &str, value: &[u8]| words.push([key.as_bytes(), b"=", value].concat());
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    if let Some(cgroup) = cgroup {
        tell("cgroup", &bytes(cgroup));
    }
    if let Some(confine) = &exec.confine {
        for (key, value) in confined(confine) {
            tell(key, value.as_bytes());
        }
    }
    if let Some(Private { dir, json, files, credentials }) = &exec.private {
        tell("private", &bytes(dir));
        tell("json", &bytes(json));
        tell("files", &bytes(files));
        for credential in credentials {
            tell("credential", &bytes(credential));
        }
    }
    if let Some(left) = &exec.left {
        tell("left", &bytes(left));
    }
    tell("cwd", exec.cwd.to_bytes());
    tell("program", program.to_bytes());
    words.push(b"--".to_vec());
    let words = words.into_iter().map(|word| CString::new(word).map_err(io::Error::other));
    words.chain(exec.argv.iter().cloned().map(Ok)).collect()
}

fn confined(confine: &Confine) -> Vec<(&'static str, String)> {
    let Confine { user, group, umask, nice, rlimits, .. } = confine;
    let mut all = Vec::new();
    all.extend(user.clone().map(|user| ("user", user)));
    all.extend(group.clone().map(|group| ("group", group)));
    all.extend(umask.map(|umask| ("umask", umask.to_string())));
    all.extend(nice.map(|nice| ("nice", nice.to_string())));
    let bound = |bound: Option<u64>| bound.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let told = |(of, limit): (&Resource, &Rlimit)| {
        ("rlimit", format!("{}:{}:{}", of.word(), bound(limit.soft), bound(limit.hard)))
    };
    all.extend(rlimits.iter().map(told));
    all
}

/// Before the name of a variable that is the program's and not the helper's: the helper has more
/// rights than the task, whose variables are not to tell its loader what to load.
pub const APART: u8 = b'@';

/// The environment of a helper: the token is its own, by which it is found.
pub fn environment(program: &[CString]) -> Vec<CString> {
    let token = |text: &CString| {
        text.to_bytes().strip_prefix(TOKEN.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    let apart = |text: &CString| {
        let bytes = [&[APART], text.to_bytes()].concat();
        // It holds no NUL, as before.
        CString::new(bytes).unwrap_or_default()
    };
    program.iter().map(|text| if token(text) { text.clone() } else { apart(text) }).collect()
}

impl Order {
    /// Reads the arguments after [`MARK`]. `None`: they are none that dagd wrote.
    pub fn read(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut order = Self::default();
        let (mut private, mut credentials) = (BTreeMap::new(), Vec::new());
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            let at = word.as_bytes().iter().position(|&b| b == b'=')?;
            let (key, value) = word.as_bytes().split_at(at);
            let value = OsStr::from_bytes(value.get(1..)?).to_owned();
            match key {
                b"cgroup" => order.cgroup = Some(value.into()),
                b"left" => order.left = Some(value.into()),
                b"cwd" => order.cwd = value,
                b"program" => order.program = value,
                b"credential" => credentials.push(PathBuf::from(value)),
                b"private" | b"json" | b"files" => {
                    private.insert(key.to_vec(), PathBuf::from(value));
                }
                _ => order.confined(key, value.to_str()?)?,
            }
        }
        let mut take = |key: &[u8]| private.remove(key);
        order.private = match (take(b"private"), take(b"json"), take(b"files")) {
            (Some(dir), Some(json), Some(files)) => Some(Private { dir, json, files, credentials }),
            _ => None,
        };
        order.argv = words.collect();
        (!order.program.is_empty() && !order.argv.is_empty()).then_some(order)
    }

    fn confined(&mut self, key: &[u8], value: &str) -> Option<()> {
        let confine = &mut self.confine;
        match key {
            b"user" => confine.user = Some(value.to_owned()),
            b"group" => confine.group = Some(value.to_owned()),
            b"umask" => confine.umask = Some(value.parse().ok()?),
            b"nice" => confine.nice = Some(value.parse().ok()?),
            b"rlimit" => {
                let bound = |text: &str| match text {
                    "-" => Some(None),
                    number => number.parse().ok().map(Some),
                };
                let mut parts = value.split(':');
                let name = parts.next()?;
                let (_, of) = Resource::ALL.iter().find(|(word, _)| *word == name)?;
                let (soft, hard) = (bound(parts.next()?)?, bound(parts.next()?)?);
                confine.rlimits.insert(*of, Rlimit { soft, hard });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Where a helper failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At entering the working directory.
    Folder,
    /// At becoming the program.
    Program,
    /// At anything else, which the text names.
    Other,
}

/// Why a helper did not become the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Where.
    pub step: Step,
    /// The system's error, 0 if there is none.
    pub errno: i32,
    /// What was tried, where the step does not tell.
    pub text: String,
}

impl Failed {
    /// In the form of the pipe.
    pub fn told(&self) -> Vec<u8> {
        let step = match self.step {
            Step::Folder => 'f',
            Step::Program => 'p',
            Step::Other => 'o',
        };
        format!("{step}{} {}", self.errno, self.text).into_bytes()
    }

    fn heard(told: &[u8]) -> Self {
        let text = String::from_utf8_lossy(told);
        let (head, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let step = match head.chars().next() {
            Some('f') => Step::Folder,
            Some('p') => Step::Program,
            _ => Step::Other,
        };
        let errno = head.get(1..).and_then(|number| number.parse().ok()).unwrap_or(0);
        Self { step, errno, text: rest.to_owned() }
    }
}

/// The reading end of a helper's report.
#[derive(Debug)]
pub struct Report(File);

impl Report {
    /// The reading end, and the one that the helper is to have as [`REPORT`].
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((Self(read.into()), write))
    }

    /// Waits until the helper has become the program or has ended; in the latter case it may have
    /// said why. The caller has closed the writing end.
    pub fn wait(self) -> Option<Failed> {
        let mut told = Vec::new();
        // What was said before an error counts; a helper that was killed says nothing.
        self.0.take(REPORT_MAX).read_to_end(&mut told).ok();
        (!told.is_empty()).then(|| Failed::heard(&told))
    }
}

/// Bytes as an argument of a call.
pub fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::ffi::{CString, OsString};
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;

    use super::{Failed, MARK, Order, Step, arguments};
    use crate::core::confine::{Confine, Resource, Rlimit};
    use crate::core::id::{Attempt, AttemptId, NodeIx, RunId};
    use crate::io::process::blot::Secrets;
    use crate::io::process::prepare::{Exec, Private};

    fn exec(confine: Option<Confine>) -> Exec {
        Exec {
            id: AttemptId { run: RunId(1), node: NodeIx(0), attempt: Attempt(1) },
            label: "x/1.t.1".into(),
            task: "t".into(),
            secrets: Secrets::default(),
            candidates: Vec::new(),
            argv: vec![c"t\xff".into(), c"--".into(), c"a=b".into()],
            envp: Vec::new(),
            cwd: c"/srv=\xff".into(),
            log: "/logs/1.t.1".into(),
            output: "/out/1.t.1".into(),
            log_max: 0,
            confine: confine.map(Box::new),
            private: None,
            left: Some("/left/1/1.t.1".into()),
        }
    }

    fn read(exec: &Exec, cgroup: Option<&Path>) -> Order {
        let program = CString::new("/bin/t=x").unwrap();
        let words = arguments(exec, cgroup, &program).unwrap();
        let mut words = words.into_iter().map(|word| OsString::from_vec(word.into_bytes()));
        assert_eq!(words.by_ref().nth(1).unwrap(), MARK);
        Order::read(words).unwrap()
    }

    #[test]
    fn what_is_told_is_heard() {
        let rlimits = [
            (Resource::Nofile, Rlimit { soft: Some(7), hard: None }),
            (Resource::As, Rlimit { soft: Some(0), hard: Some(u64::MAX) }),
        ];
        let confine = Confine {
            user: Some("ann".into()),
            group: Some("12".into()),
            umask: Some(0o027),
            nice: Some(-3),
            rlimits: rlimits.into(),
            ..Confine::default()
        };
        let private = Private {
            dir: "/out/1.t.1".into(),
            json: "/e/1.json".into(),
            files: "/e/1".into(),
            credentials: vec!["/run/c/db".into(), "/run/c/a=b".into()],
        };
        let full = Exec { private: Some(private.clone()), ..exec(Some(confine.clone())) };
        let order = read(&full, Some(Path::new("/sys/fs/cgroup/x y/1.t.1")));
        assert_eq!(order.cgroup.as_deref(), Some(Path::new("/sys/fs/cgroup/x y/1.t.1")));
        assert_eq!((order.confine, order.private), (confine, Some(private)));
        assert_eq!(order.left.as_deref(), Some(Path::new("/left/1/1.t.1")));
        assert_eq!(order.cwd.into_vec(), b"/srv=\xff");
        assert_eq!(order.argv.len(), 3);
        let plain = read(&exec(None), None);
        assert_eq!((plain.cgroup, plain.confine), (None, Confine::default()));
        assert_eq!(plain.program, "/bin/t=x");
    }

    #[test]
    fn what_dagd_did_not_write_is_no_order() {
        let all = |words: &[&str]| Order::read(words.iter().map(OsString::from));
        assert_eq!(all(&[]), None);
        assert_eq!(all(&["--", "x"]), None);
        assert_eq!(all(&["program=/x", "--"]), None);
        assert_eq!(all(&["program=/x", "nonsense", "--", "x"]), None);
        assert_eq!(all(&["program=/x", "other=1", "--", "x"]), None);
        assert_eq!(all(&["program=/x", "rlimit=nofile:1", "--", "x"]), None);
        assert!(all(&["program=/x", "--", "x"]).is_some());
    }

    #[test]
    fn a_report_comes_through() {
        for (step, text) in [(Step::Folder, ""), (Step::Program, ""), (Step::Other, "a b")] {
            let failed = Failed { step, errno: 13, text: text.into() };
            assert_eq!(Failed::heard(&failed.told()), failed);
        }
        assert_eq!(Failed::heard(b"?").step, Step::Other);
    }
}
