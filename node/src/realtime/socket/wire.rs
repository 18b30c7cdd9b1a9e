//! The WebSocket itself, with little memory and one task.
//!
//! Owns: reading and writing at once, without a lock or a second task; the bounds on buffers and frames; closing.
//! Must not know: what frames say.
//! Invariants: text is handed over only when the socket took all that came before; a connection that ends, ends with the
//! close code that was asked for, as far as the peer reads it.

use crate::auth::TOKEN_MAX;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use messenger_proto::limits::BODY_MAX;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// Bytes read at a time: what an idle socket keeps.
const READ_BUFFER: usize = 1024;
/// Bytes gathered before the socket is written to, and of one WebSocket frame at most. A longer text goes in several, each
/// once the one before is written: the library's buffer never shrinks, and an idle socket would keep its largest text.
const WRITE_BUFFER: usize = 4 * 1024;
/// Bytes handed over to the socket at a time.
pub(super) const BURST: usize = 16 * 1024;

/// Bytes of a message from a client: room for a `send` with as many envelopes as a request may have, and so for a
/// `subscribe` that names as many threads as there may be.
const MESSAGE_MAX: usize = BODY_MAX;
/// Bytes from a client that nobody knows yet: room for a token, and a little more.
const STRANGER_MAX: usize = TOKEN_MAX + 2 * 1024;

/// Bytes over a transport, counted.
struct Counted<S> {
    inner: S,
    written: u64,
    /// Bytes that may still be read; `None` for any number. One read may go beyond it.
    left: Option<usize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Err(io::Error::other("too much from a stranger")));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.left = self.left.map(|left| left.saturating_sub(read));
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &outcome {
            self.written += *written as u64;
        }
        outcome
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Why and how a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

impl Close {
    pub(super) const DRAINING: Self = Self { code: 1001, reason: "the node is draining" };
    pub(super) const PROTOCOL: Self = Self { code: 1002, reason: "not a WebSocket frame" };
    pub(super) const BINARY: Self = Self { code: 1003, reason: "frames must be text" };
    pub(super) const NOT_UTF8: Self = Self { code: 1007, reason: "frames must be UTF-8" };
    pub(super) const ABUSE: Self = Self { code: 1008, reason: "too many malformed frames" };
    pub(super) const TOO_BIG: Self = Self { code: 1009, reason: "a frame may take at most 1 MiB" };
    pub(super) const UNAUTHENTICATED: Self = Self { code: 4401, reason: "a valid token is required" };
    pub(super) const EXPIRED: Self = Self { code: 4401, reason: "the token has expired" };
    pub(super) const REVOKED: Self = Self { code: 4401, reason: "the device was deleted" };
    pub(super) const SUSPENDED: Self = Self { code: 4401, reason: "the user or the device is suspended" };
    pub(super) const NO_PONG: Self = Self { code: 4408, reason: "no pong" };
    pub(super) const REPLACED: Self = Self { code: 4409, reason: "replaced by a newer connection" };
    pub(super) const STALLED: Self = Self { code: 4429, reason: "the client stopped reading" };
}

/// What the peer did.
#[derive(Debug)]
pub(super) enum Heard {
    Text(Utf8Bytes),
    /// It broke the rules.
    Broken(Close),
    /// It closed, or is gone.
    Gone,
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum WireEvent {
    Heard(Heard),
    /// All that was handed over is written.
    Flushed,
}

/// One socket.
pub(super) struct Wire {
    socket: WebSocketStream<Counted<TokioIo<Upgraded>>>,
    /// What was handed over and did not fit the library's buffer yet.
    waiting: VecDeque<Message>,
    /// Bytes in the library's buffer, at most.
    buffered: usize,
    /// Something was handed over and is not written yet.
    unflushed: bool,
    /// Reading has ended.
    ended: bool,
}

impl Wire {
    pub(super) async fn new(upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let counted = Counted { inner: TokioIo::new(upgraded), written: 0, left: Some(STRANGER_MAX) };
        let socket = WebSocketStream::from_raw_socket(counted, Role::Server, Some(config)).await;
        Self { socket, waiting: VecDeque::new(), buffered: 0, unflushed: false, ended: false }
    }

