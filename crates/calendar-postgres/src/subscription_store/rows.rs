//! Rows of subscriptions, and of the tokens that go with them.

use calendar_domain::account::StoredTokens;
use calendar_domain::ids::{ConnectionId, SubscriptionId};
use calendar_domain::ports::TokenCipher;
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::WebhookSubscription;
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::error::PgError;
use crate::tokens;

/// The columns of [`SubscriptionRow`], of `webhook_subscriptions AS w`.
macro_rules! subscription_columns {
    () => {
        "w.id AS subscription, w.calendar_connection_id, w.provider::text AS provider, w.subscription_id,
        w.resource_path, w.notification_url, w.expiration_datetime, w.is_active,
        w.last_notification_at, w.renewed_at, w.created_at, w.updated_at"
    };
}

pub(super) use subscription_columns;

/// One row of an outer join with the subscriptions: all columns are null where there is none.
#[derive(QueryableByName)]
pub(super) struct SubscriptionRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    subscription: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    calendar_connection_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    provider: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    subscription_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resource_path: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    notification_url: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expiration_datetime: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Bool>)]
    is_active: Option<bool>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_notification_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    renewed_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    created_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    updated_at: Option<OffsetDateTime>,
}

impl SubscriptionRow {
    pub(super) fn into_subscription(self) -> Result<Option<WebhookSubscription>, PgError> {
        let (
            Some(id),
            Some(connection_id),
            Some(provider),
            Some(subscription_id),
            Some(expires_at),
            Some(is_active),
            Some(created_at),
            Some(updated_at),
        ) = (
            self.subscription,
            self.calendar_connection_id,
            self.provider,
            self.subscription_id,
            self.expiration_datetime,
            self.is_active,
            self.created_at,
            self.updated_at,
        )
        else {
            return Ok(None);
        };
        Ok(Some(WebhookSubscription {
            id: SubscriptionId(id),
            connection_id: ConnectionId(connection_id),
            provider: CalendarProvider::from_label(&provider)?,
            subscription_id,
            resource_path: self.resource_path,
            notification_url: self.notification_url,
            expires_at,
            is_active,
            last_notification_at: self.last_notification_at,
            renewed_at: self.renewed_at,
            created_at,
            updated_at,
        }))
    }
}

/// A connection's tokens, in an outer join.
#[derive(QueryableByName)]
pub(super) struct TokenRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(super) connection_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    access_token: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    refresh_token: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    token_expires_at: Option<OffsetDateTime>,
}

/// The first tokens that open; all connections of an account hold the same.
pub(super) fn open_any<'a>(
    cipher: &dyn TokenCipher,
    rows: impl IntoIterator<Item = &'a TokenRow>,
) -> StoredTokens {
    let mut answer = StoredTokens::Unreadable("token_missing");
    for row in rows {
        let Some(id) = row.connection_id else {
            continue;
        };
        answer = tokens::open(
            cipher,
            ConnectionId(id),
            row.access_token.as_deref(),
            row.refresh_token.as_deref(),
            row.token_expires_at,
        );
        if matches!(answer, StoredTokens::Open(_)) {
            break;
        }
    }
    answer
}
