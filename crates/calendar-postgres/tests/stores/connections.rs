//! `ConnectionStore` and `ConnectSessionStore`: connecting, reviving, tokens, disconnecting.

use std::sync::Arc;

use calendar_domain::account::{
    CalendarChoice, ConnectSession, Permission, StoredTokens, TokenGrant, TokenSet,
};
use calendar_domain::connection::{ConnectionChange, ConnectionStatus};
use calendar_domain::failure::FailureClass;
use calendar_domain::ids::{ConnectSessionId, ConnectionId};
use calendar_domain::ports::{ConnectSessionStore as _, ConnectionStore as _, SyncQueue as _};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::{Lease, Mailbox, PassFailure};
use calendar_postgres::PgConnectSessionStore;
use secrecy::ExposeSecret as _;
use time::Duration;

use crate::support::{NOW, TestCipher, World, code, grant, new_connections, single, window};

#[tokio::test]
async fn tokens_stand_sealed_each_for_its_own_row() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    world.connect(user, "ada", &["main", "other"]).await;
    let rows = world
        .sql
        .query(
            "SELECT id, access_token, refresh_token FROM calendar_connections",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let id: uuid::Uuid = row.get(0);
        for (column, name) in [(1, "access_token"), (2, "refresh_token")] {
            let sealed: String = row.get(column);
            assert!(
                sealed.starts_with(&format!("v1.calendar_connections.{id}.{name}.")),
                "{sealed}"
            );
            assert!(!sealed.contains("access-1") && !sealed.contains("refresh-1"));
        }
    }
}

#[tokio::test]
async fn connecting_again_revives_the_row_with_its_id() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    assert!(
        world
            .connections
            .disconnect(synced.user, synced.id, NOW)
            .await
            .unwrap()
    );
    assert!(
        !world
            .connections
            .disconnect(synced.user, synced.id, NOW)
            .await
            .unwrap()
    );
    let gone = "SELECT count(*) FROM calendar_connections WHERE access_token IS NULL AND refresh_token IS NULL
        AND sync_token IS NULL AND NOT is_connected AND deleted_at IS NOT NULL";
    assert_eq!(world.number(gone).await, 1);
    assert!(
        world
            .connections
            .get(synced.user, synced.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(world.claim().await.is_none());
    let again = world.connect(synced.user, "ada", &["main"]).await;
    assert_eq!(again.connection_ids, [synced.id]);
    let claim = world.claim().await.unwrap();
    let due = &claim.connections[0];
    assert!(
        due.synced.is_none() && due.pass.is_none(),
        "a full pass comes first"
    );
    assert_eq!(
        world.number("SELECT count(*) FROM calendar_events").await,
        1
    );
    assert!(claim.lease.fence > synced.lease.fence);
}

#[tokio::test]
async fn signing_in_again_takes_the_lease_from_the_worker_with_the_old_grant() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut new = new_connections(synced.user, "ada", &["main"]);
    new.grant = grant("access-2", Some("refresh-2"));
    world.connections.connect(new, NOW).await.unwrap();
    let late = [
        world
            .connections
            .need_reauth(&synced.lease, "invalid_grant", NOW)
            .await,
        world
            .connections
            .store_grant(&synced.lease, grant("access-1", Some("refresh-1")), NOW)
            .await,
    ];
    for refused in late {
        assert_eq!(code(refused), "lease_lost");
    }
    let claim = world.claim().await.unwrap();
    let StoredTokens::Open(tokens) = &claim.connections[0].tokens else {
        panic!("sealed by us")
    };
    assert_eq!(tokens.access_token.expose_secret(), "access-2");
}

