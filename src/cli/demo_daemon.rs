//! The daemon of the demo: a child process, and what it is asked.
//!
//! Every wait has a deadline. The process is ended with the value, however the demo ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::exit::Failure;
use super::run::WATCHING;
use super::stop::Process;
use crate::io::client::{Client, Listing};
use crate::wire::{Reload, Run, RunDetail};

/// Time for each step, on a slow machine.
pub const STEP_TIME: Duration = Duration::from_secs(20);

/// Time to stop.
const STOP_TIME: Duration = Duration::from_secs(20);

/// Pause between two looks at the runs. The API tells of no run before it is asked for.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Runs that the demo makes are fewer than this.
const RUNS_MAX: usize = 100;

/// A daemon of its own.
pub struct Daemon {
    child: Child,
    client: Client,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with the configuration and waits until it watches.
    pub fn start(config: &Path, socket: &Path, log: &Path) -> Result<Self, Failure> {
        let told = |what: &str, error: std::io::Error| Failure::failed(format!("{what}: {error}"));
        let output = std::fs::File::create(log).map_err(|e| told("cannot write the log", e))?;
        let program = std::env::current_exe().map_err(|e| told("cannot find the program", e))?;
        let mut child = Command::new(program)
            .arg("--config")
            .arg(config)
            .args(["--color", "never", "run"])
            .env_remove("DAGD_SOCKET")
            .env_remove("DAGD_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .map_err(|error| told("cannot start the daemon", error))?;
        let output = child.stdout.take();
        // From here on the child is ended, whatever happens.
        let client = Client::new(socket)?;
        let daemon = Self { child, client, log: log.to_owned() };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines());
            for line in lines.map_while(Result::ok) {
                // The demo may have ended; the pipe is read on, so that the daemon never blocks.
                drop(sender.send(line));
            }
        });
        match receiver.recv_timeout(STEP_TIME) {
            Ok(line) if line.starts_with(WATCHING) => Ok(daemon),
            Ok(line) => Err(daemon.failure(&format!("the daemon said `{line}`"))),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                Err(daemon.failure("the daemon ended before it watched anything"))
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                let waited = STEP_TIME.as_secs();
                Err(daemon.failure(&format!("the daemon did not get ready within {waited} s")))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What went wrong, with the end of the daemon's log.
    pub fn failure(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n  ");
        let shown = self.log.display();
        Failure::failed(if tail.is_empty() {
            format!("{what}; its log {shown} is empty")
        } else {
            format!("{what}; its log {shown} ends:\n  {tail}")
        })
    }

    /// All runs so far, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, Failure> {
        let listing = Listing { limit: Some(RUNS_MAX), trigger: None, state: None };
        let mut runs = self.client.runs(&listing).map_err(|e| self.failure(&e.to_string()))?;
        runs.reverse();
        Ok(runs)
    }

    /// Waits until there are `number` runs and all have ended; tells of each when it has.
    pub fn until_ended(
        &self,
        number: usize,
        told: &mut Vec<u64>,
        tell: &mut dyn FnMut(&Run) -> Result<(), Failure>,
    ) -> Result<Vec<Run>, Failure> {
        let deadline = Instant::now() + STEP_TIME;
        loop {
            let runs = self.runs()?;
            for run in runs.iter().filter(|run| run.ended_at.is_some()) {
                if !told.contains(&run.id) {
                    told.push(run.id);
                    tell(run)?;
                }
            }
            if told.len() >= number && told.len() == runs.len() {
                return Ok(runs);
            }
            if Instant::now() > deadline {
                let (ended, waited) = (told.len(), STEP_TIME.as_secs());
                return Err(
                    self.failure(&format!("{ended} of {number} runs ended within {waited} s"))
                );
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// One run with its tasks.
    pub fn run(&self, id: u64) -> Result<RunDetail, Failure> {
        self.client.run(id).map_err(|error| self.failure(&error.to_string()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::failed("the daemon has no process"))?;
        kill_process(pid, signal).map_err(|error| self.failure(&format!("no signal: {error}")))
    }

    /// Has it read its configuration again.
    pub fn reload(&self) -> Result<Reload, Failure> {
        self.client.reload().map_err(|error| self.failure(&error.to_string()))
    }

    /// Stops it gracefully.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.client.stop().map_err(|error| self.failure(&error.to_string()))?;
        let gone = match Process::of(self.pid()) {
            Some(process) => process.gone(Some(STOP_TIME))?,
            None => true,
        };
        if !gone {
            let waited = STOP_TIME.as_secs();
            return Err(self.failure(&format!("the daemon did not stop within {waited} s")));
        }
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failure(&format!("it ended with {status}")))
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Its tasks must go with it, which only it can see to; if it does not, it goes alone.
            drop(self.signal(Signal::TERM));
            let gone = Process::of(self.pid())
                .is_none_or(|process| process.gone(Some(Duration::from_secs(5))).unwrap_or(false));
            if !gone {
                drop(self.child.kill());
            }
            drop(self.child.wait());
        }
    }
}
