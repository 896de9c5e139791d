//! What connecting calendars writes: the account, its connections (new, revived, adopted), their
//! tokens and sync states, in one transaction.

use std::collections::{HashMap, HashSet};

use calendar_domain::account::CalendarListing;
use calendar_domain::connection::{Connected, NewConnections};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::ConnectionId;
use calendar_domain::normalise::NAME;
use calendar_domain::ports::TokenCipher;
use calendar_domain::sync::Mailbox;
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IdRow, store_tokens};
use crate::codes::Label as _;
use crate::error::{PgError, check_text};
use crate::statement::Statement;
use crate::wakeups::wake;

/// Refuses what no column holds. A calendar's id is asked for at the provider, so it is not hashed
/// as an event's is.
pub(super) fn check(new: &NewConnections) -> PortResult<()> {
    check_text(&new.identity.tenant_id, NAME, "tenant_id_invalid")?;
    check_text(
        &new.identity.provider_user_id,
        NAME,
        "provider_user_id_invalid",
    )?;
    if let Mailbox::Delegate(address) = &new.mailbox {
        check_text(address, NAME, "delegate_email_invalid")?;
    }
    new.calendars
        .iter()
        .try_for_each(|calendar| check_text(&calendar.id, NAME, "calendar_id_invalid"))
}

/// Text that is only shown: it is cut where it does not fit.
fn shown(text: &str) -> String {
    text.replace('\0', "\u{fffd}").chars().take(NAME).collect()
}

#[derive(diesel::QueryableByName)]
struct ExistingRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    calendar_id: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    account_id: Option<Uuid>,
    #[diesel(sql_type = Bool)]
    is_live: bool,
    #[diesel(sql_type = Bool)]
    account_is_live: bool,
    #[diesel(sql_type = Bool)]
    same_mailbox: bool,
}

/// A calendar on its way to its row.
struct Target<'a> {
    id: Uuid,
    listing: &'a CalendarListing,
    is_new: bool,
    /// It was live under this account already: its name, its place in the feed stay.
    goes_on: bool,
}

pub(super) async fn connect(
    connection: &mut AsyncPgConnection,
    cipher: &dyn TokenCipher,
    new: &NewConnections,
    now: OffsetDateTime,
) -> Result<Connected, PgError> {
    let account = upsert_account(connection, new, now).await?;
    let mut existing = lock_existing(connection, new).await?;
    let mut connected = Connected {
        connection_ids: Vec::new(),
        refused: Vec::new(),
    };
    let mut targets: Vec<Target<'_>> = Vec::new();
    let mut listed: HashSet<&str> = HashSet::new();
    for listing in &new.calendars {
        if !listed.insert(&listing.id) {
            continue;
        }
        let target = match existing.remove(&listing.id) {
            None => Target {
                id: ConnectionId::new().0,
                listing,
                is_new: true,
                goes_on: false,
            },
            Some(row) => {
                let is_others = row.account_id.is_some_and(|other| other != account);
                if is_others && (row.is_live || row.account_is_live) {
                    connected.refused.push(listing.id.clone());
                    continue;
                }
                let goes_on = row.is_live && row.account_id == Some(account) && row.same_mailbox;
                Target {
                    id: row.id,
                    listing,
                    is_new: false,
                    goes_on,
                }
            }
        };
        connected.connection_ids.push(ConnectionId(target.id));
        targets.push(target);
    }
    if targets.is_empty() {
        return Ok(connected);
    }
    insert(connection, new, account, &targets, now).await?;
    update(connection, new, account, &targets, now).await?;
    // The grant is the account's: all its connections get it.
    let all = "SELECT id FROM calendar_connections
        WHERE account_id = $1 AND deleted_at IS NULL AND is_connected
        ORDER BY id FOR NO KEY UPDATE";
    let rows: Vec<IdRow> = Statement::new(all)
        .bind::<SqlUuid, _>(account)
        .rows(connection)
        .await?;
    let ids: Vec<Uuid> = rows.into_iter().map(|row| row.id).collect();
    // After the connections are locked: the fence's order is account, connection, state.
    write_states(connection, account, &targets, now).await?;
    store_tokens(connection, cipher, &ids, &new.grant, now).await?;
    Statement::new(concat!("SELECT ", wake!()))
        .run(connection)
        .await?;
    Ok(connected)
}

