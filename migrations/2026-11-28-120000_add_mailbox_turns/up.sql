-- How many requests go to one mailbox at a time, over all processes: a row for each that may be under way.

CREATE TABLE mailbox_turns (
    provider calendar_provider NOT NULL,
    mailbox uuid NOT NULL,
    turn int2 NOT NULL,
    holder uuid NOT NULL,
    fence int8 NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT mailbox_turns_pkey PRIMARY KEY (provider, mailbox, turn),
    CONSTRAINT mailbox_turns_turn_check CHECK (turn > 0)
);

CREATE INDEX mailbox_turns_holder_idx ON mailbox_turns (holder);
CREATE INDEX mailbox_turns_expires_at_idx ON mailbox_turns (expires_at);

COMMENT ON TABLE mailbox_turns IS 'Who may send a request to a mailbox now. The provider limits them for each mailbox, and several accounts may read one.';
COMMENT ON COLUMN mailbox_turns.provider IS 'Whose mailbox.';
COMMENT ON COLUMN mailbox_turns.mailbox IS 'MD5 of its address in lower case, or of the user''s id at the provider where that has none.';
COMMENT ON COLUMN mailbox_turns.turn IS 'From 1 to CALENDAR_MAILBOX_CONCURRENCY.';
COMMENT ON COLUMN mailbox_turns.holder IS 'The account that is worked on, or a request of the API''s own.';
COMMENT ON COLUMN mailbox_turns.fence IS 'The fencing number of the account''s lease; 0 for the API.';
COMMENT ON COLUMN mailbox_turns.expires_at IS 'When it is free again by itself, by the database''s clock.';
