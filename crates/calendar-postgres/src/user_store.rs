//! Users: `UserStore` on PostgreSQL.

use async_trait::async_trait;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::UserId;
use calendar_domain::normalise::NAME;
use calendar_domain::ports::UserStore;
use calendar_domain::query::Listed;
use calendar_domain::user::{NewManagedUser, NewUser, User, UserChange};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Database;
use crate::error::{PgError, check_text};
use crate::statement::Statement;

/// `users.first_name` and `last_name`, in characters.
const PERSON_NAME: usize = 100;

/// `UserStore` on PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgUserStore {
    database: Database,
}

impl PgUserStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[derive(diesel::QueryableByName)]
struct UserRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Nullable<Text>)]
    password_hash: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    first_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    last_name: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    updated_at: OffsetDateTime,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: UserId(row.id),
            email: row.email,
            first_name: row.first_name,
            last_name: row.last_name,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The columns of [`UserRow`].
macro_rules! user_columns {
    () => {
        "id, coalesce(managed_email, email) AS email, password_hash, first_name, last_name, created_at, updated_at"
    };
}

/// `$1` owner, `$2` the id before the first one.
macro_rules! managed {
    () => {
        concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE managed_by = $1 AND deleted_at IS NULL AND id > $2"
        )
    };
}

fn check_names<'a>(names: impl IntoIterator<Item = Option<&'a String>>) -> PortResult<()> {
    names
        .into_iter()
        .flatten()
        .try_for_each(|name| check_text(name, PERSON_NAME, "name_invalid"))
}

async fn create(
    connection: &mut AsyncPgConnection,
    user: &NewUser,
    email: &str,
    now: OffsetDateTime,
) -> Result<User, PgError> {
    // An older application deletes without giving the address back.
    let free = "UPDATE users SET email = 'deleted-' || id || '@invalid', updated_at = $2
        WHERE email = $1 AND deleted_at IS NOT NULL";
    Statement::new(free)
        .bind::<Text, _>(email)
        .bind::<Timestamptz, _>(now)
        .run(connection)
        .await?;
    let sql = concat!(
        "INSERT INTO users (id, email, password_hash, first_name, last_name, created_at, updated_at)
        SELECT $1, $2, $3, $4, $5, $6, $6
        WHERE NOT EXISTS (SELECT 1 FROM users WHERE lower(email) = $2 AND deleted_at IS NULL)
        ON CONFLICT (email) DO NOTHING
        RETURNING ",
        user_columns!()
    );
    let row: Option<UserRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(UserId::new().0)
        .bind::<Text, _>(email)
        .bind::<Text, _>(&user.password_hash)
        .bind::<Nullable<Text>, _>(user.first_name.as_deref())
        .bind::<Nullable<Text>, _>(user.last_name.as_deref())
        .bind::<Timestamptz, _>(now)
        .row(connection)
        .await?;
    let taken = || PgError::from(PortError::new(FailureClass::Conflict, "email_taken"));
    row.map(User::from).ok_or_else(taken)
}

/// What deleted users keep: an id, for what is still to be purged. `$1` users, `$2` now.
const GONE: &str = "
    UPDATE users SET email = 'deleted-' || id || '@invalid', managed_email = NULL,
        password_hash = NULL, first_name = NULL, last_name = NULL, deleted_at = $2, updated_at = $2
    WHERE id = ANY ($1) AND deleted_at IS NULL";

/// `$1` users, `$2` now: nobody syncs for them any more, whatever a worker holds. Accounts before connections, and
/// by their ids: the order of locks.
const CUT_OFF: [&str; 2] = [
    "WITH mine AS MATERIALIZED (
        SELECT id FROM calendar_accounts WHERE user_id = ANY ($1) AND deleted_at IS NULL
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE calendar_accounts AS a SET deleted_at = $2, updated_at = $2, email = NULL,
        display_name = NULL, lease_owner = NULL, lease_expires_at = NULL
    FROM mine WHERE a.id = mine.id",
    "WITH mine AS MATERIALIZED (
        SELECT id FROM calendar_connections WHERE user_id = ANY ($1)
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE calendar_connections AS c SET deleted_at = coalesce(deleted_at, $2), is_connected = false,
        access_token = NULL, refresh_token = NULL, token_expires_at = NULL, sync_token = NULL,
        calendar_name = NULL, owner_email = NULL, delegate_email = NULL, mailbox = NULL,
        updated_at = $2
    FROM mine WHERE c.id = mine.id",
];