async fn upsert_account(
    connection: &mut AsyncPgConnection,
    new: &NewConnections,
    now: OffsetDateTime,
) -> Result<Uuid, PgError> {
    // With the owner's row held, a deletion of the owner waits, and finds the account.
    let sql = "
        WITH owner AS MATERIALIZED (
            SELECT o.deleted_at FROM users AS u JOIN users AS o ON o.id = u.managed_by
            WHERE u.id = $2 FOR KEY SHARE OF o
        )
        INSERT INTO calendar_accounts AS a (id, user_id, provider, tenant_id, provider_user_id, email,
            display_name, granted_scopes, missing_permissions, push_due_at, created_at, updated_at)
        SELECT $1, u.id, $3::text::calendar_provider, $4, $5, $6, $7, $8, $10, $9, $9, $9
        FROM users AS u WHERE u.id = $2 AND u.deleted_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM owner WHERE deleted_at IS NOT NULL)
        FOR KEY SHARE OF u
        ON CONFLICT (user_id, provider, tenant_id, provider_user_id) DO UPDATE SET
            email = coalesce(excluded.email, a.email),
            display_name = coalesce(excluded.display_name, a.display_name),
            granted_scopes = CASE WHEN excluded.granted_scopes = '' THEN a.granted_scopes
                ELSE excluded.granted_scopes END,
            missing_permissions = CASE WHEN excluded.granted_scopes = '' THEN a.missing_permissions
                ELSE excluded.missing_permissions END,
            needs_reauth_reason = NULL, deleted_at = NULL, updated_at = excluded.updated_at,
            -- The first calendar of its own, or a sign-in after which the provider may grant what it refused.
            push_due_at = excluded.push_due_at, push_failure_count = 0, push_error_code = NULL,
            -- A worker that holds the old grant may no longer declare the account dead, nor store
            -- what it gets by the old refresh token over the new one.
            lease_fence = a.lease_fence + 1, lease_owner = NULL, lease_expires_at = NULL
        RETURNING a.id";
    let row: Option<IdRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(calendar_domain::ids::AccountId::new().0)
        .bind::<SqlUuid, _>(new.user_id.0)
        .bind::<Text, _>(new.provider.label())
        .bind::<Text, _>(&new.identity.tenant_id)
        .bind::<Text, _>(&new.identity.provider_user_id)
        .bind::<Nullable<Text>, _>(new.identity.email.as_deref().map(shown))
        .bind::<Nullable<Text>, _>(new.identity.display_name.as_deref().map(shown))
        .bind::<Text, _>(new.grant.scopes.replace('\0', ""))
        .bind::<Timestamptz, _>(now)
        .bind::<Array<Text>, _>(super::missing(&new.grant))
        .row(connection)
        .await?;
    let gone = || PgError::from(PortError::new(FailureClass::Permanent, "user_not_found"));
    row.map(|row| row.id).ok_or_else(gone)
}

async fn lock_existing(
    connection: &mut AsyncPgConnection,
    new: &NewConnections,
) -> Result<HashMap<String, ExistingRow>, PgError> {
    let ids: Vec<&str> = new
        .calendars
        .iter()
        .map(|calendar| calendar.id.as_str())
        .collect();
    let sql = "
        SELECT c.id, c.calendar_id, c.account_id,
            c.deleted_at IS NULL AND c.is_connected AS is_live,
            coalesce((SELECT a.deleted_at IS NULL FROM calendar_accounts AS a
                WHERE a.id = c.account_id), false) AS account_is_live,
            c.mailbox IS NOT DISTINCT FROM $4 AS same_mailbox
        FROM calendar_connections AS c
        WHERE c.user_id = $1 AND c.provider = $2::text::calendar_provider AND c.calendar_id = ANY ($3)
        ORDER BY c.id FOR NO KEY UPDATE OF c";
    let rows: Vec<ExistingRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(new.user_id.0)
        .bind::<Text, _>(new.provider.label())
        .bind::<Array<Text>, _>(ids)
        .bind::<Nullable<Text>, _>(mailbox(new))
        .rows(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.calendar_id.clone(), row))
        .collect())
}

fn mailbox(new: &NewConnections) -> Option<&str> {
    match &new.mailbox {
        Mailbox::Own => None,
        Mailbox::Delegate(address) => Some(address),
    }
}

