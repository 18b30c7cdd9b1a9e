//! Talking to admin listeners.
//!
//! Owns: which ones are asked and in what order, and what it means when none answers; reading times on the command line.
//! Must not know: what is asked.

use super::CliError;
use super::cert::TrustArgs;
use crate::api::time::{self, Rfc3339};
use clap::Args;
use http::{HeaderName, HeaderValue};
use messenger_client::{Answer, Call, Connection, Problem, ServerUrl, TransportError};
use messenger_proto::ids::Millis;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// What the help says of commands that add up what several nodes or shards know.
pub const PARTIAL: &str = "\
Where a node or a shard does not answer, the rest is shown, standard error says whose part is missing, and the exit status is 0.";

/// Of one admin listener.
const LIMIT: Duration = Duration::from_secs(8);

/// Which admin listeners to talk to.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Admin URL of a node; several, or a list with commas, of which the first that answers is asked
    #[arg(
        long,
        value_name = "URL",
        env = "MESSENGER_ADMIN",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7601,http://127.0.0.1:7602,http://127.0.0.1:7603"
    )]
    admin: Vec<ServerUrl>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Who you are, for the audit log
    #[arg(long, value_name = "NAME", env = "USER", default_value = "operator")]
    operator: String,
}

impl AdminArgs {
    /// Sends a request to the first that answers.
    ///
    /// # Errors
    /// [`CliError`] when none answers, or one refuses.
    pub async fn ask(&self, call: &Call) -> Result<Said, CliError> {
        let mut silent = Vec::new();
        let name = HeaderValue::from_str(&self.operator).map_err(|e| CliError::Usage(e.to_string()))?;
        let call = call.clone().header(HeaderName::from_static("x-operator"), name);
        let trust = self.trust.trust()?;
        for admin in &self.admin {
            match ask(&admin.clone().trusting(&trust), &call).await {
                Ok(answer) => return Ok(answer),
                Err(CliError::Unreachable(why)) => silent.push(why),
                // Another one would say the same.
                Err(error) => return Err(error),
            }
        }
        Err(none_answers(&silent))
    }
}

/// All that were asked, each with why it gave no answer.
fn none_answers(silent: &[String]) -> CliError {
    if silent.is_empty() {
        return CliError::Usage("name at least one admin URL".into());
    }
    CliError::Unreachable(format!(
        "{}: start a local cluster first (`messenger dev`), or name the admin_addr of a node that runs with --admin",
        silent.join("; ")
    ))
}

async fn ask(admin: &ServerUrl, call: &Call) -> Result<Said, CliError> {
    let exchange = async {
        let mut connection = Connection::open(admin, LIMIT).await?;
        connection.exchange(call).await
    };
    let unreachable = |reason: String| CliError::Unreachable(format!("{admin} does not answer: {reason}"));
    let answer: Answer = match timeout(LIMIT, exchange).await {
        Err(_) => return Err(unreachable(format!("nothing within {} s", LIMIT.as_secs()))),
        Ok(Err(TransportError::NotSent(reason) | TransportError::Lost(reason))) => return Err(unreachable(reason)),
        Ok(Ok(answer)) => answer,
    };
    if answer.status == http::StatusCode::NOT_FOUND.as_u16() {
        return Err(not_for_operators(admin));
    }
    if !answer.is_success() {
        let problem = Problem::from_answer(answer.status, None, &answer.body);
        let text = format!("{admin}: {problem}");
        let unavailable = answer.status == http::StatusCode::SERVICE_UNAVAILABLE.as_u16();
        return Err(if unavailable { CliError::Unreachable(text) } else { CliError::Refused(text) });
    }
    serde_json::from_slice(&answer.body).map(|json| Said { admin: admin.clone(), json }).map_err(|e| other(admin, &e))
}

fn other(admin: &ServerUrl, error: &serde_json::Error) -> CliError {
    CliError::Failed(format!("{admin} answers something else: {error}"))
}

/// What a node said: shown to programs as it came, read for people.
pub struct Said {
    admin: ServerUrl,
    json: Box<RawValue>,
}

impl Said {
    /// What it means.
    ///
    /// # Errors
    /// [`CliError::Failed`] when it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(self.json.get()).map_err(|e| other(&self.admin, &e))
    }

    /// Its JSON with a line for each member, and all members as they came.
    #[must_use]
    pub fn laid_out(&self) -> String {
        lay_out(self.json.get())
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.json.get())
    }
}

