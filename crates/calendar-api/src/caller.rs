//! Who calls, and for whom: a user who is signed in, or a product's backend with a service key.
//!
//! An endpoint takes one of [`Caller`], [`SignedIn`] and [`Owner`]. Two of them name in their type
//! what a key needs, and [`SignedIn`] refuses keys: no endpoint can forget to say.

use std::marker::PhantomData;
use std::time::Instant;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use calendar_domain::api_key::{ApiScope, KnownApiKey};
use calendar_domain::ids::{SessionId, UserId};
use calendar_sync::Authenticated;
use secrecy::ExposeSecret as _;

use crate::check;
use crate::extract::Token;
use crate::observe;
use crate::problem::Problem;
use crate::state::AppState;

/// Whom a service key acts for: the id of a user. Not in the path, so that each endpoint stands once in
/// the contract, and proxies' logs hold no ids of people.
pub(crate) const USER_HEADER: &str = "Calendar-User";

/// What a service key must be allowed for an endpoint. Sessions may do all that is their user's.
pub(crate) trait Need: Send + Sync + 'static {
    /// All scopes of one of these.
    const SCOPES: &'static [&'static [ApiScope]];
}

macro_rules! needs {
    ($($(#[$doc:meta])* $name:ident: $scopes:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum $name {}

        impl Need for $name {
            const SCOPES: &'static [&'static [ApiScope]] = $scopes;
        }
    )*};
}

needs! {
    /// Reads events.
    ReadsEvents: &[&[ApiScope::EventsRead]];
    /// Reads connections: those who read events have to know what they are of.
    ReadsConnections: &[&[ApiScope::EventsRead], &[ApiScope::ConnectionsManage]];
    /// Makes, changes and ends connections.
    ManagesConnections: &[&[ApiScope::ConnectionsManage]];
    /// Makes, changes and deletes users.
    ManagesUsers: &[&[ApiScope::UsersManage]];
    /// Takes all that is a user's, events too.
    ExportsUsers: &[&[ApiScope::UsersManage, ApiScope::EventsRead]];
}

/// What a caller came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A session's token.
    Session(SessionId),
    /// A service key of this user.
    Key { owner: UserId },
}

/// Who calls: the user who is signed in, or the one whom a service key acts for.
#[derive(Debug)]
pub(crate) struct Caller<N> {
    pub(crate) user_id: UserId,
    pub(crate) credential: Credential,
    need: PhantomData<fn() -> N>,
}

impl<N: Need> FromRequestParts<AppState> for Caller<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let asked = asked_user(parts)?;
        let (user_id, credential) = match authenticate(parts, state, asked).await? {
            Authenticated::Session { id, user_id } => {
                (own(user_id, asked)?, Credential::Session(id))
            }
            Authenticated::Key(key) => {
                check_scopes::<N>(&key)?;
                if asked.is_none() {
                    return Err(Problem::malformed(
                        "user_required",
                        "A service key acts for a user: name one in the header Calendar-User.",
                    ));
                }
                let user_id = key.acts_for.ok_or_else(unknown_user)?;
                (user_id, Credential::Key { owner: key.owner })
            }
        };
        Ok(Self {
            user_id,
            credential,
            need: PhantomData,
        })
    }
}

/// A user who is signed in; service keys are refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedIn {
    pub(crate) session_id: SessionId,
    pub(crate) user_id: UserId,
}

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let asked = asked_user(parts)?;
        match authenticate(parts, state, None).await? {
            Authenticated::Session { id, user_id } => Ok(Self {
                session_id: id,
                user_id: own(user_id, asked)?,
            }),
            Authenticated::Key(_) => Err(session_required()),
        }
    }
}

/// Who manages users: the owner of a service key, or whoever is signed in.
#[derive(Debug)]
pub(crate) struct Owner<N> {
    pub(crate) user_id: UserId,
    need: PhantomData<fn() -> N>,
}

impl<N: Need> FromRequestParts<AppState> for Owner<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match authenticate(parts, state, None).await? {
            Authenticated::Key(key) => Self::of_key(&key),
            Authenticated::Session { user_id, .. } => Ok(Self {
                user_id,
                need: PhantomData,
            }),
        }
    }
}

/// `None` for whoever comes with a session, or with no token at all. A token that is no good is refused here too:
/// whoever sends one means to be known.
impl<N: Need> OptionalFromRequestParts<AppState> for Owner<N> {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Option<Self>, Problem> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        match authenticate(parts, state, None).await? {
            Authenticated::Key(key) => Self::of_key(&key).map(Some),
            Authenticated::Session { .. } => Ok(None),
        }
    }
}

impl<N: Need> Owner<N> {
    fn of_key(key: &KnownApiKey) -> Result<Self, Problem> {
        check_scopes::<N>(key)?;
        Ok(Self {
            user_id: key.owner,
            need: PhantomData,
        })
    }
}

async fn authenticate(
    parts: &mut Parts,
    state: &AppState,
    user: Option<UserId>,
) -> Result<Authenticated, Problem> {
    let Token(token) = Token::from_request_parts(parts, state).await?;
    // Before it is looked up: a caller that runs away costs the database nothing, known or not.
    let quota = state.0.requests.take(token.expose_secret(), Instant::now());
    observe::limited(parts, quota)?;
    let known = state.0.authenticate.run(&token, user).await?;
    known.ok_or_else(invalid_token)
}

/// Whom the header names.
fn asked_user(parts: &Parts) -> Result<Option<UserId>, Problem> {
    let mut values = parts.headers.get_all(USER_HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(check::hyphenated);
    id.filter(|_| values.next().is_none())
        .map(|id| Some(UserId(id)))
        .ok_or_else(|| {
            Problem::malformed(
                "invalid_user",
                "The header Calendar-User is not the id of one user.",
            )
        })
}

/// A session acts for its own user alone; everybody else is as unknown as to a key.
fn own(user: UserId, asked: Option<UserId>) -> Result<UserId, Problem> {
    if asked.is_none_or(|asked| asked == user) {
        Ok(user)
    } else {
        Err(unknown_user())
    }
}

fn check_scopes<N: Need>(key: &KnownApiKey) -> Result<(), Problem> {
    let has = |scopes: &&[ApiScope]| scopes.iter().all(|scope| key.scopes.contains(scope));
    if N::SCOPES.iter().any(has) {
        return Ok(());
    }
    let names = |scopes: &&[ApiScope]| {
        let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        names.join(" and ")
    };
    let needed: Vec<_> = N::SCOPES.iter().map(names).collect();
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "scope_missing",
        format!("The service key needs the scope {}.", needed.join(" or ")),
    ))
}

/// What only a person may do.
pub(crate) fn session_required() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "session_required",
        "A service key cannot do this; sign in.",
    )
}

fn unknown_user() -> Problem {
    Problem::not_found("user_not_found", "There is no user with this id.")
}

pub(crate) fn invalid_token() -> Problem {
    Problem::unauthorized(
        "token_invalid",
        "The token is unknown or has expired; sign in again.",
    )
}
