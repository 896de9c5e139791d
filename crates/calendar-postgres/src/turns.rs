//! How many requests go to one mailbox at a time, over all processes: rows of `mailbox_turns`.
//!
//! A mailbox has as many turns as it may have requests. The account that is worked on takes two (the page that
//! is stored, and the one fetched ahead, share them with what a page still needs), or the one that is left. The
//! last turn is kept for the API, which has somebody waiting.

/// Requests to one mailbox at a time.
pub(crate) const DEFAULT: usize = 4;

/// How many turns passes may use.
pub(crate) fn for_passes(limit: usize) -> i32 {
    i32::try_from(limit.saturating_sub(1))
        .unwrap_or(i32::MAX)
        .max(1)
}

/// The key of the mailbox of `a`: an account's own, or `a.mailbox`.
macro_rules! mailbox_key {
    () => {
        "md5(lower(coalesce(a.mailbox, a.email, a.provider_user_id)))::uuid"
    };
}

/// Takes up to `$wanted` free turns for the row of `$from`, if it has one: `id`, `lease_fence` and what
/// `mailbox_key` needs. `$most` turns there are; they expire after `$ttl` seconds.
///
/// What is held in the statement's snapshot is not tried. Two that find the same turn free meet at the key:
/// the second finds it taken, and has one turn or none.
macro_rules! take_turns {
    ($from:literal, $most:literal, $ttl:literal, $wanted:literal) => {
        concat!(
            "INSERT INTO mailbox_turns AS t (provider, mailbox, turn, holder, fence, expires_at)
            SELECT a.provider, ",
            $crate::turns::mailbox_key!(),
            ", free.turn, a.id, a.lease_fence, now() + make_interval(secs => ",
            $ttl,
            ")
            FROM ",
            $from,
            " AS a CROSS JOIN LATERAL (
                SELECT number AS turn FROM generate_series(1, ",
            $most,
            ") AS number
                WHERE NOT EXISTS (SELECT 1 FROM mailbox_turns AS held
                    WHERE held.provider = a.provider AND held.mailbox = ",
            $crate::turns::mailbox_key!(),
            " AND held.turn = number AND held.expires_at > now())
                ORDER BY number LIMIT ",
            $wanted,
            ") AS free
            ON CONFLICT (provider, mailbox, turn) DO UPDATE SET holder = excluded.holder,
                fence = excluded.fence, expires_at = excluded.expires_at
            WHERE t.expires_at <= now()
            RETURNING 1 AS taken"
        )
    };
}

pub(crate) use {mailbox_key, take_turns};
