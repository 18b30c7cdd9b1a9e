//! A realtime connection as a client holds it.
//!
//! Owns: the handshake, reading frames within a deadline, and the promise that `frame_seq` has no gaps; showing what goes
//! either way to whoever watches.
//! Must not know: what a frame means for a thread's history.
//! Invariants: every frame read is checked to be the next in number; pings are answered and never shown.

use crate::ledger::Watch;
use crate::wait::PATIENCE;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// An open connection.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    frames: u64,
    watch: Option<Watch>,
}

/// What came next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// A frame.
    Frame(Value),
    /// The connection was closed, with this code where it said one.
    Closed(Option<u16>),
    /// Nothing, for the time given.
    Silence,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Refused {
    /// The handshake was answered with another status.
    Status(u16, HeaderMap),
    /// There was no answer.
    NoAnswer(String),
}

/// A handshake's request, to be changed at will.
///
/// # Panics
/// When the query cannot be written in HTTP.
#[must_use]
pub fn handshake(addr: SocketAddr, query: &str, token: Option<&str>) -> Request<()> {
    let mut request = format!("ws://{addr}/v1/realtime?{query}").into_client_request().expect("a well-formed address");
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("tokens are ASCII");
        request.headers_mut().insert("authorization", value);
    }
    request
}

impl Socket {
    /// Opens a connection.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(addr: SocketAddr, query: &str, token: &str) -> Self {
        Self::try_open(addr, handshake(addr, query, Some(token))).await.expect("a connection")
    }

    /// Tries to open a connection with any handshake.
    ///
    /// # Errors
    /// [`Refused`] when it is not opened.
    pub async fn try_open(addr: SocketAddr, request: Request<()>) -> Result<Self, Refused> {
        let opening = async {
            let stream = TcpStream::connect(addr).await.map_err(|error| Refused::NoAnswer(error.to_string()))?;
            match tokio_tungstenite::client_async(request, stream).await {
                Ok((stream, _)) => Ok(Self { stream, frames: 0, watch: None }),
                Err(Error::Http(answer)) => Err(Refused::Status(answer.status().as_u16(), answer.headers().clone())),
                Err(error) => Err(Refused::NoAnswer(error.to_string())),
            }
        };
        tokio::time::timeout(PATIENCE, opening).await.unwrap_or_else(|_| Err(Refused::NoAnswer("timed out".into())))
    }

    /// The same connection, shown to somebody from here on.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        watch.connected();
        Self { watch: Some(watch), ..self }
    }

    /// The connection beneath, for bytes no client library would send.
    pub fn tcp(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// What comes next, within a time; pings are answered on the way.
    ///
    /// # Panics
    /// When a frame is no JSON object, or not the next in number.
    pub async fn next_within(&mut self, limit: Duration) -> Next {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let Ok(item) = tokio::time::timeout_at(deadline, self.stream.next()).await else { return Next::Silence };
            match item {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                    self.frames += 1;
                    assert_eq!(frame["frame_seq"], self.frames, "frames are numbered without gaps: {frame}");
                    if let Some(watch) = &self.watch {
                        watch.shown(&frame);
                    }
                    if frame["t"] == "ping" {
                        self.try_say(&json!({"t": "pong"})).await;
                    } else {
                        return Next::Frame(frame);
                    }
                }
                Some(Ok(Message::Close(close))) => {
                    let code = close.map(|close| close.code.into());
                    if let (Some(watch), Some(code)) = (&self.watch, code) {
                        watch.closed(code);
                    }
                    return Next::Closed(code);
                }
                Some(Ok(Message::Binary(_))) => panic!("the server sent a binary frame"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Next::Closed(None),
            }
        }
    }

    /// The next frame.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next(&mut self) -> Value {
        match self.next_within(PATIENCE).await {
            Next::Frame(frame) => frame,
            other => panic!("no frame came but {other:?}"),
        }
    }

    /// The next frame of a kind; those of others are passed over.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["t"] == kind {
                return frame;
            }
        }
    }

    /// The next frame of a kind that meets a condition; all others are passed over.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_where(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next_of(kind).await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// All frames up to and with `caught_up`.
    pub async fn catch_up(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            let done = frame["t"] == "caught_up";
            frames.push(frame);
            if done {
                return frames;
            }
        }
    }

    /// The code the server closes with; frames before it are passed over.
    ///
    /// # Panics
    /// When it does not close within `limit`.
    pub async fn closed_within(&mut self, limit: Duration) -> Option<u16> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            match self.next_within(deadline.saturating_duration_since(tokio::time::Instant::now())).await {
                Next::Frame(_) => {}
                Next::Closed(code) => return code,
                Next::Silence => panic!("the connection is still open after {limit:?}"),
            }
        }
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn say(&mut self, frame: &Value) {
        self.note(frame);
        self.say_text(&frame.to_string()).await;
    }

    fn note(&self, frame: &Value) {
        if let Some(watch) = &self.watch {
            watch.said(frame);
        }
    }

    /// Sends any text.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn say_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the connection is open");
    }

    /// Sends bytes as a binary frame.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn say_binary(&mut self, bytes: &[u8]) {
        self.stream.send(Message::binary(bytes.to_vec())).await.expect("the connection is open");
    }

    /// Sends a frame; nothing happens when the connection is gone, which the next read will tell.
    pub async fn try_say(&mut self, frame: &Value) -> bool {
        self.note(frame);
        self.stream.send(Message::text(frame.to_string())).await.is_ok()
    }

    /// Acknowledges a frame and all before it.
    pub async fn ack(&mut self, frame: &Value) {
        self.say(&json!({"t": "client_ack", "frame_seq": frame["frame_seq"]})).await;
    }

    /// Closes the connection in good order and waits for the server's side of it.
    pub async fn close(mut self) {
        let _closing = self.stream.close(None).await;
        while let Ok(Some(Ok(_))) = tokio::time::timeout(PATIENCE, self.stream.next()).await {}
    }
}
