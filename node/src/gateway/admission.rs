//! How much the gateway takes on at once.
//!
//! Owns: the bounds on requests in flight, on the bytes of their bodies, and on large answers not yet taken.
//! Must not know: what a request asks for.
//! Invariants: nothing waits here: there is room, or the client is turned away; room comes back when its holder is gone.

use super::held::{self, Holding};
use crate::api::error::ApiError;
use crate::config::LimitsConfig;
use bytes::Bytes;
use messenger_proto::error::ErrorCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers up to this many bytes are covered by the bound on requests; larger ones have a bound of their own, for as
/// long as the client has not taken them.
const SMALL_ANSWER: usize = 64 * 1024;

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Requests in flight.
    pub requests: u32,
    /// Bytes of request bodies in flight.
    pub request_bytes: u32,
    /// Bytes of large answers that clients have not taken yet.
    pub answer_bytes: u32,
    /// How long a body may take to arrive.
    pub body_time: Duration,
}

impl AdmissionLimits {
    /// What is configured, and what is not for operators to choose.
    #[must_use]
    pub fn of(limits: &LimitsConfig) -> Self {
        Self {
            requests: limits.requests,
            request_bytes: limits.request_bytes,
            answer_bytes: 128 * 1024 * 1024,
            body_time: Duration::from_secs(20),
        }
    }
}

/// What is left of the limits.
#[derive(Debug)]
pub(super) struct Admission {
    requests: Arc<Semaphore>,
    request_bytes: Arc<Semaphore>,
    answer_bytes: Arc<Semaphore>,
}

/// Room that a request takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    _request: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// All of the limits.
    #[must_use]
    pub(super) fn new(limits: AdmissionLimits) -> Self {
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        Self {
            requests: semaphore(limits.requests),
            request_bytes: semaphore(limits.request_bytes),
            answer_bytes: semaphore(limits.answer_bytes),
        }
    }

    /// Takes a request with a body of up to `bytes`.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when there is no room.
    pub(super) fn admit(&self, bytes: u32) -> Result<Admitted, ApiError> {
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| overloaded())?;
        let bytes = match bytes {
            0 => None,
            _ => Some(Arc::clone(&self.request_bytes).try_acquire_many_owned(bytes).map_err(|_| overloaded())?),
        };
        Ok(Admitted { _request: request, _bytes: bytes })
    }

    /// The bytes of an answer to what was carried out; a large one takes room as far as there is any, since it cannot be
    /// said any more that nothing was done.
    pub(super) fn answer_done(&self, bytes: Vec<u8>) -> (Bytes, Option<Holding>) {
        if bytes.len() <= SMALL_ANSWER {
            return (bytes.into(), None);
        }
        let room = self.room_for(&bytes);
        let (bytes, holding) = held::hold(bytes, room);
        (bytes, Some(holding))
    }

    fn room_for(&self, bytes: &[u8]) -> Option<OwnedSemaphorePermit> {
        let length = u32::try_from(bytes.len()).ok()?;
        Arc::clone(&self.answer_bytes).try_acquire_many_owned(length).ok()
    }

    /// An answer's bytes; a large one takes room until they are sent.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when there is no room.
    pub(super) fn answer(&self, bytes: Vec<u8>) -> Result<(Bytes, Option<Holding>), ApiError> {
        if bytes.len() <= SMALL_ANSWER {
            return Ok((bytes.into(), None));
        }
        let room = self.room_for(&bytes).ok_or_else(overloaded)?;
        let (bytes, holding) = held::hold(bytes, Some(room));
        Ok((bytes, Some(holding)))
    }
}

fn overloaded() -> ApiError {
    ApiError::new(ErrorCode::Overloaded, "Too much is in flight here; try again, or another node.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        let limits = AdmissionLimits::of(&LimitsConfig { requests: 2, request_bytes: 100, ..LimitsConfig::default() });
        Admission::new(AdmissionLimits { answer_bytes: 200_000, ..limits })
    }

    #[test]
    fn requests_and_their_bytes_are_bounded() {
        let admission = admission();
        let first = admission.admit(60).unwrap();
        assert_eq!(admission.admit(41).unwrap_err().code(), ErrorCode::Overloaded);
        let second = admission.admit(40).unwrap();
        assert!(admission.admit(0).is_err(), "two are in flight");
        drop(first);
        let third = admission.admit(60).unwrap();
        drop((second, third));
        assert!(admission.admit(100).is_ok());
        assert!(admission.admit(101).is_err());
    }

    #[test]
    fn large_answers_take_room_until_they_are_gone() {
        let admission = admission();
        let large = admission.answer(vec![1; 150_000]).unwrap().0;
        let rest = large.slice(100_000..);
        drop(large);
        assert!(admission.answer(vec![1; 100_000]).is_err());
        assert_eq!(admission.answer(vec![7; SMALL_ANSWER]).unwrap().0.len(), SMALL_ANSWER);
        drop(rest);
        assert!(admission.answer(vec![1; 100_000]).is_ok());
    }
}
