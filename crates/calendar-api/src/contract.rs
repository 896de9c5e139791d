//! The contract: OpenAPI 3.1, from the annotations of the handlers and what all answers have in common.
//!
//! A handler says what is its own: body, parameters, success, and the problems that only it has, as
//! `` `code`: what it means. `` in the description of their status. [`document`] adds what the layers and extractors
//! do to every request of its kind (see [`COMMON`]), so that no handler repeats it.

use std::sync::LazyLock;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, KnownFormat, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Content, Header, InfoBuilder, LicenseBuilder, Object, ObjectBuilder, OpenApi,
    OpenApiVersion, Ref, RefOr, Schema, Server,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::caller::USER_HEADER;
use crate::problem::{FieldError, Place, ProblemBody};
use crate::state::CALLBACK_PATH;

/// What one line of text looks like (ECMA-262): not blank, without control characters.
pub(crate) const LINE: &str = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$";
/// Any text without NUL.
const NO_NUL: &str = r"^[^\u0000]*$";

const BEARER: &str = "bearer";
const PROBLEM: &str = "application/problem+json";
/// Reads whose answer is sent while it is made, and so has no `ETag`.
const STREAMS: &[&str] = &["/v1/me/export"];

/// When an operation answers with a problem that is none of its own.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    /// It looks at the query, and so refuses parameters that it does not know.
    ReadsQuery,
    /// It is a page of a list.
    Pages,
    /// It has an id in its path.
    HasId,
    /// It asks for a JSON object.
    ReadsJson,
    /// It takes a body of any kind.
    ReadsBody,
    /// It needs a token.
    Authenticated,
    /// It needs a token, and looks at whom `Calendar-User` names.
    NamesUser,
    /// The same, and service keys may call it.
    ActsForUser,
    /// It asks the database.
    Stored,
}

/// The problems that layers and extractors answer with.
const COMMON: &[(When, &str, &str)] = &[
    (
        When::ReadsQuery,
        "400",
        "`malformed_query`: the query is not valid UTF-8.",
    ),
    (
        When::Pages,
        "400",
        "`invalid_cursor`: it is not one of this list; begin the list anew without it.",
    ),
    (
        When::ReadsJson,
        "400",
        "`malformed_json`: the body is not a JSON object.",
    ),
    (
        When::ReadsBody,
        "400",
        "`body_incomplete`: the body did not arrive whole.",
    ),
    (
        When::Authenticated,
        "401",
        "`token_missing`: send the header `Authorization: Bearer <token>`. \
        `token_invalid`: the token is unknown or has expired.",
    ),
    (
        When::NamesUser,
        "400",
        "`invalid_user`: `Calendar-User` is not the id of one user.",
    ),
    (
        When::ActsForUser,
        "400",
        "`user_required`: a service key acts for a user; name one in `Calendar-User`.",
    ),
    (
        When::ActsForUser,
        "403",
        "`scope_missing`: the service key lacks a scope.",
    ),
    (
        When::NamesUser,
        "404",
        "`user_not_found`: there is no user with the id in `Calendar-User`, or none for this token.",
    ),
    (
        When::HasId,
        "404",
        "`not_found`: there is nothing with this id.",
    ),
    (
        When::Authenticated,
        "429",
        "`rate_limited`: this token makes too many requests; wait as long as Retry-After says.",
    ),
    (
        When::ReadsBody,
        "408",
        "`body_timeout`: the body took too long to arrive.",
    ),
    (
        When::ReadsBody,
        "413",
        "`body_too_large`: the body is larger than 1 MiB.",
    ),
    (
        When::ReadsJson,
        "415",
        "`unsupported_media_type`: send the body as `application/json`.",
    ),
    (
        When::ReadsQuery,
        "422",
        "`invalid_input`: some values are not acceptable; `errors` names each.",
    ),
    (
        When::Always,
        "500",
        "`internal`: it is logged under the request's id.",
    ),
    (When::Always, "503", "`timeout`: the request took too long."),
    (When::Stored, "503", "`database_unavailable`: try again."),
];

/// Headers of answers: name, schema, meaning.
const HEADERS: &[(&str, Type, &str)] = &[
    (
        "x-request-id",
        Type::String,
        "The request's id: the caller's own, when it is short and plain, or a new one. Logs carry it.",
    ),
    (
        "ETag",
        Type::String,
        "Of the body; give it back as `If-None-Match`.",
    ),
    (
        "Retry-After",
        Type::Integer,
        "Seconds to wait before the next try.",
    ),
    (
        "RateLimit-Policy",
        Type::String,
        "How many requests (`q`) a token has in so many seconds (`w`), as draft-ietf-httpapi-ratelimit-headers-10 writes it.",
    ),
    (
        "RateLimit",
        Type::String,
        "How many of them are left (`r`), and in how many seconds all are again (`t`).",
    ),
    ("WWW-Authenticate", Type::String, "`Bearer`."),
    ("Location", Type::String, "Where to go on."),
];

