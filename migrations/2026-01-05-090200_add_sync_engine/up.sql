-- What the sync engine needs beyond the calendar's own tables: accounts with their lease, the state
-- of each connection's sync, sessions, and the columns that identify instances and versions.

CREATE TYPE sync_pass_kind AS ENUM ('FULL', 'DELTA');
CREATE TYPE event_show_as AS ENUM
    ('FREE', 'TENTATIVE', 'BUSY', 'OOF', 'WORKING_ELSEWHERE', 'UNKNOWN');
CREATE TYPE event_sensitivity AS ENUM ('NORMAL', 'PERSONAL', 'PRIVATE', 'CONFIDENTIAL');

COMMENT ON TYPE sync_pass_kind IS 'Whether a pass reads the whole window or what changed.';
COMMENT ON TYPE event_show_as IS 'How the time shows to others.';
COMMENT ON TYPE event_sensitivity IS 'Who may see the details.';

CREATE TABLE calendar_accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    provider calendar_provider NOT NULL,
    tenant_id varchar(255) NOT NULL DEFAULT '',
    provider_user_id varchar(255) NOT NULL,
    email varchar(255),
    display_name varchar(255),
    granted_scopes text NOT NULL DEFAULT '',
    needs_reauth_reason varchar(255),
    lease_owner uuid,
    lease_expires_at timestamptz,
    lease_fence bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT calendar_accounts_user_id_fkey
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT calendar_accounts_identity_key
        UNIQUE (user_id, provider, tenant_id, provider_user_id)
) WITH (fillfactor = 70);

-- Claiming asks for accounts that may be worked and whose lease is free (null) or has run out.
CREATE INDEX calendar_accounts_lease_expires_at_idx
    ON calendar_accounts (lease_expires_at NULLS FIRST)
    WHERE deleted_at IS NULL AND needs_reauth_reason IS NULL;

COMMENT ON TABLE calendar_accounts IS 'One sign-in of a user at a provider: its connections share tokens, lease and limits.';
COMMENT ON COLUMN calendar_accounts.id IS 'Identity.';
COMMENT ON COLUMN calendar_accounts.user_id IS 'Whose account it is.';
COMMENT ON COLUMN calendar_accounts.provider IS 'Where the user signed in.';
COMMENT ON COLUMN calendar_accounts.tenant_id IS 'Microsoft''s tenant; empty where the provider has none.';
COMMENT ON COLUMN calendar_accounts.provider_user_id IS 'The provider''s id of the person who signed in.';
COMMENT ON COLUMN calendar_accounts.email IS 'Address of the account at the provider.';
COMMENT ON COLUMN calendar_accounts.display_name IS 'Name of the account at the provider.';
COMMENT ON COLUMN calendar_accounts.granted_scopes IS 'What was granted, separated by spaces.';
COMMENT ON COLUMN calendar_accounts.needs_reauth_reason IS 'Why the user must sign in again; null while signed in.';
COMMENT ON COLUMN calendar_accounts.lease_owner IS 'The worker that holds the account.';
COMMENT ON COLUMN calendar_accounts.lease_expires_at IS 'End of the lease by the database''s clock.';
COMMENT ON COLUMN calendar_accounts.lease_fence IS 'Raised by each claim; a write with an older number is refused.';
COMMENT ON COLUMN calendar_accounts.created_at IS 'When the row was written.';
COMMENT ON COLUMN calendar_accounts.updated_at IS 'When the row last changed; kept by the code, no trigger.';
COMMENT ON COLUMN calendar_accounts.deleted_at IS 'Soft delete.';

ALTER TABLE calendar_connections
    ADD COLUMN account_id uuid,
    ADD COLUMN mailbox varchar(255),
    ADD COLUMN time_zone varchar(100),
    ADD COLUMN can_edit boolean NOT NULL DEFAULT false,
    ADD COLUMN owner_email varchar(255),
    ADD CONSTRAINT calendar_connections_account_id_fkey
        FOREIGN KEY (account_id) REFERENCES calendar_accounts (id) ON DELETE CASCADE;

CREATE INDEX calendar_connections_account_id_idx ON calendar_connections (account_id)
    WHERE account_id IS NOT NULL;

