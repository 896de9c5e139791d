-- The calendar before the Microsoft integration: connections with their OAuth tokens, events with
-- recurrence, attendees and reminders as JSONB. A system that already runs this schema starts here.

CREATE TYPE calendar_provider AS ENUM ('GOOGLE', 'MICROSOFT', 'APPLE');
CREATE TYPE event_status AS ENUM ('CONFIRMED', 'TENTATIVE', 'CANCELLED');
CREATE TYPE sync_status AS ENUM ('SYNCED', 'PENDING', 'FAILED', 'CONFLICT');
CREATE TYPE recurrence_frequency AS ENUM ('DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY');
CREATE TYPE recurrence_end_type AS ENUM ('NEVER', 'UNTIL_DATE', 'AFTER_COUNT');
CREATE TYPE month_day_type AS ENUM ('DAY_OF_MONTH', 'DAY_OF_WEEK');

COMMENT ON TYPE calendar_provider IS 'Who keeps the calendar.';
COMMENT ON TYPE event_status IS 'Whether the event takes place.';
COMMENT ON TYPE sync_status IS 'How this row stands to the provider''s copy.';
COMMENT ON TYPE recurrence_frequency IS 'FREQ of the recurrence rule.';
COMMENT ON TYPE recurrence_end_type IS 'How the recurrence ends.';
COMMENT ON TYPE month_day_type IS 'Whether a monthly or yearly rule names a day of the month or a weekday.';

CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL,
    password_hash varchar(255),
    first_name varchar(100),
    last_name varchar(100),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT users_email_key UNIQUE (email)
);

COMMENT ON TABLE users IS 'A person who connects calendars.';
COMMENT ON COLUMN users.id IS 'Identity; UUIDv7 when this project wrote the row.';
COMMENT ON COLUMN users.email IS 'Sign-in address. Unique as written; sign-up and sign-in use the lower-cased one.';
COMMENT ON COLUMN users.password_hash IS 'argon2id in PHC form; null when the user can''t sign in by password.';
COMMENT ON COLUMN users.first_name IS 'Given name.';
COMMENT ON COLUMN users.last_name IS 'Family name.';
COMMENT ON COLUMN users.created_at IS 'When the row was written.';
COMMENT ON COLUMN users.updated_at IS 'When the row last changed; kept by the code, no trigger.';
COMMENT ON COLUMN users.deleted_at IS 'Soft delete; the address is made anonymous at once, so that it can sign up again.';

CREATE TABLE calendar_connections (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    provider calendar_provider NOT NULL,
    calendar_id varchar(255) NOT NULL,
    calendar_name varchar(255),
    access_token text,
    refresh_token text,
    token_expires_at timestamptz,
    calendar_color varchar(7),
    is_primary boolean NOT NULL DEFAULT false,
    is_connected boolean NOT NULL DEFAULT true,
    last_synced_at timestamptz,
    sync_token text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT calendar_connections_user_id_fkey
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT calendar_connections_user_id_provider_calendar_id_key
        UNIQUE (user_id, provider, calendar_id)
);

CREATE INDEX calendar_connections_user_id_idx ON calendar_connections (user_id);
CREATE INDEX calendar_connections_provider_idx ON calendar_connections (provider);
CREATE INDEX calendar_connections_is_connected_idx ON calendar_connections (is_connected);
CREATE INDEX calendar_connections_last_synced_at_idx ON calendar_connections (last_synced_at);
CREATE INDEX calendar_connections_deleted_at_idx ON calendar_connections (deleted_at)
    WHERE deleted_at IS NOT NULL;

