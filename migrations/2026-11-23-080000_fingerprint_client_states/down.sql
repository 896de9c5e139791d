-- The secrets cannot be had back: subscriptions that exist are renewed as they are, and their pushes refused by
-- the previous version until they are made anew.
COMMENT ON COLUMN webhook_subscriptions.client_state IS 'Secret that each push must carry.';
