//! `SyncQueue`: who is due, who gets it, and the fence.

use std::collections::HashSet;
use std::time::Duration;

use calendar_domain::account::StoredTokens;
use calendar_domain::failure::FailureClass;
use calendar_domain::ids::{ConnectionId, WorkerId};
use calendar_domain::ports::{ConnectionStore as _, EventStore as _, SyncQueue as _};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::{
    AfterPage, Cursor, Mailbox, PassFailure, PassKind, PassPosition, Unseen,
};
use secrecy::ExposeSecret as _;
use time::Duration as Span;

use crate::support::{NOW, Synced, TTL, World, code, pass, pass_end, single, window};

#[tokio::test]
async fn a_claim_holds_all_that_a_pass_needs() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let ids = world
        .connect(user, "ada", &["main", "other"])
        .await
        .connection_ids;
    let claim = world.claim().await.unwrap();
    assert_eq!((claim.lease.owner, claim.lease.fence), (world.worker, 1));
    assert_eq!(claim.account.identity.provider_user_id, "ada");
    assert_eq!(claim.account.user_id, user);
    let due: HashSet<ConnectionId> = claim.connections.iter().map(|due| due.id).collect();
    assert_eq!(due, ids.into_iter().collect());
    let first = &claim.connections[0];
    assert_eq!(first.calendar.mailbox, Mailbox::Own);
    assert!(first.synced.is_none() && first.pass.is_none() && !first.removal_held);
    let StoredTokens::Open(tokens) = &first.tokens else {
        panic!("sealed by us")
    };
    assert_eq!(tokens.access_token.expose_secret(), "access-1");
    assert_eq!(
        tokens.refresh_token.as_ref().unwrap().expose_secret(),
        "refresh-1"
    );
}

#[tokio::test]
async fn only_what_is_due_is_claimed() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let id = world.connect(user, "ada", &["main"]).await.connection_ids[0];
    let claimed = |providers: &'static [CalendarProvider], now| {
        let world = &world;
        async move {
            world
                .queue
                .claim(world.worker, providers, &[], now, TTL)
                .await
                .unwrap()
                .is_some()
        }
    };
    assert!(
        !claimed(&[CalendarProvider::Google], NOW).await,
        "another provider"
    );
    assert!(
        !claimed(&[CalendarProvider::Microsoft], NOW - Span::seconds(1)).await,
        "not due yet"
    );
    for obstacle in [
        "UPDATE calendar_sync_states SET is_paused = true",
        "UPDATE calendar_accounts SET needs_reauth_reason = 'invalid_grant'",
        "UPDATE calendar_connections SET is_connected = false",
        "UPDATE calendar_connections SET deleted_at = now()",
        "UPDATE calendar_accounts SET deleted_at = now()",
        "UPDATE calendar_accounts SET lease_owner = gen_random_uuid(), lease_expires_at = now() + interval '1 s'",
    ] {
        world
            .sql
            .batch_execute(&format!("BEGIN; {obstacle}; COMMIT"))
            .await
            .unwrap();
        assert!(
            !claimed(&[CalendarProvider::Microsoft], NOW).await,
            "{obstacle}"
        );
        world
            .sql
            .batch_execute(
                "UPDATE calendar_sync_states SET is_paused = false;
                UPDATE calendar_accounts SET needs_reauth_reason = NULL, deleted_at = NULL,
                    lease_owner = NULL, lease_expires_at = NULL;
                UPDATE calendar_connections SET is_connected = true, deleted_at = NULL",
            )
            .await
            .unwrap();
    }
    let claim = world.claim().await.unwrap();
    assert_eq!(claim.connections[0].id, id);
}

#[tokio::test]
async fn the_longest_overdue_account_comes_first() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let many: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
    world
        .connect(
            user,
            "many",
            &many.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
    let lone = world.connect(user, "lone", &["lone"]).await.connection_ids[0];
    let sql = format!(
        "UPDATE calendar_sync_states SET due_at = '2026-03-02 11:00Z' WHERE connection_id = '{lone}'"
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let first = world.claim().await.unwrap();
    assert_eq!(
        first
            .connections
            .iter()
            .map(|due| due.id)
            .collect::<Vec<_>>(),
        [lone]
    );
    assert_eq!(world.claim().await.unwrap().connections.len(), 50);
    assert!(world.claim().await.is_none());
}

#[tokio::test]
async fn a_released_account_can_be_claimed_again_with_a_higher_fence() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    world.queue.release(&synced.lease).await.unwrap();
    let again = world.claim().await.unwrap();
    assert_eq!(again.lease.fence, 2);
    // The stale lease releases nothing.
    world.queue.release(&synced.lease).await.unwrap();
    assert!(world.claim().await.is_none());
}