COMMENT ON TABLE calendar_connections IS 'One calendar of one user at one provider.';
COMMENT ON COLUMN calendar_connections.id IS 'Identity; kept when the same calendar is connected again.';
COMMENT ON COLUMN calendar_connections.user_id IS 'Whose connection it is.';
COMMENT ON COLUMN calendar_connections.provider IS 'Who keeps the calendar.';
COMMENT ON COLUMN calendar_connections.calendar_id IS 'The provider''s id of the calendar; one that is too long is stored as sha256:….';
COMMENT ON COLUMN calendar_connections.calendar_name IS 'Name to show.';
COMMENT ON COLUMN calendar_connections.access_token IS 'Sealed access token (v1.…); anything else was stored by an older application and asks for a new sign-in.';
COMMENT ON COLUMN calendar_connections.refresh_token IS 'Sealed refresh token (v1.…), the same on all connections of an account.';
COMMENT ON COLUMN calendar_connections.token_expires_at IS 'When the access token ends.';
COMMENT ON COLUMN calendar_connections.calendar_color IS 'Colour to show, #rrggbb.';
COMMENT ON COLUMN calendar_connections.is_primary IS 'The account''s default calendar.';
COMMENT ON COLUMN calendar_connections.is_connected IS 'False once disconnected; such a calendar is not synced.';
COMMENT ON COLUMN calendar_connections.last_synced_at IS 'End of the last complete pass.';
COMMENT ON COLUMN calendar_connections.sync_token IS 'The provider''s delta link or sync token, as it came.';
COMMENT ON COLUMN calendar_connections.created_at IS 'When the row was written.';
COMMENT ON COLUMN calendar_connections.updated_at IS 'When the row last changed; kept by the code, no trigger.';
COMMENT ON COLUMN calendar_connections.deleted_at IS 'Soft delete; connecting the calendar again revives the row.';

CREATE TABLE calendar_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    calendar_connection_id uuid NOT NULL,
    provider_event_id varchar(255) NOT NULL,
    title varchar(500),
    description text,
    location varchar(500),
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    is_all_day boolean NOT NULL DEFAULT false,
    timezone varchar(100),
    status event_status NOT NULL DEFAULT 'CONFIRMED',
    sync_status sync_status NOT NULL DEFAULT 'SYNCED',
    is_recurring boolean NOT NULL DEFAULT false,
    recurrence_rule text,
    recurrence_frequency recurrence_frequency,
    recurrence_interval integer,
    recurrence_end_type recurrence_end_type,
    recurrence_end_date timestamptz,
    recurrence_count integer,
    recurrence_by_day varchar(100),
    month_day_type month_day_type,
    recurrence_by_month_day integer,
    recurrence_by_set_pos integer,
    recurrence_by_day_of_week varchar(100),
    recurrence_by_month varchar(50),
    exception_dates text,
    parent_event_id uuid,
    attendees jsonb,
    reminders jsonb,
    provider_metadata jsonb,
    html_link text,
    last_synced_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT calendar_events_calendar_connection_id_fkey
        FOREIGN KEY (calendar_connection_id) REFERENCES calendar_connections (id) ON DELETE CASCADE,
    CONSTRAINT calendar_events_parent_event_id_fkey
        FOREIGN KEY (parent_event_id) REFERENCES calendar_events (id) ON DELETE CASCADE,
    CONSTRAINT calendar_events_calendar_connection_id_provider_event_id_key
        UNIQUE (calendar_connection_id, provider_event_id)
);

-- Partial where only some rows can be asked for: such an index costs nothing on most writes.
-- By calendar_connection_id alone: the columns that lists order by are appended. Without them the
-- planner prefers this index to the one for Teams meetings wherever a calendar's rows lie together.
CREATE INDEX calendar_events_calendar_connection_id_idx
    ON calendar_events (calendar_connection_id, updated_at, id);
CREATE INDEX calendar_events_provider_event_id_idx ON calendar_events (provider_event_id);
CREATE INDEX calendar_events_start_time_idx ON calendar_events (start_time);
CREATE INDEX calendar_events_end_time_idx ON calendar_events (end_time);
CREATE INDEX calendar_events_status_idx ON calendar_events (status) WHERE status <> 'CONFIRMED';
CREATE INDEX calendar_events_sync_status_idx ON calendar_events (sync_status)
    WHERE sync_status <> 'SYNCED';
CREATE INDEX calendar_events_is_recurring_idx ON calendar_events (is_recurring) WHERE is_recurring;
CREATE INDEX calendar_events_parent_event_id_idx ON calendar_events (parent_event_id)
    WHERE parent_event_id IS NOT NULL;
CREATE INDEX calendar_events_connection_start_end_idx
    ON calendar_events (calendar_connection_id, start_time, end_time);

