//! The HTTP API.
//!
//! [`router`] makes an `axum::Router` of an [`AppState`], which is ports and use cases: a host program
//! can nest it into its own. Serve it with connection info (`into_make_service_with_connect_info`), so
//! that sign-in is limited per address; without it, all callers share one limit.
//!
//! ```no_run
//! use std::net::SocketAddr;
//!
//! use axum::Router;
//! use axum::routing::get;
//! use calendar_api::{ApiSettings, AppState, Ports};
//!
//! /// `settings.public_url` ends with `/calendar`.
//! async fn serve(ports: Ports, settings: ApiSettings) -> std::io::Result<()> {
//!     let app = Router::new()
//!         .route("/", get(async || "the intranet"))
//!         .nest("/calendar", calendar_api::router(AppState::new(ports, settings)))
//!         .into_make_service_with_connect_info::<SocketAddr>();
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! Features, both by default: `bin`, the program with its adapters, which a host program turns off; `docs`, the page at
//! `/docs`, without which that path is unknown.

mod caller;
mod check;
mod contract;
mod cursor;
mod etag;
mod extract;
mod fields;
mod limit;
mod names;
mod observe;
mod overview_text;
mod peer;
mod problem;
mod respond;
mod routes;
mod state;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
#[cfg(feature = "docs")]
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use problem::Problem;
#[cfg(feature = "docs")]
use routes::docs;
use routes::{
    api_key, connect_session, connection, event, export, health, metrics, oauth_callback, openapi,
    rejected_event, session, subscription, user, webhook,
};
pub use state::{ApiSettings, AppState, CALLBACK_PATH, NotReady, Ports, Readiness};

/// All endpoints.
pub fn router(state: AppState) -> Router {
    Router::from(routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe::observe))
        .with_state(state)
}

/// The contract of all endpoints: OpenAPI 3.1 as JSON.
#[must_use]
pub fn openapi() -> &'static str {
    &contract::DOCUMENT
}

fn routes() -> OpenApiRouter<AppState> {
    let routes = OpenApiRouter::new()
        .routes(routes!(user::sign_up, user::list))
        .routes(routes!(session::sign_in, session::list, session::sign_out))
        .routes(routes!(session::end))
        .routes(routes!(api_key::create, api_key::list))
        .routes(routes!(api_key::end))
        .routes(routes!(user::show, user::change, user::delete))
        .routes(routes!(export::export))
        .routes(routes!(connect_session::create))
        .routes(
            routes!(oauth_callback::callback)
                .map(|methods| methods.head(oauth_callback::refuse_head)),
        )
        .routes(routes!(connection::list))
        .routes(routes!(
            connection::show,
            connection::change,
            connection::disconnect
        ))
        .routes(routes!(connection::sync))
        .routes(routes!(subscription::list))
        .routes(routes!(rejected_event::list))
        .routes(routes!(event::list))
        .routes(routes!(event::show))
        // Of those before it.
        .layer(from_fn(etag::conditional))
        .routes(routes!(webhook::microsoft))
        .routes(routes!(webhook::microsoft_lifecycle))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::show))
        .routes(routes!(openapi::openapi));
    #[cfg(feature = "docs")]
    let routes = routes
        .routes(routes!(docs::docs))
        // The contract cannot say what is below a path.
        .route("/docs/", get(docs::page))
        .route("/docs/{*file}", get(docs::file));
    routes
}

async fn no_route() -> Problem {
    Problem::not_found("no_such_route", "There is no such endpoint.")
}

async fn no_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "The endpoint does not know this method; Allow names those that it knows.",
    )
}

/// What a panic says may hold anything; its place was logged by the panic hook.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::internal("panicked").into_response()
}
