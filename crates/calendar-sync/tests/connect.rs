//! The OAuth round trip over mocked ports.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::sync::Arc;

use calendar_domain::account::{
    AccountIdentity, CalendarChoice, CalendarListing, ConnectSession, TokenGrant,
};
use calendar_domain::connection::Connected;
use calendar_domain::ids::{ConnectSessionId, ConnectionId, TurnId, UserId};
use calendar_domain::ports::{
    MockAuthorizer, MockCalendarDirectory, MockCalendarReader, MockChangeNotifier, MockClock,
    MockConnectSessionStore, MockConnectionStore, MockSecrets, MockSyncQueue,
};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::Mailbox;
use calendar_sync::{
    CallbackInput, CompleteConnect, CompleteConnectError, Provider, Providers, StartConnect,
    StartConnectError, StartConnectInput,
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-01-05 9:00 UTC);

struct Ports {
    sessions: MockConnectSessionStore,
    connections: MockConnectionStore,
    authorizer: MockAuthorizer,
    directory: MockCalendarDirectory,
}

impl Ports {
    fn new() -> Self {
        Self {
            sessions: MockConnectSessionStore::new(),
            connections: MockConnectionStore::new(),
            authorizer: MockAuthorizer::new(),
            directory: MockCalendarDirectory::new(),
        }
    }

    /// A round trip that is under way, as it was begun.
    fn begun(calendars: CalendarChoice, delegate_email: Option<&str>) -> Self {
        let mut ports = Self::new();
        let session = ConnectSession {
            id: ConnectSessionId::new(),
            user_id: UserId::new(),
            provider: CalendarProvider::Microsoft,
            code_verifier: SecretString::from("verifier"),
            delegate_email: delegate_email.map(str::to_owned),
            calendars,
            return_url: Some("https://app.example.com/done".to_owned()),
            expires_at: NOW,
        };
        ports
            .sessions
            .expect_consume()
            .withf(|hash, _| *hash == [7; 32])
            .times(1)
            .return_once(|_, _| Ok(Some(session)));
        ports
    }

    fn signed_in(mut self) -> Self {
        self.authorizer
            .expect_exchange()
            .withf(|code, verifier, uri| {
                code.expose_secret() == "code"
                    && verifier.expose_secret() == "verifier"
                    && uri == "https://here.example.com/cb"
            })
            .times(1)
            .returning(|_, _, _| {
                Ok(TokenGrant {
                    access_token: SecretString::from("access"),
                    refresh_token: None,
                    expires_at: NOW,
                    scopes: String::new(),
                    missing: Vec::new(),
                })
            });
        self.directory.expect_identity().returning(|_| {
            Ok(AccountIdentity {
                tenant_id: "t".to_owned(),
                provider_user_id: "u".to_owned(),
                email: None,
                display_name: None,
            })
        });
        self
    }

    fn providers(self) -> (Providers, MockConnectSessionStore, MockConnectionStore) {
        let provider = Provider {
            authorizer: Arc::new(self.authorizer),
            directory: Arc::new(self.directory),
            reader: Arc::new(MockCalendarReader::new()),
            notifier: Arc::new(MockChangeNotifier::new()),
            push: None,
        };
        (
            Providers::new().with(CalendarProvider::Microsoft, provider),
            self.sessions,
            self.connections,
        )
    }

    async fn complete(
        self,
        input: CallbackInput,
    ) -> Result<calendar_sync::CompletedConnect, CompleteConnectError> {
        let (providers, sessions, connections) = self.providers();
        let mut secrets = MockSecrets::new();
        secrets.expect_fingerprint().returning(|_| [7; 32]);
        let mut clock = MockClock::new();
        clock.expect_now().return_const(NOW);
        let mut queue = MockSyncQueue::new();
        let turn = TurnId::new();
        // The mailbox is busy at first.
        let mut asked = 0;
        queue.expect_take_turn().returning(move |_, mailbox, _| {
            assert!(["u", "owner@example.com"].contains(&mailbox), "{mailbox}");
            asked += 1;
            Ok((asked > 2).then_some(turn))
        });
        queue
            .expect_give_turn_back()
            .withf(move |given| *given == turn)
            .returning(|_| Ok(()));
        CompleteConnect {
            connect_sessions: Arc::new(sessions),
            connections: Arc::new(connections),
            queue: Arc::new(queue),
            providers: Arc::new(providers),
            secrets: Arc::new(secrets),
            clock: Arc::new(clock),
            redirect_uri: "https://here.example.com/cb".to_owned(),
        }
        .run(input)
        .await
    }
}

fn calendar(id: &str, is_primary: bool) -> CalendarListing {
    CalendarListing {
        id: id.to_owned(),
        name: format!("Calendar {id}"),
        color: None,
        is_primary,
        can_edit: true,
        owner_email: None,
        is_shared: false,
    }
}

fn callback() -> CallbackInput {
    CallbackInput {
        state: Some(SecretString::from("state")),
        code: Some(SecretString::from("code")),
        error: None,
    }
}