/// The columns of the listings, one array each: `$4` to `$11`.
fn bind_listings<'a>(
    statement: Statement<'a>,
    new: &NewConnections,
    targets: &[&Target<'_>],
) -> Statement<'a> {
    let is_delegates = matches!(new.mailbox, Mailbox::Delegate(_));
    let color = |target: &&Target<'_>| {
        target
            .listing
            .color
            .clone()
            .filter(|color| super::check_color(color).is_ok())
    };
    statement
        .bind::<Array<SqlUuid>, _>(targets.iter().map(|target| target.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(
            targets
                .iter()
                .map(|t| t.listing.id.clone())
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Text>, _>(
            targets
                .iter()
                .map(|t| shown(&t.listing.name))
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Nullable<Text>>, _>(targets.iter().map(color).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(
            targets
                .iter()
                .map(|t| t.listing.is_primary)
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Bool>, _>(
            targets
                .iter()
                .map(|t| t.listing.can_edit)
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Nullable<Text>>, _>(
            targets
                .iter()
                .map(|t| t.listing.owner_email.as_deref().map(shown))
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Bool>, _>(
            targets
                .iter()
                .map(|t| is_delegates || t.listing.is_shared)
                .collect::<Vec<_>>(),
        )
}

async fn insert(
    connection: &mut AsyncPgConnection,
    new: &NewConnections,
    account: Uuid,
    targets: &[Target<'_>],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let fresh: Vec<&Target<'_>> = targets.iter().filter(|target| target.is_new).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    let sql = "
        INSERT INTO calendar_connections (id, user_id, provider, calendar_id, calendar_name,
            calendar_color, is_primary, is_connected, can_edit, owner_email, is_shared, account_id,
            mailbox, delegate_email, created_at, updated_at)
        SELECT t.id, $1, $12::text::calendar_provider, t.calendar_id, t.name, t.color, t.is_primary,
            true, t.can_edit, t.owner_email, t.is_shared, $2, $13, $13, $3, $3
        FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::bool[], $9::bool[], $10::text[],
                $11::bool[])
            AS t (id, calendar_id, name, color, is_primary, can_edit, owner_email, is_shared)";
    let statement = Statement::new(sql)
        .bind::<SqlUuid, _>(new.user_id.0)
        .bind::<SqlUuid, _>(account)
        .bind::<Timestamptz, _>(now);
    bind_listings(statement, new, &fresh)
        .bind::<Text, _>(new.provider.label())
        .bind::<Nullable<Text>, _>(mailbox(new))
        .run(connection)
        .await?;
    Ok(())
}

async fn update(
    connection: &mut AsyncPgConnection,
    new: &NewConnections,
    account: Uuid,
    targets: &[Target<'_>],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let known: Vec<&Target<'_>> = targets.iter().filter(|target| !target.is_new).collect();
    if known.is_empty() {
        return Ok(());
    }
    let goes_on: Vec<bool> = known.iter().map(|target| target.goes_on).collect();
    // The user may have changed our name and colour of one that goes on.
    let sql = "
        UPDATE calendar_connections AS c SET
            calendar_name = CASE WHEN t.goes_on THEN c.calendar_name ELSE t.name END,
            calendar_color = CASE WHEN t.goes_on THEN c.calendar_color ELSE t.color END,
            sync_token = CASE WHEN t.goes_on THEN c.sync_token END,
            refresh_token = CASE WHEN t.goes_on THEN c.refresh_token END,
            is_primary = t.is_primary, can_edit = t.can_edit, owner_email = t.owner_email,
            is_shared = t.is_shared, account_id = $2, mailbox = $13, delegate_email = $13,
            is_connected = true, deleted_at = NULL, updated_at = $3
        FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::bool[], $9::bool[], $10::text[],
                $11::bool[], $12::bool[])
            AS t (id, calendar_id, name, color, is_primary, can_edit, owner_email, is_shared, goes_on)
        WHERE c.id = t.id AND c.user_id = $1";
    let statement = Statement::new(sql)
        .bind::<SqlUuid, _>(new.user_id.0)
        .bind::<SqlUuid, _>(account)
        .bind::<Timestamptz, _>(now);
    bind_listings(statement, new, &known)
        .bind::<Array<Bool>, _>(goes_on)
        .bind::<Nullable<Text>, _>(mailbox(new))
        .run(connection)
        .await?;
    Ok(())
}

/// One state for each connection, due now. What does not go on begins with a full pass; its events
/// and their ids stay. The account's other connections may go on too, now that it is signed in.
async fn write_states(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    targets: &[Target<'_>],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let ids = |goes_on: bool| -> Vec<Uuid> {
        let wanted = targets.iter().filter(|target| target.goes_on == goes_on);
        wanted.map(|target| target.id).collect()
    };
    let reset = "
        WITH seen AS (
            DELETE FROM sync_pass_seen WHERE calendar_connection_id = ANY ($2)
        )
        INSERT INTO calendar_sync_states AS s (connection_id, account_id, due_at, updated_at)
        SELECT id, $1, $3, $3 FROM unnest($2) AS id
        ON CONFLICT (connection_id) DO UPDATE SET account_id = excluded.account_id,
            due_at = excluded.due_at, requested_seq = s.requested_seq + 1, is_paused = false,
            window_start = NULL, window_end = NULL, pass_id = NULL, pass_kind = NULL,
            pass_cursor = NULL, pass_sync_token = NULL, pass_window_start = NULL,
            pass_window_end = NULL, pass_started_at = NULL, pass_pages = 0,
            pass_touched_series = false, removal_held = false, failure_count = 0, push_look = NULL,
            last_error_code = NULL, last_error_at = NULL,
            updated_at = excluded.updated_at";
    Statement::new(reset)
        .bind::<SqlUuid, _>(account)
        .bind::<Array<SqlUuid>, _>(ids(false))
        .bind::<Timestamptz, _>(now)
        .run(connection)
        .await?;
    let go_on = "
        UPDATE calendar_sync_states AS s SET due_at = least(s.due_at, $4), updated_at = $4,
            is_paused = s.is_paused AND s.connection_id <> ALL ($3)
        WHERE s.account_id = $1 AND s.connection_id <> ALL ($2)";
    Statement::new(go_on)
        .bind::<SqlUuid, _>(account)
        .bind::<Array<SqlUuid>, _>(ids(false))
        .bind::<Array<SqlUuid>, _>(ids(true))
        .bind::<Timestamptz, _>(now)
        .run(connection)
        .await?;
    Ok(())
}
