//! Subscribing, changing and hearing of it, in few words.

use reqwest::Method;
use serde_json::Value;

use super::listener::Listener;
use super::{Bench, meeting};

pub const ALL: &str = "created,updated,deleted";

/// Status and body of an admin call.
pub async fn admin(bench: &Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/admin/{path}", bench.server.url());
    let mut request = bench.http.request(method, url);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// What a create request with some members changed answers: status and code.
pub async fn attempt(bench: &Bench, url: &str, changes: Value) -> (u16, String) {
    let (status, body) = create(bench, url, changes).await;
    let code = body["error"]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}

pub async fn create(bench: &Bench, url: &str, changes: Value) -> (u16, Value) {
    let mut body = bench.wanted(url, ALL);
    for (member, value) in changes.as_object().unwrap() {
        body[member] = value.clone();
    }
    bench.send(Method::POST, "/subscriptions", &body).await
}

pub fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// What was told since the last time: change type and event id.
pub async fn told(bench: &Bench, listener: &Listener) -> Vec<(String, String)> {
    bench.quiet().await;
    let items = listener.items();
    listener.forget();
    items
        .iter()
        .map(|item| {
            (
                item["changeType"].as_str().unwrap().to_owned(),
                item["resourceData"]["id"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

pub fn kinds(told: &[(String, String)]) -> Vec<&str> {
    told.iter().map(|(kind, _)| kind.as_str()).collect()
}

pub fn news(kind: &str, id: &str) -> Vec<(String, String)> {
    vec![(kind.to_owned(), id.to_owned())]
}

pub async fn add(bench: &Bench, subject: &str) -> String {
    let event = meeting(subject, "2026-03-03T10:00:00");
    let (status, made) = bench.send(Method::POST, "/me/events", &event).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}