/// `$1` users, `$2` now: what else is theirs, events apart.
const LEFT_BEHIND: [&str; 5] = [
    "DELETE FROM api_sessions WHERE user_id = ANY ($1) AND $2::timestamptz IS NOT NULL",
    "DELETE FROM api_keys WHERE user_id = ANY ($1) AND $2::timestamptz IS NOT NULL",
    "DELETE FROM connect_sessions WHERE user_id = ANY ($1) AND $2::timestamptz IS NOT NULL",
    "WITH mine AS (
        SELECT id FROM calendar_connections WHERE user_id = ANY ($1) AND deleted_at <= $2
    ), seen AS (
        DELETE FROM sync_pass_seen AS p USING mine WHERE p.calendar_connection_id = mine.id
    ), rejected AS (
        DELETE FROM calendar_rejected_events AS r USING mine WHERE r.calendar_connection_id = mine.id
    )
    DELETE FROM calendar_sync_states AS s USING mine WHERE s.connection_id = mine.id",
    "WITH mine AS MATERIALIZED (
        SELECT w.id FROM webhook_subscriptions AS w
        JOIN calendar_connections AS c ON c.id = w.calendar_connection_id
        WHERE c.user_id = ANY ($1) AND w.is_active
        ORDER BY w.id FOR NO KEY UPDATE OF w
    )
    UPDATE webhook_subscriptions AS w SET is_active = false, updated_at = $2
    FROM mine WHERE w.id = mine.id",
];

