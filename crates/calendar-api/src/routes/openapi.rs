//! `GET /openapi.json`: the contract.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use crate::contract;

/// This contract
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "operations",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(crate) async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], contract::DOCUMENT.as_str()).into_response()
}
