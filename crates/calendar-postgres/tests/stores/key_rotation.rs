//! Rotation of the keys that seal tokens.

use std::sync::Arc;
use std::time::Duration;

use calendar_domain::account::SealPlace;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::{ConnectionStore as _, TokenCipher};
use calendar_postgres::{PgConnectionStore, PgKeyRotation, RotationPlace, RotationStep};
use secrecy::{ExposeSecret as _, SecretString};

use crate::support::{NOW, World, new_connections};

/// Seals under the first of these keys, for anybody to read.
struct Ring(&'static [&'static str]);

impl TokenCipher for Ring {
    fn sealed_prefix(&self) -> String {
        format!("v1.{}.", self.0[0])
    }

    fn seal(&self, plain: &SecretString, place: SealPlace) -> PortResult<String> {
        let (prefix, SealPlace { row, column, .. }) = (self.sealed_prefix(), place);
        Ok(format!("{prefix}{row}_{column}_{}", plain.expose_secret()))
    }

    fn open(&self, sealed: &str, place: SealPlace) -> PortResult<SecretString> {
        let SealPlace { row, column, .. } = place;
        let opened = self
            .0
            .iter()
            .find_map(|key| sealed.strip_prefix(&format!("v1.{key}.{row}_{column}_")));
        opened
            .map(SecretString::from)
            .ok_or_else(|| PortError::new(FailureClass::Authentication, "token_key_missing"))
    }
}

/// As many connections, sealed under `old`.
async fn sealed(world: &World, calendars: usize) {
    let connections = PgConnectionStore::new(world.pool.clone(), Arc::new(Ring(&["old"])));
    let user = world.user("ada@example.com").await;
    let names: Vec<String> = (0..calendars).map(|number| format!("c{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    connections
        .connect(new_connections(user, "ada", &names), NOW)
        .await
        .unwrap();
    let sql = format!(
        "INSERT INTO connect_sessions (id, user_id, provider, state_hash, code_verifier, calendars, expires_at)
         SELECT i, '{user}', 'MICROSOFT', 'x', 'v1.old.' || i || '_code_verifier_verify', '\"all\"', now()
         FROM gen_random_uuid() AS i"
    );
    world.sql.batch_execute(&sql).await.unwrap();
}

fn rotation(world: &World, ring: &'static [&'static str]) -> PgKeyRotation {
    PgKeyRotation::new(world.pool.clone(), Arc::new(Ring(ring)))
}

/// From the start to the end; how many were resealed, how many did not open.
async fn rotate(rotation: &PgKeyRotation) -> (u64, u64) {
    let (mut resealed, mut unreadable, mut place) = (0, 0, Some(RotationPlace::START));
    while let Some(from) = place {
        let step = rotation.step(from).await.unwrap();
        resealed += step.resealed;
        unreadable += step.unreadable;
        place = step.next;
    }
    (resealed, unreadable)
}

async fn counts(rotation: &PgKeyRotation) -> Vec<(String, bool, u64)> {
    let status = rotation.status().await.unwrap();
    let count = |under: calendar_postgres::SealedUnder| (under.key_id, under.is_first, under.count);
    status.into_iter().map(count).collect()
}

#[tokio::test]
async fn every_sealed_value_comes_under_the_first_key_and_opens() {
    let world = World::new().await;
    sealed(&world, 450).await;
    let rotation = rotation(&world, &["new", "old"]);
    assert_eq!(counts(&rotation).await, [("old".to_owned(), false, 901)]);

    // Broken off after a step, and begun again.
    let first = rotation.step(RotationPlace::START).await.unwrap();
    assert_eq!((first.resealed, first.unreadable), (200, 0));
    assert_eq!(rotate(&rotation).await, (701, 0));
    assert_eq!(counts(&rotation).await, [("new".to_owned(), true, 901)]);
    assert_eq!(rotate(&rotation).await, (0, 0), "nothing is left to do");

    // Each for its own row and column, with what it held.
    let wrong = "SELECT count(*) FROM calendar_connections
        WHERE access_token NOT LIKE 'v1.new.' || id || '\\_access\\_token\\_%'
           OR refresh_token NOT LIKE 'v1.new.' || id || '\\_refresh\\_token\\_%'";
    assert_eq!(world.number(wrong).await, 0);
    let verifier = "SELECT count(*) FROM connect_sessions
        WHERE code_verifier = 'v1.new.' || id || '_code_verifier_verify'";
    assert_eq!(world.number(verifier).await, 1);
}

#[tokio::test]
async fn what_does_not_open_and_what_is_not_ours_stays_as_it_is() {
    let world = World::new().await;
    sealed(&world, 3).await;
    let rotation = rotation(&world, &["new", "old"]);
    let sql = "UPDATE calendar_connections SET access_token = CASE calendar_id
            WHEN 'c0' THEN 'v1.lost.AAAA' WHEN 'c1' THEN 'v1.old.forged'
            ELSE 'ya29.of-an-older-application' END";
    world.sql.batch_execute(sql).await.unwrap();
    let tokens = "SELECT access_token FROM calendar_connections ORDER BY calendar_id";
    let before = world.texts(tokens).await;
    // Three refresh tokens and a verifier.
    assert_eq!(rotate(&rotation).await, (4, 2));
    assert_eq!(world.texts(tokens).await, before);
    assert_eq!(
        counts(&rotation).await,
        [
            ("lost".to_owned(), false, 1),
            ("new".to_owned(), true, 4),
            ("old".to_owned(), false, 1),
        ]
    );
}

#[tokio::test]
async fn a_token_that_is_refreshed_meanwhile_is_not_overwritten() {
    let world = World::new().await;
    sealed(&world, 1).await;
    let rotation = rotation(&world, &["new", "old"]);
    // A refresh that has written and not committed yet.
    let refresh = world.database.connect().await;
    let sql = "BEGIN; UPDATE calendar_connections SET access_token = 'v1.new.refreshed'";
    refresh.batch_execute(sql).await.unwrap();
    let step = {
        let rotation = rotation.clone();
        tokio::spawn(async move { rotation.step(RotationPlace::START).await.unwrap() })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = async {
        while world.number(waits).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("the step has read the old value and waits to write");
    refresh.batch_execute("COMMIT").await.unwrap();
    let RotationStep {
        resealed,
        unreadable,
        ..
    } = step.await.unwrap();
    assert_eq!((resealed, unreadable), (0, 0));
    let token = world
        .text("SELECT access_token FROM calendar_connections")
        .await;
    assert_eq!(token.as_deref(), Some("v1.new.refreshed"));
    // The refresh token beside it was not refreshed, and is rotated.
    assert_eq!(rotate(&rotation).await, (2, 0));
}
