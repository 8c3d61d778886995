//! `doctor`: what the machine allows, and what to do where it does not allow enough.
//!
//! Looks with or without a daemon: with one, at that one's rights and mounts and at what it says of
//! its folders; without, at those of whoever asks. Changes nothing, and wakes no daemon that its
//! socket would start. Tells each finding when it is
//! known, so that a slow look is seen to go on. The facts come from [`crate::io`]; what they mean
//! for dagd is decided here: [`folders`], [`machine`], [`state`].

pub mod folders;
pub mod machine;
pub mod state;

use std::path::Path;

use super::exit::{Exit, Failure, Outcome};
use super::text::{Paint, Style, count, visible};
use super::{Context, Json};
use crate::io::config_files::{self, Loaded};
use crate::wire::{Finding, Level, Status};

/// Who is looked at.
pub struct Patient {
    /// The daemon that answers, if there is one.
    pub daemon: Option<Status>,
    /// The process whose rights and mounts count.
    pub pid: u32,
}

/// Where findings go when they are known.
pub type Tell<'a> = dyn FnMut(Finding) -> Result<(), Failure> + 'a;

/// A finding without a subject.
pub fn finding(check: &str, level: Level, found: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), subject: None, level, found: found.into(), remedy: None }
}

impl Finding {
    /// The same of one of several.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at everything. Exit code 1 if there is a problem; warnings are none.
pub fn doctor(args: Json, context: &mut Context) -> Outcome {
    let daemon = context.finder.awake().ok().and_then(|client| client.status().ok());
    let pid = daemon.as_ref().map_or_else(std::process::id, |status| status.pid);
    let patient = Patient { daemon, pid };
    let config = match &patient.daemon {
        Some(status) => Ok(status.config.clone().into()),
        None => context.finder.config(),
    };
    let state_dir = match &patient.daemon {
        Some(status) => status.state_dir.clone().into(),
        None => context.finder.state_dir(),
    };
    let loaded = config
        .and_then(|path| Ok((config_files::load(&path).map_err(Failure::from)?, path)))
        .map_err(|failure| failure.text);
    let loaded = loaded.as_ref().map(|(loaded, path)| (loaded, path.as_path()));
    let (mut all, screen) = (Vec::new(), &mut context.screen);
    let mut tell = |finding: Finding| {
        if !args.json {
            screen.text(&line(&finding, screen.style))?;
        }
        all.push(finding);
        Ok(())
    };
    examine(&patient, loaded.map_err(String::as_str), &state_dir, &mut tell)?;
    let worst = all.iter().map(|finding| finding.level).max();
    if args.json {
        context.screen.json(&all)?;
    } else {
        context.screen.line(&format!("\n{}", verdict(&all)))?;
    }
    Ok(if worst == Some(Level::Problem) { Exit::Failed } else { Exit::Done })
}

/// All checks, in an order in which a later one can be understood from those before.
fn examine(
    patient: &Patient,
    loaded: Result<(&Loaded, &Path), &str>,
    state_dir: &Path,
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    tell(daemon(patient))?;
    tell(configuration(loaded, patient.daemon.is_some()))?;
    let loaded = loaded.ok().map(|(loaded, _)| loaded);
    machine::rights(patient, loaded, tell)?;
    machine::containment(patient, tell)?;
    machine::clock(tell)?;
    if let Some(loaded) = loaded {
        folders::folders(patient, loaded, tell)?;
    }
    machine::told(patient, tell)?;
    machine::limits(patient, loaded, tell)?;
    state::state(patient, state_dir, tell)
}

fn daemon(patient: &Patient) -> Finding {
    match &patient.daemon {
        None => finding("daemon", Level::Note, "none answers; what follows is what you could do"),
        Some(status) => {
            let who = format!("version {}, pid {}", status.version, status.pid);
            match &status.stalled {
                None => finding("daemon", Level::Ok, format!("{who}, {}", status.state)),
                Some(why) => finding("daemon", Level::Problem, format!("{who}, stalled: {why}"))
                    .remedy("it goes on by itself once the disk takes writes again"),
            }
        }
    }
}

fn configuration(loaded: Result<(&Loaded, &Path), &str>, running: bool) -> Finding {
    match loaded {
        Ok((loaded, path)) => {
            let model = &loaded.resolved.model;
            let tasks = count(model.graph.len(), "task");
            let triggers = count(model.triggers.len(), "trigger");
            let found = format!("{}: valid; {tasks}, {triggers}", path.display());
            let found = finding("configuration", Level::Ok, found);
            match loaded.resolved.warnings.len() {
                0 => found,
                n => Finding { level: Level::Warning, ..found }
                    .remedy(format!("`dagd check` shows {}", count(n, "warning"))),
            }
        }
        Err(text) => {
            let first = text.lines().next().unwrap_or_default();
            // What may be read, and by whom written, depends on who reads it.
            let others = ["permission denied", "who is neither root nor dagd's"];
            if running && others.iter().any(|why| text.to_lowercase().contains(why)) {
                let found = format!("the daemon's to read, and not yours: {first}");
                return finding("configuration", Level::Note, found);
            }
            finding("configuration", Level::Problem, first).remedy("`dagd check` shows all of it")
        }
    }
}

/// A finding for people.
fn line(finding: &Finding, style: Style) -> String {
    let (word, paint) = match finding.level {
        Level::Ok => ("ok", Paint::Good),
        Level::Note => ("note", Paint::Dim),
        Level::Warning => ("warning", Paint::Warn),
        Level::Problem => ("problem", Paint::Bad),
    };
    let word = style.paint(paint, &format!("{word:<8}"));
    let subject = finding.subject.as_ref().map(|subject| format!("{}: ", visible(subject)));
    let (subject, found) = (subject.unwrap_or_default(), visible(&finding.found));
    let remedy = finding.remedy.as_ref().map(|remedy| format!("{:24}→ {}\n", "", visible(remedy)));
    format!("{word} {:<14} {subject}{found}\n{}", finding.check, remedy.unwrap_or_default())
}

/// How many of what there are.
fn verdict(all: &[Finding]) -> String {
    let of = |level| all.iter().filter(|finding| finding.level == level).count();
    match (of(Level::Problem), of(Level::Warning)) {
        (0, 0) => "All is well.".to_owned(),
        (0, warnings) => {
            format!("{}: dagd works, a promise holds in part.", count(warnings, "warning"))
        }
        (problems, 0) => format!("{}.", count(problems, "problem")),
        (problems, warnings) => {
            format!("{}, {}.", count(problems, "problem"), count(warnings, "warning"))
        }
    }
}
