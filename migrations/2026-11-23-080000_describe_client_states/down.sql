COMMENT ON COLUMN webhook_subscriptions.client_state IS 'Secret that each push must carry.';
