//! Wake-ups: what has become due says so by NOTIFY, and whoever waits for work listens.
//!
//! They carry nothing and may be lost: what is due stands in the tables, and is found by asking there
//! now and then.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::ports::Wakeups;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;

use crate::database::{CONNECT_TIMEOUT, Database, Opener};
use crate::error::PgError;

/// The expression that wakes those who listen, once the transaction commits; as often as it is
/// evaluated in one transaction, it wakes once.
macro_rules! wake {
    () => {
        "pg_notify('calendar_sync', '')"
    };
}

pub(crate) use wake;

const LISTEN: &str = "LISTEN calendar_sync";

/// Between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A connection that is only listened to does not show that the other side is gone: it is asked.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Listens for wake-ups on a connection of its own, until it is dropped.
#[derive(Debug)]
pub struct PgWakeups {
    woken: Arc<Notify>,
    listening: JoinHandle<()>,
}

impl PgWakeups {
    /// Begins to listen; needs a tokio runtime. While the server is away it tries again by itself.
    #[must_use]
    pub fn start(database: &Database) -> Self {
        let woken = Arc::new(Notify::new());
        let listening = tokio::spawn(listen(database.opener(), Arc::clone(&woken)));
        Self { woken, listening }
    }
}

#[async_trait]
impl Wakeups for PgWakeups {
    async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for PgWakeups {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// How the listening stands.
struct Ear {
    woken: Arc<Notify>,
    pause: Duration,
    is_away: bool,
}

impl Ear {
    fn established(&mut self) {
        if self.is_away {
            tracing::info!("wake-ups are heard again");
        }
        self.is_away = false;
        self.pause = FIRST_PAUSE;
        // What came before is not repeated.
        self.woken.notify_one();
    }

    async fn lost(&mut self, error: PgError) {
        if !self.is_away {
            tracing::warn!(%error, "wake-ups are not heard: work is found by asking");
        }
        self.is_away = true;
        sleep(self.pause).await;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
    }
}

async fn listen(opener: Opener, woken: Arc<Notify>) {
    let mut ear = Ear {
        woken,
        pause: FIRST_PAUSE,
        is_away: false,
    };
    loop {
        let error = listen_once(&opener, &mut ear).await;
        ear.lost(error).await;
    }
}

/// Listens until the connection is lost.
async fn listen_once(opener: &Opener, ear: &mut Ear) -> PgError {
    let gone = |error: Option<tokio_postgres::Error>| {
        PgError::Unavailable(error.map(|error| Box::new(error).into()))
    };
    let (client, mut connection) = match timeout(CONNECT_TIMEOUT, opener.connect()).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return error,
        Err(_) => return gone(None),
    };
    let woken = Arc::clone(&ear.woken);
    // The driver does nothing unless it is asked for messages, the answers to our questions included.
    let messages = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => woken.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return gone(Some(error)),
                None => return gone(None),
            }
        }
    };
    let questions = async {
        let ask = |question| timeout(CONNECT_TIMEOUT, client.batch_execute(question));
        let mut answer = ask(LISTEN).await;
        if matches!(answer, Ok(Ok(()))) {
            ear.established();
        }
        loop {
            match answer {
                Ok(Ok(())) => sleep(ASK_EVERY).await,
                Ok(Err(error)) => return gone(Some(error)),
                Err(_) => return gone(None),
            }
            answer = ask("").await;
        }
    };
    tokio::select! {
        error = messages => error,
        error = questions => error,
    }
}
