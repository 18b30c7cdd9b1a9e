//! A leader's stream of appends to one follower, many under way at a time.
//!
//! Owns: the window, the order of the results, and when the stream is given up.
//! Must not know: how appends are made or answered.
//! Invariants: results come in the order of the appends; the window is bounded by count and bytes; nothing is taken
//! from the input that is not sent, unless the stream has failed; after an error or a rejection there is nothing more.

use super::codec::{Append, AppendResult, decode_append_result, encode_parts};
use super::commits::Commits;
use super::lane::{Answer, Call, LinkError};
use super::links::Links;
use super::method::{Lane, Method};
use crate::types::GroupId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use messenger_proto::ids::NodeId;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a stream of appends stopped short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("no answer for {0:?}")]
    Stalled(Duration),
}

struct UnderWay {
    answer: Answer,
    bytes: usize,
}

/// See the module.
pub(crate) struct Pipeline<S> {
    links: Links,
    node: NodeId,
    group: GroupId,
    session: u64,
    input: Commits<S>,
    input_ended: bool,
    parts: VecDeque<Bytes>,
    waiting_for_room: Option<(BoxFuture<'static, Result<Answer, LinkError>>, usize)>,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    failed: Option<PipelineError>,
    finished: bool,
    patience: Pin<Box<Sleep>>,
}

impl<S: Stream<Item = Append> + Unpin> Pipeline<S> {
    pub(crate) fn new(links: Links, node: NodeId, group: GroupId, input: S) -> Self {
        let session = links.new_session();
        let input = Commits::new(input, links.config().commit_delay);
        let patience = Box::pin(tokio::time::sleep(links.config().append_stall));
        Self {
            links,
            node,
            group,
            session,
            input,
            input_ended: false,
            parts: VecDeque::new(),
            waiting_for_room: None,
            under_way: VecDeque::new(),
            bytes: 0,
            failed: None,
            finished: false,
            patience,
        }
    }

    fn has_room(&self) -> bool {
        let config = self.links.config();
        self.under_way.len() < config.append_window && self.bytes < config.append_window_bytes
    }

    /// Sends as much as the window allows.
    fn fill(&mut self, context: &mut Context<'_>) {
        while self.failed.is_none() {
            if let Some((submitting, bytes)) = &mut self.waiting_for_room {
                let bytes = *bytes;
                let Poll::Ready(submitted) = submitting.poll_unpin(context) else { return };
                self.waiting_for_room = None;
                self.note(submitted, bytes);
            } else if !self.has_room() {
                return;
            } else if let Some(body) = self.parts.pop_front() {
                self.submit(body);
            } else if self.input_ended {
                return;
            } else {
                match self.input.poll_next_unpin(context) {
                    Poll::Ready(Some(append)) => {
                        self.parts = encode_parts(self.session, &append, self.links.config().append_bytes).into();
                    }
                    Poll::Ready(None) => self.input_ended = true,
                    Poll::Pending => return,
                }
            }
        }
    }

    fn submit(&mut self, body: Bytes) {
        let bytes = body.len();
        let deadline = Instant::now() + self.links.config().append_stall;
        let call = Call { method: Method::Append, group: self.group, body, deadline };
        match self.links.try_submit(self.node, Lane::Bulk, call.clone()) {
            Ok(answer) => self.note(Ok(answer), bytes),
            Err(Some(error)) => self.note(Err(error), bytes),
            Err(None) => {
                let (links, node) = (self.links.clone(), self.node);
                let submitting = async move { links.submit(node, Lane::Bulk, call).await };
                self.waiting_for_room = Some((submitting.boxed(), bytes));
            }
        }
    }

    fn note(&mut self, submitted: Result<Answer, LinkError>, bytes: usize) {
        match submitted {
            Ok(answer) => {
                if self.under_way.is_empty() {
                    self.be_patient();
                }
                self.bytes += bytes;
                self.under_way.push_back(UnderWay { answer, bytes });
            }
            // What is under way may still be answered.
            Err(error) => self.failed = Some(error.into()),
        }
    }

    fn be_patient(&mut self) {
        let until = Instant::now() + self.links.config().append_stall;
        self.patience.as_mut().reset(until);
    }

    /// The result of the append that was sent first.
    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AppendResult, PipelineError>>> {
        let Some(first) = self.under_way.front_mut() else {
            return match self.failed.take() {
                Some(error) => Poll::Ready(Some(Err(error))),
                None if self.input_ended && self.parts.is_empty() && self.waiting_for_room.is_none() => {
                    Poll::Ready(None)
                }
                None => Poll::Pending,
            };
        };
        match Pin::new(&mut first.answer).poll(context) {
            Poll::Ready(answer) => {
                self.bytes -= first.bytes;
                self.under_way.pop_front();
                self.be_patient();
                let result = answer
                    .and_then(|body| decode_append_result(body).map_err(|error| LinkError::Lost(error.to_string())));
                Poll::Ready(Some(result.map_err(PipelineError::Link)))
            }
            Poll::Pending if self.patience.as_mut().poll(context).is_ready() => {
                Poll::Ready(Some(Err(PipelineError::Stalled(self.links.config().append_stall))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Stream<Item = Append> + Unpin> Stream for Pipeline<S> {
    type Item = Result<AppendResult, PipelineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.finished {
            return Poll::Ready(None);
        }
        self.fill(context);
        let result = self.poll_first(context);
        if matches!(result, Poll::Ready(None | Some(Err(_) | Ok(Err(_))))) {
            self.finished = true;
            self.under_way.clear();
        }
        result
    }
}
