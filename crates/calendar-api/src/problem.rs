//! Every error of the API: `application/problem+json` (RFC 9457) with a stable `code`.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use calendar_domain::failure::{FailureClass, PortError};
use calendar_runtime::ErrorChain;
use serde::Serialize;
use utoipa::ToSchema;

/// How long a caller is asked to wait when something of ours is down and does not say how long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Where a wrong value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// In the JSON body.
    Body,
    /// Among the query parameters.
    Query,
}

/// One wrong value. The detail never repeats the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where it stands.
    #[serde(rename = "in")]
    pub(crate) place: Place,
    /// JSON Pointer (RFC 6901) of the field, or `/` and the name of the parameter.
    #[schema(examples("/email"))]
    pub(crate) pointer: String,
    /// What is wrong with it.
    #[schema(examples("is not an e-mail address"))]
    pub(crate) detail: Cow<'static, str>,
}

/// An error as the caller gets it.
///
/// As a response it carries itself as an extension; [`crate::observe`] writes the body, because only
/// there the request's id is known.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: Cow<'static, str>,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) errors: Vec<FieldError>,
    pub(crate) retry_after: Option<Duration>,
    /// For the log only.
    pub(crate) cause: Option<String>,
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Always `about:blank`: `code` says which problem it is.
    r#type: &'static str,
    /// The status in words.
    title: &'a str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Which problem it is; stable.
    code: &'a str,
    /// What it is about, for people.
    detail: &'a str,
    /// As in the header `x-request-id`; the service's logs carry it, too.
    request_id: &'a str,
    /// With `invalid_input`: every wrong value.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// 400: not even the form is right.
    pub(crate) fn malformed(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 422 with what is wrong.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_input",
                "The request is well-formed, but some of its values are not acceptable.",
            )
        }
    }

    /// 422 with one wrong field of the body.
    pub(crate) fn invalid_field(name: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        let pointer = format!("/{name}");
        Self::invalid(vec![FieldError {
            place: Place::Body,
            pointer,
            detail: detail.into(),
        }])
    }

    /// 401.
    pub(crate) fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 404 for an id that does not exist, or is another user's.
    pub(crate) fn not_found(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 409.
    pub(crate) fn conflict(
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 429.
    pub(crate) fn too_many(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_attempts",
                "Too many attempts; wait as long as Retry-After says.",
            )
        }
    }

    /// 429: the token's requests of the minute are used up.
    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "This token makes too many requests; wait as long as Retry-After says.",
            )
        }
    }

    /// 500; the cause goes to the log.
    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong on our side; it is logged under the request's id.",
            )
        }
    }

    /// 503; the cause goes to the log.
    pub(crate) fn unavailable(
        code: &'static str,
        detail: &'static str,
        retry_after: Option<Duration>,
        cause: &(dyn Error + 'static),
    ) -> Self {
        Self {
            cause: Some(ErrorChain(cause).to_string()),
            ..Self::unavailable_already_logged(code, detail, retry_after)
        }
    }

    /// 503 whose cause the log has already.
    pub(crate) fn unavailable_already_logged(
        code: &'static str,
        detail: &'static str,
        retry_after: Option<Duration>,
    ) -> Self {
        Self {
            retry_after: Some(retry_after.unwrap_or(RETRY_AFTER)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        }
    }

    /// What stands behind a status that was not made here (a layer's, hyper's).
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = status.canonical_reason().map_or_else(
            || "error".to_owned(),
            |reason| reason.to_lowercase().replace(' ', "_"),
        );
        Self::new(status, code, "The request cannot be answered.")
    }

    /// The body, once the request's id is known.
    pub(crate) fn body(&self, request_id: &str) -> Body {
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: &self.code,
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        };
        // Strings and numbers alone: this does not fail.
        Body::from(serde_json::to_vec(&body).unwrap_or_default())
    }
}

/// What a failure of a port is to a caller of an endpoint that asks nobody but our database.
impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        match error.class {
            FailureClass::Retryable | FailureClass::RateLimited => Self::unavailable(
                "database_unavailable",
                "The database does not answer; try again.",
                error.retry_after,
                &error,
            ),
            FailureClass::Conflict => Self::conflict(
                error.code,
                "This is in conflict with what is already there.",
            ),
            FailureClass::InvalidInput => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_input",
                "A value of the request cannot be stored.",
            ),
            FailureClass::Authentication | FailureClass::NeedsResync | FailureClass::Permanent => {
                Self::internal(ErrorChain(&error).to_string())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: a caller that waits so long is not early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response.extensions_mut().insert(self);
        response
    }
}