COMMENT ON COLUMN calendar_connections.account_id IS 'The sign-in it belongs to; null where an older application made the connection.';
COMMENT ON COLUMN calendar_connections.mailbox IS 'The mailbox it is read through; null = the account''s own.';
COMMENT ON COLUMN calendar_connections.time_zone IS 'IANA name of the calendar''s time zone.';
COMMENT ON COLUMN calendar_connections.can_edit IS 'The provider lets the account change events.';
COMMENT ON COLUMN calendar_connections.owner_email IS 'Address of the calendar''s owner.';

CREATE TABLE calendar_sync_states (
    connection_id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    requested_seq bigint NOT NULL DEFAULT 0,
    is_paused boolean NOT NULL DEFAULT false,
    window_start timestamptz,
    window_end timestamptz,
    pass_id uuid,
    pass_kind sync_pass_kind,
    pass_cursor text,
    pass_window_start timestamptz,
    pass_window_end timestamptz,
    pass_started_at timestamptz,
    pass_pages integer NOT NULL DEFAULT 0,
    pass_touched_series boolean NOT NULL DEFAULT false,
    pass_sync_token text,
    removal_held boolean NOT NULL DEFAULT false,
    last_full_sync_at timestamptz,
    failure_count integer NOT NULL DEFAULT 0,
    last_error_code varchar(100),
    last_error_at timestamptz,
    events_skipped integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT calendar_sync_states_connection_id_fkey
        FOREIGN KEY (connection_id) REFERENCES calendar_connections (id) ON DELETE CASCADE,
    CONSTRAINT calendar_sync_states_account_id_fkey
        FOREIGN KEY (account_id) REFERENCES calendar_accounts (id) ON DELETE CASCADE
) WITH (fillfactor = 70);

CREATE INDEX calendar_sync_states_account_id_idx ON calendar_sync_states (account_id);
CREATE INDEX calendar_sync_states_due_at_idx ON calendar_sync_states (due_at) WHERE NOT is_paused;

COMMENT ON TABLE calendar_sync_states IS 'How the sync of a connection stands: what is due, the pass under way, the last failure. Apart from the connection because every page writes it.';
COMMENT ON COLUMN calendar_sync_states.connection_id IS 'The connection.';
COMMENT ON COLUMN calendar_sync_states.account_id IS 'The account whose lease guards it.';
COMMENT ON COLUMN calendar_sync_states.due_at IS 'When the next pass is due.';
COMMENT ON COLUMN calendar_sync_states.requested_seq IS 'Raised by every push and every request for a sync; a release that finds it moved makes the connection due at once.';
COMMENT ON COLUMN calendar_sync_states.is_paused IS 'The user paused it: never due.';
COMMENT ON COLUMN calendar_sync_states.window_start IS 'Start of the window of the stored delta link.';
COMMENT ON COLUMN calendar_sync_states.window_end IS 'End of the window of the stored delta link.';
COMMENT ON COLUMN calendar_sync_states.pass_id IS 'The pass under way or broken off; null when none is.';
COMMENT ON COLUMN calendar_sync_states.pass_kind IS 'What that pass reads.';
COMMENT ON COLUMN calendar_sync_states.pass_cursor IS 'Next link of that pass: where it goes on after a crash.';
COMMENT ON COLUMN calendar_sync_states.pass_window_start IS 'Start of the window that the pass reads.';
COMMENT ON COLUMN calendar_sync_states.pass_window_end IS 'End of the window that the pass reads.';
COMMENT ON COLUMN calendar_sync_states.pass_started_at IS 'When the pass began.';
COMMENT ON COLUMN calendar_sync_states.pass_pages IS 'Pages applied so far in the pass.';
COMMENT ON COLUMN calendar_sync_states.pass_touched_series IS 'A page of the pass touched a series, so its holes are judged at the end.';
COMMENT ON COLUMN calendar_sync_states.pass_sync_token IS 'All pages of the pass are stored; becomes the sync token when the pass ends.';
COMMENT ON COLUMN calendar_sync_states.removal_held IS 'The last full pass would have removed suspiciously much and removed nothing; the next one confirms.';
COMMENT ON COLUMN calendar_sync_states.last_full_sync_at IS 'End of the last complete full pass.';
COMMENT ON COLUMN calendar_sync_states.failure_count IS 'Failures in a row; sets the back-off.';
COMMENT ON COLUMN calendar_sync_states.last_error_code IS 'Code of the last failure; null after a success.';
COMMENT ON COLUMN calendar_sync_states.last_error_at IS 'When the last failure happened.';
COMMENT ON COLUMN calendar_sync_states.events_skipped IS 'Events of the last pass that were set aside as unreadable.';
COMMENT ON COLUMN calendar_sync_states.updated_at IS 'When the row last changed; kept by the code, no trigger.';

