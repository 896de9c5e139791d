//! Service keys: `ApiKeyStore` on PostgreSQL. The key itself is never stored.

use async_trait::async_trait;
use calendar_domain::api_key::{ApiKey, ApiScope, KnownApiKey, MOST_API_KEYS, NewApiKey};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ApiKeyId, UserId};
use calendar_domain::ports::ApiKeyStore;
use calendar_domain::query::Listed;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::database::Database;
use crate::error::{PgError, check_text};
use crate::statement::Statement;

/// `api_keys.name` and `token_hint`, in characters.
const NAME: usize = 100;
const HINT: usize = 20;

/// `ApiKeyStore` on PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgApiKeyStore {
    database: Database,
}

impl PgApiKeyStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[derive(diesel::QueryableByName)]
struct ApiKeyRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    token_hint: String,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: OffsetDateTime,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_used_at: Option<OffsetDateTime>,
}

impl TryFrom<ApiKeyRow> for ApiKey {
    type Error = PgError;

    fn try_from(row: ApiKeyRow) -> Result<Self, PgError> {
        Ok(Self {
            id: ApiKeyId(row.id),
            name: row.name,
            hint: row.token_hint,
            scopes: scopes(&row.scopes)?,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        })
    }
}

#[derive(diesel::QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    acts_for: Option<Uuid>,
}

fn scopes(labels: &[String]) -> Result<Vec<ApiScope>, PgError> {
    labels
        .iter()
        .map(|label| ApiScope::from_label(label))
        .collect()
}

/// The columns of [`ApiKeyRow`].
macro_rules! api_key_columns {
    () => {
        "id, name, token_hint, scopes, created_at, last_used_at"
    };
}

async fn create(
    connection: &mut AsyncPgConnection,
    key: &NewApiKey,
    now: OffsetDateTime,
) -> Result<ApiKey, PgError> {
    // One after the other, so that the count holds.
    let owner = "SELECT 1 FROM users WHERE id = $1 AND deleted_at IS NULL AND managed_by IS NULL
        FOR NO KEY UPDATE";
    let owners = Statement::new(owner)
        .bind::<SqlUuid, _>(key.user_id.0)
        .run(connection)
        .await?;
    if owners == 0 {
        return Err(PortError::new(FailureClass::Permanent, "user_not_found").into());
    }
    let sql = concat!(
        "INSERT INTO api_keys (id, user_id, name, token_hint, token_hash, scopes, created_at)
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE (SELECT count(*) FROM api_keys WHERE user_id = $2) < $8
        RETURNING ",
        api_key_columns!()
    );
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.label()).collect();
    let row: Option<ApiKeyRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(key.id.0)
        .bind::<SqlUuid, _>(key.user_id.0)
        .bind::<Text, _>(key.name.as_str())
        .bind::<Text, _>(key.hint.as_str())
        .bind::<Bytea, _>(key.token_hash.as_slice())
        .bind::<Array<Text>, _>(scopes)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(i64::from(MOST_API_KEYS))
        .row(connection)
        .await?;
    let too_many = || PgError::from(PortError::new(FailureClass::Conflict, "too_many_keys"));
    row.ok_or_else(too_many)?.try_into()
}

#[async_trait]
impl ApiKeyStore for PgApiKeyStore {
    async fn create(&self, key: NewApiKey, now: OffsetDateTime) -> PortResult<ApiKey> {
        check_text(&key.name, NAME, "name_invalid")?;
        check_text(&key.hint, HINT, "hint_invalid")?;
        let mut transaction = self.database.begin().await?;
        let outcome = create(&mut transaction, &key, now).await;
        Ok(transaction.end(outcome).await?)
    }

    async fn find(
        &self,
        token_hash: [u8; 32],
        user: Option<UserId>,
        now: OffsetDateTime,
    ) -> PortResult<Option<KnownApiKey>> {
        // `last_used_at` is kept to an hour, so that reading seldom writes. Of many requests at once
        // the first writes, and the others see that when it is their turn.
        let sql = "
            WITH found AS (
                SELECT k.id, k.user_id, k.scopes, k.last_used_at FROM api_keys AS k
                JOIN users AS o ON o.id = k.user_id
                WHERE k.token_hash = $1 AND o.deleted_at IS NULL AND o.managed_by IS NULL
            ), used AS (
                UPDATE api_keys AS k SET last_used_at = $3 FROM found
                WHERE k.id = found.id
                  AND coalesce(found.last_used_at <= $3 - interval '1 hour', true)
                  AND coalesce(k.last_used_at <= $3 - interval '1 hour', true)
            )
            SELECT f.id, f.user_id, f.scopes, u.id AS acts_for FROM found AS f
            LEFT JOIN users AS u ON u.id = $2 AND u.deleted_at IS NULL
                AND (u.id = f.user_id OR u.managed_by = f.user_id)";
        let mut connection = self.database.get().await?;
        let row: Option<KnownRow> = Statement::new(sql)
            .bind::<Bytea, _>(token_hash.to_vec())
            .bind::<Nullable<SqlUuid>, _>(user.map(|id| id.0))
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        drop(connection);
        let known = row.map(|row| -> Result<KnownApiKey, PgError> {
            Ok(KnownApiKey {
                id: ApiKeyId(row.id),
                owner: UserId(row.user_id),
                scopes: scopes(&row.scopes)?,
                acts_for: row.acts_for.map(UserId),
            })
        });
        Ok(known.transpose()?)
    }

    async fn list(
        &self,
        owner: UserId,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> PortResult<Listed<ApiKey, ApiKeyId>> {
        let sql = concat!(
            "SELECT ",
            api_key_columns!(),
            " FROM api_keys WHERE user_id = $1 AND ($2 IS NULL OR id > $2) ORDER BY id LIMIT $3"
        );
        let mut connection = self.database.get().await?;
        let mut rows: Vec<ApiKeyRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(owner.0)
            .bind::<Nullable<SqlUuid>, _>(after.map(|id| id.0))
            .bind::<BigInt, _>(i64::from(limit) + 1)
            .rows(&mut connection)
            .await?;
        drop(connection);
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let keys = rows.into_iter().map(ApiKey::try_from);
        let items: Vec<ApiKey> = keys.collect::<Result<_, _>>()?;
        let next = items.last().map(|key| key.id).filter(|_| more);
        Ok(Listed { items, next })
    }

    async fn delete(&self, owner: UserId, id: ApiKeyId) -> PortResult<bool> {
        let mut connection = self.database.get().await?;
        let ended = Statement::new("DELETE FROM api_keys WHERE user_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(owner.0)
            .bind::<SqlUuid, _>(id.0)
            .run(&mut connection)
            .await?;
        Ok(ended > 0)
    }
}