/// The contract as JSON, laid out for people, always in the same order.
pub(crate) static DOCUMENT: LazyLock<String> = LazyLock::new(|| json(&document()));

/// The contract of the API that is reached at this URL.
pub(crate) fn served_at(public_url: &str) -> String {
    let mut document = document();
    document.servers = Some(vec![Server::new(public_url)]);
    json(&document)
}

fn json(document: &OpenApi) -> String {
    // Maps with text as keys: this does not fail.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn document() -> OpenApi {
    let mut document = crate::routes().into_openapi();
    document.openapi = OpenApiVersion::Version31;
    document.info = InfoBuilder::new()
        .title("calendar-sync")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(include_str!("contract.md")))
        .license(Some(
            LicenseBuilder::new()
                .name("MIT OR Apache-2.0")
                .identifier(Some("MIT OR Apache-2.0"))
                .build(),
        ))
        .build();
    document.tags = Some(
        [
            ("users", "Signing up, and one's own account."),
            ("sessions", "Signing in and out."),
            ("api_keys", "Keys that a product's backend calls with."),
            ("connections", "The calendars that are kept in sync."),
            ("events", "What happens, and what was changed."),
            ("webhooks", "For the providers alone."),
            (
                "operations",
                "For whoever runs the service, and the contract.",
            ),
        ]
        .map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())
        .into(),
    );
    // Every operation, unless it says that it is open to all.
    document.security = Some(vec![SecurityRequirement::new(BEARER, [""; 0])]);
    for (path, item) in &mut document.paths.paths {
        if let Some(operation) = &mut item.get {
            conditional(path, operation);
        }
        for operation in operations(item) {
            complete(path, operation);
        }
    }
    let bodies = bodies(&mut document);
    let components = document.components.get_or_insert_default();
    for (name, schema) in &mut components.schemas {
        if bodies.contains(name) {
            closed(schema);
        } else {
            whole(schema);
        }
    }
    add_components(components);
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

/// Adds what [`crate::etag`] does to reads.
fn conditional(path: &str, operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let json = |response: &Response| response.content.contains_key("application/json");
    let Some(RefOr::T(whole)) = responses.get_mut("200") else {
        return;
    };
    if !path.starts_with("/v1/") || STREAMS.contains(&path) || !json(whole) {
        return;
    }
    let mut unchanged = Response::new("There is still what `If-None-Match` names.");
    for response in [whole, &mut unchanged] {
        response.headers.insert("ETag".to_owned(), header("ETag"));
    }
    responses.insert("304".to_owned(), unchanged.into());
    let named = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .description(Some("The `ETag` of what the caller has (RFC 9110 13.1.2)."))
        .schema(Some(Object::with_type(Type::String)))
        .build();
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::T(named));
}

fn header(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

/// Sessions and keys are a person's matter: a service key is refused.
fn of_sessions(operation: &Operation) -> bool {
    let tags = operation.tags.iter().flatten();
    tags.into_iter()
        .any(|tag| matches!(tag.as_str(), "sessions" | "api_keys"))
}

/// Adds the header that says whom a token acts for.
fn acts_for(operation: &mut Operation) {
    // Neither looks at it.
    let is_of_nobody = matches!(
        operation.operation_id.as_deref(),
        Some("sign_out" | "list_users")
    );
    if operation.security.is_some() || is_of_nobody {
        return;
    }
    let mut text = "The user's own id, or nothing.";
    if !of_sessions(operation) {
        text = "Whom a service key acts for: its owner, or a user whom its owner manages. With the token \
            of a session the user's own id, or nothing.";
    }
    let id = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    let user = ParameterBuilder::new()
        .name(USER_HEADER)
        .parameter_in(ParameterIn::Header)
        .description(Some(text))
        .schema(Some(id))
        .build();
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::T(user));
}

/// Adds to an operation what it has in common with others.
fn complete(path: &str, operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter {
            schema: Some(schema),
            ..
        }) = parameter
        {
            text(schema);
        }
    }
    acts_for(operation);
    for (when, status, text) in COMMON {
        if when.holds(path, operation) {
            let response = operation.responses.responses.entry((*status).to_owned());
            if let RefOr::T(response) = response.or_insert_with(|| Response::new("").into()) {
                if !response.description.is_empty() {
                    response.description.push(' ');
                }
                response.description.push_str(text);
            }
        }
    }
    let is_limited = operation.security.is_none();
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else {
            continue;
        };
        let codes = codes(&response.description);
        if !codes.is_empty() {
            let problem = Content::new(Some(problem_schema(status, &codes)));
            response.content.insert(PROBLEM.to_owned(), problem.into());
        }
        let mut headers = vec!["x-request-id"];
        if is_limited {
            headers.extend(["RateLimit-Policy", "RateLimit"]);
        }
        match status.as_str() {
            "302" | "308" => headers.push("Location"),
            "401" => headers.push("WWW-Authenticate"),
            "429" | "503" => headers.push("Retry-After"),
            _ => {}
        }
        for name in headers {
            response.headers.insert(name.to_owned(), header(name));
        }
    }
}

