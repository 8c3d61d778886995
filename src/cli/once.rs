//! `once`: runs a subgraph in this process, without a daemon, and shows how it goes.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{ArgGroup, Args};

use super::exit::{Exit, Failure, Outcome};
use super::render::Screen;
use super::text::{Paint, count, duration, put, state_paint, visible};
use super::{Context, run};
use crate::core::record::RunState;
use crate::daemon::{self, OnceArgs, OnceWhat, Progress};
use crate::io::log::{self, Form};

/// Lines of a failed task's output that are shown.
const TAIL_LINES: usize = 10;

/// Bytes of a log that are searched for them.
const TAIL_BYTES: u64 = 8 << 10;

/// Options of `once`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["trigger", "select"]))]
pub struct OnceCommand {
    /// A selection, such as `parse+` or `tag:nightly`
    #[arg(long, value_name = "SELECTOR", allow_hyphen_values = true)]
    pub select: Option<String>,
    /// A trigger, whose selection is run
    #[arg(long, value_name = "TRIGGER")]
    pub trigger: Option<String>,
    /// Files to run for
    #[arg(value_name = "PATH", requires = "trigger")]
    pub paths: Vec<PathBuf>,
    /// Record it in the state folder and keep its logs
    #[arg(long)]
    pub keep: bool,
    /// Tasks at once [default: as configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel: Option<u16>,
}

/// Exits as the run does.
pub fn once(args: OnceCommand, context: &mut Context) -> Outcome {
    let what = match (args.trigger, args.select) {
        (Some(name), _) => {
            let absolute = |path: &PathBuf| std::path::absolute(path);
            let paths = args.paths.iter().map(absolute).collect::<Result<_, _>>()?;
            OnceWhat::Trigger { name, paths }
        }
        (None, Some(select)) => OnceWhat::Select(select),
        (None, None) => return Err(Failure::usage("give --select or --trigger")),
    };
    let config = context.finder.config()?;
    // What fails is shown, and needs no second telling.
    log::start(run::Level::Error.filter(), Form::Text { ansi: false });
    let max_parallel = args.max_parallel.map(usize::from);
    let mut shown = Shown::new(&mut context.screen);
    let state = daemon::once(OnceArgs { config, what, keep: args.keep, max_parallel }, &mut shown)?;
    shown.summary(state)?;
    Ok(if state == RunState::Succeeded { Exit::Done } else { Exit::Failed })
}

/// Shows a run as it goes: a line per task that ended, and on a terminal below them one line with
/// what is running.
struct Shown<'a> {
    screen: &'a mut Screen,
    started: Instant,
    running: Vec<String>,
    ended: BTreeMap<String, usize>,
    logs: BTreeMap<String, PathBuf>,
    /// The last folder in which a log was written.
    folder: Option<PathBuf>,
    /// The first failure to print: the run goes on without a picture.
    broken: Option<Failure>,
}

/// Task names in the line of what is running, at most.
const RUNNING_SHOWN: usize = 4;

impl<'a> Shown<'a> {
    fn new(screen: &'a mut Screen) -> Self {
        Self {
            screen,
            started: Instant::now(),
            running: Vec::new(),
            ended: BTreeMap::new(),
            logs: BTreeMap::new(),
            folder: None,
            broken: None,
        }
    }

    fn print(&mut self, text: &str) {
        if self.broken.is_none() {
            self.broken = self.screen.text(text).err();
        }
    }

    fn erase(&mut self) {
        if self.screen.live {
            self.print("\r\x1b[K");
        }
    }

    fn redraw(&mut self) {
        if !self.screen.live || self.running.is_empty() {
            return;
        }
        let shown = self.running.iter().take(RUNNING_SHOWN).map(|name| visible(name));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = self.running.len().checked_sub(RUNNING_SHOWN) {
            put(&mut text, format_args!(" and {more} more"));
        }
        let text = self.screen.style.paint(Paint::Dim, &format!("running {text}"));
        self.print(&text);
    }