#[tokio::test]
async fn beginning_stores_the_hash_of_the_state_and_sends_the_state() {
    let mut ports = Ports::new();
    ports
        .authorizer
        .expect_authorize_url()
        .withf(|request| {
            request.state.expose_secret() == "s1"
                && request.code_verifier.expose_secret() == "s2"
                && request.shared
        })
        .times(1)
        .returning(|_| Ok("https://login.example.com/".to_owned()));
    ports
        .sessions
        .expect_create()
        .withf(|session, hash, _| {
            *hash == [1; 32]
                && session.code_verifier.expose_secret() == "s2"
                && session.expires_at == NOW + time::Duration::minutes(15)
        })
        .times(1)
        .returning(|_, _, _| Ok(()));
    let (providers, sessions, _) = ports.providers();
    let mut secrets = MockSecrets::new();
    let mut next = 0;
    secrets.expect_generate().returning(move || {
        next += 1;
        Ok(SecretString::from(format!("s{next}")))
    });
    secrets
        .expect_fingerprint()
        .withf(|secret| secret.expose_secret() == "s1")
        .return_const([1; 32]);
    let mut clock = MockClock::new();
    clock.expect_now().return_const(NOW);
    let start = StartConnect {
        connect_sessions: Arc::new(sessions),
        providers: Arc::new(providers),
        secrets: Arc::new(secrets),
        clock: Arc::new(clock),
        redirect_uri: "https://here.example.com/cb".to_owned(),
    };
    let input = StartConnectInput {
        user_id: UserId::new(),
        provider: CalendarProvider::Microsoft,
        delegate_email: Some("owner@example.com".to_owned()),
        calendars: CalendarChoice::All,
        return_url: None,
    };
    let google = StartConnectInput {
        provider: CalendarProvider::Google,
        ..input.clone()
    };
    assert!(matches!(
        start.run(google).await,
        Err(StartConnectError::ProviderOff)
    ));
    assert_eq!(
        start.run(input).await.unwrap().authorize_url,
        "https://login.example.com/"
    );
}

#[tokio::test]
async fn the_chosen_calendars_are_connected() {
    let cases = [
        (CalendarChoice::All, vec!["a", "b"]),
        (CalendarChoice::Primary, vec!["b"]),
        (
            CalendarChoice::Some(vec!["a".to_owned(), "gone".to_owned()]),
            vec!["a"],
        ),
    ];
    for (choice, expected) in cases {
        let mut ports = Ports::begun(choice, None).signed_in();
        ports
            .directory
            .expect_calendars()
            .withf(|_, mailbox| *mailbox == Mailbox::Own)
            .returning(|_, _| Ok(vec![calendar("a", false), calendar("b", true)]));
        ports
            .connections
            .expect_connect()
            .withf(move |new, _| {
                new.calendars
                    .iter()
                    .map(|calendar| calendar.id.as_str())
                    .eq(expected.iter().copied())
            })
            .times(1)
            .returning(|new, _| {
                Ok(Connected {
                    connection_ids: new.calendars.iter().map(|_| ConnectionId::new()).collect(),
                    refused: Vec::new(),
                })
            });
        let done = ports.complete(callback()).await.unwrap();
        assert_eq!(
            done.return_url.as_deref(),
            Some("https://app.example.com/done")
        );
        assert!(done.refused.is_empty());
    }
}

#[tokio::test]
async fn a_delegates_calendars_are_listed_in_the_owners_mailbox() {
    let mut ports = Ports::begun(CalendarChoice::All, Some("owner@example.com")).signed_in();
    ports
        .directory
        .expect_calendars()
        .withf(|_, mailbox| *mailbox == Mailbox::Delegate("owner@example.com".to_owned()))
        .times(1)
        .returning(|_, _| Ok(vec![calendar("a", true)]));
    ports.connections.expect_connect().returning(|_, _| {
        Ok(Connected {
            connection_ids: Vec::new(),
            refused: vec!["a".to_owned()],
        })
    });
    assert!(matches!(
        ports.complete(callback()).await,
        Err(CompleteConnectError::AllRefused { .. })
    ));
}

#[tokio::test]
async fn what_is_wrong_stores_nothing() {
    let no_state = CallbackInput {
        state: None,
        ..callback()
    };
    assert!(matches!(
        Ports::new().complete(no_state).await,
        Err(CompleteConnectError::UnknownState)
    ));

    let mut ports = Ports::new();
    ports.sessions.expect_consume().returning(|_, _| Ok(None));
    assert!(matches!(
        ports.complete(callback()).await,
        Err(CompleteConnectError::UnknownState)
    ));

    let refused = CallbackInput {
        code: None,
        error: Some("access_denied".to_owned()),
        ..callback()
    };
    let error = Ports::begun(CalendarChoice::All, None)
        .complete(refused)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, CompleteConnectError::ProviderRefused { code, return_url: Some(_) } if code == "access_denied")
    );

    let no_code = CallbackInput {
        code: None,
        ..callback()
    };
    let error = Ports::begun(CalendarChoice::All, None)
        .complete(no_code)
        .await
        .unwrap_err();
    assert!(matches!(error, CompleteConnectError::NoCode { .. }));

    let mut ports = Ports::begun(CalendarChoice::Some(vec!["gone".to_owned()]), None).signed_in();
    ports
        .directory
        .expect_calendars()
        .returning(|_, _| Ok(vec![calendar("a", true)]));
    assert!(matches!(
        ports.complete(callback()).await,
        Err(CompleteConnectError::NoCalendars { .. })
    ));
}
