//! The API, described for programs and for people.
//!
//! Owns: the OpenAPI 3.1 document at `/v1/openapi.json`, the AsyncAPI document beside it (see [`asyncapi`]), and the page at
//! `/docs` that shows them.
//! Must not know: how a request is carried out.
//! Invariants: every route is described, and nothing else is; every answer that the gateway's tests see has a shape and a
//! code that the document names for its route (see the tests' harness); the page needs nothing from outside the node.

mod asyncapi;
mod envelopes;
mod frames;
mod headers;
mod operation;
mod operations;
mod schemas;

use super::etag::EntityTag;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
const PAGE: &str = include_str!("page.html");

/// `GET /v1/openapi.json`
pub(super) async fn openapi(asked: HeaderMap) -> Response {
    served(&DOCUMENT, &asked)
}

/// A document, unless the client has it.
fn served(document: &Bytes, asked: &HeaderMap) -> Response {
    let tag = EntityTag::of(document);
    let mut response = if tag.is_held(asked) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document.clone()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    if let Some(tag) = tag.header() {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// `GET /docs`
pub(super) async fn docs() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
            ),
        ),
    ];
    (headers, PAGE).into_response()
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = serde_json::Map::new();
    for operation in operations::all() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Messenger",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Any node of the cluster"}],
        "security": [{"bearer": []}],
        "tags": operations::TAGS.map(|(name, about)| json!({"name": name, "description": about})),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": TOKEN,
                },
            },
            "headers": headers::all(),
            "schemas": schemas::all(),
        },
    })
}

const ABOUT: &str = "Threads, messages and receipts of a Messenger cluster; every node answers for all of it. A 2xx to a change \
means that a majority of replicas has it on disk and that it is applied. A 5xx or a timeout means that the outcome is unknown \
unless the problem's `code` says otherwise: send it again with the same keys. Errors are problem documents (RFC 9457); see \
`ErrorCode` for what each code means. HEAD answers wherever GET does; OPTIONS, and 405 to a method that a path does not have, \
name those it has in `Allow`.";

/// What a token says, and how long it is good.
const TOKEN: &str = "`sub` is the user, `did` the device, `scope` holds `chat.read` and/or `chat.write`; `iat`, `nbf` and `exp` \
are held against the node's clock with 10 seconds of leeway.";

pub(super) use self::asyncapi::asyncapi;
#[cfg(test)]
pub(crate) use frames::testing::{check_from_client, check_from_node, client_kinds};
#[cfg(test)]
pub(super) use headers::{known as known_headers, of as headers_of};
#[cfg(test)]
pub(super) use operation::Operation;
#[cfg(test)]
pub(super) use schemas::testing::check;

/// Finds what the document says of a request.
#[cfg(test)]
pub(super) fn find(method: &str, path: &str) -> Option<&'static operation::Operation> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |operation: &&operation::Operation| {
        let template: Vec<&str> = operation.path.split('/').collect();
        let same =
            |(part, template): (&&str, &&str)| part == template || (template.starts_with('{') && !part.is_empty());
        operation.method.eq_ignore_ascii_case(method)
            && template.len() == parts.len()
            && parts.iter().zip(&template).all(same)
    };
    operations::all().find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let methods = |allow: &'static str| {
            allow.split(", ").filter(|method| !matches!(*method, "HEAD" | "OPTIONS")).map(str::to_lowercase)
        };
        let routes: BTreeSet<(&str, String)> = super::super::routes()
            .into_iter()
            .map(|route| (route.path, route.allow))
            .chain([("/v1/realtime", "GET")])
            .flat_map(|(path, allow)| methods(allow).map(move |method| (path, method)))
            .collect();
        let described: BTreeSet<(&str, String)> =
            operations::all().map(|operation| (operation.path, operation.method.to_owned())).collect();
        assert_eq!(described, routes);
        let ids: BTreeSet<&str> = operations::all().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), operations::all().count(), "ids are unique");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_valid() {
        for document in [document(), asyncapi::document()] {
            every_reference_leads_somewhere(&document);
            for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
                schemas::testing::validator(&json!({"$ref": format!("#/components/schemas/{name}")}));
            }
        }
    }

    fn every_reference_leads_somewhere(document: &Value) {
        let mut waiting = vec![document];
        while let Some(value) = waiting.pop() {
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').expect("references stay within the document");
                assert!(document.pointer(pointer).is_some(), "{target}");
            }
            match value {
                Value::Object(members) => waiting.extend(members.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
    }

    #[test]
    fn every_example_fits_its_schema() {
        let mut seen = 0;
        for operation in operations::all() {
            let described = operation.describe();
            let body = &described["requestBody"]["content"]["application/json"];
            if let Some(example) = body.get("example") {
                schemas::testing::check(&body["schema"], example);
                seen += 1;
            }
        }
        assert!(seen > 5);
    }

    #[test]
    fn every_error_code_is_explained() {
        let document = document();
        let codes = document["components"]["schemas"]["ErrorCode"]["enum"].as_array().expect("a list").len();
        assert_eq!(codes, messenger_proto::error::ErrorCode::ALL.len());
    }

    #[tokio::test]
    async fn a_client_that_has_the_document_is_not_sent_it_again() {
        let first = openapi(HeaderMap::new()).await;
        let tag = first.headers()[header::ETAG].clone();
        let again = openapi(HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)])).await;
        assert_eq!((first.status(), again.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
    }

    #[test]
    fn the_page_asks_nobody_else() {
        for foreign in ["http://", "https://", "//cdn", "@import", "src="] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        assert!(PAGE.contains("/v1/openapi.json") && PAGE.contains("/v1/asyncapi.json"));
    }
}
