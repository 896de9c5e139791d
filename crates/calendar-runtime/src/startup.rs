//! Starting: waiting for the database, and refusing one that is not migrated.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::error_chain::ErrorChain;
use crate::shutdown::stopped;

/// How long a process waits for its database when it starts.
pub const DATABASE_WAIT: Duration = Duration::from_mins(1);

/// Why a process does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database did not answer as it should within the limit.
    #[error("the database was not ready within {} s; check DATABASE_URL and whether it runs", waited.as_secs())]
    DatabaseDown {
        /// The limit.
        waited: Duration,
        /// What the last attempt failed with.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database lacks migrations that this version needs.
    #[error(
        "the database is not migrated: run `calendar-api migrate` ({})",
        Pending(pending)
    )]
    NotMigrated {
        /// Their names, oldest first.
        pending: Vec<String>,
    },
    /// We were asked to stop before the start was complete.
    #[error("stopped before the start was complete")]
    Stopped,
}

struct Pending<'a>(&'a [String]);

impl fmt::Display for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} missing", self.0.len())?;
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

/// Asks again and again until the database answers, says so while it does not, and gives up after
/// `limit`. One attempt takes 5 s at the most. What the first good attempt answers is returned.
pub async fn wait_for_database<T, E, F>(
    limit: Duration,
    stop: &watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, StartError>
where
    F: Future<Output = Result<T, E>>,
    E: Error + Send + Sync + 'static,
{
    const ATTEMPT: Duration = Duration::from_secs(5);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);

    let begun = Instant::now();
    let mut pause = Duration::from_millis(200);
    let mut waited = false;
    loop {
        let asked = tokio::select! {
            asked = tokio::time::timeout(ATTEMPT, attempt()) => asked,
            () = stopped(stop.clone()) => return Err(StartError::Stopped),
        };
        let source: Box<dyn Error + Send + Sync> = match asked {
            Ok(Ok(answer)) => {
                if waited {
                    info!("the database answers");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => Box::new(error),
            Err(elapsed) => Box::new(elapsed),
        };
        if begun.elapsed() + pause > limit {
            return Err(StartError::DatabaseDown {
                waited: limit,
                source,
            });
        }
        waited = true;
        warn!(
            error = %ErrorChain(source.as_ref()),
            waited_s = begun.elapsed().as_secs(),
            limit_s = limit.as_secs(),
            "waiting for the database",
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(stop.clone()) => return Err(StartError::Stopped),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn never_stopped() -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_until_the_database_answers() {
        let mut attempts = 0;
        let answer = wait_for_database(DATABASE_WAIT, &never_stopped(), || {
            attempts += 1;
            let up = attempts == 6;
            async move {
                if up {
                    Ok(7)
                } else {
                    Err(io::Error::other("refused"))
                }
            }
        })
        .await;
        assert_eq!(answer.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_at_the_limit() {
        let begun = Instant::now();
        let answer = wait_for_database::<(), _, _>(DATABASE_WAIT, &never_stopped(), || async {
            Err(io::Error::other("refused"))
        })
        .await;
        let error = answer.unwrap_err();
        assert!(
            ErrorChain(&error).to_string().ends_with("refused"),
            "{error}"
        );
        let waited = begun.elapsed();
        assert!(
            waited > Duration::from_secs(50) && waited <= DATABASE_WAIT,
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_one_that_failed() {
        let answer = wait_for_database::<(), io::Error, _>(
            Duration::from_secs(12),
            &never_stopped(),
            std::future::pending,
        )
        .await;
        assert!(matches!(answer, Err(StartError::DatabaseDown { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting() {
        let (stop, stopping) = watch::channel(true);
        let answer =
            wait_for_database::<(), io::Error, _>(DATABASE_WAIT, &stopping, std::future::pending)
                .await;
        drop(stop);
        assert!(matches!(answer, Err(StartError::Stopped)));
    }

    #[test]
    fn an_old_schema_names_the_remedy() {
        let error = StartError::NotMigrated {
            pending: vec!["2026_a".into(), "2026_b".into()],
        };
        assert_eq!(
            error.to_string(),
            "the database is not migrated: run `calendar-api migrate` (2 missing: 2026_a, 2026_b)"
        );
    }
}
