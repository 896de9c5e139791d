-- The Microsoft integration: shared calendars, Outlook and Teams columns, relational attendees and
-- reminders, webhook subscriptions. Every added column is nullable or has a default, and the JSONB
-- columns stay: an application that knows none of this works on.

CREATE TYPE event_importance AS ENUM ('LOW', 'NORMAL', 'HIGH');
CREATE TYPE rsvp_status AS ENUM ('NEEDS_ACTION', 'ACCEPTED', 'DECLINED', 'TENTATIVE');
CREATE TYPE reminder_method AS ENUM ('POPUP', 'EMAIL', 'SMS');

COMMENT ON TYPE event_importance IS 'Outlook''s importance.';
COMMENT ON TYPE rsvp_status IS 'What an attendee answered.';
COMMENT ON TYPE reminder_method IS 'How a reminder reaches the user.';

ALTER TABLE calendar_connections ADD COLUMN delegate_email varchar(255);
CREATE INDEX calendar_connections_delegate_email_idx ON calendar_connections (delegate_email)
    WHERE delegate_email IS NOT NULL;
COMMENT ON COLUMN calendar_connections.delegate_email IS 'Owner of a shared calendar that is reached through delegation.';

ALTER TABLE calendar_events
    ADD COLUMN importance event_importance NOT NULL DEFAULT 'NORMAL',
    ADD COLUMN outlook_categories text,
    ADD COLUMN conversation_id varchar(255),
    ADD COLUMN series_master_id varchar(255),
    ADD COLUMN teams_enabled boolean NOT NULL DEFAULT false,
    ADD COLUMN teams_meeting_url text,
    ADD COLUMN teams_conference_id varchar(255),
    ADD COLUMN teams_dial_in_url text;

CREATE INDEX calendar_events_importance_idx ON calendar_events (importance)
    WHERE importance <> 'NORMAL';
-- created_at appended: an event thread comes in order without a sort.
CREATE INDEX calendar_events_conversation_id_idx ON calendar_events (conversation_id, created_at)
    WHERE conversation_id IS NOT NULL;
CREATE INDEX calendar_events_series_master_id_idx ON calendar_events (series_master_id)
    WHERE series_master_id IS NOT NULL;
CREATE INDEX calendar_events_teams_enabled_idx ON calendar_events (teams_enabled)
    WHERE teams_enabled;
-- end_time appended: without it the planner leaves this index once a third of the events are Teams
-- meetings.
CREATE INDEX calendar_events_connection_teams_start_idx
    ON calendar_events (calendar_connection_id, teams_enabled, start_time, end_time)
    WHERE teams_enabled;
CREATE INDEX calendar_events_created_at_idx ON calendar_events (created_at);

COMMENT ON COLUMN calendar_events.importance IS 'Outlook''s importance.';
COMMENT ON COLUMN calendar_events.outlook_categories IS 'Outlook''s categories, a JSON array as text.';
COMMENT ON COLUMN calendar_events.conversation_id IS 'Thread: conversationId where the provider sends one, else iCalUId. Unmodified instances have none.';
COMMENT ON COLUMN calendar_events.series_master_id IS 'The provider''s id of the series master, on an instance.';
COMMENT ON COLUMN calendar_events.teams_enabled IS 'A Teams meeting that takes place: false on series masters and tombstones.';
COMMENT ON COLUMN calendar_events.teams_meeting_url IS 'Link to join.';
COMMENT ON COLUMN calendar_events.teams_conference_id IS 'Conference id for dialling in.';
COMMENT ON COLUMN calendar_events.teams_dial_in_url IS 'Number or page for dialling in.';

CREATE TABLE event_attendees (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL,
    email varchar(255) NOT NULL,
    display_name varchar(255),
    rsvp_status rsvp_status NOT NULL DEFAULT 'NEEDS_ACTION',
    is_organizer boolean NOT NULL DEFAULT false,
    is_optional boolean NOT NULL DEFAULT false,
    comment text,
    response_time timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_attendees_event_id_fkey
        FOREIGN KEY (event_id) REFERENCES calendar_events (id) ON DELETE CASCADE,
    CONSTRAINT event_attendees_event_id_email_key UNIQUE (event_id, email)
);

