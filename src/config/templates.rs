//! Strings with placeholders, read with a caret at each placeholder that cannot be.
//!
//! Says which placeholder may stand where. Whether a trigger can fill it is asked in
//! [`super::reach`].

use std::path::Path;

use super::diagnostics::{Problem, Span};
use super::reader::{Reader, Value, list};
use super::words;
use crate::core::template::{Piece, Slot, Template, TemplateError};

/// Where a template stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// An argument of `command`.
    Argument,
    /// `cwd` or the value of a variable.
    Value,
    /// The target of a move.
    Move,
    /// `order_key`.
    OrderKey,
}

impl Use {
    fn allows(self, slot: &Slot) -> bool {
        match self {
            Self::Argument | Self::Value => true,
            Self::Move => matches!(
                slot,
                Slot::Rel
                    | Slot::Name
                    | Slot::Stem
                    | Slot::Ext
                    | Slot::Date(_)
                    | Slot::Trigger
                    | Slot::Run
                    | Slot::Root
            ),
            Self::OrderKey => slot.needs_file() || matches!(slot, Slot::Root | Slot::Trigger),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Argument | Self::Value => &Slot::NAMES,
            Self::Move => {
                &["{rel}", "{name}", "{stem}", "{ext}", "{date:…}", "{trigger}", "{run}", "{root}"]
            }
            Self::OrderKey => {
                &["{path}", "{rel}", "{name}", "{stem}", "{ext}", "{dir}", "{root}", "{trigger}"]
            }
        }
    }
}

/// A placeholder that not every run can fill.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Which.
    pub slot: Slot,
    /// Where.
    pub span: Span,
}

/// A template and what it asks for.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The template.
    pub template: Template,
    /// What it asks for.
    pub demands: Vec<Demand>,
}

/// Reads `text`, which stands at `value`.
pub fn read<'s>(reader: &mut Reader<'s>, value: Value<'s>, text: &str, how: Use) -> Option<Filled> {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(first) => {
            faults(reader, value, text, first);
            return None;
        }
    };
    if template.slots().next().is_none() {
        return Some(Filled { template, demands: Vec::new() });
    }
    let mut demands = Vec::new();
    let mut good = true;
    for (at, slot) in words::slots(text) {
        let len = text[at..].find('}').map_or(1, |end| end + 1);
        let span = reader.within(value.span(), at, len);
        let whole = &text[at..at + len];
        if !how.allows(&slot) {
            good = false;
            let help = format!("it can have {}", list(how.names(), "and"));
            let what = format!("`{whole}` cannot stand in `{}`", value.name);
            reader.note(Problem::at(span, what).help(help));
        } else if slot == Slot::Paths && !(how == Use::Argument && template.is_paths()) {
            good = false;
            let problem = Problem::at(span, "`{paths}` must be an argument of its own")
                .label("stands for one argument per file")
                .help("write \"{paths}\" as a whole item of `command`");
            reader.note(problem);
        } else if slot.needs_folder() || slot.needs_signal() || matches!(slot, Slot::Out { .. }) {
            demands.push(Demand { slot, span });
        }
    }
    good.then_some(Filled { template, demands })
}

/// Notes every fault of `text`; the parser stops at the first.
fn faults<'s>(reader: &mut Reader<'s>, value: Value<'s>, text: &str, first: TemplateError) {
    let mut base = 0;
    let mut fault = Some(first);
    while let Some(error) = fault {
        let (TemplateError::Unknown { at, .. } | TemplateError::BadDate { at, .. }) = error;
        let open = base + at;
        let len = text[open..].find('}').map_or(1, |end| end + 1);
        let span = reader.within(value.span(), open, len);
        let problem = Problem::at(span, error.to_string());
        let problem = match error {
            TemplateError::Unknown { name, .. } if name.starts_with("out.") => {
                problem.help("an output is written {out.TASK.KEY}")
            }
            TemplateError::Unknown { name, .. } => {
                let meant = reader.suggest.like(&name, Slot::NAMES);
                let meant = meant.map_or_else(
                    || format!("the placeholders are {}", list(&Slot::NAMES, "and")),
                    |meant| format!("did you mean `{{{meant}}}`?"),
                );
                let literal = format!("to have these characters literally, write {{{{{name}}}");
                problem.help(meant).help(literal)
            }
            TemplateError::BadDate { .. } => {
                problem.help("formats are those of strftime, as in {date:%Y%m%d}")
            }
        };
        reader.note(problem);
        base = open + 1;
        fault = Template::parse(&text[base..]).err();
    }
}

/// Whether a template yields an absolute path for certain: it begins with a slash or with a
/// placeholder that does.
pub fn is_absolute(template: &Template) -> bool {
    match template.pieces().first() {
        Some(Piece::Literal(text)) => text.starts_with('/'),
        Some(Piece::Slot(slot)) => matches!(slot, Slot::Path | Slot::Dir | Slot::Root),
        None => false,
    }
}

/// The template for a path: a relative one begins in the folder of its file. `text` is what
/// `template` was parsed from.
pub fn anchored<'s>(
    reader: &mut Reader<'s>,
    value: Value<'s>,
    text: &str,
    template: Template,
) -> Option<Template> {
    if is_absolute(&template) {
        return Some(template);
    }
    let folder: &Path = reader.folder(value.key.file);
    let Some(folder) = folder.to_str() else {
        let what = format!("`{}` must be absolute here", value.name);
        let help = "the name of this file's folder is not UTF-8, so nothing can be relative to it";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    };
    let slash = if folder.ends_with('/') { "" } else { "/" };
    let rest = Template::parse(text.trim_start_matches("./")).ok()?;
    Some(rest.prefixed(&format!("{folder}{slash}")))
}
