//! `messenger chat`.
//!
//! Owns: its arguments, and where its token comes from.
//! Must not know: how a conversation is held.

use super::{CliError, DataArgs, ServerArgs, terminal};
use crate::chat::{ChatConfig, ChatError, Target, chat};
use crate::dev_key::{DevKey, Grant};
use clap::Args;
use messenger_client::e2e::StoreError;
use messenger_client::{TokenSource, bearer_of};
use messenger_proto::ids::{DeviceId, ThreadId, UserId};

const EXAMPLES: &str = "\
Examples:
  messenger chat --as alice --with bob
  messenger chat --as bob --with alice --server http://127.0.0.1:7402
  messenger chat --as alice --group Friends --with bob,carol
  messenger chat --with bob --token \"$TOKEN\" --server http://chat.example:7401

What you write is end-to-end encrypted: only the devices of those in the conversation can read it, each by a key of its
own. The cluster still sees who writes to whom, in which conversation, when, from which device and about how long, who
has read it, titles of groups, reactions, and which messages were edited or deleted. /verify shows a number for each
person: if they see the same, nobody sits between you. What others send without encryption is marked as such.

Keys, messages and what waits to be sent are kept in DATA/chat/USER/DEVICE, sealed with the key file beside them; who has
both can read them. While you edit a line at a terminal, the others are told that you type, and nothing of what; --no-typing
keeps it to yourself. One chat of a device runs at a time. Lines are read from standard input, which need not be a
terminal. Colours come on a terminal alone, and not at all when NO_COLOR is set.";

/// Chat in the terminal
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    /// Who you are; with --token, whoever that names
    #[arg(long = "as", value_name = "USER", required_unless_present = "token")]
    user: Option<UserId>,
    /// With whom; with --group, whom to invite if it is new: several, or a list with commas
    #[arg(long, value_name = "USER", value_delimiter = ',', required_unless_present_any = ["group", "thread"])]
    with: Vec<UserId>,
    /// The title of a group
    #[arg(long, value_name = "TITLE", conflicts_with = "thread")]
    group: Option<String>,
    /// The id of a thread
    #[arg(long, value_name = "ID", conflicts_with = "with")]
    thread: Option<ThreadId>,
    #[command(flatten)]
    server: ServerArgs,
    /// A bearer token, instead of one signed with the local cluster's key
    #[arg(long, env = "MESSENGER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The name of this device; one connection at a time
    #[arg(long, default_value = "terminal")]
    device: DeviceId,
    /// How many earlier messages to show
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    history: u16,
    /// Don't tell the others that you type
    #[arg(long)]
    no_typing: bool,
    #[command(flatten)]
    data: DataArgs,
}

impl ChatArgs {
    fn target(&self) -> Result<Target, CliError> {
        match (&self.thread, &self.group, self.with.as_slice()) {
            (Some(id), ..) => Ok(Target::Thread(*id)),
            (None, Some(title), members) => Ok(Target::Group { title: title.clone(), members: members.to_vec() }),
            (None, None, [user]) => Ok(Target::With(user.clone())),
            (None, None, _) => Err(CliError::Usage("for more than one other person, name a --group".into())),
        }
    }
}

/// Whose device it is, and where its token comes from.
///
/// # Errors
/// [`CliError`]: a token of somebody else's, or no key to sign one with.
pub(super) fn identity(
    user: Option<&UserId>,
    device: &DeviceId,
    token: Option<&str>,
    data: &DataArgs,
) -> Result<(UserId, DeviceId, TokenSource), CliError> {
    if let Some(token) = token {
        let bearer = bearer_of(token).ok_or_else(|| CliError::Token("the token is no JWT with sub and did".into()))?;
        if user.is_some_and(|user| *user != bearer.0) {
            return Err(CliError::Usage(format!("the token is {}'s", bearer.0)));
        }
        return Ok((bearer.0, bearer.1, TokenSource::fixed(token)));
    }
    let user = user.ok_or_else(|| CliError::Usage("say who you are with --as".into()))?;
    let key = DevKey::load(&data.data)?;
    let grant = Grant::full(user.clone(), device.clone());
    Ok((user.clone(), device.clone(), key.source(grant)))
}

impl From<ChatError> for CliError {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::Client(error) => error.into(),
            ChatError::NoGroup(_) => Self::Usage(error.to_string()),
            ChatError::Store(StoreError::InUse(_)) => Self::WrongData(error.to_string()),
            ChatError::Store(StoreError::Key(_) | StoreError::Damaged(_)) => Self::CorruptData(error.to_string()),
            ChatError::Store(StoreError::Io { .. } | StoreError::Database(_)) => Self::Storage(error.to_string()),
            ChatError::Ended(messenger_client::EndReason::Unauthenticated(_)) => Self::Token(error.to_string()),
            ChatError::Ended(_) => Self::Refused(error.to_string()),
        }
    }
}

/// Chats.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: ChatArgs) -> Result<(), CliError> {
    let target = args.target()?;
    let (user, device, token) = identity(args.user.as_ref(), &args.device, args.token.as_deref(), &args.data)?;
    let config = ChatConfig {
        servers: args.server.servers()?,
        token,
        user,
        device,
        target,
        store: args.data.data.join("chat"),
        history: usize::from(args.history),
        colours: terminal::colours(),
        tells_typing: !args.no_typing,
    };
    Ok(chat(config).await?)
}
