//! HTTP as a client that may misbehave speaks it.
//!
//! Owns: sending any request to one node and holding its whole answer, and showing both to whoever watches.
//! Must not know: what the API's routes mean.

use crate::ledger::Watch;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use messenger_client::{Call, Rest, RestConfig, ServerUrl, Servers, TokenSource};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one request may take; above every deadline of the server.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(40);

/// A client of one node, with kept-alive connections.
#[derive(Clone)]
pub struct Http {
    rest: Rest,
    addr: SocketAddr,
    watch: Option<Watch>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body, where the status is the one expected.
    ///
    /// # Panics
    /// When it is another.
    #[must_use]
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// Checks that this is a problem document with a status and a code, and gives it.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{body}");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        for member in ["type", "title", "detail", "instance", "trace_id", "timestamp"] {
            assert!(body[member].is_string(), "no {member} in {body}");
        }
        assert_eq!(self.header("x-request-id"), body["trace_id"].as_str(), "{body}");
        body
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why there is no answer: the connection was refused or lost, or nothing came in time.
#[derive(Debug)]
pub struct NoAnswer(pub String);

impl Http {
    /// A client of the node that listens at `addr`.
    ///
    /// # Panics
    /// Never: an address is a server's.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        let server: ServerUrl = addr.to_string().parse().expect("an address is a server's");
        let servers = Servers::new(vec![server]).expect("there is one");
        // Tokens are among the headers that tests name themselves.
        let config = RestConfig::new(servers, TokenSource::fixed(""));
        let config = RestConfig { deadline: REQUEST_WITHIN, attempt: REQUEST_WITHIN, ..config };
        Self { rest: Rest::new(config), addr, watch: None }
    }

    /// The same client, whose answers are shown to somebody.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// A client of another node that is watched as this one is.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { watch: self.watch.as_ref().map(|watch| watch.at(addr)), ..Self::new(addr) }
    }

    /// Who watches.
    #[must_use]
    pub fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// The node's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`NoAnswer`] when there is none.
    ///
    /// # Panics
    /// When a header or the path cannot be written in HTTP at all.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let mut call = Call::new(method.clone(), path).body(body).bare();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("the test's header is well-formed");
            call = call.header(name, HeaderValue::from_str(value).expect("the test's header is well-formed"));
        }
        let answer = self.rest.raw(0, &call).await.map_err(|error| NoAnswer(error.to_string()))?;
        let status = StatusCode::from_u16(answer.status).map_err(|error| NoAnswer(error.to_string()))?;
        let answer = Answer { status, headers: answer.headers, body: answer.body };
        if let Some(watch) = &self.watch {
            watch.answered(&method, path, &answer);
        }
        Ok(answer)
    }
}

/// The status of a GET over a connection of its own, without a runtime; `None` when there is no answer.
#[must_use]
pub fn status_of(addr: SocketAddr, path: &str) -> Option<u16> {
    let answer = raw(addr, format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let line = String::from_utf8_lossy(&answer).lines().next()?.to_owned();
    line.split(' ').nth(1)?.parse().ok()
}

/// What comes back for some bytes on a connection of their own, until it closes or nothing came for two seconds.
#[must_use]
pub fn raw(addr: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    const SILENCE: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&addr, SILENCE).ok()?;
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    stream.set_write_timeout(Some(SILENCE)).ok()?;
    // The peer may close before it has read everything; what it answered counts.
    let _written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _end = stream.read_to_end(&mut answer);
    Some(answer)
}
