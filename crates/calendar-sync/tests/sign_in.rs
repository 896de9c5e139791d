//! Signing in over mocked ports: whatever is wrong, one hash is verified and the answer is the same.

use std::sync::Arc;

use calendar_domain::ids::UserId;
use calendar_domain::ports::{MockClock, MockSecrets, MockSessionStore, MockUserStore};
use calendar_domain::user::User;
use calendar_sync::{SignIn, SignInError, SignedIn};
use time::macros::datetime;

fn user() -> User {
    User {
        id: UserId::new(),
        email: "ann@example.com".to_owned(),
        first_name: None,
        last_name: None,
        created_at: datetime!(2026-01-05 9:00 UTC),
        updated_at: datetime!(2026-01-05 9:00 UTC),
    }
}

/// Signs in with a password that is right or not, where the store has `found`. Exactly one hash is verified:
/// `found`'s, or none's. Without a sign-in nothing is made.
async fn sign_in(found: Option<&str>, right: bool) -> Result<SignedIn, SignInError> {
    let hash = found.map(str::to_owned);
    let mut users = MockUserStore::new();
    let stored = hash.clone().map(|hash| (user(), hash));
    users
        .expect_by_email()
        .withf(|email| email == "ann@example.com")
        .times(1)
        .return_once(|_| Ok(stored));
    let mut secrets = MockSecrets::new();
    secrets
        .expect_verify_password()
        .withf(move |_, given| *given == hash)
        .times(1)
        .returning(move |_, _| Ok(right));
    let mut sessions = MockSessionStore::new();
    let mut clock = MockClock::new();
    if right && found.is_some() {
        secrets.expect_generate().returning(|| Ok("token".into()));
        secrets.expect_fingerprint().return_const([7; 32]);
        clock
            .expect_now()
            .return_const(datetime!(2026-01-05 9:00 UTC));
        sessions
            .expect_create()
            .withf(|session, _| session.token_hash == [7; 32])
            .times(1)
            .returning(|_, _| Ok(()));
    }
    let use_case = SignIn {
        users: Arc::new(users),
        sessions: Arc::new(sessions),
        secrets: Arc::new(secrets),
        clock: Arc::new(clock),
    };
    use_case.run("ann@example.com", "a password".into()).await
}

#[tokio::test]
async fn the_right_password_signs_in() {
    assert!(sign_in(Some("$argon2id$x"), true).await.is_ok());
}

#[tokio::test]
async fn whatever_is_wrong_takes_one_hash_and_is_the_same_error() {
    for (found, right, what) in [
        // The store finds a managed user by no address.
        (None, false, "an unknown address or a managed user"),
        (None, true, "an unknown address, whatever the hash says"),
        (Some("$argon2id$x"), false, "a wrong password"),
        (Some(""), false, "a user without a password"),
    ] {
        let error = sign_in(found, right).await.unwrap_err();
        assert!(matches!(error, SignInError::WrongCredentials), "{what}");
        assert_eq!(error.to_string(), "unknown address or wrong password");
    }
}
