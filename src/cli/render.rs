//! The only place that prints.
//!
//! A [`Screen`] knows whether it is a terminal and how wide; what is printed is made elsewhere.

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;
use super::text::{Paint, Style, plain};

/// When to use colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where output goes.
pub struct Screen {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// For standard output.
    pub style: Style,
    /// Whether standard output is a terminal on which a line can be written anew.
    pub live: bool,
    err_style: Style,
}

impl Screen {
    /// The process's own.
    pub fn new(color: Color) -> Self {
        let term = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = |terminal: bool| Style {
            color: match color {
                Color::Auto => terminal && term && !plain,
                Color::Always => true,
                Color::Never => false,
            },
        };
        Self {
            style: style(io::stdout().is_terminal()),
            live: io::stdout().is_terminal() && term,
            err_style: style(io::stderr().is_terminal()),
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
        }
    }

    /// One that writes elsewhere, without colors.
    pub fn to(out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        let (style, err_style) = (Style::default(), Style::default());
        Self { out, err, style, live: false, err_style }
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes()).map_err(Failure::from)
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.text(&format!("{text}\n"))
    }

    /// Prints bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Prints a value as indented JSON.
    pub fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed(format!("no JSON can be made of it: {error}")))?;
        self.line(&text)
    }

    /// Tells something beside the output.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.err.write_all(format!("{text}\n").as_bytes())?;
        self.err.flush().map_err(Failure::from)
    }

    /// Tells why it came to no good end. If even that cannot be told, nothing can.
    pub fn failure(&mut self, failure: &Failure) {
        if failure.text.is_empty() {
            return;
        }
        let text = plain(failure.text.trim_end());
        // A report of the configuration brings its own heading.
        let told = if text.starts_with("error") {
            self.note(&text)
        } else {
            let head = self.err_style.paint(Paint::Bad, "dagd:");
            self.note(&format!("{head} {text}"))
        };
        drop(told);
    }
}
