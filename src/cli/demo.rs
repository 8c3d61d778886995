//! `demo`: dagd at work before the newcomer's eyes, in a folder of its own.
//!
//! A real daemon, real commands, and every claim checked: the exit code is 0 only if all of it
//! came true.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rustix::process::Signal;

use super::Context;
use super::demo_daemon::Daemon;
use super::demo_files::{ADDED, CONFIG, Dropped, NOTE, ORDERS};
use super::exit::{Exit, Failure, Outcome};
use super::find::{CONFIG as CONFIG_NAME, SOCKET};
use super::render::Screen;
use super::text::{Paint, between, duration, state_paint, visible};
use crate::wire::Run;

/// Bytes of a socket's path, at most, on every Unix that dagd runs on.
const SOCKET_PATH_MAX: usize = 100;

/// Tries to find a folder's name that is free.
const FOLDERS_MAX: u32 = 1000;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder to use, which must not be there yet [default: one in the temporary folder]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Plays it. Keeps the folder, ends the daemon.
pub fn demo(args: &DemoArgs, context: &mut Context) -> Outcome {
    let folder = folder(args.dir.as_deref())?;
    let mut stage =
        Stage { folder, screen: &mut context.screen, step: 0, told: Vec::new(), failed: 0 };
    let played = stage.play();
    if let Err(failure) = played {
        let kept = visible(&stage.folder.display().to_string());
        let text = format!("the demo did not come true: {failure}\neverything is kept in {kept}");
        return Err(Failure { text, ..failure });
    }
    Ok(Exit::Done)
}

struct Stage<'a> {
    folder: PathBuf,
    screen: &'a mut Screen,
    step: u32,
    /// Runs that have been shown.
    told: Vec<u64>,
    /// The run that failed, as it must.
    failed: u64,
}

