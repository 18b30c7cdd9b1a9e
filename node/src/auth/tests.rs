//! The matrix of tokens: which are believed, which are not, and why.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: u64 = 1_700_000_100;
const SECRET: [u8; 32] = [7; 32];
/// RFC 8037, appendix A.
const ED_SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const ED_PUBLIC: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// RFC 7515, appendix A.3.
const EC_PRIVATE: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
const EC_PUBLIC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// A key whose private half was thrown away after signing [`RSA_TOKEN`], valid from 1,700,000,000 for ten minutes.
const RSA_PUBLIC: &str = r#"{"kty":"RSA","e":"AQAB","n":"yO-BiqalWKDuJYQpNT1R4OfyEnCZ_2SoRN92kb-dCEjNKGHKi6I4mDKMQhBAzMteRusyR43xnpA9WXgRH96PF7a0aZcSQqr58gNAaUQ1HJDdIEBOKS3vSmEbMbO1R57_FfZpa4GfBQnUgdkCgXP5vQawJLVwBc_c8NVQtaEt74riMEMSCe4MseslTcOYXs7UevfdqEf7ayk85QZQwmI2lFy0IiUdOe9LiaO8BgKdoEIgNMjr07yyXlCL5bICatv5Ljn71pcJJ1us13aodaYLJGjJdD1p27xWJorjAyfYLSGcJgKGOJhTwC9YC93J7S1Q9OufQhrRXlUeeEloxGfQ2w"}"#;
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzIn0.eyJpc3MiOiAiaHR0cHM6Ly9pZC5leGFtcGxlIiwgImF1ZCI6IFsib3RoZXIiLCAibWVzc2VuZ2VyIl0sICJzdWIiOiAiYWxpY2UiLCAiZGlkIjogInBob25lIiwgInNjb3BlIjogImNoYXQucmVhZCIsICJpYXQiOiAxNzAwMDAwMDAwLCAiZXhwIjogMTcwMDAwMDYwMH0.nvHEwAhcsypFTLfZi7lLr_EDxIOOKT9QrrmOIGP8fp6E_pMDwJ98FMJ-8JkGDYTKVLi6heqnQncDuE7Kh5_msnq_1Cbyz1xxBy517jOYTsIXoJo4wnzOcYMRrbejy8-MSTut3KZblyuBpGIbW_b8AxrD6VxYxMjIbLROP-n_xQGuh2K462lwryt-x__tgIFeyx4uAIz1lGj26KgrM4yWBtO0s61y7yEPOqi6QRH-1KF0ZbN5R7CWPzGgWYfCQNwArh9n90tw3tMucnh1W2AMETu2TfE11nrLHfvqC9c9MCIvSsWA5frCNm4L8uoYJFePVGceAdp3qKZo7JgkrEs9pA";

fn signing_key() -> SigningKey {
    SigningKey {
        kid: "hs".into(),
        issuer: "https://id.example".into(),
        audience: "messenger".into(),
        secret: SECRET.to_vec(),
    }
}

fn public(kid: &str, algorithm: KeyAlgorithm, jwk: &str) -> KeyConfig {
    let jwk = Some(serde_json::from_str::<Jwk>(jwk).unwrap());
    KeyConfig { kid: kid.into(), algorithm, secret: None, secret_file: None, jwk }
}

/// An authenticator with one key of each kind, and its clock in milliseconds.
fn authenticator() -> (Authenticator, Arc<AtomicU64>) {
    let config = BelievedKeys {
        issuer: "https://id.example".into(),
        audience: "messenger".into(),
        keys: vec![
            signing_key().key_config(),
            public("ed", KeyAlgorithm::EdDSA, ED_PUBLIC),
            public("es", KeyAlgorithm::ES256, EC_PUBLIC),
            public("rs", KeyAlgorithm::RS256, RSA_PUBLIC),
        ],
    };
    let now = Arc::new(AtomicU64::new(NOW * 1000));
    let clock = Arc::clone(&now);
    let keys = KeySet::load(&config).unwrap();
    (Authenticator::new(keys, Arc::new(move || Millis(clock.load(Ordering::SeqCst)))), now)
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": "messenger", "sub": "alice", "did": "phone",
        "scope": "chat.read chat.write", "iat": NOW - 60, "exp": NOW + 60,
    })
}

