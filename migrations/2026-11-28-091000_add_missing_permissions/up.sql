-- A sign-in may grant less than was asked for, and a later one less than it did.

ALTER TABLE calendar_accounts ADD COLUMN missing_permissions text[] NOT NULL DEFAULT '{}';

COMMENT ON COLUMN calendar_accounts.missing_permissions IS 'What was not granted: read_calendars, read_shared_calendars.';
