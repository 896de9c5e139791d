ALTER TABLE calendar_accounts DROP COLUMN missing_permissions;