#[tokio::test]
async fn signing_in_again_goes_on_where_it_was() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let rename = ConnectionChange {
        calendar_name: Some("Mine".to_owned()),
        ..ConnectionChange::default()
    };
    world
        .connections
        .change(synced.user, synced.id, rename, NOW)
        .await
        .unwrap();
    world
        .connections
        .need_reauth(&synced.lease, "invalid_grant", NOW)
        .await
        .unwrap();
    world.queue.release(&synced.lease).await.unwrap();
    let shown = world
        .connections
        .get(synced.user, synced.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (shown.status, shown.next_sync_at),
        (ConnectionStatus::NeedsReauth, None)
    );
    assert_eq!(shown.last_error.unwrap().0, "invalid_grant");
    assert!(
        world
            .claim_at(world.worker, NOW + Duration::days(30))
            .await
            .is_none()
    );
    let mut new = new_connections(synced.user, "ada", &["other"]);
    new.grant = grant("access-2", Some("refresh-2"));
    world.connections.connect(new, NOW).await.unwrap();
    let claim = world.claim().await.unwrap();
    assert_eq!(claim.connections.len(), 2, "the one that waited is due too");
    for due in &claim.connections {
        let StoredTokens::Open(tokens) = &due.tokens else {
            panic!("sealed by us")
        };
        assert_eq!(tokens.access_token.expose_secret(), "access-2");
        assert_eq!(due.synced.is_some(), due.id == synced.id);
    }
    world.connect(synced.user, "ada", &["main"]).await;
    let shown = world
        .connections
        .get(synced.user, synced.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shown.calendar_name.as_deref(), Some("Mine"));
    assert_eq!(shown.status, ConnectionStatus::Connected);
}

#[tokio::test]
async fn the_same_calendar_through_another_account_is_refused() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let ids = world
        .connect(user, "ada", &["main", "shared"])
        .await
        .connection_ids;
    let other = world.connect(user, "boss", &["shared", "own"]).await;
    assert_eq!(
        (other.connection_ids.len(), other.refused),
        (1, vec!["shared".to_owned()])
    );
    // Nothing to connect leaves no account behind.
    let nothing = world.connect(user, "third", &["shared"]).await;
    assert_eq!(
        (nothing.connection_ids.len(), nothing.refused.len()),
        (0, 1)
    );
    assert_eq!(
        world.number("SELECT count(*) FROM calendar_accounts").await,
        2
    );
    // Neither while its account lives on with another calendar,
    world
        .connections
        .disconnect(user, ids[1], NOW)
        .await
        .unwrap();
    assert_eq!(
        world.connect(user, "boss", &["shared"]).await.refused.len(),
        1
    );
    // but when the account is gone.
    world
        .connections
        .disconnect(user, ids[0], NOW)
        .await
        .unwrap();
    assert_eq!(
        world
            .connect(user, "boss", &["shared"])
            .await
            .connection_ids,
        [ids[1]]
    );
    // Another user is another matter.
    let eve = world.user("eve@example.com").await;
    assert!(
        world
            .connect(eve, "boss", &["shared"])
            .await
            .refused
            .is_empty()
    );
}

#[tokio::test]
async fn a_connection_of_an_older_application_needs_a_sign_in_and_is_then_adopted() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let sql = format!(
        "INSERT INTO calendar_connections (user_id, provider, calendar_id, access_token, sync_token)
        VALUES ('{user}', 'MICROSOFT', 'main', 'plain', 'old')"
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let shown = world
        .connections
        .list(user, None, 10)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(shown.status, ConnectionStatus::NeedsReauth);
    assert!(world.queue.request_sync(user, shown.id, NOW).await.unwrap());
    assert!(world.claim().await.is_none());
    assert_eq!(
        world.connect(user, "ada", &["main"]).await.connection_ids,
        [shown.id]
    );
    assert!(world.claim().await.unwrap().connections[0].synced.is_none());
}

