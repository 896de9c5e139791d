//! What handlers take: a token, a path id, a query, a JSON body. Each refuses with a problem.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::RequestPartsExt as _;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::caller::invalid_token;
use crate::check;
use crate::fields::Fields;
use crate::peer;
use crate::problem::Problem;
use crate::state::AppState;

/// The largest body that is read.
pub(crate) const BODY_LIMIT: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(20);
/// Tokens of ours have 43 characters.
const LONGEST_TOKEN: usize = 512;

/// The bearer token, whether it is good or not.
#[derive(Debug)]
pub(crate) struct Token(pub(crate) SecretString);

impl FromRequestParts<AppState> for Token {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let missing = || {
            Problem::unauthorized(
                "token_missing",
                "Send the header Authorization: Bearer <token>.",
            )
        };
        let value = parts
            .headers
            .get(header::AUTHORIZATION)
            .ok_or_else(missing)?;
        let (scheme, token) = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(missing)?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(missing());
        }
        if token.len() > LONGEST_TOKEN {
            return Err(invalid_token());
        }
        Ok(Self(SecretString::from(token)))
    }
}

/// The id in the path. What is no UUID is the id of nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathId(pub(crate) Uuid);

impl FromRequestParts<AppState> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let path: Result<Path<String>, PathRejection> = parts.extract().await;
        path.ok()
            .and_then(|Path(id)| check::hyphenated(&id))
            .map(Self)
            .ok_or_else(|| Problem::not_found("not_found", "There is nothing with this id."))
    }
}

/// The query's parameters.
#[derive(Debug)]
pub(crate) struct Query(pub(crate) Fields);

impl FromRequestParts<AppState> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Fields::of_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// No query at all: a parameter that an endpoint does not know is a mistake worth knowing of.
#[derive(Debug)]
pub(crate) struct NoQuery;

impl FromRequestParts<AppState> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Query(fields) = Query::from_request_parts(parts, state).await?;
        fields.finish(|| Some(Self))
    }
}

/// Where the request comes from, trusted proxies apart; `None` where the host program does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) Option<IpAddr>);

impl FromRequestParts<AppState> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(peer.map(|ConnectInfo(address)| {
            peer::client(address.ip(), &parts.headers, &state.0.trusted_proxies)
        })))
    }
}

/// The fields of a JSON object in the body.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Fields);

impl FromRequest<AppState> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Send the body as application/json.",
            ));
        }
        let bytes = read(&parts.headers, body).await?;
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(Value::Object(values)) => Ok(Self(Fields::of_body(checked(values)?))),
            Ok(_) => Err(Problem::malformed(
                "malformed_json",
                "The body is not a JSON object.",
            )),
            Err(error) => Err(Problem::malformed(
                "malformed_json",
                format!(
                    "The body is not JSON: line {}, column {}.",
                    error.line(),
                    error.column()
                ),
            )),
        }
    }
}

/// Names of fields go into answers; NUL has no place in them.
fn checked(values: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    if values.keys().any(|name| name.contains('\0')) {
        return Err(Problem::malformed(
            "malformed_json",
            "A name in the body holds a NUL character.",
        ));
    }
    Ok(values)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let (media, parameters) = value.split_once(';').unwrap_or((value, ""));
    let media = media.trim().to_ascii_lowercase();
    let parameters = parameters.trim().to_ascii_lowercase();
    let is_utf8 = matches!(
        parameters.as_str(),
        "" | "charset=utf-8" | "charset=\"utf-8\""
    );
    is_utf8
        && (media == "application/json"
            || (media.starts_with("application/") && media.ends_with("+json")))
}

/// The bytes of a body, whatever they are.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The body is larger than 1 MiB.",
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if announced
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|n| n > BODY_LIMIT as u64)
    {
        return Err(too_large());
    }
    let arriving = axum::body::to_bytes(body, BODY_LIMIT);
    match tokio::time::timeout(BODY_TIME, arriving).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            // The limit's own error type is not public where we could name it without another crate.
            let limit = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit exceeded"));
            if limit {
                Err(too_large())
            } else {
                Err(Problem::malformed(
                    "body_incomplete",
                    "The body did not arrive whole.",
                ))
            }
        }
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body took too long to arrive.",
        )),
    }
}
