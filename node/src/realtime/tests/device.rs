//! A device as a client: one socket, and a check that its frames are numbered without gaps.

use crate::gateway::described_frames;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A test that waits longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of one WebSocket frame at most, of those that a message comes in.
const FRAME_MAX: usize = 4 * 1024;

pub(super) struct Device {
    pub(super) socket: WebSocketStream<TcpStream>,
    frames: u64,
    next_send: u64,
}

pub(super) fn request(address: SocketAddr, params: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = format!("ws://{address}/v1/realtime{params}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(
            tokio_tungstenite::tungstenite::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    request
}

impl Device {
    pub(super) async fn open(address: SocketAddr, token: &str, params: &str) -> Result<Self, Error> {
        let bearer = format!("Bearer {token}");
        Self::open_with(address, request(address, params, &[("authorization", &bearer)])).await
    }

    pub(super) async fn open_with(address: SocketAddr, request: Request) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        // Frames are small even where messages are large, so that no buffer grows with them.
        let config = WebSocketConfig::default().max_frame_size(Some(FRAME_MAX));
        let (socket, _) = timeout(PATIENCE, client_async_with_config(request, stream, Some(config))).await.unwrap()?;
        Ok(Self { socket, frames: 0, next_send: 1 })
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Value {
        match self.maybe_next().await {
            Ok(frame) => frame,
            Err(code) => panic!("closed with {code:?}"),
        }
    }

    /// The next frame, or the code of the close.
    pub(super) async fn maybe_next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("nothing came") {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    self.frames += 1;
                    assert_eq!(frame["frame_seq"], json!(self.frames), "{frame}");
                    described_frames::check_from_node(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// [`Device::until`] for what takes its time.
    pub(super) async fn until_within(&mut self, kind: &str, limit: Duration) -> (Value, Vec<Value>) {
        let begun = tokio::time::Instant::now();
        let mut before = Vec::new();
        loop {
            let left = (begun + limit).saturating_duration_since(tokio::time::Instant::now());
            let frame = match timeout(left, self.socket.next()).await.expect("nothing came") {
                Some(Ok(Message::Text(text))) => serde_json::from_str::<Value>(&text).unwrap(),
                Some(Ok(_)) => continue,
                other => panic!("{other:?}"),
            };
            self.frames += 1;
            if frame["t"] == kind {
                return (frame, before);
            }
            before.push(frame);
        }
    }

    /// The next frame of a kind; those before it are given too.
    pub(super) async fn until(&mut self, kind: &str) -> (Value, Vec<Value>) {
        let mut before = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["t"] == kind {
                return (frame, before);
            }
            before.push(frame);
        }
    }

    /// The next frame of a kind.
    pub(super) async fn expect(&mut self, kind: &str) -> Value {
        self.until(kind).await.0
    }

    /// Everything up to `caught_up`.
    pub(super) async fn caught_up(&mut self) -> Vec<Value> {
        self.until("caught_up").await.1
    }

    /// Reads until the close, and gives its code.
    pub(super) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.maybe_next().await {
                return code;
            }
        }
    }

    pub(super) async fn say(&mut self, frame: &Value) {
        self.say_text(&frame.to_string()).await;
    }

    pub(super) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Acknowledges everything read so far.
    pub(super) async fn ack(&mut self) {
        let frame = json!({"t": "client_ack", "frame_seq": self.frames});
        self.say(&frame).await;
    }

    /// Sends a message, without waiting.
    pub(super) async fn send(&mut self, thread: impl ToString, text: &str) -> u64 {
        let number = self.put(thread, text).await;
        self.socket.flush().await.unwrap();
        number
    }

    /// Sends messages so that they come at once.
    pub(super) async fn send_together(&mut self, thread: impl ToString + Copy, texts: &[&str]) {
        for text in texts {
            self.put(thread, text).await;
        }
        self.socket.flush().await.unwrap();
    }

    async fn put(&mut self, thread: impl ToString, text: &str) -> u64 {
        use base64::Engine;
        let number = self.next_send;
        self.next_send += 1;
        let ciphertext = base64::engine::general_purpose::STANDARD.encode(text);
        let frame = json!({
            "t": "send", "request_id": format!("r{number}"), "thread_id": thread.to_string(),
            "client_seq": number, "ciphertext": ciphertext,
        });
        self.socket.feed(Message::text(frame.to_string())).await.unwrap();
        number
    }
}
