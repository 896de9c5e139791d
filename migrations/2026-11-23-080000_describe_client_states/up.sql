-- Who can read the table must not be able to send pushes in a provider's name: of a client state only the
-- fingerprint is kept. What an older version stored stays as it is until its next renewal, so that an older api
-- still takes those pushes.
COMMENT ON COLUMN webhook_subscriptions.client_state IS 'sha256: and the SHA-256, in hex, of the secret that each push must carry; the secret itself where an older version stored it and it was not renewed since.';
