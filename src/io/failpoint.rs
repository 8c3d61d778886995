//! Places at which a test can kill this process: between any two steps of a claim, a run, a commit,
//! a move and a removal.
//!
//! A place is written `failpoint!("dispose.renamed")` and is in the table [`POINTS`], or it does not
//! compile. Only in a build with debug assertions is anything left of it: there the process ends, as
//! by `kill -9`, at the n-th time that it comes by the place that `DAGD_FAILPOINT=name:n` names.
//! With `DAGD_FAILPOINT=!name:n` the thread hangs there instead, with `DAGD_FAILPOINT=<name:path` it
//! waits there until somebody opens the named pipe at that path for writing. With
//! `DAGD_FAILPOINT=@path` it notes each place that it comes by in that file instead.

/// All places, in the order of a file's way. `tests/failpoints.rs` kills a daemon at each.
pub const POINTS: [&str; 24] = [
    "boot.swept",
    "boot.recovered",
    "commit.begun",
    "commit.done",
    "act.begun",
    "act.done",
    "sync.done",
    "run.spawned",
    "run.ended",
    "dispose.begun",
    "dispose.folders",
    "dispose.with_aside",
    "dispose.renamed",
    "dispose.linked",
    "dispose.copied",
    "dispose.placed",
    "dispose.aside",
    "dispose.replaced",
    "dispose.doomed",
    "dispose.removed",
    "dispose.put_back",
    "dispose.with_moved",
    "dispose.with_removed",
    "dispose.done",
];

/// The place of `name` in the table.
///
/// # Panics
/// When it is not there: while compiling.
pub const fn at(name: &str) -> usize {
    let mut at = 0;
    loop {
        assert!(at < POINTS.len(), "a failpoint is in the table of all");
        if same(POINTS[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A place at which a test can kill this process.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        {
            const AT: usize = $crate::io::failpoint::at($name);
            $crate::io::failpoint::armed::come_by(AT);
        }
    };
}
pub(crate) use failpoint;

/// What is behind a place in a build for tests.
#[cfg(debug_assertions)]
pub(crate) mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::POINTS;

    enum Wanted {
        Nothing,
        Death(usize, u64),
        Hang(usize, u64),
        Hold(usize, std::path::PathBuf),
        Note(std::path::PathBuf),
    }

    static WANTED: OnceLock<Wanted> = OnceLock::new();
    static TIMES: AtomicU64 = AtomicU64::new(0);

    fn wanted() -> Wanted {
        let Some(text) = std::env::var_os("DAGD_FAILPOINT") else { return Wanted::Nothing };
        let Some(text) = text.to_str() else { return Wanted::Nothing };
        if let Some(path) = text.strip_prefix('@') {
            return Wanted::Note(path.into());
        }
        let at = |name: &str| POINTS.iter().position(|point| *point == name);
        if let Some((name, pipe)) = text.strip_prefix('<').and_then(|text| text.split_once(':')) {
            return at(name).map_or(Wanted::Nothing, |at| Wanted::Hold(at, pipe.into()));
        }
        let hangs = text.strip_prefix('!');
        let (name, times) =
            hangs.unwrap_or(text).split_once(':').unwrap_or((hangs.unwrap_or(text), "1"));
        match (at(name), times.parse()) {
            (Some(at), Ok(times)) if hangs.is_some() => Wanted::Hang(at, times),
            (Some(at), Ok(times)) => Wanted::Death(at, times),
            _ => Wanted::Nothing,
        }
    }

    /// Ends the process, if it was asked to here.
    pub(crate) fn come_by(at: usize) {
        match WANTED.get_or_init(wanted) {
            Wanted::Nothing => {}
            Wanted::Death(wanted, times) => {
                if at == *wanted && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *times {
                    die();
                }
            }
            Wanted::Hang(wanted, times) => {
                while at == *wanted && TIMES.fetch_add(1, Ordering::SeqCst) + 1 >= *times {
                    std::thread::park();
                }
            }
            Wanted::Hold(wanted, pipe) => {
                if at == *wanted
                    && let Err(error) = std::fs::File::open(pipe)
                {
                    tracing::error!(%error, "a failpoint holds nobody");
                }
            }
            Wanted::Note(path) => {
                let noted = std::fs::OpenOptions::new().create(true).append(true).open(path);
                let line = format!("{}\n", POINTS[at]);
                if let Err(error) = noted.and_then(|mut file| file.write_all(line.as_bytes())) {
                    tracing::error!(%error, "a failpoint was not noted");
                }
            }
        }
    }

    /// As `kill -9` does it: nothing of this process goes on.
    fn die() {
        let own = rustix::process::getpid();
        if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
            tracing::error!(%error, "cannot be killed");
        }
        loop {
            std::thread::park();
        }
    }
}
