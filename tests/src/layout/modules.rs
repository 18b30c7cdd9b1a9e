//! The order of the modules within `node`.
//!
//! Owns: which of them each may name.
//! Must not know: the rules between crates.
//! Invariants: nobody names a module that stands further down; tests may name any.

use super::{Breach, Source, breach, code_of, is_test_file};

/// The modules of `node`, lowest first, and which others each may name.
pub const NODE: [(&str, &[&str]); 18] = [
    ("metric_names", &[]),
    ("readiness", &[]),
    ("config", &[]),
    ("tls", &["config"]),
    ("auth", &[]),
    ("dev_key", &["auth"]),
    ("api", &["auth"]),
    ("operator_api", &["api"]),
    ("rpc", &["readiness"]),
    ("audit", &["metric_names", "config", "auth", "api"]),
    ("rates", &["metric_names", "config", "auth", "api"]),
    ("gateway", &["metric_names", "readiness", "config", "tls", "auth", "api", "audit", "rates"]),
    ("realtime", &["metric_names", "config", "auth", "api", "audit", "rates", "gateway"]),
    ("admin", &["readiness", "operator_api", "config", "auth", "api", "rpc", "audit", "gateway"]),
    (
        "boot",
        &[
            "metric_names",
            "readiness",
            "operator_api",
            "config",
            "tls",
            "auth",
            "api",
            "rpc",
            "audit",
            "rates",
            "gateway",
            "realtime",
            "admin",
        ],
    ),
    ("chat", &[]),
    ("bench", &["dev_key"]),
    ("cli", &["operator_api", "config", "tls", "auth", "dev_key", "api", "audit", "boot", "chat", "bench"]),
];

/// A source of `node` names the modules it may, and no other.
#[must_use]
pub fn edges(source: &Source) -> Vec<Breach> {
    let Some(inner) = source.path.strip_prefix("node/src/").filter(|_| source.is_rust()) else { return Vec::new() };
    let own = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if is_test_file(&source.path) || matches!(own, "lib" | "main" | "testing") {
        return Vec::new();
    }
    let Some((_, allowed)) = NODE.iter().find(|(name, _)| *name == own) else {
        return vec![breach(source, format!("{own} has no place among node's modules"))];
    };
    let code = code_of(&source.text);
    let mut breaches: Vec<Breach> = NODE
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != own && !allowed.contains(name) && names(&code, name))
        .map(|name| breach(source, format!("{own} names {name}, and may not")))
        .collect();
    // `super` of a module at the top is the crate, where every other module is in reach.
    let depth = inner.split('/').count() - usize::from(inner.ends_with("/mod.rs"));
    if code.contains(&"super::".repeat(depth)) {
        breaches.push(breach(source, "reaches the crate by `super`, where `crate` is to be said".to_owned()));
    }
    breaches
}

/// Whether some code names a module of its crate, also within a group: `use crate::{auth, config::Config}`.
fn names(code: &str, module: &str) -> bool {
    code.match_indices("crate::").any(|(at, root)| {
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(group) => heads(group).any(|head| head == module),
            None => word(rest) == module,
        }
    })
}

/// The word that something begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// What each path of a group begins with; `group` is what follows the brace that opens it.
fn heads(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 1;
    let inner = group.find(move |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    let mut depth = 0;
    let parts = group[..inner.unwrap_or(group.len())].split(move |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.map(|path| word(path.trim_start()))
}
