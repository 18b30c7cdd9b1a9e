//! One realtime connection.
//!
//! Owns: the handshake, reading and writing typed frames, close codes.
//! Must not know: reconnection, acknowledgements, what frames are for.
//! Invariants: every write has a deadline; after a close nothing is read.

use crate::address::ServerUrl;
use crate::error::{ClientError, Problem};
use crate::frames::{ClientFrame, Incoming};
use crate::http1::TransportError;
use crate::model::encode_query;
use crate::rest::bearer;
use crate::wire::{self, Wire};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use messenger_proto::ids::{DeviceId, MessageId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as WsMessage};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A write that takes longer means the peer is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What a connection needs.
#[derive(Debug, Clone)]
pub struct SocketConfig {
    /// Where to.
    pub server: ServerUrl,
    /// Whose.
    pub token: Arc<str>,
    /// Which device's; must be the token's.
    pub device: DeviceId,
    /// Resume from here, if that is earlier than what was acknowledged.
    pub last_seen: Option<MessageId>,
    /// The handshake ends by then.
    pub limit: Duration,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The close code; `None` when the connection broke off.
    pub code: Option<u16>,
    /// What the peer or the operating system said.
    pub reason: String,
}

impl CloseReason {
    /// Token expired or revoked.
    pub const UNAUTHENTICATED: u16 = 4401;
    /// A newer connection of the same device took over.
    pub const REPLACED: u16 = 4409;
    /// Protocol abuse.
    pub const POLICY: u16 = 1008;

    fn broken(reason: impl Into<String>) -> Self {
        Self { code: None, reason: reason.into() }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.reason.as_str()) {
            (Some(code), "") => write!(f, "closed with {code}"),
            (Some(code), reason) => write!(f, "closed with {code}: {reason}"),
            (None, reason) => f.write_str(reason),
        }
    }
}

/// What a connection gives.
#[derive(Debug)]
pub enum SocketItem {
    /// A frame.
    Frame(Incoming),
    /// It is over.
    Closed(CloseReason),
}

/// A realtime connection.
pub struct Socket {
    stream: WebSocketStream<Wire>,
}

impl Socket {
    /// Connects and upgrades, with the token in the `Authorization` header.
    ///
    /// # Errors
    /// [`ClientError`]: refused with the server's problem document, unreachable, or timed out.
    pub async fn connect(config: &SocketConfig) -> Result<Self, ClientError> {
        timeout(config.limit, Self::handshake(config)).await.map_err(|_| ClientError::TimedOut(config.limit))?
    }

    async fn handshake(config: &SocketConfig) -> Result<Self, ClientError> {
        let unreachable = |reason| ClientError::Unreachable { server: config.server.to_string(), reason };
        let mut url = format!("ws://{}/v1/realtime?device_id=", config.server.authority());
        encode_query(config.device.as_str(), &mut url);
        if let Some(id) = config.last_seen {
            url.push_str("&last_seen_id=");
            url.push_str(&id.to_string());
        }
        let mut request = url.into_client_request().map_err(|e| ClientError::Protocol(e.to_string()))?;
        request.headers_mut().insert(AUTHORIZATION, bearer(&config.token)?);
        let stream = wire::open(&config.server, config.limit).await.map_err(|e| match e {
            TransportError::NotSent(reason) | TransportError::Lost(reason) => unreachable(reason),
        })?;
        // Small buffers: a bench holds thousands of these.
        let limits = WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(0);
        match client_async_with_config(request, stream, Some(limits)).await {
            Ok((stream, _)) => Ok(Self { stream }),
            Err(tungstenite::Error::Http(answer)) => {
                let status = answer.status().as_u16();
                let body = Bytes::from(answer.into_body().unwrap_or_default());
                Err(ClientError::Refused(Box::new(Problem::from_answer(status, None, &body))))
            }
            Err(other) => Err(unreachable(other.to_string())),
        }
    }

    /// The next frame; may be cancelled without losing one.
    pub async fn next(&mut self) -> SocketItem {
        match self.next_text().await {
            Err(reason) => SocketItem::Closed(reason),
            Ok(text) => match Incoming::parse(&text) {
                Ok(incoming) => SocketItem::Frame(incoming),
                Err(e) => SocketItem::Closed(CloseReason::broken(e.to_string())),
            },
        }
    }

    /// The next text frame, unread.
    ///
    /// # Errors
    /// [`CloseReason`] when the connection is over.
    pub async fn next_text(&mut self) -> Result<tungstenite::Utf8Bytes, CloseReason> {
        loop {
            match self.stream.next().await {
                Some(Ok(WsMessage::Text(text))) => return Ok(text),
                Some(Ok(WsMessage::Close(Some(frame)))) => {
                    return Err(CloseReason { code: Some(frame.code.into()), reason: frame.reason.to_string() });
                }
                Some(Ok(WsMessage::Close(None))) => return Err(CloseReason::broken("closed without a code")),
                Some(Ok(WsMessage::Binary(_))) => return Err(CloseReason::broken("a binary frame came")),
                // Protocol-level pings are answered by the library.
                Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_))) => {}
                Some(Err(e)) => return Err(CloseReason::broken(e.to_string())),
                None => return Err(CloseReason::broken("the connection ended")),
            }
        }
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// [`CloseReason`] when the connection is over.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), CloseReason> {
        self.send_text(frame.to_json()).await
    }

    /// Writes any text, a frame or not.
    ///
    /// # Errors
    /// [`CloseReason`] when the connection is over.
    pub async fn send_text(&mut self, text: impl Into<tungstenite::Utf8Bytes>) -> Result<(), CloseReason> {
        self.send_raw(WsMessage::Text(text.into())).await
    }

    /// Writes any WebSocket message: for tests of what a node says to broken input.
    ///
    /// # Errors
    /// [`CloseReason`] when the connection is over.
    pub async fn send_raw(&mut self, message: WsMessage) -> Result<(), CloseReason> {
        match timeout(WRITE_LIMIT, self.stream.send(message)).await {
            Err(_) => Err(CloseReason::broken("the server stopped reading")),
            Ok(Err(e)) => Err(CloseReason::broken(e.to_string())),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Says goodbye and waits a moment for the answer.
    pub async fn close(mut self) {
        let farewell = async {
            if self.stream.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        // Nothing is owed to a peer that does not answer.
        let _ = timeout(Duration::from_secs(1), farewell).await;
    }
}
