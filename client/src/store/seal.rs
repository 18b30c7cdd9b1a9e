//! How a value is sealed.
//!
//! Owns: authenticated encryption of values under the store's key (XChaCha20-Poly1305, a random nonce each).
//! Must not know: what a value is, and where the key is kept.
//! Invariants: a value opens only in the table and under the key that it was sealed for.

use super::{StoreError, Table};
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use redb::TableHandle;

const NONCE: usize = 24;

pub(super) struct Seal(XChaCha20Poly1305);

fn place(table: Table, key: &[u8]) -> Vec<u8> {
    [table.name().as_bytes(), &[0], key].concat()
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    pub(super) fn seal(&self, table: Table, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: value, aad: &place(table, key) };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(StoreError::database)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub(super) fn open(&self, table: Table, key: &[u8], sealed: &[u8]) -> Result<Bytes, StoreError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE>().ok_or(StoreError::Damaged("a row is cut"))?;
        let payload = Payload { msg: body, aad: &place(table, key) };
        let opened = self.0.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Bytes::from).map_err(|_| StoreError::Damaged("a row does not open"))
    }
}
