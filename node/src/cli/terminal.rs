//! What the terminal can take.
//!
//! Owns: whether to colour, and progress bars.
//! Must not know: what is printed.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Whether standard output shows colours and wants them (<https://no-color.org>).
pub(super) fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
    std::io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A bar over a known time, on standard error; hidden where nobody watches.
pub(super) fn bar(title: &str, total: Duration) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total.as_millis() as u64).with_message(title.to_owned());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {prefix}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A spinner for what takes as long as it takes.
pub(super) fn spinner(title: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
