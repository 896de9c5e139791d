DROP TABLE calendar_events;
DROP TABLE calendar_connections;
DROP TABLE users;

DROP TYPE month_day_type;
DROP TYPE recurrence_end_type;
DROP TYPE recurrence_frequency;
DROP TYPE sync_status;
DROP TYPE event_status;
DROP TYPE calendar_provider;
