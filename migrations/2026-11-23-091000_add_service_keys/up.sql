-- Service keys: a product's backend acts for the users that it made. Those belong to the key's owner,
-- sign in nowhere, and have an address of their own, which need be unique within the product only.

ALTER TABLE users
    ADD COLUMN managed_by uuid,
    ADD COLUMN managed_email varchar(255),
    ADD CONSTRAINT users_managed_by_fkey
        FOREIGN KEY (managed_by) REFERENCES users (id) ON DELETE CASCADE,
    ADD CONSTRAINT users_managed_check CHECK (managed_by IS NOT NULL OR managed_email IS NULL);

CREATE UNIQUE INDEX users_managed_email_key ON users (managed_by, lower(managed_email))
    WHERE managed_by IS NOT NULL AND deleted_at IS NULL;
-- A product's list of its users, and the key above.
CREATE INDEX users_managed_by_idx ON users (managed_by, id) WHERE managed_by IS NOT NULL;
-- Housekeeping asks for users who are long gone.
CREATE INDEX users_deleted_at_idx ON users (deleted_at) WHERE deleted_at IS NOT NULL;

COMMENT ON COLUMN users.email IS 'Sign-in address. Unique as written; sign-up and sign-in use the lower-cased one. Of a managed user: managed-<id>@invalid.';
COMMENT ON COLUMN users.managed_by IS 'The user whose service key made this one and acts for it; null = signed up by themselves.';
COMMENT ON COLUMN users.managed_email IS 'The address of a managed user, unique among those of the same owner.';

CREATE TABLE api_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    name varchar(100) NOT NULL,
    token_hint varchar(20) NOT NULL,
    token_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    CONSTRAINT api_keys_user_id_fkey
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT api_keys_token_hash_key UNIQUE (token_hash),
    CONSTRAINT api_keys_scopes_check CHECK (scopes
        <@ ARRAY['events:read', 'connections:manage', 'users:manage'] AND cardinality(scopes) > 0)
);

CREATE INDEX api_keys_user_id_idx ON api_keys (user_id, id);

COMMENT ON TABLE api_keys IS 'A service key: with it a backend calls the API for its users.';
COMMENT ON COLUMN api_keys.id IS 'Identity.';
COMMENT ON COLUMN api_keys.user_id IS 'Who made it.';
COMMENT ON COLUMN api_keys.name IS 'What its owner calls it.';
COMMENT ON COLUMN api_keys.token_hint IS 'How the key begins, to recognise it by.';
COMMENT ON COLUMN api_keys.token_hash IS 'SHA-256 of the key; the key itself is not stored.';
COMMENT ON COLUMN api_keys.scopes IS 'What it may do: events:read, connections:manage, users:manage.';
COMMENT ON COLUMN api_keys.created_at IS 'When the row was written.';
COMMENT ON COLUMN api_keys.last_used_at IS 'When the key was last used, to the nearest hour.';
