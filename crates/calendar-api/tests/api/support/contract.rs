//! The contract, held against what really comes back.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use axum::http::{HeaderMap, StatusCode, header};
use jsonschema::Validator;
use serde_json::{Value, json};

/// The document.
pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(calendar_api::openapi()).unwrap());

static VALIDATORS: LazyLock<Mutex<HashMap<String, &'static Validator>>> =
    LazyLock::new(Mutex::default);

/// An operation of the document.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: String,
    /// The template.
    pub(crate) path: String,
    pub(crate) json: Value,
}

/// All of them.
pub(crate) fn operations() -> Vec<Operation> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().clone();
        let path = path.clone();
        methods.into_iter().map(move |(method, json)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            json,
        })
    };
    paths.iter().flat_map(of_path).collect()
}

impl Operation {
    pub(crate) fn id(&self) -> &str {
        self.json["operationId"].as_str().unwrap()
    }

    /// The names of its parameters in this place.
    pub(crate) fn parameters(&self, place: &str) -> Vec<String> {
        let parameters = self.json["parameters"].as_array().cloned();
        let parameters = parameters.into_iter().flatten();
        parameters
            .filter(|parameter| parameter["in"] == place)
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The schema of its JSON body, where it has one with known fields.
    pub(crate) fn body(&self) -> Option<&'static Value> {
        let schema = &self.json["requestBody"]["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str()?.rsplit('/').next()?;
        Some(&DOCUMENT["components"]["schemas"][name])
    }

    /// Its path, about this event or connection.
    pub(crate) fn path_to(&self, id: impl std::fmt::Display) -> String {
        self.path.replace("{id}", &id.to_string())
    }

    /// Whether it needs a token.
    pub(crate) fn needs_token(&self) -> bool {
        self.json.get("security").is_none()
    }

    /// Whether it refuses what it does not know: all but what providers and their browsers call, and operators.
    pub(crate) fn is_strict(&self) -> bool {
        self.path.starts_with("/v1/") && self.id() != "oauth_callback"
    }

    /// The examples of its body's fields, but for what depends on the operator.
    pub(crate) fn example(&self) -> Option<Value> {
        let of_field = |(name, field): (&String, &Value)| {
            let item = &resolved(&field["items"])["enum"][0];
            let example = match name.as_str() {
                "provider" => json!("microsoft"),
                "return_url" => json!("https://app.example/done"),
                _ if item.is_string() => json!([item]),
                _ => field["examples"].get(0)?.clone(),
            };
            Some((name.clone(), example))
        };
        let properties = self.body()?["properties"].as_object().unwrap();
        Some(properties.iter().filter_map(of_field).collect())
    }

    pub(crate) fn matches(&self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap();
        let (given, template): (Vec<_>, Vec<_>) =
            (path.split('/').collect(), self.path.split('/').collect());
        self.method == method
            && given.len() == template.len()
            && given
                .iter()
                .zip(template)
                .all(|(given, part)| *given == part || part.starts_with('{'))
    }
}

/// What a reference leads to, or the schema itself.
pub(crate) fn resolved(schema: &Value) -> &Value {
    let name = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next());
    name.map_or(schema, |name| &DOCUMENT["components"]["schemas"][name])
}

/// Panics where an answer is not one that the document knows.
#[track_caller]
pub(crate) fn assert_documented(
    method: &str,
    path: &str,
    status: StatusCode,
    headers: &HeaderMap,
    text: &str,
) {
    let method = if method == "HEAD" { "GET" } else { method };
    let Some(operation) = operations()
        .into_iter()
        .find(|operation| operation.matches(method, path))
    else {
        assert!(
            matches!(status.as_u16(), 404 | 405) || path == "/docs" || path.starts_with("/docs/"),
            "{method} {path} is not documented, and answers {status}"
        );
        return;
    };
    // What ports are made to fail with here, whatever the endpoint asks of them.
    if status == StatusCode::METHOD_NOT_ALLOWED || text.contains("database_code") {
        return;
    }
    let id = operation.id();
    let response = &operation.json["responses"][status.as_str()];
    assert!(
        response.is_object(),
        "{id} answers {status}, undocumented: {text}"
    );
    for name in response["headers"].as_object().into_iter().flatten() {
        let name = name.0.as_str();
        let sometimes = matches!(name, "Retry-After" | "RateLimit" | "RateLimit-Policy");
        assert!(
            sometimes || headers.contains_key(name),
            "{id} {status} has no {name}"
        );
    }
    let Some(contents) = response["content"].as_object() else {
        assert!(text.is_empty(), "{id} answers {status} with a body");
        return;
    };
    if text.is_empty() {
        return;
    }
    let media = headers[header::CONTENT_TYPE].to_str().unwrap();
    let media = media.split(';').next().unwrap();
    let content = contents
        .get(media)
        .unwrap_or_else(|| panic!("{id} answers {status} with {media}"));
    if media.ends_with("json") {
        let instance: Value = serde_json::from_str(text).unwrap();
        let validator = validator(&format!("{id} {status} {media}"), &content["schema"]);
        let wrong: Vec<_> = validator
            .iter_errors(&instance)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{id} {status}: {wrong:#?}\n{text}");
    }
}

fn validator(key: &str, schema: &Value) -> &'static Validator {
    let mut validators = VALIDATORS.lock().unwrap();
    validators.entry(key.to_owned()).or_insert_with(|| {
        let schema = json!({"allOf": [schema], "components": DOCUMENT["components"]});
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Box::leak(Box::new(options.build(&schema).unwrap()))
    })
}
