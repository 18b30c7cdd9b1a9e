//! Serving HTTP on a listener.
//!
//! Owns: connections: how many, how long they may idle or dawdle, and how they end.
//! Must not know: what is served.
//! Invariants: every connection is bounded in number, header size, buffer and time; serving ends within its grace.

use super::held::{HeldAnswers, Holding, TakeLimits};
use crate::api::peer::PeerAddress;
use crate::tls::ListenerTls;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tower::Service;

/// How much the server takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Connections at once, realtime ones included; more wait in the listener's backlog.
    pub connections: usize,
    /// How long a connection may take to send a request's head, and idle before it does.
    pub head_time: Duration,
    /// How long connections may take to finish what they are doing once the server ends.
    pub grace: Duration,
    /// How fast a client must take a large answer.
    pub take: TakeLimits,
}

impl ServeLimits {
    /// Limits of a listener that takes so many connections.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            head_time: Duration::from_secs(75),
            grace: Duration::from_secs(10),
            take: TakeLimits::default(),
        }
    }
}

/// Bytes of a connection's read buffer at most; a head over [`super::HEADERS_MAX`] still fits and gets its answer, one
/// over this gets a bare 431.
const READ_BUFFER: usize = 128 * 1024;
/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 256;
/// How long a peer may leave what we sent unacknowledged, or take none of it.
const TAKE_TIME: Duration = Duration::from_mins(2);
/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then lets connections finish within the grace. An upgraded connection is its owner's.
pub async fn serve(
    listener: TcpListener,
    tls: Option<ListenerTls>,
    app: axum::Router,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut connections = tokio::task::JoinSet::new();
    let builder = Arc::new(builder(limits));
    tokio::pin!(shutdown);
    loop {
        let (stream, peer, permit) = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let seen = Arc::new(AtomicBool::new(false));
        let room = ConnectionRoom { _permit: Arc::new(permit) };
        let held = Arc::new(HeldAnswers::default());
        let service =
            Front { app: app.clone(), peer, seen: Arc::clone(&seen), room, held: Arc::clone(&held), take: limits.take };
        let (tls, builder, watcher) = (tls.clone(), Arc::clone(&builder), graceful.watcher());
        connections.spawn(async move {
            let Some(stream) = agreed(tls.as_ref(), stream).await else { return };
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
            let mut connection = std::pin::pin!(watcher.watch(connection));
            let served = async {
                // The builder waits for the first bytes without a timeout of its own.
                let first = tokio::time::timeout(limits.head_time, connection.as_mut()).await;
                if first.is_err() && seen.load(Ordering::Relaxed) {
                    let _ = connection.await;
                }
            };
            tokio::select! {
                () = served => {}
                () = held.overdue() => tracing::debug!("a connection was cut off: an answer was not taken in its time"),
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off: they did not finish within the grace");
    }
    connections.abort_all();
}

fn builder(limits: ServeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_time).max_buf_size(READ_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(2 * super::HEADERS_MAX as u32)
        .keep_alive_interval(Some(limits.head_time))
        .keep_alive_timeout(limits.head_time);
    builder
}

/// A connection as it is, or one on which encryption was agreed.
type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

async fn agreed(tls: Option<&ListenerTls>, stream: TcpStream) -> Option<Stream> {
    let Some(tls) = tls else { return Some(Stream::Left(stream)) };
    match tls.accept(stream).await {
        Ok(stream) => Some(Stream::Right(stream)),
        Err(error) => {
            tracing::debug!(%error, "no TLS was agreed on");
            None
        }
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, PeerAddress, OwnedSemaphorePermit) {
    let Ok(permit) = Arc::clone(room).acquire_owned().await else {
        // Nobody closes the semaphore.
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tune(&stream);
                return (stream, PeerAddress(address.ip()), permit);
            }
            // Nobody is served any more, nor told of it.
            Err(error) if tokio::runtime::is_rt_shutdown_err(&error) => return std::future::pending().await,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers leave at once, and a peer that is gone is noticed.
fn tune(stream: &TcpStream) {
    let tuned = stream.set_nodelay(true).and_then(|()| {
        let socket = socket2::SockRef::from(stream);
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(TAKE_TIME))?;
        socket.set_keepalive(true)
    });
    if let Err(error) = tuned {
        tracing::debug!(%error, "socket options");
    }
}

/// The room that a connection takes. A request to upgrade carries it as an extension, for whoever takes the connection
/// over to keep as long as it is open.
#[derive(Debug, Clone)]
pub struct ConnectionRoom {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The app, and whether it was ever asked anything on this connection.
struct Front {
    app: axum::Router,
    peer: PeerAddress,
    seen: Arc<AtomicBool>,
    room: ConnectionRoom,
    held: Arc<HeldAnswers>,
    take: TakeLimits,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.seen.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer);
        if request.headers().contains_key(header::UPGRADE) {
            request.extensions_mut().insert(self.room.clone());
        }
        let (answering, held, take) = (self.app.clone().call(request), Arc::clone(&self.held), self.take);
        Box::pin(async move {
            let mut response = answering.await?;
            if let Some(holding) = response.extensions_mut().remove::<Holding>() {
                held.add(holding, take);
            }
            if response.status() == StatusCode::NOT_MODIFIED {
                // The framework writes 0, and what stands there is to be the length of the body that is not sent.
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            Ok(response)
        })
    }
}