#[tokio::test]
async fn claimers_at_once_never_get_the_same_account() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    for number in 0..24 {
        world
            .connect(user, &format!("who{number}"), &[&format!("c{number}")])
            .await;
    }
    let claimers = (0..8).map(|_| {
        let queue = world.queue.clone();
        tokio::spawn(async move {
            let worker = WorkerId::new();
            let mut accounts = Vec::new();
            loop {
                let claim = queue
                    .claim(worker, &[CalendarProvider::Microsoft], &[], NOW, TTL)
                    .await
                    .unwrap();
                match claim {
                    Some(claim) => accounts.push(claim.lease.account_id),
                    // Others may hold locks on what is left for a moment.
                    None => return accounts,
                }
            }
        })
    });
    let mut all = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        all.extend(claimer.await.unwrap());
    }
    while let Some(claim) = world.claim().await {
        all.push(claim.lease.account_id);
    }
    assert_eq!(all.len(), 24);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 24);
}

/// Every write of a pass, tried with a lease.
async fn all_refused(synced: &Synced<'_>) {
    let Synced {
        world, id, lease, ..
    } = *synced;
    let before = synced.tuples().await;
    let state = world
        .texts("SELECT s::text FROM calendar_sync_states AS s")
        .await;
    let full = pass(PassKind::Full);
    let checkpoint = || AfterPage::Checkpoint(PassPosition::Page(Cursor("p2".to_owned())));
    let finish = |unseen| AfterPage::Finish(pass_end("stale", unseen));
    for (changes, then) in [
        (vec![single("stale", 3)], checkpoint()),
        (Vec::new(), checkpoint()),
        (vec![single("stale", 3)], finish(Unseen::Remove)),
        (Vec::new(), finish(Unseen::Remove)),
        (Vec::new(), finish(Unseen::Keep)),
    ] {
        assert_eq!(
            code(synced.try_apply(&full, changes, then).await),
            "lease_lost"
        );
    }
    for unseen in [Unseen::Keep, Unseen::Remove, Unseen::Hold] {
        let finished = world
            .events
            .finish(&lease, id, &full, pass_end("stale", unseen), NOW)
            .await;
        assert_eq!(code(finished), "lease_lost");
    }
    let corrected = world
        .events
        .correct_series(&lease, id, Vec::new(), NOW)
        .await;
    assert_eq!(code(corrected), "lease_lost");
    let restarted = world.events.restart(&lease, id, &full, NOW).await;
    assert_eq!(code(restarted), "lease_lost");
    assert_eq!(synced.tuples().await, before);
    assert_eq!(
        world
            .texts("SELECT s::text FROM calendar_sync_states AS s")
            .await,
        state
    );
    assert_eq!(world.number("SELECT count(*) FROM sync_pass_seen").await, 0);
}

/// What the account's lease alone guards.
async fn account_refused(synced: &Synced<'_>) {
    let Synced {
        world, id, lease, ..
    } = *synced;
    let failure = PassFailure {
        code: "x".to_owned(),
        retry_at: NOW,
        whole_mailbox: false,
    };
    assert_eq!(code(world.queue.heartbeat(&lease, TTL).await), "lease_lost");
    assert_eq!(
        code(world.queue.fail(&lease, id, failure, NOW).await),
        "lease_lost"
    );
    let grant = crate::support::grant("stolen", None);
    assert_eq!(
        code(world.connections.store_grant(&lease, grant, NOW).await),
        "lease_lost"
    );
    assert_eq!(
        code(world.connections.need_reauth(&lease, "x", NOW).await),
        "lease_lost"
    );
}

#[tokio::test]
async fn a_stolen_lease_is_refused_everywhere_and_writes_nothing() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    world
        .sql
        .batch_execute("UPDATE calendar_accounts SET lease_expires_at = now() - interval '1 s'")
        .await
        .unwrap();
    // Expired, though nobody has taken it yet.
    all_refused(&synced).await;
    account_refused(&synced).await;
    world
        .sql
        .batch_execute("UPDATE calendar_sync_states SET due_at = '2026-01-01Z'")
        .await
        .unwrap();
    let thief = world.claim_at(WorkerId::new(), NOW).await.unwrap();
    assert_eq!(thief.lease.fence, synced.lease.fence + 1);
    all_refused(&synced).await;
    account_refused(&synced).await;
    // The thief's own writes are good.
    Synced {
        lease: thief.lease,
        ..synced
    }
    .delta(vec![single("two", 4)])
    .await;
}

