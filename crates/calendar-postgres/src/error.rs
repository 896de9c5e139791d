//! What can go wrong in the database, and what a caller can do about it.
//!
//! `Display` never holds SQL, values or the server's message (which quotes values); those are in
//! the source chain of [`PgError`] alone, for a debugger, and not passed on to the ports.

use calendar_domain::failure::{FailureClass, PortError};
use diesel::result::{ConnectionError, DatabaseErrorKind, Error as QueryError};

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// `DATABASE_URL` cannot be read; the text says which part, without its value.
    #[error("the database URL is not usable: {0}")]
    Config(String),
    /// No connection: refused, timed out, wrong password, shut down.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// A statement failed.
    #[error("a statement failed in the database ({code})")]
    Query {
        /// The class of the failure.
        class: FailureClass,
        /// A stable code.
        code: &'static str,
        /// diesel's own error.
        #[source]
        source: QueryError,
    },
    /// The role may not read the tables.
    #[error(
        "the role may not read the tables: run deploy/postgres/roles.sql as the role that owns them"
    )]
    MayNotRead,
    /// The role may not make tables.
    #[error(
        "the role may not make tables in this schema: migrate as the role that owns the database"
    )]
    MayNotMigrate,
    /// The migrations cannot be read or run.
    #[error("{} failed", name.as_deref().map_or_else(|| "preparing".to_owned(), |name| format!("the migration {name}")))]
    Migration {
        /// Which; none when none had begun.
        name: Option<String>,
        /// diesel's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A refusal of a store inside a transaction, on its way out.
    #[error(transparent)]
    Port(PortError),
}

impl From<PortError> for PgError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl From<ConnectionError> for PgError {
    fn from(error: ConnectionError) -> Self {
        Self::Unavailable(Some(Box::new(error)))
    }
}

impl From<QueryError> for PgError {
    fn from(source: QueryError) -> Self {
        let (class, code) = classify(&source);
        Self::Query {
            class,
            code,
            source,
        }
    }
}

impl From<PgError> for PortError {
    fn from(error: PgError) -> Self {
        match error {
            PgError::Port(error) => error,
            PgError::Config(_)
            | PgError::MayNotRead
            | PgError::MayNotMigrate
            | PgError::Migration { .. } => {
                Self::with_source(FailureClass::Permanent, "database_misconfigured", error)
            }
            PgError::Unavailable(_) => Self::with_source(
                FailureClass::Retryable,
                "database_unavailable",
                Described(error.to_string()),
            ),
            PgError::Query {
                class,
                code,
                ref source,
            } => Self::with_source(class, code, Described(describe(source))),
        }
    }
}

/// What may be shown of a database error: no value of a row.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Described(String);

/// The kind and the constraint. The server's message and detail quote values, so they stay out.
fn describe(error: &QueryError) -> String {
    match error {
        QueryError::DatabaseError(kind, information) => {
            let place = [
                information.constraint_name(),
                information.column_name(),
                information.table_name(),
            ]
            .into_iter()
            .flatten()
            .next();
            match place {
                Some(place) => format!("{kind:?} on {place}"),
                None => format!("{kind:?}"),
            }
        }
        QueryError::DeserializationError(_) => "a row could not be read".to_owned(),
        QueryError::SerializationError(_) => "a value could not be sent".to_owned(),
        QueryError::NotFound => "a row that must be there is not".to_owned(),
        _ => "the transaction failed".to_owned(),
    }
}

fn classify(error: &QueryError) -> (FailureClass, &'static str) {
    let QueryError::DatabaseError(kind, information) = error else {
        return match error {
            QueryError::RollbackErrorOnCommit { .. } | QueryError::BrokenTransactionManager => {
                (FailureClass::Retryable, "database_unavailable")
            }
            _ => (FailureClass::Permanent, "database_row_unreadable"),
        };
    };
    match kind {
        DatabaseErrorKind::UniqueViolation => (FailureClass::Conflict, "already_exists"),
        DatabaseErrorKind::ForeignKeyViolation
        | DatabaseErrorKind::RestrictViolation
        | DatabaseErrorKind::ExclusionViolation => (FailureClass::Conflict, "reference_violated"),
        DatabaseErrorKind::NotNullViolation | DatabaseErrorKind::CheckViolation => {
            (FailureClass::InvalidInput, "value_refused")
        }
        DatabaseErrorKind::SerializationFailure => {
            (FailureClass::Retryable, "serialization_failure")
        }
        DatabaseErrorKind::ClosedConnection
        | DatabaseErrorKind::UnableToSendCommand
        | DatabaseErrorKind::ReadOnlyTransaction => {
            (FailureClass::Retryable, "database_unavailable")
        }
        _ => classify_message(information.message()),
    }
}

/// diesel keeps no SQLSTATE, only the message. What is not known to be about a value is taken for a
/// fault of the moment (shutdown, deadlock, time-out, disk full): to try again does no harm.
fn classify_message(message: &str) -> (FailureClass, &'static str) {
    const OF_VALUES: [&str; 7] = [
        "value too long",
        "invalid byte sequence",
        "invalid input",
        "out of range",
        "unsupported Unicode escape",
        "cannot be converted to text",
        "index row",
    ];
    if message.starts_with("deadlock detected") {
        (FailureClass::Retryable, "deadlock")
    } else if message.contains("statement timeout") {
        (FailureClass::Retryable, "statement_timeout")
    } else if message.starts_with("terminating connection")
        || message.starts_with("the database system")
    {
        (FailureClass::Retryable, "database_unavailable")
    } else if OF_VALUES.iter().any(|start| message.contains(start)) {
        (FailureClass::InvalidInput, "value_refused")
    } else {
        (FailureClass::Retryable, "database_failed")
    }
}

/// Refuses what cannot stand in a text column: NUL, or more than `limit` characters.
pub(crate) fn check_text(text: &str, limit: usize, code: &'static str) -> Result<(), PortError> {
    if text.contains('\0') || (text.len() > limit && text.chars().count() > limit) {
        return Err(PortError::new(FailureClass::InvalidInput, code));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_no_value() {
        let source = QueryError::DatabaseError(
            DatabaseErrorKind::UniqueViolation,
            Box::new("Key (email)=(ada@example.com) already exists".to_owned()),
        );
        let error = PortError::from(PgError::from(source));
        assert_eq!(
            (error.class, error.code.as_str()),
            (FailureClass::Conflict, "already_exists")
        );
        let shown = format!("{error} {:?}", error.source);
        assert!(!shown.contains("ada@"), "{shown}");
    }

    #[test]
    fn messages_are_classified() {
        for (message, class) in [
            ("deadlock detected", FailureClass::Retryable),
            (
                "canceling statement due to statement timeout",
                FailureClass::Retryable,
            ),
            (
                "terminating connection due to administrator command",
                FailureClass::Retryable,
            ),
            (
                "value too long for type character varying(255)",
                FailureClass::InvalidInput,
            ),
            (
                "could not extend file: No space left on device",
                FailureClass::Retryable,
            ),
        ] {
            assert_eq!(classify_message(message).0, class, "{message}");
        }
    }

    #[test]
    fn text_is_counted_in_characters() {
        assert!(check_text(&"é".repeat(255), 255, "x").is_ok());
        assert!(check_text(&"é".repeat(256), 255, "x").is_err());
        assert!(check_text("a\0b", 255, "x").is_err());
    }
}
