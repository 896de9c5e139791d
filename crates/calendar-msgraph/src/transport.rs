//! The one place that sends requests to Graph: built and sent with graph-rs-sdk, with our own
//! headers, limits, pinned links and errors.
//!
//! The SDK's pager drops per-request headers and follows links to any host, its limits do not
//! limit, and its retries resend without a pause; none of them is used.

use std::sync::Arc;
use std::time::Duration;

use calendar_domain::ports::Clock;
use calendar_domain::sync::Mailbox;
use graph_rs_sdk::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use graph_rs_sdk::http::{Body, BodyRead, Method, Proxy};
use graph_rs_sdk::{GraphClient, GraphClientConfiguration};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use url::Url;

use crate::config::{MicrosoftConfig, MicrosoftConfigError, is_loopback};
use crate::error::{GraphAnswer, GraphError};
use crate::link::pinned;
use crate::mailbox::MailboxLimits;
use crate::timer::RequestTimer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From connecting to the last byte of the body. Before Graph answers that it has made a subscription it
/// asks both of our endpoints, for up to 10 s each.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(100);
/// Largest answer that is read. A page of 200 events with bodies of 50 KB has 10 MB.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Longest Retry-After that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");
const DATE: HeaderName = HeaderName::from_static("date");
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What every request prefers.
const IMMUTABLE_IDS: &str = r#"IdType="ImmutableId""#;

/// Sends requests to Graph. Clones share the connection pool and the limits.
#[derive(Clone)]
pub(crate) struct Transport {
    client: GraphClient,
    base: Url,
    limits: MailboxLimits,
    clock: Arc<dyn Clock>,
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A path below `/me` or `/users/{owner}`, and query parameters.
    Path {
        /// Segments, not yet encoded.
        segments: Vec<String>,
        /// Parameters, not yet encoded.
        query: Vec<(&'static str, String)>,
    },
    /// A path of the service, below no mailbox.
    Service {
        /// Segments, not yet encoded.
        segments: Vec<String>,
    },
    /// A link that [`Transport::link`] has checked.
    Link(Url),
}

impl Target {
    /// A path without parameters.
    pub(crate) fn path<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self::Path {
            segments: owned(segments),
            query: Vec::new(),
        }
    }

    /// A path of the service.
    pub(crate) fn service<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self::Service {
            segments: owned(segments),
        }
    }

    /// With one more parameter.
    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        if let Self::Path { query, .. } = &mut self {
            query.push((name, value));
        }
        self
    }
}

fn owned<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Vec<String> {
    segments
        .into_iter()
        .map(|segment| segment.as_ref().to_owned())
        .collect()
}

