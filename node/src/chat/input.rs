//! What the person types.
//!
//! Owns: reading lines, from a terminal with editing or from a pipe, and telling commands from messages.
//! Must not know: what commands do.
//! Invariants: at most a few lines wait; reading never blocks the runtime.

use super::screen::Screen;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use std::io::{BufRead, IsTerminal, Write};
use tokio::sync::{mpsc, watch};

/// Lines that wait at most.
const WAITING: usize = 64;
/// A message's longest line, in bytes: what can be encrypted.
const LINE_MAX: usize = messenger_client::e2e::TEXT_MAX;

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// To be sent.
    Message(String),
    /// `/help`.
    Help,
    /// `/who`.
    Who,
    /// `/verify`.
    Verify,
    /// `/devices`.
    Devices,
    /// `/edit text`.
    Edit(String),
    /// `/delete`.
    Delete,
    /// `/react emoji`.
    React(String),
    /// `/history [n]`.
    History(Option<usize>),
    /// `/threads`.
    Threads,
    /// `/quit`, or the end of the input.
    Quit,
    /// Nothing was typed.
    Nothing,
    /// Cannot be done; says why.
    Wrong(String),
}

impl Line {
    /// Reads a line. What begins with `/` is a command, what begins with `//` a message that begins with `/`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.trim().is_empty() {
            return Self::Nothing;
        }
        if text.len() > LINE_MAX {
            return Self::Wrong(format!("a message holds {LINE_MAX} bytes at most"));
        }
        let Some(command) = text.strip_prefix('/') else { return Self::Message(text.to_owned()) };
        if command.starts_with('/') {
            return Self::Message(command.to_owned());
        }
        if let Some(text) = command.strip_prefix("edit ").map(str::trim).filter(|text| !text.is_empty()) {
            return Self::Edit(text.to_owned());
        }
        let mut words = command.split_whitespace();
        match (words.next().unwrap_or(""), words.next()) {
            ("help" | "h" | "?", None) => Self::Help,
            ("who" | "w", None) => Self::Who,
            ("verify", None) => Self::Verify,
            ("devices", None) => Self::Devices,
            ("delete", None) => Self::Delete,
            ("react", Some(emoji)) => Self::React(emoji.to_owned()),
            ("react", None) => Self::Wrong("/react takes an emoji".into()),
            ("edit", None) => Self::Wrong("/edit takes the new text".into()),
            ("threads", None) => Self::Threads,
            ("quit" | "q" | "exit", None) => Self::Quit,
            ("history", None) => Self::History(None),
            ("history", Some(number)) => match number.parse() {
                Ok(number @ 1..=1000) => Self::History(Some(number)),
                _ => Self::Wrong("/history takes a number from 1 to 1000".into()),
            },
            (other, _) => Self::Wrong(format!("/{other} is no command; /help lists them (write // to send a /)")),
        }
    }
}

/// Whether a line that is being edited is something to be said, as far as it goes: a message, or what becomes of one.
fn is_said(text: &str) -> bool {
    match text.trim_start().strip_prefix('/') {
        Some(command) => {
            command.starts_with('/') || command.strip_prefix("edit ").is_some_and(|text| !text.trim().is_empty())
        }
        None => !text.trim().is_empty(),
    }
}

/// Where lines come from, and where output goes so that it does not run into them.
pub(super) struct Console {
    pub(super) lines: mpsc::Receiver<Line>,
    /// Changes with every key, to whether the line is something to be said; never where lines come whole.
    pub(super) edited: watch::Receiver<bool>,
    pub(super) screen: Screen,
    pub(super) terminal: bool,
}

impl Console {
    /// The terminal, if that is what standard input and output are; plain lines otherwise.
    pub(super) fn open(prompt: String) -> Self {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let (sender, lines) = mpsc::channel(WAITING);
        let (edits, edited) = watch::channel(false);
        if terminal && let Some(screen) = edit_lines(prompt, sender.clone(), edits) {
            return Self { lines, edited, screen, terminal: true };
        }
        // The process ends with its main thread: this one need not be joined.
        std::thread::spawn(move || read_lines(std::io::stdin().lock(), &sender));
        Self { lines, edited, screen: Screen::plain(), terminal: false }
    }
}