-- Filled page by page and emptied after each full pass: vacuum it early, its size is mostly dead rows.
CREATE TABLE sync_pass_seen (
    calendar_connection_id uuid NOT NULL,
    pass_id uuid NOT NULL,
    event_id uuid NOT NULL,
    -- No foreign key: it would be checked for each row of each page. What belongs to no pass any more is
    -- purged by housekeeping.
    PRIMARY KEY (calendar_connection_id, pass_id, event_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.05);

COMMENT ON TABLE sync_pass_seen IS 'What a full pass has seen so far; what it has not seen at its end is gone at the provider.';
COMMENT ON COLUMN sync_pass_seen.calendar_connection_id IS 'The connection.';
COMMENT ON COLUMN sync_pass_seen.pass_id IS 'The pass.';
COMMENT ON COLUMN sync_pass_seen.event_id IS 'calendar_events.id of an event that the pass saw.';

CREATE TABLE connect_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    provider calendar_provider NOT NULL,
    state_hash bytea NOT NULL,
    code_verifier text NOT NULL,
    delegate_email varchar(255),
    calendars jsonb NOT NULL,
    return_url text,
    expires_at timestamptz NOT NULL,
    consumed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT connect_sessions_user_id_fkey
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT connect_sessions_state_hash_key UNIQUE (state_hash)
);

CREATE INDEX connect_sessions_user_id_idx ON connect_sessions (user_id);
CREATE INDEX connect_sessions_expires_at_idx ON connect_sessions (expires_at);

COMMENT ON TABLE connect_sessions IS 'An OAuth sign-in under way; used once.';
COMMENT ON COLUMN connect_sessions.id IS 'Identity.';
COMMENT ON COLUMN connect_sessions.user_id IS 'Who connects.';
COMMENT ON COLUMN connect_sessions.provider IS 'Where the user signs in.';
COMMENT ON COLUMN connect_sessions.state_hash IS 'SHA-256 of the OAuth state; the state itself is not stored.';
COMMENT ON COLUMN connect_sessions.code_verifier IS 'PKCE verifier, sealed (v1.…).';
COMMENT ON COLUMN connect_sessions.delegate_email IS 'Owner of the shared calendar to connect.';
COMMENT ON COLUMN connect_sessions.calendars IS 'Which calendars to connect: "all", "primary" or a list of ids.';
COMMENT ON COLUMN connect_sessions.return_url IS 'Where the browser goes afterwards.';
COMMENT ON COLUMN connect_sessions.expires_at IS 'When the sign-in can no longer be completed.';
COMMENT ON COLUMN connect_sessions.consumed_at IS 'When the callback used it.';
COMMENT ON COLUMN connect_sessions.created_at IS 'When the row was written.';

CREATE TABLE api_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    CONSTRAINT api_sessions_user_id_fkey
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT api_sessions_token_hash_key UNIQUE (token_hash)
);

CREATE INDEX api_sessions_user_id_idx ON api_sessions (user_id);
CREATE INDEX api_sessions_expires_at_idx ON api_sessions (expires_at);

COMMENT ON TABLE api_sessions IS 'A sign-in to the API.';
COMMENT ON COLUMN api_sessions.id IS 'Identity.';
COMMENT ON COLUMN api_sessions.user_id IS 'Who signed in.';
COMMENT ON COLUMN api_sessions.token_hash IS 'SHA-256 of the token; the token itself is not stored.';
COMMENT ON COLUMN api_sessions.expires_at IS 'When the token ends.';
COMMENT ON COLUMN api_sessions.created_at IS 'When the row was written.';
COMMENT ON COLUMN api_sessions.last_used_at IS 'When the token was last used, to the nearest few minutes.';

