-- The rights of the role that the services run as: rows, and nothing else. Run it in the database as its owner,
-- who migrates; before the first migration or after it. The role has to be there.
GRANT USAGE ON SCHEMA public TO calendar_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO calendar_service;
-- What later migrations make.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO calendar_service;