#[tokio::test]
async fn a_delegates_calendar_is_read_through_its_owners_mailbox() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let mut new = new_connections(user, "ada", &["main"]);
    new.mailbox = Mailbox::Delegate("boss@example.com".to_owned());
    world.connections.connect(new, NOW).await.unwrap();
    let due = world.claim().await.unwrap().connections.remove(0);
    assert_eq!(
        due.calendar.mailbox,
        Mailbox::Delegate("boss@example.com".to_owned())
    );
    let shown = world.connections.get(user, due.id).await.unwrap().unwrap();
    assert_eq!(shown.delegate_email.as_deref(), Some("boss@example.com"));
}

#[tokio::test]
async fn what_no_column_holds_is_refused() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let connect = |id: String| {
        let world = &world;
        async move {
            world
                .connections
                .connect(new_connections(user, "ada", &[&id]), NOW)
                .await
        }
    };
    for id in ["x".repeat(256), "a\0b".to_owned()] {
        let failed = connect(id).await.unwrap_err();
        assert_eq!(
            (failed.class, failed.code.as_str()),
            (FailureClass::InvalidInput, "calendar_id_invalid")
        );
    }
    let id = connect("é".repeat(255)).await.unwrap().connection_ids[0];
    for change in [
        ConnectionChange {
            calendar_name: Some("a\0".to_owned()),
            ..ConnectionChange::default()
        },
        ConnectionChange {
            calendar_color: Some("red".to_owned()),
            ..ConnectionChange::default()
        },
    ] {
        let failed = world
            .connections
            .change(user, id, change, NOW)
            .await
            .unwrap_err();
        assert_eq!(failed.class, FailureClass::InvalidInput);
    }
    world.users_gone(user).await;
    assert_eq!(code(connect("y".to_owned()).await), "user_not_found");
}

impl World {
    async fn users_gone(&self, user: calendar_domain::ids::UserId) {
        use calendar_domain::ports::UserStore as _;
        assert!(self.users.delete(user, NOW).await.unwrap());
    }
}

#[tokio::test]
async fn a_refreshed_grant_goes_to_all_rows_and_keeps_the_refresh_token() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    world.connect(user, "ada", &["main", "other"]).await;
    let lease = world.claim().await.unwrap().lease;
    world
        .connections
        .store_grant(&lease, grant("access-2", None), NOW)
        .await
        .unwrap();
    world.queue.release(&lease).await.unwrap();
    let claim = world.claim().await.unwrap();
    assert_eq!(claim.connections.len(), 2);
    for due in claim.connections {
        let StoredTokens::Open(tokens) = due.tokens else {
            panic!("sealed by us")
        };
        assert_eq!(tokens.access_token.expose_secret(), "access-2");
        assert_eq!(tokens.refresh_token.unwrap().expose_secret(), "refresh-1");
    }
}

#[tokio::test]
async fn a_connection_shows_how_it_is_doing() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let shown = || {
        let world = &world;
        async move {
            world
                .connections
                .get(synced.user, synced.id)
                .await
                .unwrap()
                .unwrap()
        }
    };
    assert_eq!(shown().await.status, ConnectionStatus::Syncing);
    let failure = PassFailure {
        code: "timeout".to_owned(),
        retry_at: NOW,
        whole_mailbox: false,
    };
    world
        .queue
        .fail(&synced.lease, synced.id, failure, NOW)
        .await
        .unwrap();
    let failing = shown().await;
    assert_eq!(
        (failing.status, failing.last_error),
        (ConnectionStatus::Failing, Some(("timeout".to_owned(), NOW)))
    );
    synced
        .full(vec![
            single("one", 3),
            crate::support::change(crate::support::master("m")),
            crate::support::occurrence("o", "m", 3),
        ])
        .await;
    let well = shown().await;
    assert_eq!(
        (well.status, well.last_error, well.window),
        (ConnectionStatus::Connected, None, Some(window()))
    );
    assert_eq!((well.event_count, well.last_synced_at), (2, Some(NOW)));
    assert!(well.next_sync_at.is_some());
    let pause = |paused| ConnectionChange {
        paused: Some(paused),
        ..ConnectionChange::default()
    };
    let paused = world
        .connections
        .change(synced.user, synced.id, pause(true), NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (paused.status, paused.next_sync_at),
        (ConnectionStatus::Paused, None)
    );
    let resumed = world
        .connections
        .change(synced.user, synced.id, pause(false), NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (resumed.status, resumed.next_sync_at),
        (ConnectionStatus::Connected, Some(NOW))
    );
}

