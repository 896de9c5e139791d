//! What can go wrong with Graph, and what a caller can do about it.

use std::error::Error;
use std::time::Duration;

use calendar_domain::failure::{FailureClass, PortError};
use serde_json::Value;

/// Codes that Graph gives when a link has expired; compared without regard to case, because the
/// service and its documentation spell them differently.
const RESYNC_CODES: [&str; 3] = ["syncstatenotfound", "resyncrequired", "syncstateinvalid"];
/// Longest code or request id that is kept of an answer.
const MAX_CODE_CHARS: usize = 64;

/// An answer of Graph that is no success. The message is left out: it may quote what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphAnswer {
    /// HTTP status.
    pub status: u16,
    /// `error.code`; where that is empty or unreadable, `http_` and the status.
    pub code: String,
    /// `error.innerError.request-id`, or the header: what Microsoft's support asks for.
    pub request_id: Option<String>,
    /// Retry-After, at most one hour.
    pub retry_after: Option<Duration>,
    /// What it complains of, where that decides something.
    pub(crate) complaint: Option<Complaint>,
}

/// What a refused subscription is refused for. Graph tells it by the message only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// It was to live longer than is allowed.
    Lifetime,
    /// The endpoint did not answer as it should.
    Endpoint,
    /// There are as many as are allowed.
    Quota,
}

/// A failed call. Holds no token, address or event text.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// Graph said no.
    #[error(
        "Graph answered {} ({}, request id {})",
        .0.status, .0.code, .0.request_id.as_deref().unwrap_or("unknown")
    )]
    Answer(GraphAnswer),
    /// No answer in time.
    #[error("Graph did not answer in time")]
    Timeout,
    /// The connection failed.
    #[error("the connection to Graph failed")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
    /// The answer is larger than any page may be.
    #[error("the answer of Graph is larger than {0} bytes")]
    TooLarge(usize),
    /// A success whose body is not what was asked for. Of serde's error only the place is kept: its
    /// text quotes the body.
    #[error("the answer of Graph is not readable at line {line}, column {column}")]
    Unreadable {
        /// Line in the body, from 1; 0 where the shape is wrong.
        line: usize,
        /// Column in the line.
        column: usize,
    },
    /// A push whose body is none. Of serde's error only the place is kept.
    #[error("the push is not readable at line {line}, column {column}")]
    PushUnreadable {
        /// Line in the body, from 1; 0 where it is no text.
        line: usize,
        /// Column in the line.
        column: usize,
    },
    /// An answer names a link to another host or outside the API, or follows its own tail.
    #[error("Graph named a link that is not followed")]
    ForeignLink,
    /// A stored cursor is no link into the configured API.
    #[error("the stored link does not belong to the configured Graph")]
    ForeignCursor,
    /// The change feed is refused, or was and is to be tried again: in either case it has to be begun anew.
    #[error("the change feed has to be begun anew")]
    FeedRefused,
    /// An id that cannot stand in a path.
    #[error("an id cannot be put into a path")]
    InvalidId,
    /// The token holds characters that cannot be sent.
    #[error("the access token cannot be sent")]
    InvalidToken,
}

