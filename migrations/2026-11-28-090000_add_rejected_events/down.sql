DROP TABLE calendar_rejected_events;
COMMENT ON COLUMN calendar_sync_states.events_skipped IS 'Events set aside as unreadable in the last full pass and since.';
