-- Push: which account a subscription is for, what a push asks of an account, and when the account's
-- subscription is to be seen to. Both are states of the account, found by time like all other work.

ALTER TABLE webhook_subscriptions
    ADD COLUMN account_id uuid,
    ADD COLUMN renewed_at timestamptz,
    ADD CONSTRAINT webhook_subscriptions_account_id_fkey
        FOREIGN KEY (account_id) REFERENCES calendar_accounts (id) ON DELETE CASCADE,
    -- Every push writes last_notification_at: room on the page keeps that out of the indexes.
    SET (fillfactor = 70);

CREATE INDEX webhook_subscriptions_account_id_idx ON webhook_subscriptions (account_id)
    WHERE account_id IS NOT NULL;

-- While all are active, the index on the end alone is as good for renewals as the one with is_active, and the
-- planner's estimates decide. A longer entry settles it.
DROP INDEX webhook_subscriptions_expiration_datetime_idx;
CREATE INDEX webhook_subscriptions_expiration_datetime_idx
    ON webhook_subscriptions (expiration_datetime, id);

COMMENT ON COLUMN webhook_subscriptions.account_id IS 'The account whose own calendars it covers.';
COMMENT ON COLUMN webhook_subscriptions.renewed_at IS 'When it was last renewed.';

UPDATE webhook_subscriptions AS w SET account_id = c.account_id
FROM calendar_connections AS c
WHERE c.id = w.calendar_connection_id AND c.account_id IS NOT NULL;

ALTER TABLE calendar_accounts
    ADD COLUMN pushed_at timestamptz,
    ADD COLUMN push_taken_at timestamptz,
    ADD COLUMN push_burst smallint NOT NULL DEFAULT 0,
    ADD COLUMN push_due_at timestamptz DEFAULT now(),
    ADD COLUMN push_failure_count integer NOT NULL DEFAULT 0,
    ADD COLUMN push_error_code varchar(100),
    ADD COLUMN push_silent_since timestamptz;

-- Claiming walks both in the order of their time.
CREATE INDEX calendar_accounts_pushed_at_idx ON calendar_accounts (pushed_at)
    WHERE pushed_at IS NOT NULL AND deleted_at IS NULL AND needs_reauth_reason IS NULL;
CREATE INDEX calendar_accounts_push_due_at_idx ON calendar_accounts (push_due_at)
    WHERE push_due_at IS NOT NULL AND deleted_at IS NULL AND needs_reauth_reason IS NULL;
-- No claim walks it, and each one and each heartbeat would write it.
DROP INDEX calendar_accounts_lease_expires_at_idx;

-- Those that are there already are subscribed over an hour, not all at once.
UPDATE calendar_accounts SET push_due_at = now() + random() * interval '1 hour';

COMMENT ON COLUMN calendar_accounts.pushed_at IS 'A push asked for a look that no claim has taken yet; not before this instant.';
COMMENT ON COLUMN calendar_accounts.push_taken_at IS 'When a claim last took what a push had asked for.';
COMMENT ON COLUMN calendar_accounts.push_burst IS 'How many claims in a row took a push soon after another: the next one waits longer.';
COMMENT ON COLUMN calendar_accounts.push_due_at IS 'When the account''s subscription is to be seen to; null = when something happens.';
COMMENT ON COLUMN calendar_accounts.push_failure_count IS 'Failures in a row of seeing to the subscription.';
COMMENT ON COLUMN calendar_accounts.push_error_code IS 'Code of the last of them; null after a success.';
COMMENT ON COLUMN calendar_accounts.push_silent_since IS 'When polling found a change that no push had announced; a later push makes up for it.';

ALTER TABLE calendar_connections ADD COLUMN is_shared boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN calendar_connections.is_shared IS 'Another''s calendar: pushes to the account do not cover it.';

UPDATE calendar_connections AS c SET is_shared = true WHERE c.mailbox IS NOT NULL;
-- Whose the primary one is not. The next sign-in says it of the others.
UPDATE calendar_connections AS c SET is_shared = true
FROM calendar_connections AS p
WHERE p.account_id = c.account_id AND p.is_primary AND p.mailbox IS NULL AND p.deleted_at IS NULL
  AND c.mailbox IS NULL AND lower(c.owner_email) <> lower(p.owner_email);

ALTER TABLE calendar_sync_states
    ADD COLUMN push_look smallint,
    ADD CONSTRAINT calendar_sync_states_push_look_check CHECK (push_look BETWEEN 1 AND 3);
COMMENT ON COLUMN calendar_sync_states.push_look IS 'Which look after a push the next pass is: 1 at once, 2 and 3 when the one before found nothing; null = no push asked for it.';
COMMENT ON COLUMN calendar_sync_states.events_skipped IS 'Events set aside as unreadable in the last full pass and since.';
COMMENT ON COLUMN calendar_sync_states.requested_seq IS 'Raised by every request for a sync; a pass that finds it moved at its end makes the connection due at once. A push marks the account instead.';
