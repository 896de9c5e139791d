//! `GET /metrics`, for whoever runs the service; not for the public.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use crate::state::AppState;

/// Prometheus' text format 0.0.4.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What this process has counted, and how the installation is doing
///
/// For Prometheus; not for the public. Answers also without the database.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operations",
    security(()),
    responses((status = 200, description = "Prometheus' text format.", body = String, content_type = "text/plain")),
)]
pub(crate) async fn show(State(state): State<AppState>) -> Response {
    let mut text = (state.0.ports.process_metrics)();
    text.push_str(&state.0.overview.get().await);
    ([(header::CONTENT_TYPE, FORMAT)], text).into_response()
}
