//! Turns of a mailbox: how many requests may go to it, over all processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use calendar_domain::ids::WorkerId;
use calendar_domain::ports::SyncQueue as _;
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::Mailbox;
use calendar_postgres::PgSyncQueue;
use time::Duration as Span;

use crate::support::{NOW, TTL, TestCipher, World, code, pool};

/// Ada's own account, and so many of others who read her calendar as delegates.
async fn shared_mailbox(world: &World, delegates: usize) {
    let user = world.user("ada@example.com").await;
    world.connect(user, "ada", &["main"]).await;
    for number in 0..delegates {
        let user = world.user(&format!("d{number}@example.com")).await;
        let calendar = format!("seen by {number}");
        world
            .connect(user, &format!("d{number}"), &[&calendar])
            .await;
    }
    let sql = "UPDATE calendar_connections SET mailbox = 'Ada@Example.com', is_shared = true
        WHERE calendar_id LIKE 'seen by %'";
    world.sql.batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t50_a_mailbox_gets_no_more_requests_than_it_may_over_all_processes() {
    const ROUNDS: usize = 40;
    let world = World::new().await;
    shared_mailbox(&world, 5).await;
    let under_way = Arc::new(AtomicU32::new(0));
    let workers = (0..6).map(|_| {
        let queue = PgSyncQueue::new(pool(world.database.url()), Arc::new(TestCipher));
        let under_way = Arc::clone(&under_way);
        tokio::spawn(async move {
            let (mut worked, mut waited, mut most) = (0, 0, 0);
            let mut now = NOW;
            for _ in 0..ROUNDS {
                now += Span::seconds(3);
                let claim = queue
                    .claim(
                        WorkerId::new(),
                        &[CalendarProvider::Microsoft],
                        &[],
                        now,
                        TTL,
                    )
                    .await
                    .unwrap();
                let Some(claim) = claim else { continue };
                let due = &claim.connections[0];
                let turns = if due.calendar.mailbox == Mailbox::Own {
                    claim.turns
                } else {
                    queue
                        .take_turns(&claim.lease, due.id, now, TTL)
                        .await
                        .unwrap()
                };
                assert!(turns <= 2);
                if turns == 0 {
                    waited += 1;
                } else {
                    worked += 1;
                    most = most.max(turns + under_way.fetch_add(turns, Ordering::SeqCst));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    under_way.fetch_sub(turns, Ordering::SeqCst);
                }
                queue.release(&claim.lease).await.unwrap();
            }
            (worked, waited, most)
        })
    });
    let (mut worked, mut waited, mut most) = (0, 0, 0);
    for worker in workers.collect::<Vec<_>>() {
        let (its_worked, its_waited, its_most) = worker.await.unwrap();
        worked += its_worked;
        waited += its_waited;
        most = most.max(its_most);
    }
    assert!(
        worked > ROUNDS && waited > 0,
        "{worked} worked, {waited} waited"
    );
    assert_eq!(most, 3, "of four, one is the API's");
    let left = world.number("SELECT count(*) FROM mailbox_turns").await;
    assert_eq!(left, 0, "all are given back with the lease");
}

#[tokio::test]
async fn turns_pass_from_one_mailbox_to_the_next_and_end_with_the_lease() {
    let world = World::new().await;
    shared_mailbox(&world, 2).await;
    let mut claims = Vec::new();
    while let Some(claim) = world.claim().await {
        claims.push(claim);
    }
    let own = claims.iter().position(|claim| {
        let due = &claim.connections[0];
        due.calendar.mailbox == Mailbox::Own
    });
    let own = claims.swap_remove(own.unwrap());
    assert_eq!(own.turns, 2);
    let take = |index: usize, now| {
        let (claim, queue) = (&claims[index], &world.queue);
        async move {
            let id = claim.connections[0].id;
            queue.take_turns(&claim.lease, id, now, TTL).await
        }
    };
    assert_eq!(take(0, NOW).await.unwrap(), 1, "what is left");
    assert_eq!(take(1, NOW).await.unwrap(), 0);
    let waits = format!(
        "SELECT due_at::text FROM calendar_sync_states WHERE connection_id = '{}'",
        claims[1].connections[0].id
    );
    let waits = world.text(&waits).await;
    assert_eq!(waits.as_deref(), Some("2026-03-02 12:00:02+00"));

    // With the first lease given back there are two more; those of one that died come back in time.
    world.queue.release(&own.lease).await.unwrap();
    assert_eq!(take(1, NOW).await.unwrap(), 2);
    let expired = "UPDATE mailbox_turns SET expires_at = now() - interval '1 s'";
    world.sql.batch_execute(expired).await.unwrap();
    let again = world
        .claim_at(world.worker, NOW + Span::HOUR)
        .await
        .unwrap();
    assert_eq!(again.turns, 2);
    // A heartbeat does not bring back what is lost, and prolongs what is held.
    world
        .queue
        .heartbeat(&again.lease, TTL * 100)
        .await
        .unwrap();
    let held = "SELECT count(*) FROM mailbox_turns WHERE expires_at > now() + interval '10 min'";
    assert_eq!(world.number(held).await, 2);

    world
        .sql
        .batch_execute("UPDATE calendar_accounts SET lease_fence = lease_fence + 1")
        .await
        .unwrap();
    assert_eq!(code(take(1, NOW).await), "lease_lost");
}
