DROP INDEX users_lower_email_idx;

ALTER TABLE event_reminders DROP COLUMN calendar_connection_id;
ALTER TABLE event_attendees
    DROP COLUMN calendar_connection_id,
    DROP COLUMN attendee_type;

-- The indexes on these columns go with them.
ALTER TABLE calendar_events
    DROP COLUMN ical_uid,
    DROP COLUMN original_start,
    DROP COLUMN end_timezone,
    DROP COLUMN show_as,
    DROP COLUMN sensitivity,
    DROP COLUMN organizer_email,
    DROP COLUMN organizer_name,
    DROP COLUMN is_organizer,
    DROP COLUMN version,
    DROP COLUMN timezone_unresolved,
    DROP COLUMN inherits,
    DROP COLUMN content_version;
DROP INDEX calendar_events_deleted_at_idx;

DROP TABLE api_sessions;
DROP TABLE connect_sessions;
DROP TABLE sync_pass_seen;
DROP TABLE calendar_sync_states;

ALTER TABLE calendar_connections
    DROP COLUMN account_id,
    DROP COLUMN mailbox,
    DROP COLUMN time_zone,
    DROP COLUMN can_edit,
    DROP COLUMN owner_email;
DROP TABLE calendar_accounts;

DROP TYPE event_sensitivity;
DROP TYPE event_show_as;
DROP TYPE sync_pass_kind;
