//! The tables as diesel sees them. Generated from the migrations by `cargo xtask codegen`:
//! change a migration, not this file.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]

/// PostgreSQL's enum types.
pub mod sql_types {
    /// Who keeps the calendar. `GOOGLE`, `MICROSOFT`, `APPLE`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "calendar_provider"))]
    pub struct CalendarProvider;

    /// Outlook's importance. `LOW`, `NORMAL`, `HIGH`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "event_importance"))]
    pub struct EventImportance;

    /// Who may see the details. `NORMAL`, `PERSONAL`, `PRIVATE`, `CONFIDENTIAL`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "event_sensitivity"))]
    pub struct EventSensitivity;

    /// How the time shows to others. `FREE`, `TENTATIVE`, `BUSY`, `OOF`, `WORKING_ELSEWHERE`, `UNKNOWN`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "event_show_as"))]
    pub struct EventShowAs;

    /// Whether the event takes place. `CONFIRMED`, `TENTATIVE`, `CANCELLED`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "event_status"))]
    pub struct EventStatus;

    /// Whether a monthly or yearly rule names a day of the month or a weekday. `DAY_OF_MONTH`, `DAY_OF_WEEK`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "month_day_type"))]
    pub struct MonthDayType;

    /// How the recurrence ends. `NEVER`, `UNTIL_DATE`, `AFTER_COUNT`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "recurrence_end_type"))]
    pub struct RecurrenceEndType;

    /// FREQ of the recurrence rule. `DAILY`, `WEEKLY`, `MONTHLY`, `YEARLY`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "recurrence_frequency"))]
    pub struct RecurrenceFrequency;

    /// How a reminder reaches the user. `POPUP`, `EMAIL`, `SMS`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "reminder_method"))]
    pub struct ReminderMethod;

    /// What an attendee answered. `NEEDS_ACTION`, `ACCEPTED`, `DECLINED`, `TENTATIVE`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "rsvp_status"))]
    pub struct RsvpStatus;

    /// Whether a pass reads the whole window or what changed. `FULL`, `DELTA`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "sync_pass_kind"))]
    pub struct SyncPassKind;

    /// How this row stands to the provider's copy. `SYNCED`, `PENDING`, `FAILED`, `CONFLICT`.
    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "sync_status"))]
    pub struct SyncStatus;
}