/// Lays well-formed JSON without spaces out over lines; nothing but space is added.
fn lay_out(json: &str) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::with_capacity(json.len() * 2), 0_usize, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        let line = |text: &mut String, depth: usize| {
            text.push('\n');
            text.extend(std::iter::repeat_n("  ", depth));
        };
        match c {
            _ if quoted => {
                quoted = escaped || c != '"';
                escaped = !escaped && c == '\\';
                text.push(c);
            }
            '[' | '{' if chars.next_if(|next| matches!(next, ']' | '}')).is_some() => {
                text.push_str(if c == '[' { "[]" } else { "{}" });
            }
            '[' | '{' => {
                text.push(c);
                depth += 1;
                line(&mut text, depth);
            }
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => {
                quoted = c == '"';
                text.push(c);
            }
        }
    }
    text
}

/// What answers and knows no such route is most likely a node's address for clients.
fn not_for_operators(admin: &ServerUrl) -> CliError {
    CliError::Usage(format!(
        "{admin} answers, but not to operators: name a node's admin_addr with --admin, not its client_addr (a cluster of \
         `messenger dev` has them 200 ports above, from http://127.0.0.1:7601)"
    ))
}

/// Reads a time: RFC 3339, or how long ago, as `90s`, `15m`, `24h` or `7d`. As the API takes it.
///
/// # Errors
/// When it is neither.
pub fn when(text: &str) -> Result<String, String> {
    let ago = super::token::duration(text).ok().filter(|_| text.ends_with(|last: char| last.is_ascii_alphabetic()));
    let at = match ago {
        Some(ago) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(Millis(u64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(u64::MAX)))
        }
        None => time::parse(text),
    };
    let complaint = || format!("{text:?} is neither a time, as 2026-05-30T17:42:11Z, nor how long ago, as 15m or 24h");
    at.map(|at| Rfc3339(at).to_string()).ok_or_else(complaint)
}

/// A query string.
#[derive(Debug, Default)]
pub struct Query(String);

impl Query {
    /// Adds a parameter, if there is a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            for byte in value.to_string().bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    self.0.push(char::from(byte));
                } else {
                    // Writing to a String cannot fail.
                    let _ = write!(self.0, "%{byte:02X}");
                }
            }
        }
        self
    }

    /// Behind a path.
    #[must_use]
    pub fn of(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// Nodes or shards that did not answer, for people.
pub fn warn_of_silence(what: &str, ids: &[u64]) {
    if !ids.is_empty() {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        eprintln!("messenger: {what} {} did not answer: what they have is missing", ids.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_as_the_api_takes_them() {
        assert_eq!(when("2026-05-30T17:42:11Z").as_deref(), Ok("2026-05-30T17:42:11.000Z"));
        let ago = time::parse(&when("1h").unwrap()).unwrap().0;
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        assert!((now - 3_600_000).abs_diff(ago) < 60_000);
        for text in ["", "soon", "7", "1w"] {
            assert!(when(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn json_is_laid_out_as_the_library_would_and_keeps_all() {
        let told = [
            r#"{"z":[1,-2.5e3,{"a":{},"b":[]}],"m":"a\\\"{[,:]}\\\\","unheard_of":null,"deep":[[[true]]]}"#,
            "[]",
            "7",
            r#""\\""#,
        ];
        for json in told {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let sorted = serde_json::to_string(&value).unwrap();
            assert_eq!(lay_out(&sorted), serde_json::to_string_pretty(&value).unwrap());
            assert_eq!(serde_json::from_str::<serde_json::Value>(&lay_out(json)).unwrap(), value);
        }
        assert_eq!(lay_out(r#"{"b":1,"a":2}"#), "{\n  \"b\": 1,\n  \"a\": 2\n}");
    }

    #[test]
    fn what_a_query_holds_is_escaped() {
        let query = Query::default().with("user", Some("a b&c")).with("none", None::<&str>).with("n", Some(7));
        assert_eq!(query.of("/x"), "/x?user=a%20b%26c&n=7");
        assert_eq!(Query::default().of("/x"), "/x");
    }
}
