//! Reads tasks and their defaults.
//!
//! From a TOML table to a [`RawTask`]: every key that was written, typed, with its place where a
//! later check needs it. What the keys mean together is decided in [`super::tasks`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::confine;
use super::diagnostics::{Problem, Span};
use super::keys::{RETRY, TASK};
use super::reader::{At, Reader, Value};
use super::templates::{self, Filled, Use};
use super::words;
use crate::core::confine::Confine;
use crate::core::filter::Pattern;
use crate::core::task::{FailureKind, OnCrash, OnDaemonStop, Rule};

/// Bytes in the name of a credential, at most: it is a file's.
const CREDENTIAL_MAX: usize = 255;

/// Retries that can be asked for.
const RETRIES_MAX: i64 = 1_000_000;

/// Demand on a pool, at most: no pool is larger.
const DEMAND_MAX: i64 = 1_000_000;

/// A list of numbers or failures, each with its place.
pub type Codes<T> = Vec<At<T>>;

/// A task as written, or the defaults of all.
#[derive(Clone, Debug, Default)]
pub struct RawTask<'s> {
    /// `needs`.
    pub needs: Vec<At<&'s str>>,
    /// The keys among `command` and `shell` that were written.
    pub bodies: Vec<Span>,
    /// `command`, if it could be read.
    pub command: Option<Vec<Filled>>,
    /// `shell`, if it could be read.
    pub shell: Option<&'s str>,
    /// `shell_program`.
    pub shell_program: Option<At<Vec<String>>>,
    /// `env`.
    pub env: BTreeMap<&'s str, Filled>,
    /// `env_pass`.
    pub env_pass: Option<Vec<String>>,
    /// `credentials`.
    pub credentials: Option<Vec<String>>,
    /// `env_file`.
    pub env_file: Option<PathBuf>,
    /// `cwd`.
    pub cwd: Option<Filled>,
    /// `outputs`.
    pub outputs: Option<Vec<String>>,
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `kill_after`.
    pub kill_after: Option<Duration>,
    /// `retry`.
    pub retry: RawRetry,
    /// `success`.
    pub success: Option<Codes<i32>>,
    /// `skip`.
    pub skip: Option<Codes<i32>>,
    /// `uses`.
    pub uses: BTreeMap<&'s str, At<u32>>,
    /// `priority`.
    pub priority: Option<i32>,
    /// `tags`.
    pub tags: Option<Vec<&'s str>>,
    /// `allow_failure`.
    pub allow_failure: Option<bool>,
    /// `on_crash`.
    pub on_crash: Option<OnCrash>,
    /// `on_daemon_stop`.
    pub on_daemon_stop: Option<OnDaemonStop>,
    /// `rule`.
    pub rule: Option<Rule>,
    /// `log_max`.
    pub log_max: Option<u64>,
    /// As whom it runs and how much it may take.
    pub confine: Confine,
}

/// `retry` as written.
#[derive(Clone, Debug, Default)]
pub struct RawRetry {
    /// `max`.
    pub max: Option<u32>,
    /// `delay`.
    pub delay: Option<Duration>,
    /// `factor`.
    pub factor: Option<f64>,
    /// `max_delay`.
    pub max_delay: Option<At<Duration>>,
    /// `jitter`.
    pub jitter: Option<bool>,
    /// `on`.
    pub on: Option<Codes<FailureKind>>,
    /// `never_on`.
    pub never_on: Option<Codes<FailureKind>>,
}

