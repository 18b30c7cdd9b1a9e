//! Who a device is, by its keys.
//!
//! Owns: a device's two identity keys as one value, and what its signatures cover.
//! Must not know: sessions, and where keys are kept or published.
//! Invariants: a key is believed only if the identity signed it, for this user, device, set of keys, kind and number.

use crate::devices::{Bundle, Prekey};
use bytes::Bytes;
use messenger_proto::ids::{DeviceId, UserId};
use std::fmt;
use vodozemac::olm::Account;
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey, Ed25519Signature};

/// Bytes of one public key.
const KEY: usize = 32;
/// Bytes of a signature.
const SIGNATURE: usize = 64;
/// What every signature begins with, so that it stands for nothing else.
const CONTEXT: &[u8] = b"messenger prekey v1\0";

/// A device's public identity: the key it signs with (Ed25519), then the one it agrees on secrets with (X25519).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity([u8; 2 * KEY]);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// Why what a device published is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBundle {
    /// The keys have another form than ours.
    #[error("its keys are of a kind this client does not know")]
    Form,
    /// A signature is missing or wrong.
    #[error("its keys are not signed by it")]
    Signature,
}

/// What a signed key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyUse {
    Signed = 1,
    OneTime = 2,
    LastResort = 3,
}

/// Whose key it is, and of which set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) user: &'a UserId,
    pub(super) device: &'a DeviceId,
    pub(super) registration: u64,
}

/// What a bundle comes to once it is believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Believed {
    pub(super) identity: Identity,
    pub(super) prekey: Curve25519PublicKey,
}

impl Identity {
    pub(super) fn of(account: &Account) -> Self {
        let keys = account.identity_keys();
        let mut bytes = [0; 2 * KEY];
        bytes[..KEY].copy_from_slice(keys.ed25519.as_bytes());
        bytes[KEY..].copy_from_slice(keys.curve25519.as_bytes());
        Self(bytes)
    }

    /// Reads one; `None` when it is of another length, or no key.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let identity = Self(bytes.try_into().ok()?);
        identity.signer().map(|_| identity)
    }

    /// Both keys, one after the other.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that secrets are agreed on with.
    pub(super) fn agreement(&self) -> Curve25519PublicKey {
        let mut bytes = [0; KEY];
        bytes.copy_from_slice(&self.0[KEY..]);
        Curve25519PublicKey::from_bytes(bytes)
    }

    fn signer(&self) -> Option<Ed25519PublicKey> {
        let mut bytes = [0; KEY];
        bytes.copy_from_slice(&self.0[..KEY]);
        Ed25519PublicKey::from_slice(&bytes).ok()
    }
}

