DROP TABLE api_keys;
-- Nobody could act for them any more.
DELETE FROM users WHERE managed_by IS NOT NULL;
DROP INDEX users_deleted_at_idx;
DROP INDEX users_managed_by_idx;
DROP INDEX users_managed_email_key;
ALTER TABLE users DROP COLUMN managed_email, DROP COLUMN managed_by;
COMMENT ON COLUMN users.email IS 'Sign-in address. Unique as written; sign-up and sign-in use the lower-cased one.';