#[tokio::test]
async fn a_paused_and_a_disconnected_connection_refuse_the_pass() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    world
        .sql
        .batch_execute("UPDATE calendar_sync_states SET is_paused = true")
        .await
        .unwrap();
    all_refused(&synced).await;
    world
        .sql
        .batch_execute("UPDATE calendar_sync_states SET is_paused = false")
        .await
        .unwrap();
    assert!(
        world
            .connections
            .disconnect(synced.user, synced.id, NOW)
            .await
            .unwrap()
    );
    all_refused(&synced).await;
}

#[tokio::test]
async fn a_pass_that_another_worker_ended_is_refused() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut full = pass(PassKind::Full);
    synced.page(&mut full, vec![single("one", 3)]).await;
    synced.full(vec![single("one", 3)]).await;
    let then = AfterPage::Finish(pass_end("old", Unseen::Remove));
    assert_eq!(
        code(synced.try_apply(&full, Vec::new(), then).await),
        "lease_lost"
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE deleted_at IS NULL")
            .await,
        1
    );
}

#[tokio::test]
async fn a_heartbeat_prolongs_the_lease() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    world
        .queue
        .heartbeat(&synced.lease, Duration::from_hours(1))
        .await
        .unwrap();
    let left = "SELECT extract(epoch FROM lease_expires_at - now())::bigint FROM calendar_accounts";
    assert!(world.number(left).await > 3_500);
}

#[tokio::test]
async fn a_request_during_a_pass_makes_it_due_at_once() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    assert!(
        world
            .queue
            .request_sync(synced.user, synced.id, NOW)
            .await
            .unwrap()
    );
    synced.full(Vec::new()).await;
    world.queue.release(&synced.lease).await.unwrap();
    let claim = world.claim().await.expect("due now: the number has moved");
    assert_eq!(claim.connections[0].requested_seq, 1);
    let again = Synced {
        lease: claim.lease,
        ..synced
    };
    let mut end = pass_end("token", Unseen::Keep);
    end.requested_seq = 1;
    again
        .try_apply(&pass(PassKind::Delta), Vec::new(), AfterPage::Finish(end))
        .await
        .unwrap();
    world.queue.release(&claim.lease).await.unwrap();
    assert!(world.claim().await.is_none(), "not before its time");
}

#[tokio::test]
async fn requests_are_for_ones_own_live_connections() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let other = world.user("eve@example.com").await;
    assert!(
        !world
            .queue
            .request_sync(other, synced.id, NOW)
            .await
            .unwrap()
    );
    assert!(
        !world
            .queue
            .request_sync(synced.user, ConnectionId::new(), NOW)
            .await
            .unwrap()
    );
    // Who has to sign in stays out of the queue.
    world
        .connections
        .need_reauth(&synced.lease, "invalid_grant", NOW)
        .await
        .unwrap();
    assert!(
        world
            .queue
            .request_sync(synced.user, synced.id, NOW)
            .await
            .unwrap()
    );
    let waiting = "SELECT count(*) FROM calendar_sync_states WHERE due_at > '9000-01-01Z'";
    assert_eq!(world.number(waiting).await, 1);
}

#[tokio::test]
async fn a_failed_pass_keeps_its_checkpoint_and_a_lost_cursor_does_not() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(Vec::new()).await;
    let mut delta = pass(PassKind::Delta);
    synced.page(&mut delta, vec![single("one", 3)]).await;
    let retry_at = NOW + Span::minutes(1);
    let failure = PassFailure {
        code: "timeout".to_owned(),
        retry_at,
        whole_mailbox: false,
    };
    let reclaim = |lease| {
        let world = &world;
        async move {
            world.queue.release(&lease).await.unwrap();
            assert!(world.claim().await.is_none(), "not before retry_at");
            world.claim_at(world.worker, retry_at).await.unwrap()
        }
    };
    world
        .queue
        .fail(&synced.lease, synced.id, failure.clone(), NOW)
        .await
        .unwrap();
    let claim = reclaim(synced.lease).await;
    let due = &claim.connections[0];
    assert_eq!((due.failure_count, due.pass.as_ref()), (1, Some(&delta)));
    assert_eq!(due.synced, Some((Cursor("token".to_owned()), window())));
    world
        .events
        .restart(&claim.lease, synced.id, &delta, NOW)
        .await
        .unwrap();
    assert_eq!(world.number("SELECT count(*) FROM sync_pass_seen").await, 0);
    world
        .queue
        .fail(&claim.lease, synced.id, failure, NOW)
        .await
        .unwrap();
    let claim = reclaim(claim.lease).await;
    let due = &claim.connections[0];
    assert_eq!(
        (due.failure_count, &due.pass, &due.synced),
        (2, &None, &None)
    );
    Synced {
        lease: claim.lease,
        ..synced
    }
    .full(Vec::new())
    .await;
    assert_eq!(
        world
            .number("SELECT failure_count::bigint FROM calendar_sync_states")
            .await,
        0
    );
}

