-- Attendees and reminders stand in the JSONB columns too, so nothing of them is lost here.
DROP TABLE webhook_subscriptions;
DROP TABLE event_reminders;
DROP TABLE event_attendees;

-- The indexes on these columns go with them.
DROP INDEX calendar_events_created_at_idx;
ALTER TABLE calendar_events
    DROP COLUMN importance,
    DROP COLUMN outlook_categories,
    DROP COLUMN conversation_id,
    DROP COLUMN series_master_id,
    DROP COLUMN teams_enabled,
    DROP COLUMN teams_meeting_url,
    DROP COLUMN teams_conference_id,
    DROP COLUMN teams_dial_in_url;
ALTER TABLE calendar_connections DROP COLUMN delegate_email;

DROP TYPE reminder_method;
DROP TYPE rsvp_status;
DROP TYPE event_importance;