CREATE INDEX event_attendees_event_id_idx ON event_attendees (event_id);
CREATE INDEX event_attendees_email_idx ON event_attendees (email);
CREATE INDEX event_attendees_rsvp_status_idx ON event_attendees (rsvp_status)
    WHERE rsvp_status <> 'NEEDS_ACTION';
CREATE INDEX event_attendees_is_organizer_idx ON event_attendees (is_organizer) WHERE is_organizer;
CREATE INDEX event_attendees_event_id_rsvp_status_idx ON event_attendees (event_id, rsvp_status);

COMMENT ON TABLE event_attendees IS 'Who is invited to an event; unmodified instances take the master''s.';
COMMENT ON COLUMN event_attendees.id IS 'Identity.';
COMMENT ON COLUMN event_attendees.event_id IS 'The event.';
COMMENT ON COLUMN event_attendees.email IS 'Address, unique in the event whatever its case. Without one (a room): empty, urn:x-attendee:<n> from the second on.';
COMMENT ON COLUMN event_attendees.display_name IS 'Name to show.';
COMMENT ON COLUMN event_attendees.rsvp_status IS 'What the attendee answered.';
COMMENT ON COLUMN event_attendees.is_organizer IS 'The attendee organises the event.';
COMMENT ON COLUMN event_attendees.is_optional IS 'Attendance is optional.';
COMMENT ON COLUMN event_attendees.comment IS 'What the attendee wrote with the answer.';
COMMENT ON COLUMN event_attendees.response_time IS 'When the attendee answered.';
COMMENT ON COLUMN event_attendees.created_at IS 'When the row was written.';
COMMENT ON COLUMN event_attendees.updated_at IS 'When the row last changed; kept by the code, no trigger.';

CREATE TABLE event_reminders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL,
    method reminder_method NOT NULL DEFAULT 'POPUP',
    minutes_before integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_reminders_event_id_fkey
        FOREIGN KEY (event_id) REFERENCES calendar_events (id) ON DELETE CASCADE
);

CREATE INDEX event_reminders_event_id_idx ON event_reminders (event_id);
CREATE INDEX event_reminders_minutes_before_idx ON event_reminders (minutes_before);
CREATE INDEX event_reminders_event_id_minutes_before_idx
    ON event_reminders (event_id, minutes_before);

COMMENT ON TABLE event_reminders IS 'When the user wants to be reminded of an event; unmodified instances take the master''s.';
COMMENT ON COLUMN event_reminders.id IS 'Identity.';
COMMENT ON COLUMN event_reminders.event_id IS 'The event.';
COMMENT ON COLUMN event_reminders.method IS 'How the reminder reaches the user.';
COMMENT ON COLUMN event_reminders.minutes_before IS 'Minutes before the start.';
COMMENT ON COLUMN event_reminders.created_at IS 'When the row was written.';
COMMENT ON COLUMN event_reminders.updated_at IS 'When the row last changed; kept by the code, no trigger.';

CREATE TABLE webhook_subscriptions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    calendar_connection_id uuid NOT NULL,
    provider calendar_provider NOT NULL,
    subscription_id varchar(255) NOT NULL,
    resource_path varchar(500),
    expiration_datetime timestamptz NOT NULL,
    client_state varchar(255),
    notification_url text,
    last_notification_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_subscriptions_calendar_connection_id_fkey
        FOREIGN KEY (calendar_connection_id) REFERENCES calendar_connections (id) ON DELETE CASCADE,
    CONSTRAINT webhook_subscriptions_subscription_id_provider_key UNIQUE (subscription_id, provider)
);

CREATE INDEX webhook_subscriptions_calendar_connection_id_idx
    ON webhook_subscriptions (calendar_connection_id);
CREATE INDEX webhook_subscriptions_subscription_id_idx ON webhook_subscriptions (subscription_id);
CREATE INDEX webhook_subscriptions_expiration_datetime_idx
    ON webhook_subscriptions (expiration_datetime);
-- Most are active, so only the others can be asked for; a full index would also draw the planner away
-- from the composite one below, whose share of rows it overestimates.
CREATE INDEX webhook_subscriptions_is_active_idx ON webhook_subscriptions (is_active)
    WHERE NOT is_active;
CREATE INDEX webhook_subscriptions_provider_idx ON webhook_subscriptions (provider);
CREATE INDEX webhook_subscriptions_provider_is_active_idx
    ON webhook_subscriptions (provider, is_active);
