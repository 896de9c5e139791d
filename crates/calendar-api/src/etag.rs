//! Conditional reads (RFC 9110 13.1.2): an `ETag` over the bytes of every JSON answer, and 304 for what the caller has.

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::problem::Problem;

/// Of the digest; enough for no two bodies of one URL to meet.
const BYTES: usize = 16;

/// The middleware.
pub(crate) async fn conditional(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let asked = request.headers().clone();
    let response = next.run(request).await;
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/json");
    // What has no known length is a stream, and not held back.
    if response.status() != StatusCode::OK
        || !is_json
        || response.body().size_hint().exact().is_none()
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return Problem::internal(error.to_string()).into_response(),
    };
    let tag = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &bytes).as_ref()[..BYTES]);
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        parts.headers.insert(header::ETAG, value);
    }
    parts.headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    parts.headers.insert(
        header::VARY,
        HeaderValue::from_static("Authorization, Calendar-User"),
    );
    if names(&asked, &tag) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether `If-None-Match` names the tag: weak comparison (RFC 9110 8.8.3.2). Tags of ours hold no comma.
fn names(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| {
            let opaque = named.strip_prefix("W/").unwrap_or(named);
            let opaque = opaque.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            named == "*" || opaque == Some(tag)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        let named = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            }
            names(&headers, "abc")
        };
        assert!(named(&["\"abc\""]) && named(&["W/\"abc\""]) && named(&["*"]));
        assert!(named(&["\"x\", \"abc\""]) && named(&["\"x\"", "W/\"abc\""]));
        for others in [
            "",
            "abc",
            "\"ab\"",
            "w/\"abc\"",
            "\"ABC\"",
            "\"abc",
            "\"*\"",
        ] {
            assert!(!named(&[others]), "{others}");
        }
        assert!(!named(&[]));
    }
}