#[tokio::test]
async fn others_connections_are_not_found() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let eve = world.user("eve@example.com").await;
    assert!(
        world
            .connections
            .get(eve, synced.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world
            .connections
            .list(eve, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let change = ConnectionChange {
        paused: Some(true),
        ..ConnectionChange::default()
    };
    assert!(
        world
            .connections
            .change(eve, synced.id, change, NOW)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !world
            .connections
            .disconnect(eve, synced.id, NOW)
            .await
            .unwrap()
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_sync_states WHERE NOT is_paused")
            .await,
        1
    );
}

#[tokio::test]
async fn connections_are_listed_by_pages() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let ids = world
        .connect(user, "ada", &["a", "b", "c"])
        .await
        .connection_ids;
    let first = world.connections.list(user, None, 2).await.unwrap();
    let second = world.connections.list(user, first.next, 2).await.unwrap();
    let listed: Vec<ConnectionId> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|item| item.id)
        .collect();
    assert_eq!((listed, second.next), (ids, None));
}

#[tokio::test]
async fn an_oauth_round_trip_is_good_once() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let store = PgConnectSessionStore::new(world.pool.clone(), Arc::new(TestCipher));
    let session = |calendars| ConnectSession {
        id: ConnectSessionId::new(),
        user_id: user,
        provider: CalendarProvider::Microsoft,
        code_verifier: "verifier".to_owned().into(),
        delegate_email: Some("boss@example.com".to_owned()),
        calendars,
        return_url: Some("https://app.example.com/done".to_owned()),
        expires_at: NOW + Duration::minutes(10),
    };
    for (number, choice) in [
        CalendarChoice::All,
        CalendarChoice::Primary,
        CalendarChoice::Some(vec!["a".to_owned()]),
    ]
    .into_iter()
    .enumerate()
    {
        let hash = [u8::try_from(number).unwrap(); 32];
        store
            .create(session(choice.clone()), hash, NOW)
            .await
            .unwrap();
        let consumed = store.consume(hash, NOW).await.unwrap().unwrap();
        assert_eq!((consumed.calendars, consumed.user_id), (choice, user));
        assert_eq!(consumed.code_verifier.expose_secret(), "verifier");
        assert!(
            store.consume(hash, NOW).await.unwrap().is_none(),
            "a second time"
        );
    }
    let sealed = world
        .text("SELECT code_verifier FROM connect_sessions")
        .await
        .unwrap();
    assert!(sealed.starts_with("v1.connect_sessions."), "{sealed}");
    store
        .create(session(CalendarChoice::All), [9; 32], NOW)
        .await
        .unwrap();
    assert!(
        store
            .consume([9; 32], NOW + Duration::minutes(10))
            .await
            .unwrap()
            .is_none(),
        "expired"
    );
    assert!(
        store.consume([8; 32], NOW).await.unwrap().is_none(),
        "unknown"
    );
}

