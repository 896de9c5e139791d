//! `POST /v1/connect_sessions`: begins to connect an account at a provider with OAuth.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::account::CalendarChoice;
use calendar_domain::ids::ConnectSessionId;
use calendar_domain::provider::CalendarProvider;
use calendar_sync::{StartConnectError, StartConnectInput};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOf, ArrayBuilder, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

use crate::caller::{Caller, ManagesConnections};
use crate::check;
use crate::contract::LINE;
use crate::extract::{JsonBody, NoQuery};
use crate::fields::{Checked, Fields};
use crate::problem::Problem;
use crate::respond::Instant;
use crate::state::AppState;

/// Providers that one connects to by OAuth.
const OAUTH_PROVIDERS: &[(&str, CalendarProvider)] = &[
    ("microsoft", CalendarProvider::Microsoft),
    ("google", CalendarProvider::Google),
];
/// Calendars that one request may name.
const MOST_CALENDARS: usize = 500;
/// Characters of a calendar's id, as the table holds them.
const LONGEST_CALENDAR_ID: usize = 255;
/// Characters of a `return_url`.
const LONGEST_URL: usize = 2000;

/// What to connect.
#[derive(ToSchema)]
#[schema(as = ConnectSessionStart)]
pub(crate) struct ConnectSessionBody {
    /// One that is configured on this server.
    #[schema(value_type = OAuthProvider)]
    provider: CalendarProvider,
    /// Read the calendars that this colleague shares, instead of the user's own.
    #[schema(format = Email, max_length = 254, examples("colleague@example.com"))]
    delegate_email: Option<String>,
    /// Which calendars: `all` of them, the `primary` one, or those with these ids.
    #[schema(schema_with = calendars_schema)]
    calendars: Option<CalendarChoice>,
    /// Where the browser goes afterwards; on an origin that the operator allows.
    #[schema(
        format = "uri",
        min_length = 1,
        max_length = 2000,
        examples("https://app.example.com/done")
    )]
    return_url: Option<String>,
}

impl ConnectSessionBody {
    fn read(mut fields: Fields, return_origins: &[String]) -> Result<Self, Problem> {
        let provider = fields.required("provider", check::one_of(OAUTH_PROVIDERS));
        let delegate_email = fields.optional("delegate_email", check::nullable(check::email));
        let calendars = fields.optional("calendars", check::nullable(calendars));
        let return_url = fields.optional(
            "return_url",
            check::nullable(|value| return_url(value, return_origins)),
        );
        fields.finish(|| {
            Some(Self {
                provider: provider?,
                delegate_email: delegate_email.flatten(),
                calendars: calendars.flatten(),
                return_url: return_url.flatten(),
            })
        })
    }
}

/// A provider that one connects to by OAuth.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes OAUTH_PROVIDERS")]
enum OAuthProvider {
    Microsoft,
    Google,
}

fn calendars_schema() -> RefOr<Schema> {
    let words = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["all", "primary"]));
    let id = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(LONGEST_CALENDAR_ID))
        .pattern(Some(LINE));
    let ids = ArrayBuilder::new()
        .items(id)
        .min_items(Some(1))
        .max_items(Some(MOST_CALENDARS));
    let mut choice = AnyOf::new();
    choice.items = vec![
        Schema::from(words).into(),
        Schema::from(ids).into(),
        Schema::from(ObjectBuilder::new().schema_type(Type::Null)).into(),
    ];
    choice.description = Some(
        "Which calendars: `all` of them, the `primary` one, or those with these ids.".to_owned(),
    );
    choice.default = Some(json!("all"));
    Schema::AnyOf(choice).into()
}

/// A round trip that was begun.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConnectSession)]
pub(crate) struct ConnectSessionResponse {
    #[schema(value_type = Uuid)]
    id: ConnectSessionId,
    /// Where to send the user's browser, and nobody else's: whoever opens it connects their calendar to this user.
    #[schema(format = "uri")]
    authorize_url: String,
    /// Until when it may come back.
    expires_at: Instant,
}