ALTER TABLE calendar_events
    ADD COLUMN ical_uid varchar(1024),
    ADD COLUMN original_start timestamptz,
    ADD COLUMN end_timezone varchar(100),
    ADD COLUMN show_as event_show_as,
    ADD COLUMN sensitivity event_sensitivity,
    ADD COLUMN organizer_email varchar(255),
    ADD COLUMN organizer_name varchar(255),
    ADD COLUMN is_organizer boolean,
    ADD COLUMN version uuid,
    ADD COLUMN timezone_unresolved boolean NOT NULL DEFAULT false,
    ADD COLUMN inherits boolean NOT NULL DEFAULT false,
    ADD COLUMN content_version uuid;

CREATE INDEX calendar_events_ical_uid_idx ON calendar_events (ical_uid) WHERE ical_uid IS NOT NULL;
-- An instance is identified by its master and its original start, also when the provider renames it.
CREATE UNIQUE INDEX calendar_events_instance_key
    ON calendar_events (calendar_connection_id, parent_event_id, original_start)
    WHERE parent_event_id IS NOT NULL AND original_start IS NOT NULL AND deleted_at IS NULL;
-- Housekeeping asks for old tombstones.
CREATE INDEX calendar_events_deleted_at_idx ON calendar_events (deleted_at)
    WHERE deleted_at IS NOT NULL;

COMMENT ON COLUMN calendar_events.ical_uid IS 'iCalendar UID, the same in every attendee''s calendar.';
COMMENT ON COLUMN calendar_events.original_start IS 'On an instance: the start that the rule gives, kept when the instance is moved.';
COMMENT ON COLUMN calendar_events.end_timezone IS 'IANA name of the end''s time zone, where it differs from the start''s.';
COMMENT ON COLUMN calendar_events.show_as IS 'How the time shows to others.';
COMMENT ON COLUMN calendar_events.sensitivity IS 'Who may see the details.';
COMMENT ON COLUMN calendar_events.organizer_email IS 'Address of the organiser.';
COMMENT ON COLUMN calendar_events.organizer_name IS 'Name of the organiser.';
COMMENT ON COLUMN calendar_events.is_organizer IS 'The calendar''s owner organises the event; null when the provider does not say.';
COMMENT ON COLUMN calendar_events.version IS 'Hash of the mapped row with attendees, reminders and what it inherits; a pass writes a row only when it differs.';
COMMENT ON COLUMN calendar_events.timezone_unresolved IS 'The provider''s time zone is unknown: the instants hold, its name stays in provider_metadata.';
COMMENT ON COLUMN calendar_events.inherits IS 'An unmodified occurrence: what its row does not carry is its master''s.';
COMMENT ON COLUMN calendar_events.content_version IS 'Of a series master: hash of what its occurrences inherit.';

-- For Citus: rows that belong to one connection stay on one node.
ALTER TABLE event_attendees
    ADD COLUMN calendar_connection_id uuid,
    ADD COLUMN attendee_type varchar(20);
ALTER TABLE event_reminders ADD COLUMN calendar_connection_id uuid;

COMMENT ON COLUMN event_attendees.calendar_connection_id IS 'The event''s connection, for spreading by Citus; null where an older application wrote the row.';
COMMENT ON COLUMN event_attendees.attendee_type IS 'required, optional or resource.';
COMMENT ON COLUMN event_reminders.calendar_connection_id IS 'The event''s connection, for spreading by Citus; null where an older application wrote the row.';

UPDATE event_attendees AS a SET calendar_connection_id = e.calendar_connection_id
FROM calendar_events AS e WHERE e.id = a.event_id;
UPDATE event_reminders AS r SET calendar_connection_id = e.calendar_connection_id
FROM calendar_events AS e WHERE e.id = r.event_id;

-- Sign-in works on the lower-cased address, also for users whose row keeps capitals.
CREATE INDEX users_lower_email_idx ON users (lower(email)) WHERE deleted_at IS NULL;