/// The claims with some replaced, or taken away where the change is null.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, change) in changes.as_object().unwrap() {
        claims[name] = change.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn signed(claims: &Value) -> String {
    let header = Header { kid: Some("hs".into()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&SECRET)).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// An Ed25519 or P-256 private key in its PKCS #8 shell.
fn pkcs8(shell: &str, key: &str) -> Vec<u8> {
    let hex = (0..shell.len()).step_by(2).map(|at| u8::from_str_radix(&shell[at..at + 2], 16).unwrap());
    hex.chain(URL_SAFE_NO_PAD.decode(key).unwrap()).collect()
}

fn ed_key() -> EncodingKey {
    EncodingKey::from_ed_der(&pkcs8("302e020100300506032b657004220420", ED_SEED))
}

#[test]
fn scopes_read_what_they_write() {
    for scopes in [Scopes::ALL, Scopes::default(), Scopes::parse("chat.read"), Scopes::parse("chat.write")] {
        assert_eq!(Scopes::parse(&scopes.text()), scopes);
    }
    assert_eq!(Scopes::parse("openid chat.read chat.reader"), Scopes { read: true, write: false });
    assert!(!Scopes::parse("chat.*").contains(Scope::Write));
}

#[test]
fn every_algorithm_is_verified_by_its_key() {
    let (authenticator, _) = authenticator();
    let shell = "3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420";
    let ec_key = EncodingKey::from_ec_der(&pkcs8(shell, EC_PRIVATE));
    let hs_key = EncodingKey::from_secret(&SECRET);
    let cases =
        [(Algorithm::HS256, "hs", hs_key), (Algorithm::EdDSA, "ed", ed_key()), (Algorithm::ES256, "es", ec_key)];
    for (algorithm, kid, key) in cases {
        let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        let identity = authenticator.verify(&token).unwrap();
        assert_eq!((identity.user.as_str(), identity.device.as_str()), ("alice", "phone"), "{kid}");
        assert_eq!((identity.scopes, identity.expires_at), (Scopes::ALL, Millis((NOW + 60) * 1000)), "{kid}");
    }
    let identity = authenticator.verify(RSA_TOKEN).unwrap();
    assert!(identity.scopes.contains(Scope::Read) && !identity.scopes.contains(Scope::Write));
}

#[test]
fn a_minted_token_is_believed_for_its_time() {
    let (authenticator, now) = authenticator();
    let grant = Grant {
        user: UserId::new("bob").unwrap(),
        device: DeviceId::new("laptop").unwrap(),
        scopes: Scopes::parse("chat.read"),
        lifetime: Duration::from_secs(30),
    };
    let token = signing_key().mint(&grant, Millis(NOW * 1000)).unwrap();
    let identity = authenticator.verify(bearer(&format!("bearer {token}")).unwrap()).unwrap();
    assert_eq!((identity.user.as_str(), identity.scopes.text().as_str()), ("bob", "chat.read"));
    now.store((NOW + 40) * 1000 - 1, Ordering::SeqCst);
    assert!(authenticator.verify(&token).is_ok(), "10 s of leeway");
    now.store((NOW + 40) * 1000, Ordering::SeqCst);
    assert_eq!(authenticator.verify(&token), Err(AuthError::Expired), "a remembered token ends too");
}

#[test]
fn claims_are_checked() {
    let (authenticator, _) = authenticator();
    let cases = [
        (json!({"iss": "https://evil.example"}), AuthError::WrongParty),
        (json!({"iss": null}), AuthError::BadClaim),
        (json!({"iss": ["https://id.example"]}), AuthError::BadClaim),
        (json!({"aud": "other"}), AuthError::WrongParty),
        (json!({"aud": []}), AuthError::WrongParty),
        (json!({"aud": null}), AuthError::BadClaim),
        (json!({"sub": null}), AuthError::BadClaim),
        (json!({"sub": "a/b"}), AuthError::BadClaim),
        (json!({"sub": "me"}), AuthError::BadClaim),
        (json!({"sub": 7}), AuthError::BadClaim),
        (json!({"did": null}), AuthError::BadClaim),
        (json!({"did": ""}), AuthError::BadClaim),
        (json!({"scope": ["chat.read"]}), AuthError::BadClaim),
        (json!({"exp": null}), AuthError::BadClaim),
        (json!({"exp": "tomorrow"}), AuthError::BadClaim),
        (json!({"exp": NOW - 10}), AuthError::Expired),
        (json!({"exp": -1}), AuthError::Expired),
        (json!({"iat": null}), AuthError::BadClaim),
        (json!({"iat": NOW + 11}), AuthError::NotYetValid),
        (json!({"nbf": NOW + 11}), AuthError::NotYetValid),
        (json!({"nbf": "later"}), AuthError::BadClaim),
    ];
    for (changes, error) in cases {
        assert_eq!(authenticator.verify(&signed(&with(&changes))), Err(error), "{changes}");
    }
    let accepted = [
        json!({"aud": ["other", "messenger"]}),
        json!({"exp": NOW - 9}),
        json!({"exp": 1e300}),
        json!({"iat": NOW + 10, "nbf": NOW + 10}),
        json!({"exp": 1_700_000_099.5}),
        json!({"extra": {"deep": [1]}}),
    ];
    for changes in accepted {
        assert!(authenticator.verify(&signed(&with(&changes))).is_ok(), "{changes}");
    }
    let without = authenticator.verify(&signed(&with(&json!({"scope": null})))).unwrap();
    assert_eq!(without.scopes, Scopes::default());
}

#[test]
fn forged_headers_are_refused() {
    let (authenticator, _) = authenticator();
    let payload = part(&claims());
    let genuine = signed(&claims());
    let signature = genuine.rsplit('.').next().unwrap();
    let header_of = |header: Value| format!("{}.{payload}.{signature}", part(&header));
    let cases = [
        (header_of(json!({"alg": "none", "kid": "hs"})), AuthError::Malformed),
        (format!("{}.{payload}.", part(&json!({"alg": "none", "kid": "hs"}))), AuthError::Malformed),
        (header_of(json!({"alg": "HS256"})), AuthError::UnknownKey),
        (header_of(json!({"alg": "HS256", "kid": "other"})), AuthError::UnknownKey),
        (header_of(json!({"alg": "HS512", "kid": "hs"})), AuthError::WrongAlgorithm),
        (header_of(json!({"alg": "HS256", "kid": "ed"})), AuthError::WrongAlgorithm),
        (header_of(json!({"alg": "HS256", "kid": "hs", "crit": ["b64"], "b64": false})), AuthError::Malformed),
        (header_of(json!({"alg": "HS256", "kid": "hs", "x": 1})), AuthError::BadSignature),
        (genuine.replace(&payload, &part(&with(&json!({"sub": "bob"})))), AuthError::BadSignature),
        (genuine[..genuine.len() - 4].to_owned(), AuthError::BadSignature),
        (String::new(), AuthError::Malformed),
        ("..".into(), AuthError::Malformed),
        ("a.b.c".into(), AuthError::Malformed),
        (format!("{genuine}{}", "A".repeat(TOKEN_MAX)), AuthError::Malformed),
    ];
    for (token, error) in cases {
        assert_eq!(authenticator.verify(&token), Err(error), "{token}");
    }
    // The classic confusion: an HMAC over the public key's bytes, under the public key's id.
    let jwk: Jwk = serde_json::from_str(ED_PUBLIC).unwrap();
    let public = serde_json::to_value(&jwk).unwrap()["x"].as_str().unwrap().to_owned();
    for kid in ["ed", "rs", "es"] {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(&public).unwrap());
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        assert_eq!(authenticator.verify(&token), Err(AuthError::WrongAlgorithm));
    }
    // A genuine signature of one key under the id of another.
    let header = Header { kid: Some("es".into()), ..Header::new(Algorithm::EdDSA) };
    let token = jsonwebtoken::encode(&header, &claims(), &ed_key()).unwrap();
    assert_eq!(authenticator.verify(&token), Err(AuthError::WrongAlgorithm));
}

#[test]
fn a_header_without_a_bearer_token_has_none() {
    for value in ["", "Bearer", "Basic YTpi", "Token abc"] {
        assert_eq!(bearer(value), Err(AuthError::Missing), "{value:?}");
    }
    let (authenticator, _) = authenticator();
    assert_eq!(bearer("Bearer x").and_then(|token| authenticator.verify(token)), Err(AuthError::Malformed));
}

#[test]
fn a_verified_token_is_remembered_and_a_forged_one_is_not() {
    let (authenticator, _) = authenticator();
    let token = signed(&claims());
    let first = authenticator.verify(&token).unwrap();
    assert!(Arc::ptr_eq(&first, &authenticator.verify(&token).unwrap()));
    let forged = format!("{token}A");
    for _ in 0..2 {
        assert!(authenticator.verify(&forged).is_err());
    }
}