fn signed_bytes(owner: Owner<'_>, identity: &Identity, key_use: KeyUse, key_id: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = CONTEXT.to_vec();
    // Names hold no zero byte, so these parts cannot run into each other.
    bytes.extend_from_slice(owner.user.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(owner.device.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&owner.registration.to_be_bytes());
    bytes.extend_from_slice(identity.as_bytes());
    bytes.push(key_use as u8);
    bytes.extend_from_slice(&key_id.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// A key as it is published. One-time keys travel with their signature behind the key: the contract names no member for it.
pub(super) fn publish(account: &Account, owner: Owner<'_>, key_use: KeyUse, key_id: u64, key: &[u8]) -> Prekey {
    let identity = Identity::of(account);
    let signature = account.sign(signed_bytes(owner, &identity, key_use, key_id, key)).to_bytes();
    match key_use {
        KeyUse::Signed => Prekey {
            key_id,
            public_key: Bytes::copy_from_slice(key),
            signature: Some(Bytes::copy_from_slice(&signature)),
        },
        KeyUse::OneTime | KeyUse::LastResort => {
            Prekey { key_id, public_key: [key, &signature[..]].concat().into(), signature: None }
        }
    }
}

/// Checks a bundle. With a one-time key it is that which counts, else the signed one.
pub(super) fn believe(user: &UserId, bundle: &Bundle) -> Result<Believed, BadBundle> {
    let owner = Owner { user, device: &bundle.device_id, registration: bundle.registration_id };
    let identity = Identity::from_slice(&bundle.identity_key).ok_or(BadBundle::Form)?;
    let signed = &bundle.signed_prekey;
    let signature = signed.signature.as_deref().ok_or(BadBundle::Signature)?;
    let fallback = check(owner, &identity, &[KeyUse::Signed], signed.key_id, &signed.public_key, signature)?;
    let Some(one_time) = &bundle.one_time_prekey else { return Ok(Believed { identity, prekey: fallback }) };
    if one_time.public_key.len() != KEY + SIGNATURE {
        return Err(BadBundle::Form);
    }
    let (key, signature) = one_time.public_key.split_at(KEY);
    let either = [KeyUse::OneTime, KeyUse::LastResort];
    let prekey = check(owner, &identity, &either, one_time.key_id, key, signature)?;
    Ok(Believed { identity, prekey })
}

fn check(
    owner: Owner<'_>,
    identity: &Identity,
    uses: &[KeyUse],
    key_id: u64,
    key: &[u8],
    signature: &[u8],
) -> Result<Curve25519PublicKey, BadBundle> {
    let prekey = Curve25519PublicKey::from_slice(key).map_err(|_| BadBundle::Form)?;
    let signer = identity.signer().ok_or(BadBundle::Form)?;
    let signature = Ed25519Signature::from_slice(signature).map_err(|_| BadBundle::Signature)?;
    let is_by_it = |key_use| signer.verify(&signed_bytes(owner, identity, key_use, key_id, key), &signature).is_ok();
    if uses.iter().any(|key_use| is_by_it(*key_use)) { Ok(prekey) } else { Err(BadBundle::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Bundle);

    fn bundle(account: &Account) -> (UserId, Bundle) {
        let (user, device_id) = (UserId::new("bob").unwrap(), DeviceId::new("phone").unwrap());
        let owner = Owner { user: &user, device: &device_id, registration: 7 };
        let key = [9; KEY];
        let signed_prekey = publish(account, owner, KeyUse::Signed, 1, &key);
        let one_time_prekey = Some(publish(account, owner, KeyUse::OneTime, 2, &key));
        let identity_key = Bytes::copy_from_slice(Identity::of(account).as_bytes());
        (user.clone(), Bundle { device_id, registration_id: 7, identity_key, signed_prekey, one_time_prekey })
    }

    #[test]
    fn what_is_signed_is_believed_and_nothing_that_was_changed() {
        let (user, good) = bundle(&Account::new());
        assert_eq!(believe(&user, &good).unwrap().prekey.as_bytes(), &[9; KEY]);
        let without = Bundle { one_time_prekey: None, ..good.clone() };
        assert!(believe(&user, &without).is_ok());

        let changes: [(&str, Change); 8] = [
            ("another set of keys", |b| b.registration_id = 8),
            ("another device", |b| b.device_id = DeviceId::new("tablet").unwrap()),
            ("another number", |b| b.signed_prekey.key_id = 5),
            ("no signature", |b| b.signed_prekey.signature = None),
            ("another signed key", |b| b.signed_prekey.public_key = Bytes::from(vec![8; KEY])),
            ("another one-time key", |b| {
                let key = b.one_time_prekey.as_mut().unwrap();
                let mut bytes = key.public_key.to_vec();
                bytes[0] ^= 1;
                key.public_key = bytes.into();
            }),
            ("a one-time key without its signature", |b| {
                let key = b.one_time_prekey.as_mut().unwrap();
                key.public_key = key.public_key.slice(..KEY);
            }),
            ("another agreement key", |b| {
                let mut bytes = b.identity_key.to_vec();
                bytes[KEY] ^= 1;
                b.identity_key = bytes.into();
            }),
        ];
        for (what, change) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(believe(&user, &bad).is_err(), "{what}");
        }
        assert!(believe(&UserId::new("eve").unwrap(), &good).is_err(), "another user");
        let (_, other) = bundle(&Account::new());
        let mixed = Bundle { one_time_prekey: other.one_time_prekey, ..good };
        assert_eq!(believe(&user, &mixed).unwrap_err(), BadBundle::Signature, "keys of two devices");
    }
}