impl When {
    fn holds(self, path: &str, operation: &Operation) -> bool {
        let of_v1 = path.starts_with("/v1/") && path != CALLBACK_PATH;
        let has = |name: &str, place: &ParameterIn| {
            operation.parameters.iter().flatten().any(|parameter| {
                matches!(parameter, RefOr::T(it) if it.name == name && it.parameter_in == *place)
            })
        };
        match self {
            Self::Always => true,
            Self::ReadsQuery | Self::Stored => of_v1,
            Self::Pages => has("cursor", &ParameterIn::Query),
            Self::HasId => has("id", &ParameterIn::Path),
            Self::ReadsJson => of_v1 && operation.request_body.is_some(),
            Self::ReadsBody => operation.request_body.is_some(),
            Self::Authenticated => operation.security.is_none(),
            Self::NamesUser => has(USER_HEADER, &ParameterIn::Header),
            Self::ActsForUser => has(USER_HEADER, &ParameterIn::Header) && !of_sessions(operation),
        }
    }
}

/// What stands as `` `code`: `` in the description of a problem.
fn codes(description: &str) -> Vec<&str> {
    let quoted = description
        .split("`: ")
        .filter_map(|text| text.rsplit_once('`'));
    let mut codes: Vec<_> = quoted
        .map(|(_, code)| code)
        .filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    codes.dedup();
    codes
}

fn problem_schema(status: &str, codes: &[&str]) -> Schema {
    let status: u16 = status.parse().unwrap_or_default();
    let narrower = ObjectBuilder::new()
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([status])),
        )
        .property(
            "code",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(codes.iter().copied())),
        );
    AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(narrower)
        .build()
        .into()
}

/// The names of the schemas that requests are made of.
fn bodies(document: &mut OpenApi) -> Vec<String> {
    let operations = document.paths.paths.values_mut().flat_map(operations);
    operations
        .filter_map(|operation| operation.request_body.as_ref())
        .filter_map(|body| match body {
            RefOr::T(body) => body.content.values().next(),
            RefOr::Ref(_) => None,
        })
        .filter_map(|content| match content {
            RefOr::T(Content {
                schema: Some(RefOr::Ref(schema)),
                ..
            }) => schema.ref_location.rsplit('/').next().map(str::to_owned),
            _ => None,
        })
        .collect()
}

/// In requests, what is unknown is refused.
fn closed(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        object.properties.values_mut().for_each(text);
    }
}

/// Texts of requests are lines (see [`crate::check::line`]), but for passwords.
fn text(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema
        && object.max_length.is_some()
        && object.pattern.is_none()
    {
        match &object.format {
            None => object.pattern = Some(LINE.to_owned()),
            Some(SchemaFormat::KnownFormat(KnownFormat::Password)) => {
                object.pattern = Some(NO_NUL.to_owned());
            }
            Some(_) => {}
        }
    }
}

/// In answers, what can be `null` is always there; what can be missing is never `null`.
fn whole(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            for (name, property) in &object.properties {
                if can_be_null(property) && !object.required.contains(name) {
                    object.required.push(name.clone());
                }
            }
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(whole),
        RefOr::T(Schema::OneOf(one)) => one.items.iter_mut().for_each(whole),
        _ => {}
    }
}

fn can_be_null(schema: &RefOr<Schema>) -> bool {
    let has_null = |kind: &SchemaType| match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        SchemaType::AnyValue => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => has_null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => has_null(&array.schema_type),
        RefOr::T(Schema::OneOf(one)) => one.items.iter().any(can_be_null),
        _ => false,
    }
}

fn add_components(components: &mut Components) {
    for (name, schema) in [
        (ProblemBody::name(), ProblemBody::schema()),
        (FieldError::name(), FieldError::schema()),
        (Place::name(), Place::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    for (name, kind, text) in HEADERS {
        let header: Header = HeaderBuilder::new()
            .schema(Some(Object::with_type(kind.clone())))
            .description(Some(*text))
            .build();
        components.headers.insert((*name).to_owned(), header.into());
    }
    let bearer = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "The token of `POST /v1/sessions`, or a service key of `POST /v1/api_keys`.",
        ))
        .build();
    components
        .security_schemes
        .insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
}
