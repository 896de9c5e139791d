//! OAuth round trips: `ConnectSessionStore` on PostgreSQL. State and verifier never stand there in
//! the clear: the one is hashed, the other sealed.

use std::sync::Arc;

use async_trait::async_trait;
use calendar_domain::account::{CalendarChoice, ConnectSession, SealPlace};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ConnectSessionId, UserId};
use calendar_domain::normalise::NAME;
use calendar_domain::ports::{ConnectSessionStore, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use diesel::sql_types::{Bytea, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::database::Database;
use crate::error::check_text;
use crate::statement::Statement;

/// `ConnectSessionStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgConnectSessionStore {
    database: Database,
    cipher: Arc<dyn TokenCipher>,
}

impl PgConnectSessionStore {
    /// The store in this database; `cipher` seals the verifiers.
    #[must_use]
    pub fn new(database: Database, cipher: Arc<dyn TokenCipher>) -> Self {
        Self { database, cipher }
    }
}

fn place(id: Uuid) -> SealPlace {
    SealPlace {
        table: "connect_sessions",
        row: id,
        column: "code_verifier",
    }
}

fn choice_to_json(choice: &CalendarChoice) -> Value {
    match choice {
        CalendarChoice::All => "all".into(),
        CalendarChoice::Primary => "primary".into(),
        CalendarChoice::Some(ids) => ids.clone().into(),
    }
}

fn choice_from_json(value: &Value) -> Option<CalendarChoice> {
    match value {
        Value::String(word) if word == "all" => Some(CalendarChoice::All),
        Value::String(word) if word == "primary" => Some(CalendarChoice::Primary),
        Value::Array(ids) => {
            let ids = ids.iter().map(|id| id.as_str().map(str::to_owned));
            ids.collect::<Option<_>>().map(CalendarChoice::Some)
        }
        _ => None,
    }
}

#[derive(diesel::QueryableByName)]
struct ConnectSessionRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    code_verifier: String,
    #[diesel(sql_type = Nullable<Text>)]
    delegate_email: Option<String>,
    #[diesel(sql_type = Jsonb)]
    calendars: Value,
    #[diesel(sql_type = Nullable<Text>)]
    return_url: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: OffsetDateTime,
}

#[async_trait]
impl ConnectSessionStore for PgConnectSessionStore {
    async fn create(
        &self,
        session: ConnectSession,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<()> {
        if let Some(address) = &session.delegate_email {
            check_text(address, NAME, "delegate_email_invalid")?;
        }
        if let Some(url) = &session.return_url {
            check_text(url, usize::MAX, "return_url_invalid")?;
        }
        if let CalendarChoice::Some(ids) = &session.calendars {
            ids.iter()
                .try_for_each(|id| check_text(id, NAME, "calendar_id_invalid"))?;
        }
        let sealed = self
            .cipher
            .seal(&session.code_verifier, place(session.id.0))?;
        let sql = "
            INSERT INTO connect_sessions (id, user_id, provider, state_hash, code_verifier,
                delegate_email, calendars, return_url, expires_at, created_at)
            SELECT $1, u.id, $3::text::calendar_provider, $4, $5, $6, $7, $8, $9, $10
            FROM users AS u WHERE u.id = $2 AND u.deleted_at IS NULL FOR KEY SHARE";
        let mut connection = self.database.get().await?;
        let created = Statement::new(sql)
            .bind::<SqlUuid, _>(session.id.0)
            .bind::<SqlUuid, _>(session.user_id.0)
            .bind::<Text, _>(session.provider.label())
            .bind::<Bytea, _>(state_hash.to_vec())
            .bind::<Text, _>(sealed)
            .bind::<Nullable<Text>, _>(session.delegate_email)
            .bind::<Jsonb, _>(choice_to_json(&session.calendars))
            .bind::<Nullable<Text>, _>(session.return_url)
            .bind::<Timestamptz, _>(session.expires_at)
            .bind::<Timestamptz, _>(now)
            .run(&mut connection)
            .await?;
        if created == 0 {
            return Err(PortError::new(FailureClass::Permanent, "user_not_found"));
        }
        Ok(())
    }

    async fn consume(
        &self,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<ConnectSession>> {
        let sql = "
            UPDATE connect_sessions AS s SET consumed_at = $2
            FROM users AS u
            WHERE s.state_hash = $1 AND s.consumed_at IS NULL AND s.expires_at > $2
              AND u.id = s.user_id AND u.deleted_at IS NULL
            RETURNING s.id, s.user_id, s.provider::text AS provider, s.code_verifier,
                s.delegate_email, s.calendars, s.return_url, s.expires_at";
        let mut connection = self.database.get().await?;
        let row: Option<ConnectSessionRow> = Statement::new(sql)
            .bind::<Bytea, _>(state_hash.to_vec())
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        drop(connection);
        let Some(row) = row else { return Ok(None) };
        let verifier = self.cipher.open(&row.code_verifier, place(row.id));
        // A key was taken away meanwhile: as good as unknown, the user begins anew.
        let (Ok(code_verifier), Some(calendars)) = (verifier, choice_from_json(&row.calendars))
        else {
            tracing::warn!(connect_session = %row.id, "an OAuth round trip could not be read");
            return Ok(None);
        };
        Ok(Some(ConnectSession {
            id: ConnectSessionId(row.id),
            user_id: UserId(row.user_id),
            provider: CalendarProvider::from_label(&row.provider)?,
            code_verifier,
            delegate_email: row.delegate_email,
            calendars,
            return_url: row.return_url,
            expires_at: row.expires_at,
        }))
    }
}