fn read_lines(mut input: impl BufRead, lines: &mpsc::Sender<Line>) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match input.read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) if lines.blocking_send(Line::parse(&String::from_utf8_lossy(&bytes))).is_err() => return,
            Ok(_) => {}
        }
    }
    let _ = lines.blocking_send(Line::Quit);
}

/// Looks at the line while it is being edited: the editor asks for a hint after every key.
struct Onlooker(watch::Sender<bool>);

impl Hinter for Onlooker {
    type Hint = String;

    fn hint(&self, line: &str, _pos: usize, _history: &Context<'_>) -> Option<String> {
        self.0.send_replace(is_said(line));
        None
    }
}

impl Completer for Onlooker {
    type Candidate = String;
}

impl Highlighter for Onlooker {}
impl Validator for Onlooker {}
impl Helper for Onlooker {}

/// Starts a line editor on a thread of its own; `None` if the terminal does not take one.
fn edit_lines(prompt: String, lines: mpsc::Sender<Line>, edits: watch::Sender<bool>) -> Option<Screen> {
    let config = Config::builder().auto_add_history(true).build();
    let mut editor: Editor<Onlooker, MemHistory> = Editor::with_history(config, MemHistory::new()).ok()?;
    let printer = editor.create_external_printer().ok()?;
    editor.set_helper(Some(Onlooker(edits.clone())));
    std::thread::spawn(move || {
        loop {
            let read = editor.readline(&prompt);
            // Before the line itself: who hears of both late must not take it for being edited.
            edits.send_replace(false);
            let line = match read {
                Ok(text) => {
                    erase(&prompt, &text, editor.dimensions().map_or(80, |(columns, _)| columns));
                    Line::parse(&text)
                }
                // A resized window.
                Err(ReadlineError::Signal(_)) => continue,
                Err(_) => Line::Quit,
            };
            let over = line == Line::Quit;
            if lines.blocking_send(line).is_err() || over {
                return;
            }
        }
    });
    Some(Screen::terminal(Box::new(printer)))
}

/// Takes back the line that was typed: it comes again with its time once it is sent.
fn erase(prompt: &str, text: &str, columns: u16) {
    let width = prompt.chars().count() + text.chars().count();
    let rows = 1 + width.saturating_sub(1) / usize::from(columns.max(1));
    let mut out = std::io::stdout();
    // A terminal that takes no more is no reason to stop.
    let _ = write!(out, "\x1b[{rows}A\r\x1b[J").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_said_is_told_from_commands_before_it_is_whole() {
        for text in ["h", "hello ", "//", "//path", "/edit a"] {
            assert!(is_said(text), "{text:?}");
        }
        for text in ["", "  ", "/", "/wh", "/who", "/edit", "/edit  ", "/react x"] {
            assert!(!is_said(text), "{text:?}");
        }
    }

    #[test]
    fn commands_are_told_from_messages() {
        for (text, line) in [
            ("hello\n", Line::Message("hello".into())),
            ("  two words ", Line::Message("  two words ".into())),
            ("//help", Line::Message("/help".into())),
            ("/help", Line::Help),
            ("/who", Line::Who),
            ("/verify", Line::Verify),
            ("/devices", Line::Devices),
            ("/edit  what I meant ", Line::Edit("what I meant".into())),
            ("/delete", Line::Delete),
            ("/react +1", Line::React("+1".into())),
            ("/history", Line::History(None)),
            ("/history 5", Line::History(Some(5))),
            ("/threads", Line::Threads),
            ("/q", Line::Quit),
            ("\r\n", Line::Nothing),
            ("   ", Line::Nothing),
        ] {
            assert_eq!(Line::parse(text), line, "{text:?}");
        }
        for text in [
            "/",
            "/edit",
            "/react",
            "/history x",
            "/history 0",
            "/history 1001",
            "/nope",
            "/quit now",
            &"x".repeat(LINE_MAX + 1),
        ] {
            assert!(matches!(Line::parse(text), Line::Wrong(_)), "{text:.20}");
        }
    }

    #[test]
    fn a_pipe_gives_its_lines_and_then_the_end() {
        let (sender, mut lines) = mpsc::channel(8);
        read_lines(&b"one\n\xff\n/who\nlast"[..], &sender);
        let mut read = Vec::new();
        while let Ok(line) = lines.try_recv() {
            read.push(line);
        }
        let message = |text: &str| Line::Message(text.into());
        assert_eq!(read, [message("one"), message("\u{fffd}"), Line::Who, message("last"), Line::Quit]);
    }
}
