//! Sign-ins at our API: `SessionStore` on PostgreSQL. The token itself is never stored.

use async_trait::async_trait;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{SessionId, UserId};
use calendar_domain::ports::SessionStore;
use calendar_domain::query::Listed;
use calendar_domain::user::{NewSession, Session};
use diesel::sql_types::{BigInt, Bytea, Nullable, Timestamptz, Uuid as SqlUuid};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Database;
use crate::statement::Statement;

/// `SessionStore` on PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgSessionStore {
    database: Database,
}

impl PgSessionStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[derive(diesel::QueryableByName)]
struct SessionRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
}

#[derive(diesel::QueryableByName)]
struct ListedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    created_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    expires_at: OffsetDateTime,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_used_at: Option<OffsetDateTime>,
}

#[async_trait]
impl SessionStore for PgSessionStore {
    async fn create(&self, session: NewSession, now: OffsetDateTime) -> PortResult<()> {
        // Not for a user who was deleted while signing in.
        let sql = "
            INSERT INTO api_sessions (id, user_id, token_hash, expires_at, created_at)
            SELECT $1, u.id, $3, $4, $5 FROM users AS u
            WHERE u.id = $2 AND u.deleted_at IS NULL FOR KEY SHARE";
        let mut connection = self.database.get().await?;
        let created = Statement::new(sql)
            .bind::<SqlUuid, _>(session.id.0)
            .bind::<SqlUuid, _>(session.user_id.0)
            .bind::<Bytea, _>(session.token_hash.to_vec())
            .bind::<Timestamptz, _>(session.expires_at)
            .bind::<Timestamptz, _>(now)
            .run(&mut connection)
            .await?;
        if created == 0 {
            return Err(PortError::new(FailureClass::Permanent, "user_not_found"));
        }
        Ok(())
    }

    async fn find(
        &self,
        token_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<(SessionId, UserId)>> {
        // `last_used_at` is kept to five minutes, so that reading seldom writes.
        let sql = "
            WITH found AS (
                SELECT s.id, s.user_id, s.last_used_at FROM api_sessions AS s
                JOIN users AS u ON u.id = s.user_id
                WHERE s.token_hash = $1 AND s.expires_at > $2 AND u.deleted_at IS NULL
            ), used AS (
                UPDATE api_sessions AS s SET last_used_at = $2 FROM found
                WHERE s.id = found.id
                  AND coalesce(found.last_used_at < $2 - interval '5 minutes', true)
            )
            SELECT id, user_id FROM found";
        let mut connection = self.database.get().await?;
        let row: Option<SessionRow> = Statement::new(sql)
            .bind::<Bytea, _>(token_hash.to_vec())
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(row.map(|row| (SessionId(row.id), UserId(row.user_id))))
    }

    async fn list(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: u32,
        now: OffsetDateTime,
    ) -> PortResult<Listed<Session, SessionId>> {
        let sql = "
            SELECT id, created_at, expires_at, last_used_at FROM api_sessions
            WHERE user_id = $1 AND expires_at > $2 AND ($3 IS NULL OR id > $3)
            ORDER BY id LIMIT $4";
        let mut connection = self.database.get().await?;
        let mut rows: Vec<ListedRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(user.0)
            .bind::<Timestamptz, _>(now)
            .bind::<Nullable<SqlUuid>, _>(after.map(|id| id.0))
            .bind::<BigInt, _>(i64::from(limit) + 1)
            .rows(&mut connection)
            .await?;
        drop(connection);
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let session = |row: ListedRow| Session {
            id: SessionId(row.id),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        };
        let items: Vec<Session> = rows.into_iter().map(session).collect();
        let next = items.last().map(|session| session.id).filter(|_| more);
        Ok(Listed { items, next })
    }

    async fn end(&self, user: UserId, id: SessionId) -> PortResult<bool> {
        let mut connection = self.database.get().await?;
        let ended = Statement::new("DELETE FROM api_sessions WHERE user_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(user.0)
            .bind::<SqlUuid, _>(id.0)
            .run(&mut connection)
            .await?;
        Ok(ended > 0)
    }
}