impl Stage<'_> {
    fn play(&mut self) -> Result<(), Failure> {
        let config = self.configure()?;
        let began = Instant::now();
        self.heading("The daemon starts.")?;
        let socket = self.folder.join("run").join(SOCKET);
        let daemon = Daemon::start(&config, &socket, &self.folder.join("dagd.log"))?;
        let took = duration(began.elapsed());
        self.say(&format!("it watches after {took} (pid {})", daemon.pid()))?;

        self.heading("Three files are dropped into inbox/; one of them is broken.")?;
        for file in &ORDERS {
            self.drop_file(file)?;
        }
        let runs = self.watch(&daemon, ORDERS.len())?;
        for file in &ORDERS {
            self.check_file(&daemon, &runs, file)?;
        }
        self.say("each file ran once; the broken one set off the alert and was put aside")?;

        self.heading("The daemon gets a SIGUSR1.")?;
        daemon.signal(Signal::USR1)?;
        let runs = self.watch(&daemon, ORDERS.len() + 1)?;
        check_signal(&runs)?;

        self.heading("The configuration gets a new trigger, and the daemon reloads it.")?;
        let reloaded = Self::reload(&daemon, &config)?;
        self.say(&visible(&reloaded))?;

        self.heading("A file is dropped into notes/, which the daemon did not know before.")?;
        self.drop_file(&NOTE)?;
        let runs = self.watch(&daemon, ORDERS.len() + 2)?;
        self.check_file(&daemon, &runs, &NOTE)?;

        self.heading("The daemon stops.")?;
        daemon.stop()?;
        self.say("every process of it is gone")?;
        self.farewell(began)
    }

    fn configure(&mut self) -> Result<PathBuf, Failure> {
        let style = self.screen.style;
        let shown = visible(&self.folder.display().to_string());
        self.screen.line(&format!("dagd demo, in {}", style.paint(Paint::Bold, &shown)))?;
        self.heading("A configuration is written: five tasks, a drop folder, a signal.")?;
        self.say("inbox/*.csv   checksum -> count -> report, or alert if one of them fails")?;
        self.say("SIGUSR1       rotate")?;
        for name in ["inbox", "done", "failed", "notes"] {
            make_folder(&self.folder.join(name))?;
        }
        let config = self.folder.join(CONFIG_NAME);
        write(&config, CONFIG)?;
        Ok(config)
    }

    fn heading(&mut self, text: &str) -> Result<(), Failure> {
        self.step += 1;
        let style = self.screen.style;
        let number = style.paint(Paint::Dim, &format!("{}.", self.step));
        self.screen.line(&format!("\n{number} {}", style.paint(Paint::Bold, text)))
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.screen.line(&format!("   {text}"))
    }

    /// Written under a name that counts: the daemon must not take it before it is complete.
    fn drop_file(&mut self, file: &Dropped) -> Result<(), Failure> {
        write(&self.folder.join(file.folder).join(file.name), file.content)
    }

    /// Shows runs as they end, until there are as many as expected.
    fn watch(&mut self, daemon: &Daemon, number: usize) -> Result<Vec<Run>, Failure> {
        let mut told = std::mem::take(&mut self.told);
        let runs = daemon.until_ended(number, &mut told, &mut |run| self.tell(run));
        self.told = told;
        let runs = runs?;
        if runs.len() == number {
            return Ok(runs);
        }
        Err(daemon.failure(&format!("there are {} runs instead of {number}", runs.len())))
    }

    fn tell(&mut self, run: &Run) -> Result<(), Failure> {
        let state = format!("{:<9}", run.state);
        let state = self.screen.style.paint(state_paint(&run.state), &state);
        let what = match run.files.first() {
            Some(file) => match &file.moved_to {
                Some(to) => format!("{} -> {}", file.rel, self.short(Path::new(&to.path))),
                None => file.rel.clone(),
            },
            None => run.reason.clone(),
        };
        let took = between(run.started_at.as_deref(), run.ended_at.as_deref());
        let trigger = run.trigger.as_deref().unwrap_or("-");
        if run.state == "failed" {
            self.failed = run.id;
        }
        let line = format!("{:<7} {:<36}", visible(trigger), visible(&what));
        let took = self.screen.style.paint(Paint::Dim, &took);
        self.say(&format!("run {:<2} {state}  {line}  {took}", run.id))
    }

    /// A path as seen from the demo's folder.
    fn short(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).display().to_string()
    }

    /// The file ran exactly once, ended as it must, and is where it must be.
    fn check_file(&self, daemon: &Daemon, runs: &[Run], dropped: &Dropped) -> Result<(), Failure> {
        let name = dropped.name;
        let of_file = |run: &&Run| run.files.iter().any(|file| file.rel == name);
        let found: Vec<&Run> = runs.iter().filter(of_file).collect();
        let [run] = found.as_slice() else {
            return Err(daemon.failure(&format!("{name} ran {} times, not once", found.len())));
        };
        if run.state != dropped.state {
            let (id, state, wanted) = (run.id, &run.state, dropped.state);
            return Err(daemon.failure(&format!("run {id} of {name} {state}, not {wanted}")));
        }
        let lands = self.folder.join(dropped.lands.unwrap_or(dropped.folder)).join(name);
        let content = std::fs::read_to_string(&lands).unwrap_or_default();
        if content != dropped.content {
            let lands = self.short(&lands);
            return Err(daemon.failure(&format!("{name} is not as it was at {lands}")));
        }
        if dropped.lands.is_some() && self.folder.join(dropped.folder).join(name).exists() {
            return Err(daemon.failure(&format!("{name} was not moved away")));
        }
        if dropped.state == "failed" {
            let tasks = daemon.run(run.id)?.tasks;
            if !tasks.iter().any(|task| task.name == "alert" && task.state == "succeeded") {
                return Err(daemon.failure(&format!("{name} failed without an alert")));
            }
        }
        Ok(())
    }

    fn reload(daemon: &Daemon, config: &Path) -> Result<String, Failure> {
        // Written anew and put in place in one step: a reload never sees half of it.
        let fresh = config.with_extension("toml.new");
        write(&fresh, &format!("{CONFIG}{ADDED}"))?;
        std::fs::rename(&fresh, config)?;
        let reloaded = daemon.reload()?;
        if reloaded.ok {
            Ok(reloaded.text.lines().collect::<Vec<_>>().join(", "))
        } else {
            Err(daemon.failure(&format!("the reload was refused: {}", reloaded.text)))
        }
    }

    fn farewell(&mut self, began: Instant) -> Result<(), Failure> {
        let style = self.screen.style;
        let good = style.paint(Paint::Good, "All of it came true");
        self.screen.line(&format!("\n{good}, in {}.\n", duration(began.elapsed())))?;
        let config = visible(&self.folder.join(CONFIG_NAME).display().to_string());
        let at = |name: &str| visible(&self.folder.join(name).display().to_string());
        let places = [
            (config.clone(), "the configuration"),
            (at("done"), "files whose run succeeded"),
            (at("failed"), "files whose run failed"),
            (at("state"), "history and the output of every task"),
            (at("dagd.log"), "what the daemon had to say"),
        ];
        let width = places.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
        for (path, what) in places {
            let fill = " ".repeat(width - path.chars().count());
            self.screen.line(&format!("  {path}{fill}  {}", style.paint(Paint::Dim, what)))?;
        }
        let failed = self.failed;
        self.screen.line("\nLook further (the history can be read without the daemon):\n")?;
        for verb in ["runs".to_owned(), format!("show {failed}"), format!("logs {failed}")] {
            self.screen.line(&format!("  dagd --config {config} {verb}"))?;
        }
        self.screen.line(&format!(
            "\nor start it again and drop files of your own:\n\n  dagd --config {config} run"
        ))
    }
}

