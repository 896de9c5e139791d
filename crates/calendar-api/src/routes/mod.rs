//! The endpoints, one file for each resource.

pub(crate) mod api_key;
pub(crate) mod connect_session;
pub(crate) mod connection;
#[cfg(feature = "docs")]
pub(crate) mod docs;
pub(crate) mod event;
mod event_response;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod oauth_callback;
pub(crate) mod openapi;
pub(crate) mod rejected_event;
pub(crate) mod session;
pub(crate) mod subscription;
pub(crate) mod user;
pub(crate) mod webhook;