impl Transport {
    pub(crate) fn new(
        config: &MicrosoftConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, MicrosoftConfigError> {
        let base = config.graph_base()?;
        // A proxy of our own that never applies also switches off those of the environment.
        let sdk = GraphClientConfiguration::new()
            .https_only(!is_loopback(&base))
            .proxy(Proxy::custom(|_| None::<Url>))
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(HeaderValue::from_static(concat!(
                "calendar-sync/",
                env!("CARGO_PKG_VERSION")
            )));
        let mut client = GraphClient::from(sdk);
        // `use_endpoint` panics for hosts that are not Microsoft's; `base` has been checked by us.
        client.use_test_endpoint(&base);
        Ok(Self {
            client,
            base,
            limits: MailboxLimits::new(config.mailbox_concurrency),
            clock,
        })
    }

    /// A link of an answer or of the store, when it leads into the configured API.
    pub(crate) fn link(&self, link: &str) -> Option<Url> {
        pinned(&self.base, link)
    }

    /// Our clock.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Sends a GET and reads the answer.
    pub(crate) async fn get(
        &self,
        token: &SecretString,
        mailbox: &Mailbox,
        target: Target,
        page_size: u32,
    ) -> Result<Vec<u8>, GraphError> {
        let prefer =
            format!(r#"{IMMUTABLE_IDS}, outlook.timezone="UTC", odata.maxpagesize={page_size}"#);
        let headers = headers(token, &prefer)?;
        let (_, body) = self
            .send(Method::GET, token, mailbox, target, headers, None)
            .await?;
        Ok(body)
    }

    /// Sends a request that changes something on behalf of the user, with a JSON body where there is
    /// one. Gives `None` where the answer says that it has no body (202, 204).
    pub(crate) async fn change(
        &self,
        method: Method,
        token: &SecretString,
        target: Target,
        body: Option<String>,
    ) -> Result<Option<Vec<u8>>, GraphError> {
        let mut headers = headers(token, IMMUTABLE_IDS)?;
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (status, body) = self
            .send(method, token, &Mailbox::Own, target, headers, body)
            .await?;
        Ok(Some(body).filter(|body| !matches!(status, 202 | 204) || !body.is_empty()))
    }

    /// Sends a request and reads the answer: its status and body. Waits while the mailbox has its limit of requests under
    /// way. Never tries again: that is for the caller, who knows the pass.
    async fn send(
        &self,
        method: Method,
        token: &SecretString,
        mailbox: &Mailbox,
        target: Target,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<(u16, Vec<u8>), GraphError> {
        let _permit = self.limits.acquire(token, mailbox).await;
        let timer = RequestTimer::start();
        let answer = self.exchange(method, mailbox, target, headers, body).await;
        timer.end(match &answer {
            Ok((status, _)) => Ok(*status),
            Err(GraphError::Answer(answer)) => Ok(answer.status),
            Err(error) => Err(matches!(error, GraphError::Timeout)),
        });
        answer
    }

    async fn exchange(
        &self,
        method: Method,
        mailbox: &Mailbox,
        target: Target,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<(u16, Vec<u8>), GraphError> {
        // As a stream the body cannot be sent twice, so no redirect takes it to another host.
        let body = body.map(|body| BodyRead::from(Body::wrap(body)));
        let mut handler = self.client.custom(method, body);
        match target {
            Target::Path { segments, query } => {
                handler = match mailbox {
                    Mailbox::Own => handler.extend_path(&["me"]),
                    Mailbox::Delegate(owner) => {
                        handler.extend_path(&["users", path_segment(owner)?])
                    }
                };
                for segment in &segments {
                    handler = handler.extend_path(&[path_segment(segment)?]);
                }
                for (name, value) in &query {
                    handler = handler.append_query_pair(*name, value.as_str());
                }
            }
            Target::Service { segments } => {
                for segment in &segments {
                    handler = handler.extend_path(&[path_segment(segment)?]);
                }
            }
            Target::Link(url) => *handler.as_mut() = url,
        }
        let request = handler.headers(headers).build().await.map_err(transport)?;

        let mut response = request.send().await.map_err(|error| {
            if error.is_timeout() {
                GraphError::Timeout
            } else {
                transport(error.without_url())
            }
        })?;
        // The SDK's client follows redirects; where one led elsewhere, the answer is not Graph's.
        if response.url().origin() != self.base.origin() {
            return Err(GraphError::ForeignLink);
        }
        let mut body = Vec::new();
        let announced = response
            .content_length()
            .and_then(|length| usize::try_from(length).ok());
        if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
            return Err(GraphError::TooLarge(MAX_BODY_BYTES));
        }
        body.reserve(announced.unwrap_or_default());
        loop {
            let chunk = response.chunk().await.map_err(|error| {
                if error.is_timeout() {
                    GraphError::Timeout
                } else {
                    transport(error.without_url())
                }
            })?;
            let Some(chunk) = chunk else { break };
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(GraphError::TooLarge(MAX_BODY_BYTES));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        if status.is_success() {
            return Ok((status.as_u16(), body));
        }
        let answer = GraphAnswer::read(
            status.as_u16(),
            &body,
            response
                .headers()
                .get(REQUEST_ID)
                .and_then(|id| id.to_str().ok()),
            retry_after(response.headers(), self.clock.now()),
        );
        tracing::debug!(
            status = answer.status,
            code = answer.code,
            request_id = answer.request_id,
            "Graph refused a request"
        );
        Err(GraphError::Answer(answer))
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("base", &self.base.as_str())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The headers of every request, those for links included: `Prefer` holds for one request only.
/// Source: <https://learn.microsoft.com/graph/outlook-immutable-id>.
fn headers(token: &SecretString, prefer: &str) -> Result<HeaderMap, GraphError> {
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| GraphError::InvalidToken)?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(
        PREFER,
        HeaderValue::try_from(prefer).map_err(|_| GraphError::InvalidToken)?,
    );
    Ok(headers)
}

/// An id as a path segment. The URL type encodes what has to be; it drops dot segments and would
/// then name something else.
fn path_segment(id: &str) -> Result<&str, GraphError> {
    let is_dots = matches!(
        id.to_ascii_lowercase().replace("%2e", ".").as_str(),
        "" | "." | ".."
    );
    let has_controls = id.chars().any(char::is_control);
    if is_dots || has_controls {
        Err(GraphError::InvalidId)
    } else {
        Ok(id)
    }
}

fn transport(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> GraphError {
    GraphError::Transport(error.into())
}

/// Retry-After (RFC 9110 section 10.2.3) as seconds or a date; a date counts from the answer's own
/// `Date`, so that a clock that differs from the service's does not matter, else from `now`.
pub(crate) fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        // More seconds than can be counted.
        Err(_) if is_number => MAX_RETRY_AFTER,
        Err(_) => {
            let sent = headers
                .get(DATE)
                .and_then(|date| http_date(date.to_str().ok()?));
            let wait = http_date(text)? - sent.unwrap_or(now);
            Duration::try_from(wait).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Any of the three forms of RFC 9110 section 5.6.7.
fn http_date(text: &str) -> Option<OffsetDateTime> {
    let date = httpdate::parse_http_date(text).ok()?;
    Some(OffsetDateTime::from(date))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_long() {
        let now = datetime!(2026-01-05 09:00:00 UTC);
        for (value, date, expected) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("86400", None, Some(3600)),
            ("999999999999999999999999", None, Some(3600)),
            ("Monday, 05-Jan-26 09:00:30 GMT", None, Some(30)),
            ("Mon Jan  5 09:00:30 2026", None, Some(30)),
            ("Mon, 05 Jan 2026 09:00:30 GMT", None, Some(30)),
            ("Mon, 05 Jan 2026 08:00:00 GMT", None, Some(0)),
            ("Tue, 06 Jan 2026 09:00:00 GMT", None, Some(3600)),
            // The service's clock is a day ahead of ours.
            (
                "Tue, 06 Jan 2026 09:00:10 GMT",
                Some("Tue, 06 Jan 2026 09:00:00 GMT"),
                Some(10),
            ),
            ("soon", None, None),
            ("-5", None, None),
            ("", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::try_from(value).unwrap());
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::try_from(date).unwrap());
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn the_token_is_not_shown_by_debug() {
        let headers = headers(&SecretString::from("hush"), IMMUTABLE_IDS).unwrap();
        assert!(!format!("{headers:?}").contains("hush"));
        assert_eq!(headers[PREFER], r#"IdType="ImmutableId""#);
        assert!(matches!(
            super::headers(&SecretString::from("a\nb"), IMMUTABLE_IDS),
            Err(GraphError::InvalidToken)
        ));
    }

    #[test]
    fn segments_that_would_name_something_else_are_refused() {
        for id in ["", ".", "..", "%2e%2E", ".%2e", "a\nb", "a\u{0}"] {
            assert!(
                matches!(path_segment(id), Err(GraphError::InvalidId)),
                "{id:?}"
            );
        }
        for id in ["AAMkAGI2=", "a/b", "a..b", "ada@example.com"] {
            assert!(path_segment(id).is_ok(), "{id}");
        }
    }
}
