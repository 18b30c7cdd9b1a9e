//! Keys in files.
//!
//! Owns: the JSON file that names issuer, audience and keys, and the one a local cluster makes for itself.
//! Must not know: how tokens are verified or signed.
//! Invariants: the file of a local cluster is readable by its owner only, and never overwritten.

use super::keys::{BelievedKeys, KeyAlgorithm, KeyConfig, KeyError, KeySet, SecretText};
use super::mint::SigningKey;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The parties of a local cluster's tokens.
const DEV_ISSUER: &str = "messenger-dev";
const DEV_AUDIENCE: &str = "messenger";
const DEV_KID: &str = "dev";
/// Bytes of a secret's file that are read at most.
const SECRET_FILE_MAX: u64 = 64 << 10;

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It isn't JSON of the right shape.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a secret.
        message: String,
    },
    /// Its keys can't be used.
    #[error("{}: {source}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Which key, and why.
        source: KeyError,
    },
    /// It holds no key to sign with.
    #[error("{}: holds no HS256 key to sign with", .0.display())]
    NoSigningKey(PathBuf),
}

/// Where a local cluster's directory keeps its keys.
#[must_use]
pub fn dev_keys_path(root: &Path) -> PathBuf {
    root.join("keys").join("dev.json")
}

fn read(path: &Path) -> Result<BelievedKeys, KeyFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeyFileError::Io { path: path.into(), source })?;
    let mut config: BelievedKeys = serde_json::from_str(&text).map_err(|error| {
        let message = format!("line {} is not what a key file holds", error.line());
        KeyFileError::Malformed { path: path.into(), message }
    })?;
    config.keys.iter_mut().try_for_each(|key| fetch_secret(path, key))?;
    Ok(config)
}

/// Reads a secret that stands in a file of its own.
fn fetch_secret(keys: &Path, key: &mut KeyConfig) -> Result<(), KeyFileError> {
    let Some(file) = key.secret_file.take() else { return Ok(()) };
    if key.secret.is_some() {
        let message = format!("key {:?} has both secret and secret_file", key.kid);
        return Err(KeyFileError::Malformed { path: keys.into(), message });
    }
    let path = keys.parent().unwrap_or(Path::new(".")).join(file);
    let failed = |source| KeyFileError::Io { path: path.clone(), source };
    let mut text = String::new();
    let file = std::fs::File::open(&path).map_err(failed)?;
    file.take(SECRET_FILE_MAX).read_to_string(&mut text).map_err(failed)?;
    key.secret = Some(SecretText(text.trim().to_owned()));
    Ok(())
}

/// The keys a node verifies with.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_keys(path: &Path) -> Result<KeySet, KeyFileError> {
    KeySet::load(&read(path)?).map_err(|source| KeyFileError::Keys { path: path.into(), source })
}

/// The first HS256 key of a file, to sign with.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_signing_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let config = read(path)?;
    let key = config.keys.into_iter().find_map(|key| match (key.algorithm, key.secret.and_then(|text| text.bytes())) {
        (KeyAlgorithm::HS256, Some(secret)) => Some((key.kid, secret)),
        _ => None,
    });
    let (kid, secret) = key.ok_or_else(|| KeyFileError::NoSigningKey(path.into()))?;
    Ok(SigningKey { kid, issuer: config.issuer, audience: config.audience, secret })
}

/// Makes a local cluster's key file, unless there is one.
///
/// # Errors
/// [`KeyFileError::Io`].
pub fn ensure_dev_keys(path: &Path) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.into(), source };
    if path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let secret: [u8; 32] = rand::random();
    let key = SigningKey {
        kid: DEV_KID.into(),
        issuer: DEV_ISSUER.into(),
        audience: DEV_AUDIENCE.into(),
        secret: secret.to_vec(),
    };
    let config =
        BelievedKeys { issuer: DEV_ISSUER.into(), audience: DEV_AUDIENCE.into(), keys: vec![key.key_config()] };
    let text = serde_json::to_string_pretty(&config).map_err(|error| failed(std::io::Error::other(error)))?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_cluster_makes_its_key_once_and_can_use_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dev_keys_path(dir.path());
        ensure_dev_keys(&path).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        ensure_dev_keys(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        assert!(load_keys(&path).is_ok());
        assert_eq!(load_signing_key(&path).unwrap().secret.len(), 32);
    }

    #[test]
    fn a_secret_may_stand_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let keys = |secret: &str| {
            let key = format!(r#"{{"kid":"k","algorithm":"HS256",{secret}}}"#);
            std::fs::write(&path, format!(r#"{{"issuer":"i","audience":"a","keys":[{key}]}}"#)).unwrap();
        };
        keys(r#""secret_file":"hs256""#);
        assert!(load_keys(&path).unwrap_err().to_string().contains("hs256"));
        std::fs::write(dir.path().join("hs256"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
        assert!(load_keys(&path).is_ok());
        assert_eq!(load_signing_key(&path).unwrap().secret, b"0123456789abcdef0123456789abcdef");
        keys(r#""secret_file":"hs256","secret":"aHVudGVyMg==""#);
        let error = load_keys(&path).unwrap_err().to_string();
        assert!(error.contains("both") && !error.contains("aHVudGVyMg"), "{error}");
    }

    #[test]
    fn a_broken_file_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        std::fs::write(&path, "{\"secret\": \"hunter2\"").unwrap();
        let error = load_keys(&path).unwrap_err().to_string();
        assert!(error.contains("keys.json") && !error.contains("hunter2"), "{error}");
        assert!(load_keys(&dir.path().join("absent")).is_err());
    }
}
