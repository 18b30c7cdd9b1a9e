//! Where lines are shown.
//!
//! Owns: printing beside a line that is being typed, or plainly.
//! Must not know: what the lines say.

use rustyline::ExternalPrinter;
use std::io::Write;

/// Standard output.
pub(super) enum Screen {
    /// Beside an editor.
    Terminal(Box<dyn ExternalPrinter + Send>),
    /// Line by line.
    Plain(Box<dyn Write + Send>),
}

impl Screen {
    pub(super) fn plain() -> Self {
        Self::Plain(Box::new(std::io::stdout()))
    }

    pub(super) fn terminal(printer: Box<dyn ExternalPrinter + Send>) -> Self {
        Self::Terminal(printer)
    }

    /// Shows a line, or several.
    pub(super) fn show(&mut self, text: &str) {
        let line = format!("{text}\n");
        // Output that nobody takes any more is no reason to stop: the input will end too.
        match self {
            Self::Terminal(printer) => drop(printer.print(line)),
            Self::Plain(out) => drop(out.write_all(line.as_bytes()).and_then(|()| out.flush())),
        }
    }
}