#[derive(diesel::QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Runs statements about these users.
async fn run_all(
    connection: &mut AsyncPgConnection,
    statements: &[&'static str],
    users: &[Uuid],
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    let mut rows = 0;
    for sql in statements {
        rows += Statement::new(sql)
            .bind::<Array<SqlUuid>, _>(users)
            .bind::<Timestamptz, _>(now)
            .run(connection)
            .await?;
    }
    Ok(rows)
}

/// Of those whom the user manages only what must not wait goes: there may be very many of them, and
/// [`delete_orphans`] sees to the rest.
async fn delete(
    connection: &mut AsyncPgConnection,
    id: UserId,
    now: OffsetDateTime,
) -> Result<bool, PgError> {
    if run_all(connection, &[GONE], &[id.0], now).await? == 0 {
        return Ok(false);
    }
    // From here on nobody makes another one, or connects calendars of one: both ask for the owner's row.
    let managed = "SELECT id FROM users WHERE managed_by = $1 AND deleted_at IS NULL";
    let managed: Vec<IdRow> = Statement::new(managed)
        .bind::<SqlUuid, _>(id.0)
        .rows(connection)
        .await?;
    let mut users: Vec<Uuid> = managed.into_iter().map(|row| row.id).collect();
    users.push(id.0);
    // In one go, because of the order of locks.
    run_all(connection, &CUT_OFF, &users, now).await?;
    run_all(connection, &LEFT_BEHIND, &[id.0], now).await?;
    Ok(true)
}

/// Deletes some of the users whose owner is deleted: what [`delete`] has left, or an application that knows
/// nothing of managed users. How many; 0 when there are none left.
pub(crate) async fn delete_orphans(
    database: &Database,
    most: i64,
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    let mut transaction = database.begin().await?;
    let outcome = delete_some_orphans(&mut transaction, most, now).await;
    transaction.end(outcome).await
}

async fn delete_some_orphans(
    connection: &mut AsyncPgConnection,
    most: i64,
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    let orphans = "
        SELECT m.id FROM users AS o JOIN users AS m ON m.managed_by = o.id
        WHERE o.deleted_at IS NOT NULL AND o.managed_by IS NULL AND m.deleted_at IS NULL
        LIMIT $1 FOR UPDATE OF m SKIP LOCKED";
    // Planned anew: how many there are differs by orders of magnitude.
    let orphans: Vec<IdRow> = Statement::once(orphans)
        .bind::<BigInt, _>(most)
        .rows(connection)
        .await?;
    let users: Vec<Uuid> = orphans.into_iter().map(|row| row.id).collect();
    if users.is_empty() {
        return Ok(0);
    }
    let gone = run_all(connection, &[GONE], &users, now).await?;
    run_all(connection, &CUT_OFF, &users, now).await?;
    run_all(connection, &LEFT_BEHIND, &users, now).await?;
    Ok(gone)
}

#[async_trait]
impl UserStore for PgUserStore {
    async fn create(&self, user: NewUser, now: OffsetDateTime) -> PortResult<User> {
        let email = user.email.to_lowercase();
        check_text(&email, NAME, "email_invalid")?;
        check_text(&user.password_hash, NAME, "password_hash_invalid")?;
        check_names([user.first_name.as_ref(), user.last_name.as_ref()])?;
        let mut transaction = self.database.begin().await?;
        let outcome = create(&mut transaction, &user, &email, now).await;
        Ok(transaction.end(outcome).await?)
    }

    async fn create_managed(&self, user: NewManagedUser, now: OffsetDateTime) -> PortResult<User> {
        let email = user.email.to_lowercase();
        check_text(&email, NAME, "email_invalid")?;
        check_names([user.first_name.as_ref(), user.last_name.as_ref()])?;
        // `email` is unique among all users, and would tell one product of another's.
        let sql = concat!(
            "INSERT INTO users (id, email, managed_by, managed_email, first_name, last_name,
                created_at, updated_at)
            SELECT $1, 'managed-' || $1 || '@invalid', o.id, $3, $4, $5, $6, $6
            FROM users AS o WHERE o.id = $2 AND o.deleted_at IS NULL AND o.managed_by IS NULL
            FOR KEY SHARE
            ON CONFLICT (managed_by, lower(managed_email))
                WHERE managed_by IS NOT NULL AND deleted_at IS NULL DO NOTHING
            RETURNING ",
            user_columns!()
        );
        let mut connection = self.database.get().await?;
        let row: Option<UserRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(UserId::new().0)
            .bind::<SqlUuid, _>(user.managed_by.0)
            .bind::<Text, _>(email)
            .bind::<Nullable<Text>, _>(user.first_name)
            .bind::<Nullable<Text>, _>(user.last_name)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        row.map(User::from)
            .ok_or_else(|| PortError::new(FailureClass::Conflict, "email_taken"))
    }

    async fn list_managed(
        &self,
        owner: UserId,
        email: Option<String>,
        after: Option<UserId>,
        limit: u32,
    ) -> PortResult<Listed<User, UserId>> {
        if email.as_ref().is_some_and(|email| email.contains('\0')) {
            return Ok(Listed {
                items: Vec::new(),
                next: None,
            });
        }
        let sql = match email {
            None => concat!(managed!(), " ORDER BY id LIMIT $3"),
            Some(_) => concat!(
                managed!(),
                " AND lower(managed_email) = lower($4) ORDER BY id LIMIT $3"
            ),
        };
        let mut statement = Statement::new(sql)
            .bind::<SqlUuid, _>(owner.0)
            .bind::<SqlUuid, _>(after.map_or(Uuid::nil(), |id| id.0))
            .bind::<BigInt, _>(i64::from(limit) + 1);
        if let Some(email) = email {
            statement = statement.bind::<Text, _>(email);
        }
        let mut connection = self.database.get().await?;
        let mut rows: Vec<UserRow> = statement.rows(&mut connection).await?;
        drop(connection);
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let items: Vec<User> = rows.into_iter().map(User::from).collect();
        let next = items.last().map(|user| user.id).filter(|_| more);
        Ok(Listed { items, next })
    }

    async fn by_email(&self, email: &str) -> PortResult<Option<(User, String)>> {
        if email.contains('\0') {
            return Ok(None);
        }
        let sql = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE lower(email) = $2 AND deleted_at IS NULL AND managed_by IS NULL
            ORDER BY email <> $1, created_at, id LIMIT 1"
        );
        let mut connection = self.database.get().await?;
        let row: Option<UserRow> = Statement::new(sql)
            .bind::<Text, _>(email)
            .bind::<Text, _>(email.to_lowercase())
            .row(&mut connection)
            .await?;
        // Without a hash no password is the right one.
        Ok(row.map(|mut row| {
            let hash = row.password_hash.take().unwrap_or_default();
            (User::from(row), hash)
        }))
    }

    async fn by_id(&self, id: UserId) -> PortResult<Option<User>> {
        let sql = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE id = $1 AND deleted_at IS NULL"
        );
        let mut connection = self.database.get().await?;
        let row: Option<UserRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(id.0)
            .row(&mut connection)
            .await?;
        Ok(row.map(User::from))
    }

    async fn change(
        &self,
        id: UserId,
        change: UserChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<User>> {
        let UserChange {
            first_name,
            last_name,
        } = change;
        check_names([
            first_name.as_ref().and_then(Option::as_ref),
            last_name.as_ref().and_then(Option::as_ref),
        ])?;
        let sql = concat!(
            "UPDATE users SET
                first_name = CASE WHEN $2 THEN $3 ELSE first_name END,
                last_name = CASE WHEN $4 THEN $5 ELSE last_name END, updated_at = $6
            WHERE id = $1 AND deleted_at IS NULL
            RETURNING ",
            user_columns!()
        );
        let mut connection = self.database.get().await?;
        let row: Option<UserRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Bool, _>(first_name.is_some())
            .bind::<Nullable<Text>, _>(first_name.flatten())
            .bind::<Bool, _>(last_name.is_some())
            .bind::<Nullable<Text>, _>(last_name.flatten())
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(row.map(User::from))
    }

    async fn delete(&self, id: UserId, now: OffsetDateTime) -> PortResult<bool> {
        let mut transaction = self.database.begin().await?;
        let outcome = delete(&mut transaction, id, now).await;
        Ok(transaction.end(outcome).await?)
    }
}