    /// The client is known: it may say as much as it likes from now on.
    pub(super) fn trust(&mut self) {
        self.socket.get_mut().left = None;
    }

    /// Bytes the transport took so far.
    pub(super) fn written(&self) -> u64 {
        self.socket.get_ref().written
    }

    /// Whether the socket took all that was handed over.
    pub(super) fn is_clear(&self) -> bool {
        !self.unflushed
    }

    /// Hands over a frame. Whether the connection still stands.
    pub(super) fn hand_over(&mut self, text: String) -> bool {
        if text.len() <= WRITE_BUFFER {
            self.waiting.push_back(Message::Text(text.into()));
        } else {
            self.waiting.extend(pieces(text.into()));
        }
        self.fill()
    }

    /// Moves what waits to the library's buffer, as far as it fits.
    fn fill(&mut self) -> bool {
        while self.buffered < WRITE_BUFFER
            && let Some(message) = self.waiting.pop_front()
        {
            self.unflushed = true;
            self.buffered += message.len();
            if Pin::new(&mut self.socket).start_send(message).is_err() {
                return false;
            }
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(0);
        }
        true
    }

    /// Ready once everything that was handed over is written, or cannot be.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.unflushed {
            std::task::ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            (self.unflushed, self.buffered) = (false, 0);
            if !self.fill() {
                return Poll::Ready(Err(Error::ConnectionClosed));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was handed over and, if `listen`, reads. Cancel-safe.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, listen: bool) -> Poll<WireEvent> {
        if self.unflushed
            && let Poll::Ready(outcome) = self.poll_written(cx)
        {
            self.unflushed = false;
            return Poll::Ready(outcome.map_or(WireEvent::Heard(Heard::Gone), |()| WireEvent::Flushed));
        }
        if !listen || self.ended {
            return Poll::Pending;
        }
        loop {
            let heard = match std::task::ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Text(text))) => Heard::Text(text),
                Some(Ok(Message::Binary(_))) => Heard::Broken(Close::BINARY),
                // The library answers a ping by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => Heard::Gone,
                Some(Err(Error::Io(_))) if self.socket.get_ref().left == Some(0) => Heard::Broken(Close::TOO_BIG),
                Some(Err(error)) => broken(&error),
            };
            self.ended = !matches!(heard, Heard::Text(_));
            return Poll::Ready(WireEvent::Heard(heard));
        }
    }

    /// Sends a close frame; [`Wire::poll_closed`] brings it to its end, if there is anything to bring.
    pub(super) fn start_close(&mut self, close: Close) -> bool {
        let frame = CloseFrame { code: CloseCode::from(close.code), reason: Utf8Bytes::from_static(close.reason) };
        self.waiting.push_back(Message::Close(Some(frame)));
        self.fill()
    }

    /// The peer closed, and the library has its answer ready; see [`Wire::poll_closed`].
    pub(super) fn answer_close(&mut self) -> bool {
        self.unflushed = true;
        true
    }

    /// Ready once everything is written and the peer has closed too, or is gone.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::task::ready!(self.poll_written(cx)).is_err() {
            return Poll::Ready(());
        }
        if self.ended {
            return Poll::Ready(());
        }
        // What the peer said before it saw the close frame is read and dropped.
        while let Some(Ok(message)) = std::task::ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            if message.is_close() {
                break;
            }
        }
        self.ended = true;
        Poll::Ready(())
    }
}

/// A text as frames that the library need not buffer whole.
fn pieces(text: Bytes) -> impl Iterator<Item = Message> {
    let last = text.len().saturating_sub(1) / WRITE_BUFFER;
    (0..=last).map(move |n| {
        let piece = text.slice(n * WRITE_BUFFER..text.len().min((n + 1) * WRITE_BUFFER));
        let kind = if n == 0 { Data::Text } else { Data::Continue };
        Message::Frame(Frame::message(piece, OpCode::Data(kind), n == last))
    })
}

fn broken(error: &Error) -> Heard {
    match error {
        Error::Utf8(_) => Heard::Broken(Close::NOT_UTF8),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Heard::Broken(Close::TOO_BIG),
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
        | Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => Heard::Gone,
        _ => Heard::Broken(Close::PROTOCOL),
    }
}