impl GraphError {
    /// What a caller can do about it.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Answer(answer) => answer.class(),
            Self::Timeout | Self::Transport(_) | Self::Unreadable { .. } => FailureClass::Retryable,
            Self::TooLarge(_) | Self::ForeignLink => FailureClass::Permanent,
            Self::ForeignCursor | Self::FeedRefused => FailureClass::NeedsResync,
            Self::InvalidId | Self::PushUnreadable { .. } => FailureClass::InvalidInput,
            Self::InvalidToken => FailureClass::Authentication,
        }
    }

    /// A stable code: Graph's own for its answers (`unauthorized` for every 401), ours otherwise.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Answer(answer) if answer.status == 401 => "unauthorized",
            Self::Answer(answer) => &answer.code,
            Self::Timeout => "timeout",
            Self::Transport(_) => "connection_failed",
            Self::TooLarge(_) => "answer_too_large",
            Self::Unreadable { .. } => "answer_unreadable",
            Self::PushUnreadable { .. } => "push_unreadable",
            Self::ForeignLink | Self::ForeignCursor => "foreign_link",
            Self::FeedRefused => "feed_refused",
            Self::InvalidId => "invalid_id",
            Self::InvalidToken => "unauthorized",
        }
    }

    /// Whether Graph says that the item asked for is not there (and not its mailbox or calendar).
    pub(crate) fn is_item_not_found(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.status == 404
            && ["erroritemnotfound", "itemnotfound"].contains(&answer.code.to_ascii_lowercase().as_str()))
    }

    /// Whether Graph refuses access. It does so on the second page of some shared calendars' change feed that
    /// can be read otherwise.
    pub(crate) fn is_denied(&self) -> bool {
        self.status() == Some(403) && self.class() == FailureClass::Permanent
    }

    /// Whether Graph ran out of time over it, and did not ask us to wait.
    pub(crate) fn is_too_heavy(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Answer(answer) => answer.status == 504 && answer.retry_after.is_none(),
            _ => false,
        }
    }

    /// The status of Graph's answer, where there is one that is no success.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            _ => None,
        }
    }

    /// What Graph complains of.
    pub(crate) fn complaint(&self) -> Option<Complaint> {
        match self {
            Self::Answer(answer) => answer.complaint,
            _ => None,
        }
    }

    /// The failure to read a calendar. Graph tells in many ways that a calendar, its mailbox or its user
    /// is not there or not shared; the caller gets one code for each.
    pub(crate) fn of_calendar(self) -> PortError {
        match self.status() {
            _ if self.class() != FailureClass::Permanent => self.into(),
            Some(403) => self.told_as(FailureClass::Permanent, "calendar_access_denied"),
            Some(404) => self.told_as(FailureClass::Permanent, "calendar_not_found"),
            _ => self.into(),
        }
    }

    /// With a class and a code that say more than Graph's own, which stays in the source.
    pub(crate) fn told_as(self, class: FailureClass, code: &'static str) -> PortError {
        PortError {
            class,
            code: code.to_owned(),
            ..self.into()
        }
    }

    /// Where serde found the body wrong.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn unreadable(error: serde_json::Error) -> Self {
        Self::Unreadable {
            line: error.line(),
            column: error.column(),
        }
    }
}

impl From<GraphError> for PortError {
    fn from(error: GraphError) -> Self {
        let retry_after = match &error {
            GraphError::Answer(answer) => answer.retry_after,
            _ => None,
        };
        Self {
            retry_after,
            ..Self::with_source(error.class(), error.code().to_owned(), error)
        }
    }
}

impl GraphAnswer {
    /// Reads an error body: `{"error": {"code", "innerError" | "innererror": {"request-id"}}}`, or
    /// anything else.
    pub(crate) fn read(
        status: u16,
        body: &[u8],
        header_request_id: Option<&str>,
        retry_after: Option<Duration>,
    ) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &body["error"];
        let inner = match &error["innerError"] {
            Value::Null => &error["innererror"],
            inner => inner,
        };
        let code = [&error["code"], &inner["code"]]
            .into_iter()
            .find_map(|code| code.as_str().and_then(tidy))
            .unwrap_or_else(|| format!("http_{status}"));
        let request_id = [&inner["request-id"], &inner["requestId"]]
            .into_iter()
            .find_map(Value::as_str)
            .or(header_request_id)
            .and_then(tidy);
        let message = error["message"].as_str().unwrap_or_default();
        Self {
            status,
            complaint: Complaint::read(status, &code, message),
            code,
            request_id,
            retry_after,
        }
    }

    fn class(&self) -> FailureClass {
        let is_client_error = (400..500).contains(&self.status);
        if is_client_error && RESYNC_CODES.contains(&self.code.to_ascii_lowercase().as_str()) {
            return FailureClass::NeedsResync;
        }
        match self.status {
            400 => FailureClass::InvalidInput,
            401 => FailureClass::Authentication,
            409 | 412 => FailureClass::Conflict,
            410 => FailureClass::NeedsResync,
            // 509: Graph's own for too much bandwidth.
            429 | 509 => FailureClass::RateLimited,
            // 423: the mailbox is being moved.
            408 | 423 | 425 | 500.. => FailureClass::Retryable,
            _ => FailureClass::Permanent,
        }
    }
}

