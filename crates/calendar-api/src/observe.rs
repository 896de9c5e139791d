//! What happens round every request: its id, its trace, its log line, its headers, its error body.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::{Instrument as _, debug, error, info, info_span};
use uuid::Uuid;

use crate::limit::Quota;
use crate::problem::Problem;

/// How long a request may take in all; streams come later and are not among these.
const LONGEST: Duration = Duration::from_mins(1);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request, ours or the caller's.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// The caller's id when it is short and plain, else a new one: it goes into logs and headers.
    fn of(headers: &HeaderMap) -> Self {
        const LONGEST: usize = 128;
        let plain = |text: &&str| {
            (1..=LONGEST).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(plain)
            .map_or_else(
                || Self(Uuid::now_v7().to_string()),
                |id| Self(id.to_owned()),
            )
    }
}

/// Where the extractor of the caller leaves what the token has left, for the headers of the answer.
#[derive(Clone, Debug, Default)]
struct Spent(Arc<OnceLock<Quota>>);

/// Notes what the token has left, and refuses the request that is one too many.
pub(crate) fn limited(parts: &Parts, quota: Quota) -> Result<(), Problem> {
    if let Some(Spent(slot)) = parts.extensions.get() {
        // A second extractor of the same request would take again; the first one counts.
        let _ = slot.set(quota);
    }
    quota
        .wait
        .map_or(Ok(()), |wait| Err(Problem::rate_limited(wait)))
}

/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
fn add_quota(headers: &mut HeaderMap, quota: Quota) {
    let whole = quota.full_in.as_secs() + u64::from(quota.full_in.subsec_nanos() > 0);
    for (name, text) in [
        (
            "ratelimit-policy",
            format!("\"default\";q={};w=60", quota.per_minute),
        ),
        (
            "ratelimit",
            format!("\"default\";r={};t={whole}", quota.left),
        ),
    ] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The trace id of a `traceparent` (W3C Trace Context, version 00 and later ones that begin alike).
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = value.splitn(4, '-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let good = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && flags.get(..2).is_some_and(|flags| hex(flags, 2));
    good.then_some(trace)
}

/// Methods are text of the caller's; only the known ones go into the log.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The middleware.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let method = known(request.method());
    // The template, never the path or the query: those hold ids, codes and search words.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let is_webhook = route.contains("/webhooks/");
    let span = info_span!("request", request_id = %id.0, trace_id = tracing::field::Empty);
    if let Some(trace) = trace_id(request.headers()) {
        span.record("trace_id", trace);
    }
    request.extensions_mut().insert(id.clone());
    let spent = Spent::default();
    request.extensions_mut().insert(spent.clone());

    async move {
        let begun = Instant::now();
        let answered = tokio::time::timeout(LONGEST, next.run(request)).await;
        let mut response = answered.unwrap_or_else(|elapsed| {
            Problem::unavailable("timeout", "The request took too long.", None, &elapsed)
                .into_response()
        });
        let problem = complete(&mut response, &id);
        if let Some(quota) = spent.0.get() {
            add_quota(response.headers_mut(), *quota);
        }
        let status = response.status().as_u16();
        let route_label = metrics::SharedString::from(route.clone());
        metrics::counter!("http_requests_total", "method" => method, "route" => route_label.clone(), "status" => status.to_string())
            .increment(1);
        metrics::histogram!("http_request_duration_seconds", "method" => method, "route" => route_label)
            .record(begun.elapsed());
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match problem {
            Some(Problem {
                code,
                cause: Some(cause),
                ..
            }) => {
                error!(method, route, status, duration_ms, %code, cause, "request");
            }
            // Providers send thousands a second; what became of them the route says.
            problem if is_webhook => {
                let code = problem.map(|problem| problem.code);
                debug!(
                    method,
                    route,
                    status,
                    duration_ms,
                    code = code.as_deref(),
                    "request"
                );
            }
            Some(Problem { code, .. }) => {
                info!(method, route, status, duration_ms, %code, "request");
            }
            None => info!(method, route, status, duration_ms, "request"),
        }
        response
    }
    .instrument(span)
    .await
}

/// Writes the body of a problem and the headers that every response has.
fn complete(response: &mut Response, id: &RequestId) -> Option<Problem> {
    let mut problem = response.extensions_mut().remove::<Problem>();
    let status = response.status();
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    if problem.is_none() && (status.is_client_error() || status.is_server_error()) && !is_page {
        let foreign = Problem::of_status(status);
        // Keeps headers such as Allow.
        let headers = std::mem::take(response.headers_mut());
        *response = foreign.clone().into_response();
        response.extensions_mut().remove::<Problem>();
        for (name, value) in &headers {
            if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        problem = Some(foreign);
    }
    if let Some(problem) = problem.as_ref().filter(|_| !is_page) {
        *response.body_mut() = problem.body(&id.0);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn a_plain_request_id_is_kept_and_others_are_replaced() {
        let of = |value: &str| RequestId::of(&headers("x-request-id", value)).0;
        assert_eq!(of("abc-1._Z"), "abc-1._Z");
        for bad in ["", "a b", "a\tb", "ä", "<script>", &"x".repeat(129)] {
            let id = of(bad);
            assert!(Uuid::parse_str(&id).is_ok(), "{bad} became {id}");
        }
        assert!(Uuid::parse_str(&RequestId::of(&HeaderMap::new()).0).is_ok());
    }

    #[test]
    fn the_trace_id_is_taken_from_a_good_traceparent_only() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            trace_id(&headers("traceparent", good)),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736\" injected-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(&headers("traceparent", bad)), None, "{bad}");
        }
    }
}