CREATE INDEX webhook_subscriptions_expiration_is_active_idx
    ON webhook_subscriptions (expiration_datetime, is_active)
    WHERE is_active;

COMMENT ON TABLE webhook_subscriptions IS 'A push subscription at the provider.';
COMMENT ON COLUMN webhook_subscriptions.id IS 'Identity.';
COMMENT ON COLUMN webhook_subscriptions.calendar_connection_id IS 'The connection it stands on; a push makes all connections of the account due.';
COMMENT ON COLUMN webhook_subscriptions.provider IS 'Who sends the pushes.';
COMMENT ON COLUMN webhook_subscriptions.subscription_id IS 'The provider''s id of the subscription or channel.';
COMMENT ON COLUMN webhook_subscriptions.resource_path IS 'What is watched.';
COMMENT ON COLUMN webhook_subscriptions.expiration_datetime IS 'When it ends unless renewed.';
COMMENT ON COLUMN webhook_subscriptions.client_state IS 'Secret that each push must carry.';
COMMENT ON COLUMN webhook_subscriptions.notification_url IS 'Where the provider sends pushes.';
COMMENT ON COLUMN webhook_subscriptions.last_notification_at IS 'When the last push came.';
COMMENT ON COLUMN webhook_subscriptions.is_active IS 'False once expired, ended, or its renewal failed for good.';
COMMENT ON COLUMN webhook_subscriptions.created_at IS 'When the row was written.';
COMMENT ON COLUMN webhook_subscriptions.updated_at IS 'When the row last changed; kept by the code, no trigger.';

-- Carry the attendees and reminders of existing events over. The JSONB stays as it is, so an entry
-- that can't be read is not lost; a NOTICE counts them.

