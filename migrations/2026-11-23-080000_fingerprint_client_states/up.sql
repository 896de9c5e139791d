-- Who can read the table must not be able to send pushes in a provider's name: of a client state only the
-- fingerprint is kept. An api of the previous version refuses pushes until it is restarted; polling finds
-- what they told of.
UPDATE webhook_subscriptions
SET client_state = 'sha256:' || encode(sha256(convert_to(client_state, 'UTF8')), 'hex')
WHERE client_state NOT LIKE 'sha256:%';

COMMENT ON COLUMN webhook_subscriptions.client_state IS 'sha256: and the SHA-256, in hex, of the secret that each push must carry.';