#[tokio::test]
async fn tokens_that_do_not_open_are_no_error() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    world.connect(user, "ada", &["main"]).await;
    for (tokens, expected) in [
        ("access_token = 'ya29.plain'", "token_not_sealed"),
        ("access_token = 'v1.other.place'", "token_forged"),
        ("access_token = NULL", "token_missing"),
    ] {
        let sql = format!(
            "UPDATE calendar_connections SET {tokens};
            UPDATE calendar_accounts SET lease_owner = NULL, lease_expires_at = NULL"
        );
        world.sql.batch_execute(&sql).await.unwrap();
        let claim = world.claim().await.unwrap();
        let StoredTokens::Unreadable(code) = claim.connections[0].tokens else {
            panic!("{tokens}")
        };
        assert_eq!(code, expected);
    }
}

#[tokio::test]
async fn a_database_that_is_down_is_to_be_tried_again() {
    let pool = crate::support::pool("postgres://nobody@127.0.0.1:1/nothing");
    let queue =
        calendar_postgres::PgSyncQueue::new(pool, std::sync::Arc::new(crate::support::TestCipher));
    let failed = queue
        .claim(
            WorkerId::new(),
            &[CalendarProvider::Microsoft],
            &[],
            NOW,
            TTL,
        )
        .await
        .unwrap_err();
    assert_eq!(
        (failed.class, failed.code.as_str()),
        (FailureClass::Retryable, "database_unavailable")
    );
}

#[tokio::test]
async fn t52_an_account_that_had_its_turn_waits_behind_others() {
    let world = World::new().await;
    let many = world.user("many@example.com").await;
    let lone = world.user("lone@example.com").await;
    world.connect(many, "many", &["a", "b", "c"]).await;
    world.connect(lone, "lone", &["d"]).await;
    let sql = format!(
        "UPDATE calendar_sync_states AS s SET due_at = '2026-03-02 11:00Z'
        FROM calendar_connections AS c WHERE c.id = s.connection_id AND c.user_id = '{many}'"
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let later = NOW + Span::minutes(1);
    let first = world.claim().await.unwrap();
    assert_eq!(first.account.user_id, many);
    world
        .queue
        .wait_behind_others(&first.lease, later)
        .await
        .unwrap();
    world.queue.release(&first.lease).await.unwrap();
    let second = world.claim_at(world.worker, later).await.unwrap();
    assert_eq!(second.account.user_id, lone);
    let third = world.claim_at(world.worker, later).await.unwrap();
    assert_eq!(third.connections.len(), 3, "and nothing is forgotten");
    let stale = world.queue.wait_behind_others(&first.lease, later).await;
    assert_eq!(code(stale), "lease_lost");
}

#[tokio::test]
async fn t49_a_throttled_mailbox_rests_as_a_whole_and_pushes_do_not_wake_it() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let own = world.connect(user, "ada", &["a", "b"]).await.connection_ids;
    let other = world.connect(user, "ada", &["c"]).await.connection_ids[0];
    let sql = format!(
        "UPDATE calendar_connections SET mailbox = 'bea@example.com', is_shared = true
        WHERE id = '{other}'"
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let claim = world.claim().await.unwrap();
    let retry_at = NOW + Span::hours(3);
    let failure = PassFailure {
        code: "TooManyRequests".to_owned(),
        retry_at,
        whole_mailbox: true,
    };
    world
        .queue
        .fail(&claim.lease, own[0], failure, NOW)
        .await
        .unwrap();
    world.queue.release(&claim.lease).await.unwrap();
    let pushed = "UPDATE calendar_accounts SET pushed_at = '2026-03-02 12:00Z'";
    world.sql.batch_execute(pushed).await.unwrap();
    let now = retry_at - Span::seconds(1);
    let claim = world.claim_at(world.worker, now).await.unwrap();
    let due: Vec<_> = claim.connections.iter().map(|due| due.id).collect();
    assert_eq!(due, [other]);
    world.queue.release(&claim.lease).await.unwrap();
    let claim = world.claim_at(world.worker, retry_at).await.unwrap();
    assert_eq!(claim.connections.len(), 3);
}
