//! `GET /healthz` and `/readyz`, for whoever runs the service.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::state::{AppState, NotReady};

/// How the process is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthResponse {
    /// `ok` or `ready`.
    status: &'static str,
}

/// The process is alive
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operations",
    security(()),
    responses((status = 200, description = "It is.", body = HealthResponse)),
)]
pub(crate) async fn healthz() -> Json<HealthResponse> {
    Json(HealthResponse { status: "ok" })
}

/// The database is reachable and migrated
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    security(()),
    responses(
        (status = 200, description = "It is.", body = HealthResponse),
        (status = 503, description = "`database_unavailable`: it does not answer. \
            `database_not_migrated`: run `calendar-api migrate`."),
    ),
)]
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Json<HealthResponse>, Problem> {
    match state.0.ports.readiness.check().await {
        Ok(()) => Ok(Json(HealthResponse { status: "ready" })),
        Err(error @ NotReady::DatabaseDown(_)) => Err(Problem::unavailable(
            "database_unavailable",
            "The database does not answer.",
            None,
            &error,
        )),
        Err(NotReady::NotMigrated) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_not_migrated",
            "The database is not migrated: run `calendar-api migrate`.",
        )),
    }
}