impl<'s> RawTask<'s> {
    /// Reads one key of a task.
    pub fn read(&mut self, reader: &mut Reader<'s>, value: Value<'s>) {
        match value.name {
            "needs" => self.needs = needs(reader, value),
            "command" => {
                self.bodies.push(value.key);
                self.command = command(reader, value);
            }
            "shell" => {
                self.bodies.push(value.key);
                self.shell = shell(reader, value);
            }
            "shell_program" => self.shell_program = shell_program(reader, value),
            "env" => self.env = env(reader, value),
            "env_pass" => self.env_pass = Some(env_pass(reader, value)),
            "credentials" => self.credentials = Some(credentials(reader, value)),
            "env_file" => self.env_file = reader.path(value),
            "cwd" => self.cwd = cwd(reader, value),
            "outputs" => self.outputs = Some(outputs(reader, value)),
            "timeout" => {
                let help = "leave it out for no limit";
                self.timeout = reader
                    .duration(value)
                    .filter(|limit| not_zero(reader, value, limit.is_zero(), help));
            }
            "kill_after" => self.kill_after = reader.duration(value),
            "retry" => self.retry = retry(reader, value),
            "success" => self.success = Some(codes(reader, value)),
            "skip" => self.skip = Some(codes(reader, value)),
            "uses" => self.uses = uses(reader, value),
            "priority" => {
                let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
                self.priority = reader.int(value, range).and_then(|int| int.try_into().ok());
            }
            "tags" => self.tags = Some(tags(reader, value)),
            "allow_failure" => self.allow_failure = reader.flag(value),
            "on_crash" => self.on_crash = reader.choice(value, &ON_CRASH, &[]),
            "on_daemon_stop" => {
                self.on_daemon_stop = reader.choice(value, &ON_DAEMON_STOP, &[]);
            }
            "rule" => self.rule = reader.choice(value, &RULES, &[]),
            "log_max" => {
                self.log_max = reader
                    .size(value)
                    .filter(|&size| not_zero(reader, value, size == 0, "the default is 64MiB"));
            }
            name if confine::KEYS.contains(&name) => {
                confine::read(&mut self.confine, reader, value);
            }
            _ => {
                // A misspelt `command` is told once, not as a missing one, too.
                if reader.suggest.like(value.name, ["command", "shell"]).is_some() {
                    self.bodies.push(value.key);
                }
                reader.unknown(&TASK, value);
            }
        }
    }
}

const ON_CRASH: [(&str, OnCrash); 2] = [("retry", OnCrash::Retry), ("fail", OnCrash::Fail)];

const ON_DAEMON_STOP: [(&str, OnDaemonStop); 2] =
    [("stop", OnDaemonStop::Stop), ("leave", OnDaemonStop::Leave)];

const RULES: [(&str, Rule); 8] = [
    ("all_success", Rule::AllSuccess),
    ("all_done", Rule::AllDone),
    ("one_success", Rule::OneSuccess),
    ("one_failed", Rule::OneFailed),
    ("all_failed", Rule::AllFailed),
    ("none_failed", Rule::NoneFailed),
    ("none_failed_min_one_success", Rule::NoneFailedMinOneSuccess),
    ("always", Rule::Always),
];

/// Notes it if a value is zero where zero makes no sense.
pub fn not_zero<'s>(reader: &mut Reader<'s>, value: Value<'s>, zero: bool, help: &str) -> bool {
    if zero {
        let what = format!("`{}` cannot be zero", value.name);
        reader.note(Problem::at(value.span(), what).help(help));
    }
    !zero
}

fn needs<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<At<&'s str>> {
    let mut needs = reader.texts(value, "needs = [\"other_task\"]");
    if needs.len() < 2 {
        return needs;
    }
    let mut first: BTreeMap<&str, Span> = BTreeMap::new();
    needs.retain(|need| {
        let Some(&before) = first.get(need.value) else {
            first.insert(need.value, need.span);
            return true;
        };
        let what = format!("`needs` names task `{}` twice", words::shown(need.value));
        reader.note(Problem::at(need.span, what).also(before, "first named here"));
        false
    });
    needs
}

const COMMAND: &str = "command = [\"program\", \"argument\"]";