/// Begin to connect an account
///
/// Begins an OAuth round trip (authorization code with PKCE). Its end is `GET /v1/oauth/callback`.
#[utoipa::path(
    post,
    path = "/v1/connect_sessions",
    operation_id = "create_connect_session",
    tag = "connections",
    request_body = ConnectSessionBody,
    responses((status = 201, description = "Send the user's browser to `authorize_url`.", body = ConnectSessionResponse)),
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller<ManagesConnections>,
    _: NoQuery,
    JsonBody(fields): JsonBody,
) -> Result<(StatusCode, Json<ConnectSessionResponse>), Problem> {
    let body = ConnectSessionBody::read(fields, &state.0.return_origins)?;
    let input = StartConnectInput {
        user_id: caller.user_id,
        provider: body.provider,
        delegate_email: body.delegate_email,
        calendars: body.calendars.unwrap_or(CalendarChoice::All),
        return_url: body.return_url,
    };
    match state.0.start_connect.run(input).await {
        Ok(started) => {
            let response = ConnectSessionResponse {
                id: started.id,
                authorize_url: started.authorize_url,
                expires_at: Instant(started.expires_at),
            };
            Ok((StatusCode::CREATED, Json(response)))
        }
        Err(StartConnectError::ProviderOff) => Err(Problem::invalid_field(
            "provider",
            "is not configured on this server",
        )),
        Err(StartConnectError::Port(error)) => Err(error.into()),
    }
}

/// `"all"`, `"primary"`, or a list of the provider's calendar ids.
fn calendars(value: Value) -> Checked<CalendarChoice> {
    const WRONG: &str = "is neither \"all\" nor \"primary\" nor a list of calendar ids";
    match value {
        Value::String(word) if word == "all" => Ok(CalendarChoice::All),
        Value::String(word) if word == "primary" => Ok(CalendarChoice::Primary),
        Value::Array(ids) if ids.is_empty() => Err("names no calendar".into()),
        Value::Array(ids) if ids.len() > MOST_CALENDARS => {
            Err(format!("names more than {MOST_CALENDARS} calendars").into())
        }
        Value::Array(ids) => {
            let id = check::line(1..=LONGEST_CALENDAR_ID);
            let ids: Checked<Vec<_>> = ids.into_iter().map(id).collect();
            ids.map(CalendarChoice::Some)
                .map_err(|what| format!("names an id that {what}").into())
        }
        _ => Err(WRONG.into()),
    }
}

/// An absolute URL on an origin that the operator allows: else anybody could use our callback to
/// send browsers anywhere.
fn return_url(value: Value, origins: &[String]) -> Checked<String> {
    let text = check::line(1..=LONGEST_URL)(value)?;
    let url = Url::parse(&text).map_err(|_| "is not an absolute URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password".into());
    }
    let web = matches!(url.scheme(), "http" | "https");
    if web && origins.contains(&url.origin().ascii_serialization()) {
        // As it was understood: no second parser may read it differently.
        Ok(url.into())
    } else {
        Err("is not on an origin that CALENDAR_RETURN_ORIGINS allows".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn return_urls_stay_on_allowed_origins() {
        let origins = [
            "https://app.example".to_owned(),
            "http://localhost:3000".to_owned(),
        ];
        let check = |text: &str| return_url(json!(text), &origins);
        assert_eq!(
            check("https://app.example/done?x=1#y").unwrap(),
            "https://app.example/done?x=1#y"
        );
        assert_eq!(
            check("HTTPS://APP.EXAMPLE").unwrap(),
            "https://app.example/"
        );
        assert!(check("http://localhost:3000/").is_ok());
        for bad in [
            "/done",
            "//app.example/",
            "https://app.example.evil.example/",
            "https://app.example@evil.example/",
            "https://user@app.example/",
            "https://evil.example/https://app.example",
            "https:\\\\evil.example\\@app.example/",
            "http://app.example/",
            "https://app.example:8443/",
            "http://localhost/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://app.example/\r\nSet-Cookie: a=b",
            "",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn choices_of_calendars() {
        assert_eq!(calendars(json!("all")).unwrap(), CalendarChoice::All);
        assert_eq!(
            calendars(json!("primary")).unwrap(),
            CalendarChoice::Primary
        );
        assert_eq!(
            calendars(json!(["a"])).unwrap(),
            CalendarChoice::Some(vec!["a".into()])
        );
        assert!(calendars(json!(["é".repeat(255)])).is_ok());
        let many: Vec<_> = (0..501).map(|n| n.to_string()).collect();
        for bad in [
            json!("some"),
            json!([]),
            json!([1]),
            json!([""]),
            json!(["é".repeat(256)]),
            json!({}),
            json!(many),
        ] {
            assert!(calendars(bad.clone()).is_err(), "{bad}");
        }
    }
}
