//! The contract is true: what it names is there, and what is there it names. That answers look as it says
//! is checked with every request of these tests (see `support/contract.rs`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::contract::{DOCUMENT, Operation, operations};
use crate::support::{App, connection, id, single};

async fn app() -> App {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    *app.world.events.lock().unwrap() = vec![single(10, 500)];
    app
}

fn path(operation: &Operation) -> String {
    let known = if operation.path.starts_with("/v1/events") {
        id(10)
    } else {
        id(500)
    };
    operation.path.replace("{id}", &known.to_string())
}

#[tokio::test]
async fn every_route_is_named() {
    // axum shows its routes nowhere else.
    let shown = format!("{:?}", app().await.router());
    let routes: BTreeSet<_> = shown
        .split('"')
        .filter(|text| text.starts_with('/') && !text.starts_with("/docs"))
        // The fallback's own.
        .filter(|text| !matches!(*text, "/" | "/{*__private__axum_fallback}"))
        .collect();
    let named: BTreeSet<_> = DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(routes, named);
}

#[tokio::test]
async fn every_operation_is_described() {
    let mut ids = BTreeSet::new();
    for operation in operations() {
        let id = operation.id();
        assert!(ids.insert(id.to_owned()), "{id} stands twice");
        let summary = operation.json["summary"].as_str().unwrap_or_default();
        assert!(
            !summary.is_empty() && !summary.ends_with('.'),
            "{id}: {summary}"
        );
        assert_eq!(operation.json["tags"].as_array().unwrap().len(), 1, "{id}");
        for (status, response) in operation.json["responses"].as_object().unwrap() {
            let problem = &response["content"]["application/problem+json"]["schema"];
            let page = &response["content"]["text/html"];
            assert!(
                status.as_str() < "400" || problem.is_object() || page.is_object(),
                "{id} {status} names no code"
            );
        }
        for parameter in operation.json["parameters"]
            .as_array()
            .into_iter()
            .flatten()
        {
            assert!(parameter["description"].is_string(), "{id}: {parameter}");
        }
    }
}

/// With what the contract gives as examples.
#[tokio::test]
async fn every_operation_does_what_it_is_there_for() {
    for operation in operations() {
        let app = app().await;
        let path = match operation.id() {
            "take_microsoft_notifications" | "take_microsoft_lifecycle_notifications" => {
                format!("{}?validationToken=x", operation.path)
            }
            _ => path(&operation),
        };
        let answer = match operation.body() {
            Some(schema) => {
                let body = example(schema);
                if operation.id() == "sign_in" {
                    app.post("/v1/users", &body).await;
                }
                let body = body.to_string();
                app.raw(&operation.method, &path, Some("application/json"), body)
                    .await
            }
            None => app.call(&operation.method, &path).await,
        };
        if operation.id() == "oauth_callback" {
            assert_eq!(answer.status, 400, "there is no state to come back with");
            continue;
        }
        assert!(
            answer.status.is_success() || answer.status.is_redirection(),
            "{}: {} {}",
            operation.id(),
            answer.status,
            answer.text
        );
    }
}

/// The examples of the fields, but for what depends on the operator.
fn example(schema: &Value) -> Value {
    let properties = schema["properties"].as_object().unwrap();
    let of_field = |(name, field): (&String, &Value)| {
        let example = match name.as_str() {
            "provider" => json!("microsoft"),
            "return_url" => json!("https://app.example/done"),
            _ => field["examples"].get(0)?.clone(),
        };
        Some((name.clone(), example))
    };
    properties.iter().filter_map(of_field).collect()
}

#[tokio::test]
async fn fields_and_parameters_are_those_that_are_read() {
    let app = app().await;
    for operation in operations() {
        let id = operation.id();
        if let Some(schema) = operation.body() {
            assert_eq!(schema["additionalProperties"], json!(false), "{id}");
            let body = json!({"unknown": 1}).to_string();
            let answer = app
                .raw(
                    &operation.method,
                    &path(&operation),
                    Some("application/json"),
                    body,
                )
                .await;
            let documented: BTreeSet<_> = schema["properties"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            assert_eq!(known(&answer.json()), documented, "{id}");
        }
        if operation.path.starts_with("/v1/") && id != "oauth_callback" {
            let path = format!("{}?unknown=1", path(&operation));
            let body = operation.body().map(example).unwrap_or_default();
            let answer = app
                .raw(
                    &operation.method,
                    &path,
                    Some("application/json"),
                    body.to_string(),
                )
                .await;
            let documented = operation.parameters("query").into_iter().collect();
            assert_eq!(known(&answer.json()), documented, "{id}");
        }
    }
}

/// What a refusal of `unknown` says there is.
fn known(problem: &Value) -> BTreeSet<String> {
    let errors = problem["errors"].as_array().unwrap();
    let detail = errors
        .iter()
        .find(|error| error["pointer"] == "/unknown")
        .and_then(|error| error["detail"].as_str())
        .unwrap();
    let (_, names) = detail.split_once("known: ").unwrap();
    names
        .split(", ")
        .filter(|name| *name != "none")
        .map(str::to_owned)
        .collect()
}