#[tokio::test]
async fn the_tokens_of_an_account_are_read_under_its_lease() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let ids = world
        .connect(user, "ada", &["main", "other"])
        .await
        .connection_ids;
    let lease = world.claim().await.unwrap().lease;
    let secrets = async || -> Vec<(String, String)> {
        let tokens = world.connections.tokens(&lease).await.unwrap();
        let secret = |tokens: TokenSet| {
            let refresh = tokens.refresh_token.unwrap();
            (
                tokens.access_token.expose_secret().to_owned(),
                refresh.expose_secret().to_owned(),
            )
        };
        tokens.into_iter().map(secret).collect()
    };
    let pair = |access: &str, refresh: &str| (access.to_owned(), refresh.to_owned());
    assert_eq!(secrets().await, [pair("access-1", "refresh-1")], "once");
    // One row has newer ones, one holds nothing that opens.
    world
        .connections
        .store_grant(&lease, grant("access-2", Some("refresh-2")), NOW)
        .await
        .unwrap();
    let spoil = format!(
        "UPDATE calendar_connections SET access_token = 'plain' WHERE id = '{}'",
        ids[0]
    );
    world.sql.batch_execute(&spoil).await.unwrap();
    assert_eq!(secrets().await, [pair("access-2", "refresh-2")]);
    world
        .sql
        .batch_execute("UPDATE calendar_connections SET access_token = NULL")
        .await
        .unwrap();
    assert_eq!(secrets().await, []);
    let stale = Lease {
        fence: lease.fence - 1,
        ..lease
    };
    assert_eq!(code(world.connections.tokens(&stale).await), "lease_lost");
}

#[tokio::test]
async fn what_a_grant_lacks_shows_on_the_connections_that_need_it() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let own = world.connect(user, "ada", &["main"]).await.connection_ids[0];
    let mut new = new_connections(user, "ada", &["boss's"]);
    new.mailbox = Mailbox::Delegate("boss@example.com".to_owned());
    let delegated = world.connections.connect(new, NOW).await.unwrap();
    let missing = async || {
        let mut missing = Vec::new();
        for id in [own, delegated.connection_ids[0]] {
            let shown = world.connections.get(user, id).await.unwrap().unwrap();
            assert_eq!(shown.status, ConnectionStatus::Syncing, "reads go on");
            missing.push(shown.missing_permission);
        }
        missing
    };
    assert_eq!(missing().await, [None, None]);
    let lease = world.claim().await.unwrap().lease;
    let refreshed = async |scopes: &str, missing: Vec<Permission>| {
        let grant = TokenGrant {
            scopes: scopes.to_owned(),
            missing,
            ..grant("access-2", None)
        };
        let stored = world.connections.store_grant(&lease, grant, NOW).await;
        stored.unwrap();
    };
    let shared = Permission::ReadSharedCalendars;
    refreshed("Calendars.Read", vec![shared]).await;
    assert_eq!(missing().await, [None, Some(shared)]);
    // An answer that does not say changes nothing.
    refreshed("", Vec::new()).await;
    assert_eq!(missing().await, [None, Some(shared)]);
    refreshed("openid", vec![shared, Permission::ReadCalendars]).await;
    assert_eq!(
        missing().await,
        [Some(Permission::ReadCalendars), Some(shared)]
    );
    // The user agrees after all.
    world.connect(user, "ada", &["main"]).await;
    assert_eq!(missing().await, [None, None]);
}

#[tokio::test]
async fn signing_in_as_somebody_else_leaves_the_account_as_it_is() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    world
        .connections
        .need_reauth(&synced.lease, "grant_revoked", NOW)
        .await
        .unwrap();
    world.queue.release(&synced.lease).await.unwrap();
    let row = "SELECT access_token || refresh_token || account_id || sync_token || calendar_id
        FROM calendar_connections WHERE calendar_id = 'main'";
    let before = world.text(row).await;
    // Another mailbox, one of whose calendars has the same id.
    let mut other = new_connections(synced.user, "bob", &["bobs", "main"]);
    other.grant = grant("access-bob", Some("refresh-bob"));
    let connected = world.connections.connect(other, NOW).await.unwrap();
    assert_eq!(connected.refused, ["main"]);
    assert_eq!(world.text(row).await, before);
    let shown = world
        .connections
        .get(synced.user, synced.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shown.status, ConnectionStatus::NeedsReauth);
    assert_eq!(shown.account_email.as_deref(), Some("ada@example.com"));
    let claim = world.claim().await.unwrap();
    assert_eq!(claim.account.identity.provider_user_id, "bob");
    assert_eq!(claim.connections.len(), 1);
}
