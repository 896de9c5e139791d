COMMENT ON COLUMN calendar_sync_states.events_skipped IS 'Events of the last pass that were set aside as unreadable.';
COMMENT ON COLUMN calendar_sync_states.requested_seq IS 'Raised by every push and every request for a sync; a release that finds it moved makes the connection due at once.';
ALTER TABLE calendar_sync_states DROP COLUMN push_look;

ALTER TABLE calendar_connections DROP COLUMN is_shared;

CREATE INDEX calendar_accounts_lease_expires_at_idx
    ON calendar_accounts (lease_expires_at NULLS FIRST)
    WHERE deleted_at IS NULL AND needs_reauth_reason IS NULL;

DROP INDEX webhook_subscriptions_expiration_datetime_idx;
CREATE INDEX webhook_subscriptions_expiration_datetime_idx
    ON webhook_subscriptions (expiration_datetime);

-- The indexes and keys on these columns go with them.
ALTER TABLE calendar_accounts
    DROP COLUMN pushed_at,
    DROP COLUMN push_burst,
    DROP COLUMN push_taken_at,
    DROP COLUMN push_due_at,
    DROP COLUMN push_failure_count,
    DROP COLUMN push_error_code,
    DROP COLUMN push_silent_since;
ALTER TABLE webhook_subscriptions
    DROP COLUMN account_id,
    DROP COLUMN renewed_at,
    RESET (fillfactor);
