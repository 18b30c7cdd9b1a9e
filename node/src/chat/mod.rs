//! A terminal client.
//!
//! Owns: one conversation on screen: history, live messages, receipts, commands.
//! Must not know: how messages travel or are encrypted; the client does.
//! Invariants: nothing another user wrote reaches the terminal but as printable text.

mod clock;
mod commands;
mod conversation;
mod frames;
mod input;
mod open;
mod pending;
mod screen;
mod sending;
#[cfg(test)]
mod tests;
mod typing;
mod view;

pub use clock::LocalTime;
pub use conversation::{ChatConfig, ChatError, chat};
pub use input::Line;
pub use open::Target;
pub use view::{Style, View};