diesel::table! {
    use diesel::sql_types::*;

    /// A service key: with it a backend calls the API for its users.
    api_keys (id) {
        /// Identity.
        id -> Uuid,
        /// Who made it.
        user_id -> Uuid,
        /// What its owner calls it.
        #[max_length = 100]
        name -> Varchar,
        /// How the key begins, to recognise it by.
        #[max_length = 20]
        token_hint -> Varchar,
        /// SHA-256 of the key; the key itself is not stored.
        token_hash -> Bytea,
        /// What it may do: events:read, connections:manage, users:manage.
        scopes -> Array<Nullable<Text>>,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the key was last used, to the nearest hour.
        last_used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// A sign-in to the API.
    api_sessions (id) {
        /// Identity.
        id -> Uuid,
        /// Who signed in.
        user_id -> Uuid,
        /// SHA-256 of the token; the token itself is not stored.
        token_hash -> Bytea,
        /// When the token ends.
        expires_at -> Timestamptz,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the token was last used, to the nearest few minutes.
        last_used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::CalendarProvider;

    /// One sign-in of a user at a provider: its connections share tokens, lease and limits.
    calendar_accounts (id) {
        /// Identity.
        id -> Uuid,
        /// Whose account it is.
        user_id -> Uuid,
        /// Where the user signed in.
        provider -> CalendarProvider,
        /// Microsoft's tenant; empty where the provider has none.
        #[max_length = 255]
        tenant_id -> Varchar,
        /// The provider's id of the person who signed in.
        #[max_length = 255]
        provider_user_id -> Varchar,
        /// Address of the account at the provider.
        #[max_length = 255]
        email -> Nullable<Varchar>,
        /// Name of the account at the provider.
        #[max_length = 255]
        display_name -> Nullable<Varchar>,
        /// What was granted, separated by spaces.
        granted_scopes -> Text,
        /// Why the user must sign in again; null while signed in.
        #[max_length = 255]
        needs_reauth_reason -> Nullable<Varchar>,
        /// The worker that holds the account.
        lease_owner -> Nullable<Uuid>,
        /// End of the lease by the database's clock.
        lease_expires_at -> Nullable<Timestamptz>,
        /// Raised by each claim; a write with an older number is refused.
        lease_fence -> Int8,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// Soft delete.
        deleted_at -> Nullable<Timestamptz>,
        /// A push asked for a look that no claim has taken yet; not before this instant.
        pushed_at -> Nullable<Timestamptz>,
        /// When a claim last took what a push had asked for.
        push_taken_at -> Nullable<Timestamptz>,
        /// How many claims in a row took a push soon after another: the next one waits longer.
        push_burst -> Int2,
        /// When the account's subscription is to be seen to; null = when something happens.
        push_due_at -> Nullable<Timestamptz>,
        /// Failures in a row of seeing to the subscription.
        push_failure_count -> Int4,
        /// Code of the last of them; null after a success.
        #[max_length = 100]
        push_error_code -> Nullable<Varchar>,
        /// When polling found a change that no push had announced; a later push makes up for it.
        push_silent_since -> Nullable<Timestamptz>,
        /// What was not granted: read_calendars, read_shared_calendars.
        missing_permissions -> Array<Nullable<Text>>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::CalendarProvider;

    /// One calendar of one user at one provider.
    calendar_connections (id) {
        /// Identity; kept when the same calendar is connected again.
        id -> Uuid,
        /// Whose connection it is.
        user_id -> Uuid,
        /// Who keeps the calendar.
        provider -> CalendarProvider,
        /// The provider's id of the calendar; one that is too long is stored as sha256:….
        #[max_length = 255]
        calendar_id -> Varchar,
        /// Name to show.
        #[max_length = 255]
        calendar_name -> Nullable<Varchar>,
        /// Sealed access token (v1.…); anything else was stored by an older application and asks for a new sign-in.
        access_token -> Nullable<Text>,
        /// Sealed refresh token (v1.…), the same on all connections of an account.
        refresh_token -> Nullable<Text>,
        /// When the access token ends.
        token_expires_at -> Nullable<Timestamptz>,
        /// Colour to show, #rrggbb.
        #[max_length = 7]
        calendar_color -> Nullable<Varchar>,
        /// The account's default calendar.
        is_primary -> Bool,
        /// False once disconnected; such a calendar is not synced.
        is_connected -> Bool,
        /// End of the last complete pass.
        last_synced_at -> Nullable<Timestamptz>,
        /// The provider's delta link or sync token, as it came.
        sync_token -> Nullable<Text>,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// Soft delete; connecting the calendar again revives the row.
        deleted_at -> Nullable<Timestamptz>,
        /// Owner of a shared calendar that is reached through delegation.
        #[max_length = 255]
        delegate_email -> Nullable<Varchar>,
        /// The sign-in it belongs to; null where an older application made the connection.
        account_id -> Nullable<Uuid>,
        /// The mailbox it is read through; null = the account's own.
        #[max_length = 255]
        mailbox -> Nullable<Varchar>,
        /// IANA name of the calendar's time zone.
        #[max_length = 100]
        time_zone -> Nullable<Varchar>,
        /// The provider lets the account change events.
        can_edit -> Bool,
        /// Address of the calendar's owner.
        #[max_length = 255]
        owner_email -> Nullable<Varchar>,
        /// Another's calendar: pushes to the account do not cover it.
        is_shared -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::EventImportance;
    use super::sql_types::EventSensitivity;
    use super::sql_types::EventShowAs;
    use super::sql_types::EventStatus;
    use super::sql_types::MonthDayType;
    use super::sql_types::RecurrenceEndType;
    use super::sql_types::RecurrenceFrequency;
    use super::sql_types::SyncStatus;

    /// An event: a single one, the master of a series, or one instance of a series.
    calendar_events (id) {
        /// Identity; UUIDv7 when this project wrote the row.
        id -> Uuid,
        /// The calendar it stands in.
        calendar_connection_id -> Uuid,
        /// The provider's id of the event; one that is too long is stored as sha256:….
        #[max_length = 255]
        provider_event_id -> Varchar,
        /// Subject, cut at the column's length.
        #[max_length = 500]
        title -> Nullable<Varchar>,
        /// The body as text; HTML stays in provider_metadata.
        description -> Nullable<Text>,
        /// Where, as one text.
        #[max_length = 500]
        location -> Nullable<Varchar>,
        /// Start; midnight UTC of the date for an all-day event.
        start_time -> Timestamptz,
        /// End, exclusive; midnight UTC of the date for an all-day event.
        end_time -> Timestamptz,
        /// Start and end are dates, not instants.
        is_all_day -> Bool,
        /// IANA name of the start's time zone.
        #[max_length = 100]
        timezone -> Nullable<Varchar>,
        /// Whether the event takes place.
        status -> EventStatus,
        /// How this row stands to the provider's copy.
        sync_status -> SyncStatus,
        /// True for the master of a series.
        is_recurring -> Bool,
        /// RFC 5545 RRULE without the name; it decides, the recurrence_ columns are the same rule taken apart.
        recurrence_rule -> Nullable<Text>,
        /// FREQ; null where the rule does not fit these columns.
        recurrence_frequency -> Nullable<RecurrenceFrequency>,
        /// INTERVAL.
        recurrence_interval -> Nullable<Int4>,
        /// How the recurrence ends.
        recurrence_end_type -> Nullable<RecurrenceEndType>,
        /// UNTIL, for UNTIL_DATE.
        recurrence_end_date -> Nullable<Timestamptz>,
        /// COUNT, for AFTER_COUNT.
        recurrence_count -> Nullable<Int4>,
        /// Weekdays of a weekly rule: MO,WE.
        #[max_length = 100]
        recurrence_by_day -> Nullable<Varchar>,
        /// Whether a monthly or yearly rule names a day of the month or a weekday.
        month_day_type -> Nullable<MonthDayType>,
        /// BYMONTHDAY, for DAY_OF_MONTH.
        recurrence_by_month_day -> Nullable<Int4>,
        /// Position of the weekday in the month, -1 the last, for DAY_OF_WEEK.
        recurrence_by_set_pos -> Nullable<Int4>,
        /// Weekdays of a DAY_OF_WEEK rule: MO,WE.
        #[max_length = 100]
        recurrence_by_day_of_week -> Nullable<Varchar>,
        /// Months: 1,6.
        #[max_length = 50]
        recurrence_by_month -> Nullable<Varchar>,
        /// EXDATE values with commas: 20260105T090000Z, 20260105 for all-day series.
        exception_dates -> Nullable<Text>,
        /// The series master, on an instance.
        parent_event_id -> Nullable<Uuid>,
        /// Deprecated: list of {email, displayName, responseStatus, organizer, optional, comment}.
        attendees -> Nullable<Jsonb>,
        /// Deprecated: list of {method, minutes}.
        reminders -> Nullable<Jsonb>,
        /// What the provider sent and no column holds, raw.
        provider_metadata -> Nullable<Jsonb>,
        /// Page of the event at the provider.
        html_link -> Nullable<Text>,
        /// When a pass last wrote this row.
        last_synced_at -> Nullable<Timestamptz>,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// Tombstone: removed at the provider; purged later.
        deleted_at -> Nullable<Timestamptz>,
        /// Outlook's importance.
        importance -> EventImportance,
        /// Outlook's categories, a JSON array as text.
        outlook_categories -> Nullable<Text>,
        /// Thread: conversationId where the provider sends one, else iCalUId. Unmodified instances have none.
        #[max_length = 255]
        conversation_id -> Nullable<Varchar>,
        /// The provider's id of the series master, on an instance.
        #[max_length = 255]
        series_master_id -> Nullable<Varchar>,
        /// A Teams meeting that takes place: false on series masters and tombstones.
        teams_enabled -> Bool,
        /// Link to join.
        teams_meeting_url -> Nullable<Text>,
        /// Conference id for dialling in.
        #[max_length = 255]
        teams_conference_id -> Nullable<Varchar>,
        /// Number or page for dialling in.
        teams_dial_in_url -> Nullable<Text>,
        /// iCalendar UID, the same in every attendee's calendar.
        #[max_length = 1024]
        ical_uid -> Nullable<Varchar>,
        /// On an instance: the start that the rule gives, kept when the instance is moved.
        original_start -> Nullable<Timestamptz>,
        /// IANA name of the end's time zone, where it differs from the start's.
        #[max_length = 100]
        end_timezone -> Nullable<Varchar>,
        /// How the time shows to others.
        show_as -> Nullable<EventShowAs>,
        /// Who may see the details.
        sensitivity -> Nullable<EventSensitivity>,
        /// Address of the organiser.
        #[max_length = 255]
        organizer_email -> Nullable<Varchar>,
        /// Name of the organiser.
        #[max_length = 255]
        organizer_name -> Nullable<Varchar>,
        /// The calendar's owner organises the event; null when the provider does not say.
        is_organizer -> Nullable<Bool>,
        /// Hash of the mapped row with attendees, reminders and what it inherits; a pass writes a row only when it differs.
        version -> Nullable<Uuid>,
        /// The provider's time zone is unknown: the instants hold, its name stays in provider_metadata.
        timezone_unresolved -> Bool,
        /// An unmodified occurrence: what its row does not carry is its master's.
        inherits -> Bool,
        /// Of a series master: hash of what its occurrences inherit.
        content_version -> Nullable<Uuid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// An event that could not be stored, or a series whose master could not be had. An earlier form of it stays in calendar_events. The row goes when the event can be stored, is gone, or a full pass no longer sees it.
    calendar_rejected_events (calendar_connection_id, id) {
        /// Identity of the entry.
        id -> Uuid,
        /// The connection.
        calendar_connection_id -> Uuid,
        /// The provider's id, as in calendar_events; of an entry without one, sha256:… of its raw form.
        #[max_length = 255]
        provider_event_id -> Varchar,
        /// Code of why.
        #[max_length = 100]
        reason -> Varchar,
        /// As it came; a text where it is too long (its first 65,536 characters) or no JSON that can be stored. Null where only its occurrences came.
        raw -> Nullable<Jsonb>,
        /// In how many passes it came, or was asked for, and could not be stored.
        attempts -> Int4,
        /// Version of the mapping that refused it; another one tries again.
        mapper_version -> Int2,
        /// The pass that last saw it.
        pass_id -> Uuid,
        /// When it was first set aside.
        first_seen_at -> Timestamptz,
        /// When it last came.
        last_seen_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::SyncPassKind;

    /// How the sync of a connection stands: what is due, the pass under way, the last failure. Apart from the connection because every page writes it.
    calendar_sync_states (connection_id) {
        /// The connection.
        connection_id -> Uuid,
        /// The account whose lease guards it.
        account_id -> Uuid,
        /// When the next pass is due.
        due_at -> Timestamptz,
        /// Raised by every request for a sync; a pass that finds it moved at its end makes the connection due at once. A push marks the account instead.
        requested_seq -> Int8,
        /// The user paused it: never due.
        is_paused -> Bool,
        /// Start of the window of the stored delta link.
        window_start -> Nullable<Timestamptz>,
        /// End of the window of the stored delta link.
        window_end -> Nullable<Timestamptz>,
        /// The pass under way or broken off; null when none is.
        pass_id -> Nullable<Uuid>,
        /// What that pass reads.
        pass_kind -> Nullable<SyncPassKind>,
        /// Next link of that pass: where it goes on after a crash.
        pass_cursor -> Nullable<Text>,
        /// Start of the window that the pass reads.
        pass_window_start -> Nullable<Timestamptz>,
        /// End of the window that the pass reads.
        pass_window_end -> Nullable<Timestamptz>,
        /// When the pass began.
        pass_started_at -> Nullable<Timestamptz>,
        /// Pages applied so far in the pass.
        pass_pages -> Int4,
        /// A page of the pass touched a series, so its holes are judged at the end.
        pass_touched_series -> Bool,
        /// All pages of the pass are stored; becomes the sync token when the pass ends.
        pass_sync_token -> Nullable<Text>,
        /// The last full pass would have removed suspiciously much and removed nothing; the next one confirms.
        removal_held -> Bool,
        /// End of the last complete full pass.
        last_full_sync_at -> Nullable<Timestamptz>,
        /// Failures in a row; sets the back-off.
        failure_count -> Int4,
        /// Code of the last failure; null after a success.
        #[max_length = 100]
        last_error_code -> Nullable<Varchar>,
        /// When the last failure happened.
        last_error_at -> Nullable<Timestamptz>,
        /// Not used any more: calendar_rejected_events has them.
        events_skipped -> Int4,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// Which look after a push the next pass is: 1 at once, 2 and 3 when the one before found nothing; null = no push asked for it.
        push_look -> Nullable<Int2>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::CalendarProvider;

    /// An OAuth sign-in under way; used once.
    connect_sessions (id) {
        /// Identity.
        id -> Uuid,
        /// Who connects.
        user_id -> Uuid,
        /// Where the user signs in.
        provider -> CalendarProvider,
        /// SHA-256 of the OAuth state; the state itself is not stored.
        state_hash -> Bytea,
        /// PKCE verifier, sealed (v1.…).
        code_verifier -> Text,
        /// Owner of the shared calendar to connect.
        #[max_length = 255]
        delegate_email -> Nullable<Varchar>,
        /// Which calendars to connect: "all", "primary" or a list of ids.
        calendars -> Jsonb,
        /// Where the browser goes afterwards.
        return_url -> Nullable<Text>,
        /// When the sign-in can no longer be completed.
        expires_at -> Timestamptz,
        /// When the callback used it.
        consumed_at -> Nullable<Timestamptz>,
        /// When the row was written.
        created_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::RsvpStatus;

    /// Who is invited to an event; unmodified instances take the master's.
    event_attendees (id) {
        /// Identity.
        id -> Uuid,
        /// The event.
        event_id -> Uuid,
        /// Address, unique in the event whatever its case. Without one (a room): empty, urn:x-attendee:<n> from the second on.
        #[max_length = 255]
        email -> Varchar,
        /// Name to show.
        #[max_length = 255]
        display_name -> Nullable<Varchar>,
        /// What the attendee answered.
        rsvp_status -> RsvpStatus,
        /// The attendee organises the event.
        is_organizer -> Bool,
        /// Attendance is optional.
        is_optional -> Bool,
        /// What the attendee wrote with the answer.
        comment -> Nullable<Text>,
        /// When the attendee answered.
        response_time -> Nullable<Timestamptz>,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// The event's connection, for spreading by Citus; null where an older application wrote the row.
        calendar_connection_id -> Nullable<Uuid>,
        /// required, optional or resource.
        #[max_length = 20]
        attendee_type -> Nullable<Varchar>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::ReminderMethod;

    /// When the user wants to be reminded of an event; unmodified instances take the master's.
    event_reminders (id) {
        /// Identity.
        id -> Uuid,
        /// The event.
        event_id -> Uuid,
        /// How the reminder reaches the user.
        method -> ReminderMethod,
        /// Minutes before the start.
        minutes_before -> Int4,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// The event's connection, for spreading by Citus; null where an older application wrote the row.
        calendar_connection_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::CalendarProvider;

    /// Who may send a request to a mailbox now. The provider limits them for each mailbox, and several accounts may read one.
    mailbox_turns (provider, mailbox, turn) {
        /// Whose mailbox.
        provider -> CalendarProvider,
        /// MD5 of its address in lower case, or of the user's id at the provider where that has none.
        mailbox -> Uuid,
        /// From 1 to CALENDAR_MAILBOX_CONCURRENCY.
        turn -> Int2,
        /// The account that is worked on, or a request of the API's own.
        holder -> Uuid,
        /// The fencing number of the account's lease; 0 for the API.
        fence -> Int8,
        /// When it is free again by itself, by the database's clock.
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// What a full pass has seen so far; what it has not seen at its end is gone at the provider.
    sync_pass_seen (calendar_connection_id, pass_id, event_id) {
        /// The connection.
        calendar_connection_id -> Uuid,
        /// The pass.
        pass_id -> Uuid,
        /// calendar_events.id of an event that the pass saw.
        event_id -> Uuid,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    /// A person who connects calendars.
    users (id) {
        /// Identity; UUIDv7 when this project wrote the row.
        id -> Uuid,
        /// Sign-in address. Unique as written; sign-up and sign-in use the lower-cased one. Of a managed user: managed-<id>@invalid.
        #[max_length = 255]
        email -> Varchar,
        /// argon2id in PHC form; null when the user can't sign in by password.
        #[max_length = 255]
        password_hash -> Nullable<Varchar>,
        /// Given name.
        #[max_length = 100]
        first_name -> Nullable<Varchar>,
        /// Family name.
        #[max_length = 100]
        last_name -> Nullable<Varchar>,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// Soft delete; the address is made anonymous at once, so that it can sign up again.
        deleted_at -> Nullable<Timestamptz>,
        /// The user whose service key made this one and acts for it; null = signed up by themselves.
        managed_by -> Nullable<Uuid>,
        /// The address of a managed user, unique among those of the same owner.
        #[max_length = 255]
        managed_email -> Nullable<Varchar>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::CalendarProvider;

    /// A push subscription at the provider.
    webhook_subscriptions (id) {
        /// Identity.
        id -> Uuid,
        /// The connection it stands on; a push makes all connections of the account due.
        calendar_connection_id -> Uuid,
        /// Who sends the pushes.
        provider -> CalendarProvider,
        /// The provider's id of the subscription or channel.
        #[max_length = 255]
        subscription_id -> Varchar,
        /// What is watched.
        #[max_length = 500]
        resource_path -> Nullable<Varchar>,
        /// When it ends unless renewed.
        expiration_datetime -> Timestamptz,
        /// sha256: and the SHA-256, in hex, of the secret that each push must carry; the secret itself where an older version stored it and it was not renewed since.
        #[max_length = 255]
        client_state -> Nullable<Varchar>,
        /// Where the provider sends pushes.
        notification_url -> Nullable<Text>,
        /// When the last push came.
        last_notification_at -> Nullable<Timestamptz>,
        /// False once expired, ended, or its renewal failed for good.
        is_active -> Bool,
        /// When the row was written.
        created_at -> Timestamptz,
        /// When the row last changed; kept by the code, no trigger.
        updated_at -> Timestamptz,
        /// The account whose own calendars it covers.
        account_id -> Nullable<Uuid>,
        /// When it was last renewed.
        renewed_at -> Nullable<Timestamptz>,
    }
}

diesel::joinable!(api_keys -> users (user_id));
diesel::joinable!(api_sessions -> users (user_id));
diesel::joinable!(calendar_accounts -> users (user_id));
diesel::joinable!(calendar_connections -> calendar_accounts (account_id));
diesel::joinable!(calendar_connections -> users (user_id));
diesel::joinable!(calendar_events -> calendar_connections (calendar_connection_id));
diesel::joinable!(calendar_rejected_events -> calendar_connections (calendar_connection_id));
diesel::joinable!(calendar_sync_states -> calendar_accounts (account_id));
diesel::joinable!(calendar_sync_states -> calendar_connections (connection_id));
diesel::joinable!(connect_sessions -> users (user_id));
diesel::joinable!(event_attendees -> calendar_events (event_id));
diesel::joinable!(event_reminders -> calendar_events (event_id));
diesel::joinable!(webhook_subscriptions -> calendar_accounts (account_id));
diesel::joinable!(webhook_subscriptions -> calendar_connections (calendar_connection_id));

diesel::allow_tables_to_appear_in_same_query!(
    api_keys,
    api_sessions,
    calendar_accounts,
    calendar_connections,
    calendar_events,
    calendar_rejected_events,
    calendar_sync_states,
    connect_sessions,
    event_attendees,
    event_reminders,
    mailbox_turns,
    sync_pass_seen,
    users,
    webhook_subscriptions,
);
