//! Accepting connections from whoever finds the port.
//!
//! Owns: how many connections there may be, and how long a silent one is kept.
//! Must not know: what is said on them.
//! Invariants: connections are bounded; one that does not say the HTTP/2 preface in time is closed.

use super::config::TransportConfig;
use super::refusals::Refusals;
use super::tls::{Caller, Wire};
use futures_util::{Stream, stream};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// Bytes of the HTTP/2 preface (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// How long to wait when the system has no more file descriptors to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection under watch until its preface is there.
pub(crate) struct Accepted {
    io: Wire,
    caller: Caller,
    _slot: OwnedSemaphorePermit,
    missing: usize,
    patience: Option<Pin<Box<Sleep>>>,
}

/// Connections as they come, for as long as the runtime is there.
pub(crate) fn incoming(
    listener: TcpListener,
    config: &TransportConfig,
    refused: Arc<Refusals>,
) -> impl Stream<Item = io::Result<Accepted>> + use<> {
    let slots = Arc::new(Semaphore::new(config.connections));
    let patience = config.preface_timeout;
    let made = (listener, slots, config.tls.clone(), refused);
    stream::unfold(made, move |(listener, slots, tls, refused)| async move {
        loop {
            let slot = slots.clone().acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((io, _)) => {
                    if let Err(error) = io.set_nodelay(true) {
                        tracing::debug!(%error, "a connection was gone before it was served");
                        continue;
                    }
                    let patience = Some(Box::pin(tokio::time::sleep(patience)));
                    let (io, caller) = Wire::accepted(io, tls.as_ref(), &refused);
                    let accepted = Accepted { io, caller, _slot: slot, missing: PREFACE, patience };
                    return Some((Ok(accepted), (listener, slots, tls, refused)));
                }
                // The runtime is being shut down, and everything with it.
                Err(error) if tokio::runtime::is_rt_shutdown_err(&error) => return None,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buf))?;
        self.missing = self.missing.saturating_sub(buf.filled().len() - before);
        if self.missing == 0 {
            self.patience = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}