COMMENT ON TABLE calendar_events IS 'An event: a single one, the master of a series, or one instance of a series.';
COMMENT ON COLUMN calendar_events.id IS 'Identity; UUIDv7 when this project wrote the row.';
COMMENT ON COLUMN calendar_events.calendar_connection_id IS 'The calendar it stands in.';
COMMENT ON COLUMN calendar_events.provider_event_id IS 'The provider''s id of the event; one that is too long is stored as sha256:….';
COMMENT ON COLUMN calendar_events.title IS 'Subject, cut at the column''s length.';
COMMENT ON COLUMN calendar_events.description IS 'The body as text; HTML stays in provider_metadata.';
COMMENT ON COLUMN calendar_events.location IS 'Where, as one text.';
COMMENT ON COLUMN calendar_events.start_time IS 'Start; midnight UTC of the date for an all-day event.';
COMMENT ON COLUMN calendar_events.end_time IS 'End, exclusive; midnight UTC of the date for an all-day event.';
COMMENT ON COLUMN calendar_events.is_all_day IS 'Start and end are dates, not instants.';
COMMENT ON COLUMN calendar_events.timezone IS 'IANA name of the start''s time zone.';
COMMENT ON COLUMN calendar_events.status IS 'Whether the event takes place.';
COMMENT ON COLUMN calendar_events.sync_status IS 'How this row stands to the provider''s copy.';
COMMENT ON COLUMN calendar_events.is_recurring IS 'True for the master of a series.';
COMMENT ON COLUMN calendar_events.recurrence_rule IS 'RFC 5545 RRULE without the name; it decides, the recurrence_ columns are the same rule taken apart.';
COMMENT ON COLUMN calendar_events.recurrence_frequency IS 'FREQ; null where the rule does not fit these columns.';
COMMENT ON COLUMN calendar_events.recurrence_interval IS 'INTERVAL.';
COMMENT ON COLUMN calendar_events.recurrence_end_type IS 'How the recurrence ends.';
COMMENT ON COLUMN calendar_events.recurrence_end_date IS 'UNTIL, for UNTIL_DATE.';
COMMENT ON COLUMN calendar_events.recurrence_count IS 'COUNT, for AFTER_COUNT.';
COMMENT ON COLUMN calendar_events.recurrence_by_day IS 'Weekdays of a weekly rule: MO,WE.';
COMMENT ON COLUMN calendar_events.month_day_type IS 'Whether a monthly or yearly rule names a day of the month or a weekday.';
COMMENT ON COLUMN calendar_events.recurrence_by_month_day IS 'BYMONTHDAY, for DAY_OF_MONTH.';
COMMENT ON COLUMN calendar_events.recurrence_by_set_pos IS 'Position of the weekday in the month, -1 the last, for DAY_OF_WEEK.';
COMMENT ON COLUMN calendar_events.recurrence_by_day_of_week IS 'Weekdays of a DAY_OF_WEEK rule: MO,WE.';
COMMENT ON COLUMN calendar_events.recurrence_by_month IS 'Months: 1,6.';
COMMENT ON COLUMN calendar_events.exception_dates IS 'EXDATE values with commas: 20260105T090000Z, 20260105 for all-day series.';
COMMENT ON COLUMN calendar_events.parent_event_id IS 'The series master, on an instance.';
COMMENT ON COLUMN calendar_events.attendees IS 'Deprecated: list of {email, displayName, responseStatus, organizer, optional, comment}.';
COMMENT ON COLUMN calendar_events.reminders IS 'Deprecated: list of {method, minutes}.';
COMMENT ON COLUMN calendar_events.provider_metadata IS 'What the provider sent and no column holds, raw.';
COMMENT ON COLUMN calendar_events.html_link IS 'Page of the event at the provider.';
COMMENT ON COLUMN calendar_events.last_synced_at IS 'When a pass last wrote this row.';
COMMENT ON COLUMN calendar_events.created_at IS 'When the row was written.';
COMMENT ON COLUMN calendar_events.updated_at IS 'When the row last changed; kept by the code, no trigger.';
COMMENT ON COLUMN calendar_events.deleted_at IS 'Tombstone: removed at the provider; purged later.';