fn check_signal(runs: &[Run]) -> Result<(), Failure> {
    let by_signal: Vec<&Run> = runs.iter().filter(|run| run.reason == "signal").collect();
    match by_signal.as_slice() {
        [run] if run.state == "succeeded" && run.trigger.as_deref() == Some("rotate") => Ok(()),
        [run] => Err(Failure::failed(format!("the signal's run {} {}", run.id, run.state))),
        more => Err(Failure::failed(format!("the signal made {} runs, not one", more.len()))),
    }
}

/// A new folder, private to its owner, in which a socket has room.
fn folder(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = match wanted {
        Some(wanted) => {
            let path = std::path::absolute(wanted)?;
            private(&path).map_err(|error| unmade(&path, &error))?;
            path
        }
        None => temporary()?,
    };
    let path = path.canonicalize().unwrap_or(path);
    let socket = path.join("run").join(SOCKET);
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let (path, socket) = (path.display(), socket.display());
        return Err(Failure::failed(format!(
            "{socket} is too long for a socket; name a shorter folder: dagd demo /tmp/demo \
             (and remove {path})"
        )));
    }
    Ok(path)
}

/// A folder of a name that is free.
fn temporary() -> Result<PathBuf, Failure> {
    let pid = std::process::id();
    for number in 0..FOLDERS_MAX {
        let path = std::env::temp_dir().join(match number {
            0 => format!("dagd-demo-{pid}"),
            _ => format!("dagd-demo-{pid}-{number}"),
        });
        match private(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unmade(&path, &error)),
        }
    }
    Err(Failure::failed("the temporary folder is full of demos; remove some"))
}

fn private(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn unmade(path: &Path, error: &std::io::Error) -> Failure {
    let shown = path.display();
    Failure::failed(match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{shown} is there already; name a folder that is not, it will be made")
        }
        _ => format!("cannot make the folder {shown}: {error}"),
    })
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().mode(0o755).create(path);
    made.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// Writes a file that nobody else may write, as a configuration must be.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o644).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}