CREATE FUNCTION pg_temp.text_of(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'string' THEN nullif(btrim(value #>> '{}'), '') END
$$;

-- Null for what is no instant, and for year 1, Graph's way to say "never".
CREATE FUNCTION pg_temp.instant_of(value jsonb) RETURNS timestamptz
    LANGUAGE plpgsql SET timezone = 'UTC' AS $$
BEGIN
    IF pg_temp.text_of(value) !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d' OR value #>> '{}' LIKE '0001-%' THEN
        RETURN NULL;
    END IF;
    RETURN (pg_temp.text_of(value))::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

DO $$
DECLARE
    attendees_carried bigint;
    attendees_left bigint;
    reminders_carried bigint;
    reminders_left bigint;
BEGIN
    -- One row for each entry; what is no list at all is one entry that can't be read.
    CREATE TEMPORARY TABLE legacy_attendee ON COMMIT DROP AS
    WITH entry AS (
        SELECT e.id AS event_id, item.value, item.ordinality,
            -- Google writes responseStatus as a text, Graph writes status as {response, time}.
            coalesce(
                pg_temp.text_of(item.value -> 'responseStatus'),
                pg_temp.text_of(item.value -> 'responseStatus' -> 'response'),
                pg_temp.text_of(item.value -> 'status'),
                pg_temp.text_of(item.value -> 'status' -> 'response'),
                pg_temp.text_of(item.value -> 'rsvp_status'),
                '') AS answer,
            coalesce(
                pg_temp.text_of(item.value -> 'email'),
                pg_temp.text_of(item.value -> 'emailAddress' -> 'address'),
                '') AS email,
            coalesce(
                pg_temp.text_of(item.value -> 'displayName'),
                pg_temp.text_of(item.value -> 'name'),
                pg_temp.text_of(item.value -> 'emailAddress' -> 'name')) AS display_name
        FROM calendar_events AS e
        CROSS JOIN LATERAL jsonb_array_elements(
            CASE WHEN jsonb_typeof(e.attendees) = 'array' THEN e.attendees
                 ELSE jsonb_build_array(e.attendees) END
        ) WITH ORDINALITY AS item
        WHERE jsonb_typeof(e.attendees) <> 'null'
    )
    SELECT event_id, email, display_name, ordinality,
        lower(regexp_replace(answer, '[^A-Za-z]', '', 'g')) AS answer,
        coalesce(value ->> 'organizer' = 'true', false) OR lower(answer) = 'organizer' AS is_organizer,
        coalesce(value ->> 'optional' = 'true', false)
            OR coalesce(lower(value ->> 'type') = 'optional', false) AS is_optional,
        pg_temp.text_of(value -> 'comment') AS comment,
        coalesce(pg_temp.instant_of(value -> 'status' -> 'time'),
            pg_temp.instant_of(value -> 'responseStatus' -> 'time')) AS response_time,
        -- An address identifies, so it is never cut: one that does not fit stays in the JSONB.
        jsonb_typeof(value) = 'object'
            AND (email <> '' OR display_name IS NOT NULL)
            AND length(email) <= 255 AS is_readable
    FROM entry;

    -- Addresses that differ only in case are one attendee; each one without an address is its own.
    INSERT INTO event_attendees
        (event_id, email, display_name, rsvp_status, is_organizer, is_optional, comment, response_time)
    SELECT event_id,
        CASE WHEN email <> '' THEN email
             WHEN nth_without_address = 1 THEN ''
             ELSE 'urn:x-attendee:' || nth_without_address END,
        left(display_name, 255),
        CASE WHEN answer IN ('accepted', 'organizer') THEN 'ACCEPTED'
             WHEN answer = 'declined' THEN 'DECLINED'
             WHEN answer IN ('tentative', 'tentativelyaccepted') THEN 'TENTATIVE'
             ELSE 'NEEDS_ACTION' END::rsvp_status,
        is_organizer, is_optional, comment, response_time
    FROM (
        SELECT *,
            row_number() OVER (PARTITION BY event_id, lower(email) ORDER BY ordinality) AS nth_of_address,
            row_number() OVER (PARTITION BY event_id, email = '' ORDER BY ordinality) AS nth_without_address
        FROM legacy_attendee
        WHERE is_readable
    ) AS readable
    WHERE email = '' OR nth_of_address = 1;
    GET DIAGNOSTICS attendees_carried = ROW_COUNT;
    SELECT count(*) INTO attendees_left FROM legacy_attendee WHERE NOT is_readable;

    -- Google wraps its list as {useDefault, overrides: […]}.
    CREATE TEMPORARY TABLE legacy_reminder ON COMMIT DROP AS
    WITH entry AS (
        SELECT e.id AS event_id,
            CASE lower(coalesce(item.value ->> 'method', 'popup'))
                WHEN 'popup' THEN 'POPUP' WHEN 'alert' THEN 'POPUP' WHEN 'display' THEN 'POPUP'
                WHEN 'email' THEN 'EMAIL' WHEN 'sms' THEN 'SMS' END AS method,
            coalesce(item.value ->> 'minutes', item.value ->> 'minutes_before') AS minutes
        FROM calendar_events AS e
        CROSS JOIN LATERAL jsonb_array_elements(
            CASE WHEN jsonb_typeof(e.reminders) = 'array' THEN e.reminders
                 WHEN jsonb_typeof(e.reminders -> 'overrides') = 'array' THEN e.reminders -> 'overrides'
                 WHEN e.reminders ? 'useDefault' THEN '[]'
                 ELSE jsonb_build_array(e.reminders) END
        ) AS item
        WHERE jsonb_typeof(e.reminders) <> 'null'
    )
    SELECT event_id, method,
        -- Nine digits always fit an integer.
        CASE WHEN minutes ~ '^-?\d{1,9}$' THEN minutes::integer END AS minutes_before
    FROM entry;

    INSERT INTO event_reminders (event_id, method, minutes_before)
    SELECT DISTINCT event_id, method::reminder_method, minutes_before
    FROM legacy_reminder
    WHERE method IS NOT NULL AND minutes_before IS NOT NULL;
    GET DIAGNOSTICS reminders_carried = ROW_COUNT;
    SELECT count(*) INTO reminders_left
    FROM legacy_reminder WHERE method IS NULL OR minutes_before IS NULL;

    IF attendees_carried + reminders_carried + attendees_left + reminders_left > 0 THEN
        RAISE NOTICE 'carried over % attendees and % reminders; % attendee and % reminder entries could not be read and stay in the JSONB columns only',
            attendees_carried, reminders_carried, attendees_left, reminders_left;
    END IF;

    DROP TABLE legacy_attendee;
    DROP TABLE legacy_reminder;
END
$$;

DROP FUNCTION pg_temp.instant_of(jsonb);
DROP FUNCTION pg_temp.text_of(jsonb);
