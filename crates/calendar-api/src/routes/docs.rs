//! `GET /docs`: a page to read and try the contract. Everything that it loads is compiled in.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use utoipa_swagger_ui::Config;

use crate::problem::Problem;

/// Our own files and the contract; styles that the page's scripts set, and the icons in its style sheet.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Relative, so that a host program can nest the router.
static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("../openapi.json").validator_url("none")));

/// A page to read and try this contract
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "docs",
    tag = "operations",
    security(()),
    responses((status = 308, description = "To the page, which is `/docs/`.")),
)]
pub(crate) async fn docs() -> Response {
    let page = HeaderValue::from_static("docs/");
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, page)]).into_response()
}

/// `GET /docs/`.
pub(crate) async fn page() -> Result<Response, Problem> {
    serve("index.html")
}

/// `GET /docs/…`: what the page loads.
pub(crate) async fn file(Path(path): Path<String>) -> Result<Response, Problem> {
    serve(&path)
}

fn serve(path: &str) -> Result<Response, Problem> {
    let file = utoipa_swagger_ui::serve(path, CONFIG.clone())
        .map_err(|error| Problem::internal(error.to_string()))?
        .ok_or_else(|| Problem::not_found("not_found", "There is no such file."))?;
    let mut response = Body::from(file.bytes.into_owned()).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&file.content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    Ok(response)
}