impl Complaint {
    /// Reads what Graph says of a subscription: "Subscription expiration can only be 4230 minutes in the
    /// future.", "Subscription validation request failed. …", "Subscription validation request timed out."
    fn read(status: u16, code: &str, message: &str) -> Option<Self> {
        let message = message.to_ascii_lowercase();
        let is_code = |known: &str| code.eq_ignore_ascii_case(known);
        // With the code ExtensionError, that of every refusal by Outlook.
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        match status {
            400 | 403 if says(&["expiration", "lifetime", "minutes in the future"]) => {
                Some(Self::Lifetime)
            }
            400 if is_code("ValidationError")
                || says(&[
                    "validation request",
                    "remote server",
                    "underlying connection",
                ])
                || (is_code("InvalidRequest") && says(&["validation"])) =>
            {
                Some(Self::Endpoint)
            }
            403 if says(&["quota", "maximum", "exceed", "limit"]) => Some(Self::Quota),
            _ => None,
        }
    }
}

/// What may go into a log: short, and of the characters that codes and ids are made of.
pub(crate) fn tidy(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = text
        .chars()
        .filter(|c| is_plain(*c))
        .take(MAX_CODE_CHARS)
        .collect();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> PortError {
        let answer = GraphAnswer::read(status, body.as_bytes(), None, None);
        GraphError::Answer(answer).into()
    }

    #[test]
    fn answers_have_a_class_and_a_code() {
        use FailureClass::{
            Authentication, Conflict, InvalidInput, NeedsResync, Permanent, RateLimited, Retryable,
        };
        for (status, body, class, code) in [
            (
                400,
                r#"{"error":{"code":"ErrorInvalidRequest"}}"#,
                InvalidInput,
                "ErrorInvalidRequest",
            ),
            (
                400,
                r#"{"error":{"code":"syncStateInvalid"}}"#,
                NeedsResync,
                "syncStateInvalid",
            ),
            (
                401,
                r#"{"error":{"code":"InvalidAuthenticationToken"}}"#,
                Authentication,
                "unauthorized",
            ),
            (403, r#"{"error":{"code":""}}"#, Permanent, "http_403"),
            (
                403,
                r#"{"error":{"code":"","innerError":{"code":"Inner"}}}"#,
                Permanent,
                "Inner",
            ),
            (
                404,
                r#"{"error":{"code":"ResourceNotFound"}}"#,
                Permanent,
                "ResourceNotFound",
            ),
            (
                404,
                r#"{"error":{"code":"SYNCSTATENOTFOUND"}}"#,
                NeedsResync,
                "SYNCSTATENOTFOUND",
            ),
            (409, "", Conflict, "http_409"),
            (410, "<html>Gone</html>", NeedsResync, "http_410"),
            (
                410,
                r#"{"error":{"code":"SyncStateNotFound"}}"#,
                NeedsResync,
                "SyncStateNotFound",
            ),
            (
                429,
                r#"{"error":{"code":"ApplicationThrottled"}}"#,
                RateLimited,
                "ApplicationThrottled",
            ),
            (418, "{}", Permanent, "http_418"),
            (302, "", Permanent, "http_302"),
            (500, "[]", Retryable, "http_500"),
            (503, r#"{"error":"x"}"#, Retryable, "http_503"),
            (504, r#"{"error":{"code":7}}"#, Retryable, "http_504"),
        ] {
            let error = read(status, body);
            assert_eq!(
                (error.class, error.code.as_str()),
                (class, code),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_request_id_is_kept_and_the_message_is_not() {
        for inner in ["innerError", "innererror"] {
            let body = format!(
                r#"{{"error":{{"code":"X","message":"ada@example.com","{inner}":{{"request-id":"r-1"}}}}}}"#
            );
            let answer = GraphAnswer::read(400, body.as_bytes(), Some("header"), None);
            assert_eq!(answer.request_id.as_deref(), Some("r-1"));
            let text = GraphError::Answer(answer).to_string();
            assert_eq!(text, "Graph answered 400 (X, request id r-1)");
        }
        let answer = GraphAnswer::read(500, b"", Some("header"), None);
        assert_eq!(answer.request_id.as_deref(), Some("header"));
    }

    #[test]
    fn codes_are_plain_and_short() {
        assert_eq!(tidy("a b\nc@d"), Some("abcd".to_owned()));
        assert_eq!(tidy("\u{0}"), None);
        assert_eq!(tidy(&"x".repeat(500)).map(|code| code.len()), Some(64));
    }

    #[test]
    fn complaints_about_subscriptions_are_told_by_the_message() {
        let read = |status, code: &str, message: &str| {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
            GraphAnswer::read(status, body.as_bytes(), None, None).complaint
        };
        let lifetime = "Subscription expiration can only be 4230 minutes in the future.";
        let failed = "Subscription validation request failed. HTTP status code is 'NotFound'.";
        for (status, code, message, expected) in [
            (400, "ExtensionError", lifetime, Some(Complaint::Lifetime)),
            (403, "ExtensionError", lifetime, Some(Complaint::Lifetime)),
            (400, "ValidationError", lifetime, Some(Complaint::Lifetime)),
            (500, "ExtensionError", lifetime, None),
            (
                400,
                "InvalidRequest",
                "Unable to connect to the remote server",
                Some(Complaint::Endpoint),
            ),
            (
                403,
                "Forbidden",
                "Subscriptions per app exceed the quota.",
                Some(Complaint::Quota),
            ),
            (403, "ErrorAccessDenied", "Access is denied.", None),
            (400, "ValidationError", "", Some(Complaint::Endpoint)),
            (400, "InvalidRequest", failed, Some(Complaint::Endpoint)),
            (400, "", failed, Some(Complaint::Endpoint)),
            (
                400,
                "invalidrequest",
                "Endpoint VALIDATION timed out",
                Some(Complaint::Endpoint),
            ),
            (
                400,
                "InvalidRequest",
                "Could not process subscription creation payload.",
                None,
            ),
            (
                400,
                "ErrorPropertyValidationFailure",
                "At least one property failed validation.",
                None,
            ),
            (403, "ExtensionError", "Operation: Create", None),
            (503, "ValidationError", failed, None),
        ] {
            assert_eq!(
                read(status, code, message),
                expected,
                "{status} {code} {message}"
            );
        }
    }

    #[test]
    fn a_calendar_that_is_not_shared_has_one_code() {
        for (status, code, class, told) in [
            (
                403,
                "ErrorAccessDenied",
                FailureClass::Permanent,
                "calendar_access_denied",
            ),
            (403, "", FailureClass::Permanent, "calendar_access_denied"),
            (
                404,
                "ErrorItemNotFound",
                FailureClass::Permanent,
                "calendar_not_found",
            ),
            (
                404,
                "MailboxNotEnabledForRESTAPI",
                FailureClass::Permanent,
                "calendar_not_found",
            ),
            (
                404,
                "SyncStateNotFound",
                FailureClass::NeedsResync,
                "SyncStateNotFound",
            ),
            (
                403,
                "resyncRequired",
                FailureClass::NeedsResync,
                "resyncRequired",
            ),
            (405, "", FailureClass::Permanent, "http_405"),
            (429, "", FailureClass::RateLimited, "http_429"),
        ] {
            let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
            let wait = Some(Duration::from_secs(7));
            let answer = GraphAnswer::read(status, body.as_bytes(), None, wait);
            let error = GraphError::Answer(answer).of_calendar();
            assert_eq!((error.class, error.code.as_str()), (class, told));
            assert_eq!(error.retry_after, wait);
            let source = error.source().unwrap().to_string();
            assert!(source.contains(code), "{source}");
        }
    }

    #[test]
    fn only_a_missing_item_is_a_missing_item() {
        let error = |status, code: &str| {
            let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
            GraphError::Answer(GraphAnswer::read(status, body.as_bytes(), None, None))
        };
        assert!(error(404, "ErrorItemNotFound").is_item_not_found());
        assert!(!error(404, "MailboxNotEnabledForRESTAPI").is_item_not_found());
        assert!(!error(404, "").is_item_not_found());
        assert!(!error(400, "ErrorItemNotFound").is_item_not_found());
    }
}
