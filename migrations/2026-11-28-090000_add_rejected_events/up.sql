-- Events that could not be stored are set aside: one bad event fails neither its page nor its calendar.

CREATE TABLE calendar_rejected_events (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    calendar_connection_id uuid NOT NULL,
    provider_event_id varchar(255) NOT NULL,
    reason varchar(100) NOT NULL,
    raw jsonb,
    attempts integer NOT NULL DEFAULT 1,
    mapper_version smallint NOT NULL,
    pass_id uuid NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    -- The connection leads: the rows of one lie on one node.
    PRIMARY KEY (calendar_connection_id, id),
    CONSTRAINT calendar_rejected_events_calendar_connection_id_fkey
        FOREIGN KEY (calendar_connection_id) REFERENCES calendar_connections (id) ON DELETE CASCADE,
    CONSTRAINT calendar_rejected_events_provider_event_id_key
        UNIQUE (calendar_connection_id, provider_event_id)
);

COMMENT ON TABLE calendar_rejected_events IS 'An event that could not be stored, or a series whose master could not be had. An earlier form of it stays in calendar_events. The row goes when the event can be stored, is gone, or a full pass no longer sees it.';
COMMENT ON COLUMN calendar_rejected_events.id IS 'Identity of the entry.';
COMMENT ON COLUMN calendar_rejected_events.calendar_connection_id IS 'The connection.';
COMMENT ON COLUMN calendar_rejected_events.provider_event_id IS 'The provider''s id, as in calendar_events; of an entry without one, sha256:… of its raw form.';
COMMENT ON COLUMN calendar_rejected_events.reason IS 'Code of why.';
COMMENT ON COLUMN calendar_rejected_events.raw IS 'As it came; a text where it is too long (its first 65,536 characters) or no JSON that can be stored. Null where only its occurrences came.';
COMMENT ON COLUMN calendar_rejected_events.attempts IS 'In how many passes it came, or was asked for, and could not be stored.';
COMMENT ON COLUMN calendar_rejected_events.mapper_version IS 'Version of the mapping that refused it; another one tries again.';
COMMENT ON COLUMN calendar_rejected_events.pass_id IS 'The pass that last saw it.';
COMMENT ON COLUMN calendar_rejected_events.first_seen_at IS 'When it was first set aside.';
COMMENT ON COLUMN calendar_rejected_events.last_seen_at IS 'When it last came.';

COMMENT ON COLUMN calendar_sync_states.events_skipped IS 'Not used any more: calendar_rejected_events has them.';
