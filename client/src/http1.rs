//! One HTTP/1.1 connection, kept alive.
//!
//! Owns: connecting, one exchange at a time, reading answers whole.
//! Must not know: paths, tokens, retries.
//! Invariants: the connection is driven inside the caller's own task, so that an exchange costs no hop between tasks;
//! a connection whose exchange was abandoned is never used again; an answer is bounded.

use crate::address::ServerUrl;
use crate::wire::{self, Wire};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes of an answer's body at most.
const ANSWER_MAX: usize = 32 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The request surely did not reach the server.
    #[error("{0}")]
    NotSent(String),
    /// It may have reached the server.
    #[error("{0}")]
    Lost(String),
}

/// A request, less the server it goes to.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Headers, less `Host` and the framing.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; sent as JSON if it is not empty and the headers name no other type.
    pub body: Bytes,
    /// Nothing is added to the headers but the framing: for tests of what a node says to odd requests.
    pub is_bare: bool,
}

impl Call {
    /// A request without headers or body.
    #[must_use]
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: Bytes::new(), is_bare: false }
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With nothing added to the headers but the framing.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's text, if it is there and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.parse().ok().map(Duration::from_secs)
    }
}

type Driver = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

/// One connection to one server.
#[derive(Debug)]
pub struct Connection {
    host: HeaderValue,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
    in_exchange: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`TransportError::NotSent`] when there is no connection within `limit`.
    pub async fn open(server: &ServerUrl, limit: Duration) -> Result<Self, TransportError> {
        let stream = wire::open(server, limit).await?;
        let host = HeaderValue::from_str(server.authority()).map_err(|e| TransportError::NotSent(e.to_string()))?;
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| TransportError::NotSent(e.to_string()))?;
        Ok(Self { host, sender, driver: Some(driver), in_exchange: false })
    }

    /// Whether another exchange can be tried.
    #[must_use]
    pub fn usable(&self) -> bool {
        !self.in_exchange && self.driver.is_some() && !self.sender.is_closed()
    }

    /// [`Connection::usable`], after a look whether the server has closed it meanwhile.
    #[must_use]
    pub fn alive(&mut self) -> bool {
        if let Some(driver) = self.driver.as_mut()
            && Pin::new(driver).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.driver = None;
        }
        self.usable()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`TransportError`]; the connection is then no longer usable.
    pub async fn exchange(&mut self, call: &Call) -> Result<Answer, TransportError> {
        let request = self.request(call)?;
        if !self.usable() {
            return Err(TransportError::NotSent("the connection is closed".into()));
        }
        self.in_exchange = true;
        let Self { sender, driver, .. } = self;
        let mut exchange = pin!(round_trip(sender, request));
        let answer = poll_fn(|cx| {
            // Request into the connection, connection onto the wire, answer out of it: three turns do all that can
            // be done without waiting.
            for _ in 0..3 {
                if let Poll::Ready(answer) = exchange.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                if let Some(running) = driver.as_mut()
                    && Pin::new(running).poll(cx).is_ready()
                {
                    *driver = None;
                }
            }
            Poll::Pending
        })
        .await?;
        self.in_exchange = false;
        Ok(answer)
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, TransportError> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() =
            call.target.parse().map_err(|_| TransportError::NotSent(format!("{:?} is not a path", call.target)))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        if !call.body.is_empty() && !call.is_bare {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &call.headers {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }
}

async fn round_trip(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, TransportError> {
    sender.ready().await.map_err(|e| TransportError::NotSent(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(|e| {
        if e.is_canceled() { TransportError::NotSent(e.to_string()) } else { TransportError::Lost(e.to_string()) }
    })?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|e| TransportError::Lost(e.to_string()))?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
}
