//! `/v1/api_keys`: the keys that a product's backend calls with.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::api_key::{ApiKey, ApiScope};
use calendar_domain::ids::ApiKeyId;
use calendar_sync::CreateApiKeyError;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::caller::SignedIn;
use crate::check;
use crate::cursor::Scope;
use crate::extract::{JsonBody, NoQuery, PathId, Query};
use crate::fields::{Checked, Fields};
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery};
use crate::state::AppState;

/// What a key may do.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) enum Scopes {
    #[serde(rename = "events:read")]
    EventsRead,
    #[serde(rename = "connections:manage")]
    ConnectionsManage,
    #[serde(rename = "users:manage")]
    UsersManage,
}

impl From<ApiScope> for Scopes {
    fn from(scope: ApiScope) -> Self {
        match scope {
            ApiScope::EventsRead => Self::EventsRead,
            ApiScope::ConnectionsManage => Self::ConnectionsManage,
            ApiScope::UsersManage => Self::UsersManage,
        }
    }
}

/// A key to make.
#[derive(ToSchema)]
#[schema(as = NewApiKey)]
pub(crate) struct NewApiKeyBody {
    /// What its owner calls it.
    #[schema(min_length = 1, max_length = 100, examples("backend, production"))]
    name: String,
    /// At least one, each once.
    #[schema(value_type = HashSet<Scopes>, min_items = 1, max_items = 3)]
    scopes: Vec<ApiScope>,
}

impl NewApiKeyBody {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let name = fields.required("name", check::line(1..=100));
        let scopes = fields.required("scopes", scopes);
        fields.finish(|| {
            Some(Self {
                name: name?,
                scopes: scopes?,
            })
        })
    }
}

fn scopes(value: Value) -> Checked<Vec<ApiScope>> {
    let names = ApiScope::ALL.map(|scope| (scope.as_str(), scope));
    let Value::Array(values) = value else {
        return Err("is not a list of scopes".into());
    };
    if values.is_empty() {
        return Err("names no scope".into());
    }
    let mut scopes = Vec::new();
    for value in values {
        let scope =
            check::one_of(&names)(value).map_err(|what| format!("names one that {what}"))?;
        if scopes.contains(&scope) {
            return Err("names a scope twice".into());
        }
        scopes.push(scope);
    }
    Ok(scopes)
}

/// A service key, without what it is used with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct ApiKeyResponse {
    #[schema(value_type = Uuid)]
    id: ApiKeyId,
    name: String,
    /// How the key begins, to recognise it by.
    #[schema(examples("calkey_AbCd"))]
    hint: String,
    scopes: Vec<Scopes>,
    created_at: Instant,
    /// To the nearest hour.
    last_used_at: Option<Instant>,
}

impl From<ApiKey> for ApiKeyResponse {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            hint: key.hint,
            scopes: key.scopes.into_iter().map(Into::into).collect(),
            created_at: Instant(key.created_at),
            last_used_at: key.last_used_at.map(Instant),
        }
    }
}

/// A key that was made; it is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedApiKey)]
pub(crate) struct CreatedApiKeyResponse {
    /// For `Authorization: Bearer …`.
    #[schema(pattern = "^calkey_[A-Za-z0-9_-]{43}$")]
    key: String,
    #[serde(flatten)]
    about: ApiKeyResponse,
}

/// Make a service key
///
/// For a product's backend, which acts with it for the users that it makes: it names one of them in the header
/// `Calendar-User`.
#[utoipa::path(
    post,
    path = "/v1/api_keys",
    operation_id = "create_api_key",
    tag = "api_keys",
    request_body = NewApiKeyBody,
    responses(
        (status = 201, description = "The key.", body = CreatedApiKeyResponse),
        (status = 403, description = "`session_required`: a service key cannot do this; sign in."),
        (status = 409, description = "`too_many_keys`: end one that is not needed any more."),
    ),
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: SignedIn,
    _: NoQuery,
    JsonBody(fields): JsonBody,
) -> Result<(StatusCode, Json<CreatedApiKeyResponse>), Problem> {
    let NewApiKeyBody { name, scopes } = NewApiKeyBody::read(fields)?;
    let created = state
        .0
        .create_api_key
        .run(caller.user_id, name, scopes)
        .await;
    match created {
        Ok(created) => Ok((
            StatusCode::CREATED,
            Json(CreatedApiKeyResponse {
                key: created.token.expose_secret().to_owned(),
                about: created.key.into(),
            }),
        )),
        Err(CreateApiKeyError::TooMany) => Err(Problem::conflict(
            "too_many_keys",
            "There are as many keys as one user may have; end one that is not needed any more.",
        )),
        Err(CreateApiKeyError::Port(error)) => Err(error.into()),
    }
}

/// List one's service keys
#[utoipa::path(
    get,
    path = "/v1/api_keys",
    operation_id = "list_api_keys",
    tag = "api_keys",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of the keys.", body = ListResponse<ApiKeyResponse>),
        (status = 403, description = "`session_required`: a service key cannot do this; sign in."),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: SignedIn,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<ApiKeyResponse>>, Problem> {
    let page = PageQuery::read(&mut fields);
    fields.finish(|| Some(()))?;
    let scope = Scope::new(format!("api keys of {}", caller.user_id));
    let after = page.cursor.map(|cursor| scope.read_id(&cursor));
    let after = after.transpose()?.map(ApiKeyId);
    let keys = &state.0.ports.api_keys;
    let listed = keys.list(caller.user_id, after, page.limit).await?;
    Ok(Json(ListResponse {
        data: listed.items.into_iter().map(Into::into).collect(),
        next_cursor: listed.next.map(|id| scope.write_id(id.0)),
    }))
}

/// End a service key
///
/// At once: the next request with it is refused.
#[utoipa::path(
    delete,
    path = "/v1/api_keys/{id}",
    operation_id = "end_api_key",
    tag = "api_keys",
    params(("id" = Uuid, Path, description = "The key.")),
    responses(
        (status = 204, description = "Ended."),
        (status = 403, description = "`session_required`: a service key cannot do this; sign in."),
        (status = 404, description = "`api_key_not_found`: there is no key with this id."),
    ),
)]
pub(crate) async fn end(
    State(state): State<AppState>,
    caller: SignedIn,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let keys = &state.0.ports.api_keys;
    if keys.delete(caller.user_id, ApiKeyId(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(
            "api_key_not_found",
            "There is no key with this id.",
        ))
    }
}
