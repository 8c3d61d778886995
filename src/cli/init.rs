//! `init`: writes a small configuration to start from.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Context;
use super::exit::{Exit, Failure, Outcome};
use super::find::CONFIG;
use super::text::visible;

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to write it into
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// What is written: it works as it is.
pub const TEXT: &str = r#"# A configuration of dagd. Try it:
#
#   dagd --config dagd.toml run          in one terminal
#   echo hello > inbox/hello.txt         in another
#   dagd --config dagd.toml runs         lists what ran
#
# Relative paths are relative to this file.

[daemon]
state_dir = "state"            # history, ledger and logs
runtime_dir = "state/run"      # the control socket

# Tasks: commands with what they need. They start when that is done.

[tasks.checksum]
command = ["sha256sum", "{path}"]            # an argument list; no shell is involved

[tasks.report]
needs = ["checksum"]
shell = '''
printf '%s  %s bytes\n' "$DAGD_REL" "$(wc -c < "$DAGD_PATH")" >> report.txt
'''
cwd = "."

# Triggers: what sets tasks off.

[triggers.inbox]
drop = "inbox"                 # each file in it, once, when it is complete
run = "checksum+"              # checksum, and all that depends on it
move = "done/"                 # where a file goes when its run succeeded
move_failed = "failed/"        # and when it failed
"#;

/// Writes it, with the folder that it watches. Never overwrites.
pub fn init(args: &InitArgs, context: &mut Context) -> Outcome {
    let path = args.dir.join(CONFIG);
    let shown = visible(&path.display().to_string());
    folder(&args.dir)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(
            |error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    Failure::failed(format!("{shown} is there already and stays as it is"))
                }
                _ => Failure::failed(format!("{shown}: {error}")),
            },
        )?;
    file.write_all(TEXT.as_bytes())
        .map_err(|error| Failure::failed(format!("{shown}: {error}")))?;
    folder(&args.dir.join("inbox"))?;
    let inbox = visible(&args.dir.join("inbox/hello.txt").display().to_string());
    context.screen.line(&format!("wrote {shown}; try it:\n"))?;
    let commands = [
        (format!("dagd --config {shown} run"), "in one terminal"),
        (format!("echo hello > {inbox}"), "in another"),
        (format!("dagd --config {shown} runs"), "lists what ran"),
    ];
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    for (command, what) in commands {
        let gap = " ".repeat(width - command.chars().count());
        context.screen.line(&format!("  {command}{gap}   {what}"))?;
    }
    Ok(Exit::Done)
}

fn folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}