fn command<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<Filled>> {
    let help = format!("a command is a program and its arguments: {COMMAND}");
    let before = reader.problems().len();
    if value.is_text() {
        let line = reader.text(value)?;
        let words: Vec<String> =
            line.split_whitespace().map(|word| format!("\"{}\"", words::shown(word))).collect();
        let problem = Problem::at(value.span(), "`command` takes a list of strings, not a string");
        let list = format!("write command = [{}]", words.join(", "));
        reader.note(problem.help(list).help("for a line that a shell is to read, use `shell`"));
        return None;
    }
    let mut arguments = Vec::new();
    for item in reader.items(value, "strings", COMMAND) {
        let Some(text) = reader.text(item) else { continue };
        let Some(mut filled) = templates::read(reader, item, text, Use::Argument) else { continue };
        if arguments.is_empty() && text.is_empty() {
            reader
                .note(Problem::at(item.span(), "the program's name is empty").help(help.as_str()));
        } else if arguments.is_empty() && text.contains('/') && !text.starts_with('{') {
            filled.template = templates::anchored(reader, item, text, filled.template)?;
        }
        arguments.push(filled);
    }
    let sound = reader.problems().len() == before;
    if sound && arguments.is_empty() {
        reader.note(Problem::at(value.span(), "`command` is empty").help(help));
    }
    sound.then_some(arguments)
}

fn shell<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<&'s str> {
    let script = reader.text(value)?;
    if script.trim().is_empty() {
        let help = "write what the shell is to run, or use `command`";
        reader.note(Problem::at(value.span(), "`shell` is empty").help(help));
    }
    Some(script)
}

fn shell_program<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<Vec<String>>> {
    let words = reader.texts(value, "shell_program = [\"/bin/bash\", \"-c\"]");
    let mut words: Vec<String> = words.into_iter().map(|word| word.value.to_owned()).collect();
    let Some(program) = words.first_mut().filter(|program| !program.is_empty()) else {
        let help = "the default is [\"/bin/sh\", \"-ec\"]";
        reader.note(Problem::at(value.span(), "`shell_program` names no program").help(help));
        return None;
    };
    if program.contains('/') {
        let absolute = reader.folder(value.key.file).join(&*program);
        let absolute: PathBuf = absolute.components().collect();
        let Some(absolute) = absolute.to_str() else {
            let help = "write an absolute path: the name of this file's folder is not UTF-8";
            reader.note(Problem::at(value.span(), "cannot name this program").help(help));
            return None;
        };
        absolute.clone_into(program);
    }
    Some(value.at(words))
}

fn env<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> BTreeMap<&'s str, Filled> {
    let mut env = BTreeMap::new();
    for entry in reader.table(value, "{ NAME = \"value\" }") {
        variable(reader, entry.name, entry.key);
        let Some(text) = reader.text(entry) else { continue };
        if let Some(filled) = templates::read(reader, entry, text, Use::Value) {
            env.insert(entry.name, filled);
        }
    }
    env
}

fn variable(reader: &mut Reader<'_>, name: &str, span: Span) {
    if let Some(why) = words::variable_fault(name) {
        let what = format!("`{}` cannot be the name of a variable", words::shown(name));
        reader.note(Problem::at(span, what).help(why));
    }
}

fn env_pass<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<String> {
    let names = reader.texts(value, "env_pass = [\"SSL_CERT_FILE\"]");
    for name in &names {
        variable(reader, name.value, name.span);
    }
    names.into_iter().map(|name| name.value.to_owned()).collect()
}

/// Names as the service manager takes them, which are names of files.
fn credentials<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<String> {
    let names = reader.texts(value, "credentials = [\"db\"]");
    for name in &names {
        let fits = !matches!(name.value, "" | "." | "..") && name.value.len() <= CREDENTIAL_MAX;
        if !fits || name.value.bytes().any(|byte| !byte.is_ascii_graphic() || b"/:".contains(&byte))
        {
            let what = format!("`{}` cannot be the name of a credential", words::shown(name.value));
            let help = "it is the first part of LoadCredential=NAME:FILE in dagd's unit";
            reader.note(Problem::at(name.span, what).help(help));
        }
    }
    names.into_iter().map(|name| name.value.to_owned()).collect()
}