    fn ended_line(&mut self, task: &str, state: &str, detail: Option<&str>) {
        let style = self.screen.style;
        let mut line = format!(
            "{}  {}",
            style.paint(state_paint(state), &format!("{state:<9}")),
            visible(task)
        );
        if let Some(detail) = detail {
            put(&mut line, format_args!("  {}", style.paint(Paint::Dim, &visible(detail))));
        }
        self.print(&format!("{line}\n"));
        if let (true, Some(log)) = (is_bad(state), self.logs.remove(task)) {
            let lines = tail(&log);
            for line in lines {
                let bar = style.paint(Paint::Bad, "|");
                self.print(&format!("           {bar} {line}\n"));
            }
        }
    }

    fn summary(mut self, state: RunState) -> Result<(), Failure> {
        self.erase();
        let style = self.screen.style;
        let counts = self.ended.iter().map(|(state, number)| format!("{number} {state}"));
        let word = style.paint(state_paint(state.word()), state.word());
        let total: usize = self.ended.values().sum();
        let mut text = format!(
            "{word} in {}: {} ({})\n",
            duration(self.started.elapsed()),
            count(total, "task"),
            counts.collect::<Vec<_>>().join(", "),
        );
        if let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_dir()) {
            put(&mut text, format_args!("logs in {}\n", visible(&folder.display().to_string())));
        }
        self.print(&text);
        self.broken.map_or(Ok(()), Err)
    }
}

impl Progress for Shown<'_> {
    fn task(&mut self, _run: u64, task: &str, state: &str, detail: Option<&str>) {
        self.running.retain(|running| running != task);
        self.erase();
        match state {
            "running" => self.running.push(task.to_owned()),
            "waiting" | "ready" | "retrying" => {}
            _ => {
                *self.ended.entry(state.to_owned()).or_default() += 1;
                self.ended_line(task, state, detail);
            }
        }
        self.redraw();
    }

    fn run(&mut self, _run: u64, _state: &str) {}

    fn log(&mut self, _run: u64, task: &str, path: &Path) {
        self.folder = path.parent().map(Path::to_owned);
        self.logs.insert(task.to_owned(), path.to_owned());
    }
}

fn is_bad(state: &str) -> bool {
    matches!(state, "failed" | "timed_out" | "lost")
}

/// The last lines of a log, made safe. A log that cannot be read has none.
fn tail(log: &Path) -> Vec<String> {
    let read = || {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| visible(line)).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{self, Write};
    use std::path::Path;
    use std::rc::Rc;

    use super::{Screen, Shown};
    use crate::core::record::RunState;
    use crate::daemon::Progress as _;

    /// What was printed.
    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn played(live: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("1.b.1.log");
        let lines: Vec<String> = (1..=12).map(|n| format!("line {n}")).collect();
        std::fs::write(&log, lines.join("\n") + "\x1b[2J").unwrap();
        let paper = Paper::default();
        let mut screen = Screen::to(Box::new(paper.clone()), Box::new(io::sink()));
        screen.live = live;
        let mut shown = Shown::new(&mut screen);
        shown.task(1, "a", "running", None);
        shown.task(1, "a", "succeeded", None);
        shown.task(1, "b", "running", None);
        shown.log(1, "b", Path::new(&log));
        shown.task(1, "b", "failed", Some("exit 3"));
        shown.task(1, "c", "skipped", Some("upstream_failed"));
        shown.summary(RunState::Failed).unwrap();
        let text = String::from_utf8(paper.0.borrow().clone()).unwrap();
        text.replace(&folder.path().display().to_string(), "LOGS")
    }

    #[test]
    fn plain_lines_where_there_is_no_terminal() {
        let text = played(false);
        let at = text.find("failed in").unwrap();
        insta::assert_snapshot!(&text[..at], @r"
        succeeded  a
        failed     b  exit 3
                   | line 3
                   | line 4
                   | line 5
                   | line 6
                   | line 7
                   | line 8
                   | line 9
                   | line 10
                   | line 11
                   | line 12\u{1b}[2J
        skipped    c  upstream_failed
        ");
        assert!(text.ends_with("3 tasks (1 failed, 1 skipped, 1 succeeded)\nlogs in LOGS\n"));
    }

    #[test]
    fn a_terminal_shows_what_runs() {
        let text = played(true);
        assert!(text.starts_with("\r\x1b[Krunning a\r\x1b[Ksucceeded  a\n"), "{text:?}");
    }
}
