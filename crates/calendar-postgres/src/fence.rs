//! The fence: no write of a pass without the account's current lease.
//!
//! The check locks what it looks at until the transaction ends. `FOR KEY SHARE` on the account keeps
//! a claim out (it asks `FOR UPDATE SKIP LOCKED`) and lets a heartbeat pass; connection and state are
//! locked against a disconnect or a pause. The order is account, connection, state, everywhere.

use calendar_domain::failure::PortError;
use calendar_domain::ids::ConnectionId;
use calendar_domain::sync::{Lease, Pass, PassPosition};
use diesel::sql_types::{BigInt, Bool, Nullable, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;

use crate::error::PgError;
use crate::statement::Statement;

/// The condition on `calendar_accounts AS a`: `$1` account, `$2` owner, `$3` fence.
macro_rules! lease_holds {
    () => {
        "a.id = $1 AND a.lease_owner = $2 AND a.lease_fence = $3 AND a.lease_expires_at > now() \
         AND a.deleted_at IS NULL"
    };
}

/// A CTE `fence` with one row when the connection `$4` may be written to, else none. `$5` is the
/// pass, `$6` whether it only begins: one that goes on must be the one that the state knows, else
/// another worker has ended it meanwhile.
macro_rules! fence {
    () => {
        concat!(
            "fence AS MATERIALIZED (
                SELECT c.id AS connection_id
                FROM calendar_accounts AS a
                JOIN calendar_connections AS c ON c.account_id = a.id
                JOIN calendar_sync_states AS s ON s.connection_id = c.id
                WHERE ",
            $crate::fence::lease_holds!(),
            " AND c.id = $4 AND c.deleted_at IS NULL AND c.is_connected AND NOT s.is_paused
                  AND ($6 OR s.pass_id = $5)
                FOR KEY SHARE OF a FOR NO KEY UPDATE OF c, s)"
        )
    };
}

pub(crate) use {fence, lease_holds};

/// Binds `$1` to `$3`.
pub(crate) fn bind_lease<'a>(statement: Statement<'a>, lease: &Lease) -> Statement<'a> {
    statement
        .bind::<SqlUuid, _>(lease.account_id.0)
        .bind::<SqlUuid, _>(lease.owner.0)
        .bind::<BigInt, _>(lease.fence)
}

/// Binds `$1` to `$6`.
pub(crate) fn bind_fence<'a>(
    statement: Statement<'a>,
    lease: &Lease,
    connection: ConnectionId,
    pass: Option<&Pass>,
) -> Statement<'a> {
    let begins = pass.is_none_or(|pass| pass.position == PassPosition::Begin);
    bind_lease(statement, lease)
        .bind::<SqlUuid, _>(connection.0)
        .bind::<Nullable<SqlUuid>, _>(pass.map(|pass| pass.id.0))
        .bind::<Bool, _>(begins)
}

/// The answer of a statement that ends in `SELECT count(*) AS count FROM …`.
#[derive(Clone, Copy, diesel::QueryableByName)]
pub(crate) struct Count {
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub(crate) count: i64,
}

impl Count {
    /// Refuses when the fence let nothing through.
    pub(crate) fn or_lease_lost(count: Option<Self>) -> Result<(), PgError> {
        match count {
            Some(Self { count: 1.. }) => Ok(()),
            _ => Err(PortError::lease_lost().into()),
        }
    }
}

/// Checks and locks, as the first statement of a transaction with several.
pub(crate) async fn check(
    connection: &mut AsyncPgConnection,
    lease: &Lease,
    id: ConnectionId,
    pass: Option<&Pass>,
) -> Result<(), PgError> {
    let sql = concat!("WITH ", fence!(), " SELECT count(*) AS count FROM fence");
    let held = bind_fence(Statement::new(sql), lease, id, pass)
        .row(connection)
        .await?;
    Count::or_lease_lost(held)
}