/// Patterns of what a task writes, made absolute.
fn outputs<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<String> {
    let mut outputs = Vec::new();
    for item in reader.texts(value, "[\"/srv/site/public/**\"]") {
        let path = reader.folder(item.span.file).join(item.value);
        let text: Option<String> =
            path.components().collect::<PathBuf>().to_str().map(str::to_owned);
        let fault = match &text {
            None => Some("it is not UTF-8".to_owned()),
            Some(text) => Pattern::new(text).err(),
        };
        if let Some(why) = fault.filter(|_| !item.value.is_empty()) {
            let what = format!("`{}` is no pattern: {why}", words::shown(item.value));
            let help = "name files or folders, absolute or relative to this file's folder, as in \
                        \"/srv/site/public/**\"";
            reader.note(Problem::at(item.span, what).help(help));
        }
        outputs.extend(text);
    }
    outputs
}

fn cwd<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Filled> {
    let text = reader.text(value)?;
    if text.is_empty() {
        reader.note(Problem::at(value.span(), "`cwd` is empty").help("leave it out for `/`"));
        return None;
    }
    let mut filled = templates::read(reader, value, text, Use::Value)?;
    filled.template = templates::anchored(reader, value, text, filled.template)?;
    Some(filled)
}

fn retry<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> RawRetry {
    let mut raw = RawRetry::default();
    for entry in reader.table(value, "{ max = 3, delay = \"2s\" }") {
        match entry.name {
            "max" => {
                raw.max = reader.int(entry, 0..=RETRIES_MAX).and_then(|int| int.try_into().ok());
            }
            "delay" => raw.delay = reader.duration(entry),
            "factor" => raw.factor = factor(reader, entry),
            "max_delay" => raw.max_delay = reader.duration(entry).map(|delay| entry.at(delay)),
            "jitter" => raw.jitter = reader.flag(entry),
            "on" => raw.on = Some(failures(reader, entry)),
            "never_on" => raw.never_on = Some(failures(reader, entry)),
            _ => reader.unknown(&RETRY, entry),
        }
    }
    raw
}

fn factor<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<f64> {
    let factor = reader.number(value)?;
    if factor.is_finite() && factor >= 1.0 {
        return Some(factor);
    }
    let help = "1.0 keeps the delay as it is, 2.0 doubles it each time";
    reader.note(Problem::at(value.span(), "`factor` must be at least 1").help(help));
    None
}

fn codes<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Codes<i32> {
    let before = reader.problems().len();
    let items = reader.items(value, "exit codes", "[0]");
    let codes: Codes<i32> = items
        .into_iter()
        .filter_map(|item| Some(item.at(i32::try_from(reader.int(item, 0..=255)?).ok()?)))
        .collect();
    if codes.is_empty() && value.name == "success" && reader.problems().len() == before {
        let help = "name the exit codes that are a success; the default is [0]";
        let what = "with an empty `success` the task can only fail";
        reader.note(Problem::at(value.span(), what).help(help));
    }
    codes
}

const FAILURES: [(&str, FailureKind); 3] =
    [("timeout", FailureKind::Timeout), ("signal", FailureKind::Signal), ("oom", FailureKind::Oom)];

fn failures<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Codes<FailureKind> {
    let items = reader.items(value, "exit codes and words", "[75, \"timeout\"]");
    let mut failures = Vec::new();
    for item in items {
        let read = if item.is_text() {
            reader.choice(item, &FAILURES, &[])
        } else {
            let code = reader.int(item, 0..=255).and_then(|code| i32::try_from(code).ok());
            code.map(FailureKind::Code)
        };
        failures.extend(read.map(|failure| item.at(failure)));
    }
    failures
}

fn uses<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> BTreeMap<&'s str, At<u32>> {
    let mut uses = BTreeMap::new();
    for entry in reader.table(value, "{ pool = 1 }") {
        let demand = reader.int(entry, 1..=DEMAND_MAX).and_then(|int| u32::try_from(int).ok());
        if let Some(demand) = demand {
            uses.insert(entry.name, At { value: demand, span: entry.key });
        }
    }
    uses
}

fn tags<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<&'s str> {
    let tags = reader.texts(value, "tags = [\"nightly\"]");
    for tag in &tags {
        if let Some(why) = words::name_fault(tag.value) {
            let what = format!("`{}` cannot be a tag", words::shown(tag.value));
            reader.note(Problem::at(tag.span, what).help(why));
        }
    }
    tags.into_iter().map(|tag| tag.value).collect()
}
