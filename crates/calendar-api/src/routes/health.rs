//! `GET /healthz` and `/readyz`, for whoever runs the service.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::problem::Problem;
use crate::state::{AppState, NotReady};

/// How the process is.
#[derive(Debug, Serialize)]
pub(crate) struct HealthResponse {
    status: &'static str,
}

/// The process is alive.
pub(crate) async fn healthz() -> Json<HealthResponse> {
    Json(HealthResponse { status: "ok" })
}

/// The database is reachable and migrated.
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
