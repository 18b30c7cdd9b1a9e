//! Which conversation to enter.
//!
//! Owns: finding a thread, or creating it.
//! Must not know: what is then said.

use super::conversation::ChatError;
use messenger_client::e2e::Vault;
use messenger_client::{NewThread, Rest, Thread, fresh_key};
use messenger_proto::ids::{ThreadId, UserId};

/// Pages of the thread list that are searched for a group.
const PAGES_MAX: usize = 100;

/// The conversation asked for.
#[derive(Debug, Clone)]
pub enum Target {
    /// The one with this user.
    With(UserId),
    /// The group of this title; created with these members if there is none.
    Group {
        /// Its title.
        title: String,
        /// Whom to invite.
        members: Vec<UserId>,
    },
    /// This very one.
    Thread(ThreadId),
}

/// A conversation that was found.
pub(super) struct Opened {
    pub(super) thread: Thread,
    /// Why the cluster could not be asked, if it could not.
    pub(super) offline: Option<String>,
}

impl Target {
    /// What this device knows the conversation by.
    fn name(&self) -> String {
        match self {
            Self::With(user) => format!("with {user}"),
            Self::Group { title, .. } => format!("group {title}"),
            Self::Thread(id) => format!("thread {id}"),
        }
    }
}

/// Finds or creates the thread; what this device knows of it has to do while no node can be reached.
///
/// # Errors
/// [`ChatError`].
pub(super) async fn open(rest: &Rest, vault: &Vault, target: &Target) -> Result<Opened, ChatError> {
    let name = target.name();
    match find(rest, target).await {
        Ok(thread) => {
            vault.remember(&name, &thread)?;
            Ok(Opened { thread, offline: None })
        }
        Err(ChatError::Client(error)) if error.retryable() => match vault.remembered(&name)? {
            Some(thread) => Ok(Opened { thread, offline: Some(error.to_string()) }),
            None => Err(error.into()),
        },
        Err(error) => Err(error),
    }
}

async fn find(rest: &Rest, target: &Target) -> Result<Thread, ChatError> {
    match target {
        Target::With(user) => Ok(rest.create_thread(&NewThread::one_to_one(user), &fresh_key()).await?),
        Target::Thread(id) => Ok(rest.thread(*id).await?),
        Target::Group { title, members } => match find_group(rest, title).await? {
            Some(thread) => Ok(thread),
            None if members.is_empty() => Err(ChatError::NoGroup(title.clone())),
            None => Ok(rest.create_thread(&NewThread::group(Some(title.clone()), members), &fresh_key()).await?),
        },
    }
}

async fn find_group(rest: &Rest, title: &str) -> Result<Option<Thread>, ChatError> {
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let page = rest.threads(Some(100), cursor.as_deref()).await?;
        let found = page.threads.into_iter().map(|summary| summary.thread);
        let mut found = found.filter(|thread| thread.kind == "GROUP" && thread.title.as_deref() == Some(title));
        if let Some(thread) = found.next() {
            return Ok(Some(thread));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(None)
}
