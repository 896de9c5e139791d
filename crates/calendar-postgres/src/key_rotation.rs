//! Rotation of the keys that seal tokens: all that is sealed under another key than the first is sealed
//! anew, while everybody goes on working.
//!
//! Each value by itself, and only if it still stands there as it was read: a token that is refreshed
//! meanwhile is never overwritten, no lock is held but for one row's update, and a rotation may end
//! anywhere and begin again.

use std::sync::Arc;

use calendar_domain::account::SealPlace;
use calendar_domain::failure::PortResult;
use calendar_domain::ports::TokenCipher;
use diesel::sql_types::{BigInt, Bool, Text, Uuid as SqlUuid};
use uuid::Uuid;

use crate::database::Database;
use crate::statement::Statement;

/// How many values one statement reads.
const STEP: i64 = 200;

/// What we sealed; anything else was stored by an older application.
macro_rules! is_sealed {
    ($column:literal) => {
        concat!($column, r" ~ '^v1\.[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]+$'")
    };
}

/// A column that holds sealed values.
struct Column {
    table: &'static str,
    name: &'static str,
    /// `$1` after which row, `$2` the first key's prefix, `$3` how many.
    read: &'static str,
    /// `$1` row, `$2` what stood there, `$3` what is to stand there.
    write: &'static str,
}

macro_rules! column {
    ($table:literal, $column:literal) => {
        Column {
            table: $table,
            name: $column,
            read: concat!(
                "SELECT id, ",
                $column,
                " AS sealed FROM ",
                $table,
                " WHERE id > $1 AND ",
                is_sealed!($column),
                " AND NOT starts_with(",
                $column,
                ", $2) ORDER BY id LIMIT $3"
            ),
            write: concat!(
                "UPDATE ",
                $table,
                " SET ",
                $column,
                " = $3 WHERE id = $1 AND ",
                $column,
                " = $2"
            ),
        }
    };
}

/// Every column that holds what the cipher sealed.
const COLUMNS: [Column; 3] = [
    column!("calendar_connections", "access_token"),
    column!("calendar_connections", "refresh_token"),
    column!("connect_sessions", "code_verifier"),
];

/// `$1` the first key's prefix.
const STATUS: &str = concat!(
    "SELECT split_part(sealed, '.', 2) AS key_id, bool_and(starts_with(sealed, $1)) AS is_first,
        count(*) AS count
    FROM (
        SELECT access_token AS sealed FROM calendar_connections
        UNION ALL SELECT refresh_token FROM calendar_connections
        UNION ALL SELECT code_verifier FROM connect_sessions
    ) AS s WHERE ",
    is_sealed!("sealed"),
    " GROUP BY 1 ORDER BY 1"
);

#[derive(diesel::QueryableByName)]
struct SealedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    sealed: String,
}

#[derive(diesel::QueryableByName)]
struct StatusRow {
    #[diesel(sql_type = Text)]
    key_id: String,
    #[diesel(sql_type = Bool)]
    is_first: bool,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPlace {
    column: usize,
    row: Uuid,
}

impl RotationPlace {
    /// Where a rotation begins.
    pub const START: Self = Self {
        column: 0,
        row: Uuid::nil(),
    };
}

/// What one step of a rotation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationStep {
    /// Values that are sealed under the first key now.
    pub resealed: u64,
    /// Values that do not open: their key is missing, or they were changed.
    pub unreadable: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<RotationPlace>,
}

/// How many values are sealed under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedUnder {
    /// The key's id.
    pub key_id: String,
    /// Whether it is the one that seals.
    pub is_first: bool,
    /// How many.
    pub count: u64,
}

/// Seals anew what older keys sealed.
#[derive(Clone)]
pub struct PgKeyRotation {
    database: Database,
    cipher: Arc<dyn TokenCipher>,
}

impl PgKeyRotation {
    /// On this database, with these keys.
    #[must_use]
    pub fn new(database: Database, cipher: Arc<dyn TokenCipher>) -> Self {
        Self { database, cipher }
    }

    /// Seals up to 200 values anew, from `place` on. What changes meanwhile is left as it is; whoever
    /// wrote it sealed it under their own first key.
    pub async fn step(&self, place: RotationPlace) -> PortResult<RotationStep> {
        let Some(column) = COLUMNS.get(place.column) else {
            return Ok(RotationStep {
                resealed: 0,
                unreadable: 0,
                next: None,
            });
        };
        let mut connection = self.database.get().await?;
        let rows: Vec<SealedRow> = Statement::new(column.read)
            .bind::<SqlUuid, _>(place.row)
            .bind::<Text, _>(self.cipher.sealed_prefix())
            .bind::<BigInt, _>(STEP)
            .rows(&mut connection)
            .await?;
        let next = match rows.last() {
            Some(last) => Some(RotationPlace {
                row: last.id,
                ..place
            }),
            None if place.column + 1 < COLUMNS.len() => Some(RotationPlace {
                column: place.column + 1,
                row: Uuid::nil(),
            }),
            None => None,
        };
        let (mut resealed, mut unreadable) = (0, 0);
        for SealedRow { id, sealed } in rows {
            let place = SealPlace {
                table: column.table,
                row: id,
                column: column.name,
            };
            let Ok(plain) = self.cipher.open(&sealed, place) else {
                unreadable += 1;
                continue;
            };
            let anew = self.cipher.seal(&plain, place)?;
            resealed += Statement::new(column.write)
                .bind::<SqlUuid, _>(id)
                .bind::<Text, _>(sealed)
                .bind::<Text, _>(anew)
                .run(&mut connection)
                .await?;
        }
        Ok(RotationStep {
            resealed,
            unreadable,
            next,
        })
    }

    /// How many values are sealed under which key, by the keys' ids.
    pub async fn status(&self) -> PortResult<Vec<SealedUnder>> {
        let mut connection = self.database.get().await?;
        let rows: Vec<StatusRow> = Statement::new(STATUS)
            .bind::<Text, _>(self.cipher.sealed_prefix())
            .rows(&mut connection)
            .await?;
        let under = |row: StatusRow| SealedUnder {
            key_id: row.key_id,
            is_first: row.is_first,
            count: row.count.unsigned_abs(),
        };
        Ok(rows.into_iter().map(under).collect())
    }
}
