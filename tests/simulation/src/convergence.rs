//! The end of a run: the faults stop, and the store has to become what the provider has.

use calendar_domain::ids::ConnectionId;
use calendar_domain::ports::Clock as _;
use tokio_postgres::Row;

use crate::compare::{ConnectionRow, differences};
use crate::run::{Run, Stop};

/// How often everything is asked for again, because users had to sign in or a removal was held back.
const ROUNDS: u32 = 4;

const CONNECTIONS: &str = "
    SELECT c.id::text, a.id::text, a.email, c.calendar_name, c.mailbox, c.is_shared,
        extract(epoch FROM s.window_start)::bigint, extract(epoch FROM s.window_end)::bigint,
        s.is_paused, a.needs_reauth_reason IS NOT NULL, s.failure_count, s.removal_held,
        s.due_at <= to_timestamp($1), a.pushed_at IS NOT NULL, a.user_id::text
    FROM calendar_connections c JOIN calendar_accounts a ON a.id = c.account_id
    JOIN calendar_sync_states s ON s.connection_id = c.id
    WHERE c.deleted_at IS NULL AND c.is_connected ORDER BY c.id";

impl Run<'_> {
    /// The connections that there are.
    pub(crate) async fn connections(&self) -> Result<Vec<ConnectionRow>, Stop> {
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let now = self.product.time.seconds() as f64;
        let rows = self.bench.client.query(CONNECTIONS, &[&now]).await?;
        rows.iter().map(|row| self.connection(row)).collect()
    }

    fn connection(&self, row: &Row) -> Result<ConnectionRow, Stop> {
        let signed_in: String = row.get::<_, Option<String>>(2).unwrap_or_default();
        let name: Option<String> = row.get(3);
        let delegate: Option<String> = row.get(4);
        let books = &self.world.mailboxes;
        let of = |upn: &str| books.iter().position(|book| book.upn == upn);
        let custom = books.iter().enumerate().find_map(|(mailbox, book)| {
            let calendar = book
                .calendars
                .iter()
                .position(|own| own.is_some() && *own == name)?;
            Some((mailbox, calendar))
        });
        let place = match custom {
            Some(place) => Some(place),
            None => of(delegate.as_deref().unwrap_or(&signed_in)).map(|mailbox| (mailbox, 0)),
        };
        let Some((mailbox, calendar)) = place else {
            return Err(Stop::Broken(format!(
                "a connection of nobody: {name:?} of {signed_in}"
            )));
        };
        let window = row.get::<_, Option<i64>>(6).zip(row.get(7));
        Ok(ConnectionRow {
            id: row.get(0),
            account: row.get(1),
            is_shared: row.get::<_, bool>(5)
                || delegate.is_some()
                || of(&signed_in) != Some(mailbox),
            signed_in,
            mailbox,
            calendar,
            window,
            is_paused: row.get(8),
            needs_reauth: row.get(9),
            failures: row.get(10),
            is_held: row.get(11),
            is_due: row.get(12),
            is_pushed: row.get(13),
            user: row.get(14),
        })
    }

    /// The faults stop.
    pub(crate) async fn converge(&mut self) -> Result<(), Stop> {
        self.with_faults = false;
        self.simulator.clear_faults();
        self.note("the faults stop");
        self.rest().await?;
        self.deliver_all().await?;
        self.what_was_pushed_is_in().await?;
        self.everything_is_in().await?;
        self.nothing_more_is_written().await
    }

    /// What an accepted push has told of is found without anybody asking for it.
    async fn what_was_pushed_is_in(&mut self) -> Result<(), Stop> {
        for seconds in [61, 2, 6, 6, 61, 61] {
            self.advance(seconds).await?;
            self.drain().await?;
        }
        if self.is_skewed {
            return Ok(());
        }
        for connection in self.connections().await? {
            let last = self.world.mailboxes[connection.mailbox].last_edit;
            let was_told = last > 0 && self.accepted[connection.mailbox] >= last;
            let is_well = !connection.is_shared
                && !connection.is_paused
                && !connection.needs_reauth
                && !connection.is_held
                && !connection.is_due
                && !connection.is_pushed
                && connection.failures == 0
                && connection.window.is_some();
            if was_told && is_well {
                self.stats.count("pushed calendars compared", 1);
                self.compare(&connection, "after an accepted push").await?;
            }
        }
        Ok(())
    }

    async fn compare(&mut self, connection: &ConnectionRow, when: &str) -> Result<(), Stop> {
        let found =
            differences(&self.bench.client, &self.simulator, &self.world, connection).await?;
        if found.is_empty() {
            return Ok(());
        }
        let calendar = &self.world.mailboxes[connection.mailbox].calendars[connection.calendar];
        Err(Stop::Broken(format!(
            "{when}: connection {} (account {}, {}, shared {}, calendar {calendar:?} of {}) differs:\n  {}",
            crate::ports::short(&connection.id),
            crate::ports::short(&connection.account),
            connection.signed_in,
            connection.is_shared,
            self.world.mailboxes[connection.mailbox].upn,
            found.join("\n  ")
        )))
    }

    /// Everything is made due, and one pass runs.
    async fn everything_is_in(&mut self) -> Result<(), Stop> {
        self.product.time.set_skew(0);
        for round in 0..ROUNDS {
            for user in 0..self.users.len() {
                let connections = self.connections().await?;
                let mine = self.world.mailboxes[self.users[user].mailbox].upn.clone();
                let mine: Vec<_> = connections
                    .iter()
                    .filter(|row| row.signed_in == mine)
                    .collect();
                if mine.is_empty()
                    || mine
                        .iter()
                        .any(|row| row.needs_reauth || (row.is_shared && row.failures > 0))
                {
                    self.sign_in(user);
                    self.rest().await?;
                }
            }
            self.ask_for_all().await?;
            self.drain().await?;
            let connections = self.connections().await?;
            if connections
                .iter()
                .all(|row| !row.needs_reauth && !row.is_held && row.failures == 0)
            {
                self.note(format!("compared after round {round}"));
                for connection in connections {
                    self.stats.count("calendars compared", 1);
                    self.compare(&connection, "after everything was asked for")
                        .await?;
                }
                return Ok(());
            }
        }
        Err(Stop::Broken(format!(
            "after {ROUNDS} rounds without faults, users still have to sign in, or a removal is still held back"
        )))
    }

    /// Paused ones are resumed, and a sync of each is asked for, as a user would.
    async fn ask_for_all(&mut self) -> Result<(), Stop> {
        for connection in self.connections().await? {
            let (Ok(id), Ok(user)) = (connection.id.parse(), connection.user.parse()) else {
                continue;
            };
            let (id, user) = (ConnectionId(id), calendar_domain::ids::UserId(user));
            let now = self.product.time.now();
            let real = &self.product.real;
            if connection.is_paused {
                let change = calendar_domain::connection::ConnectionChange {
                    paused: Some(false),
                    ..Default::default()
                };
                real.connections.change(user, id, change, now).await?;
            }
            real.queue.request_sync(user, id, now).await?;
        }
        Ok(())
    }

    /// A further pass over everything changes no row of an event table.
    async fn nothing_more_is_written(&mut self) -> Result<(), Stop> {
        let before = self.bench.versions().await?;
        self.ask_for_all().await?;
        self.renew();
        self.rest().await?;
        self.drain().await?;
        let after = self.bench.versions().await?;
        if before == after {
            return Ok(());
        }
        let written: Vec<&String> = after.iter().filter(|row| !before.contains(row)).collect();
        Err(Stop::Broken(format!(
            "nothing has changed, and a further pass wrote {written:?}"
        )))
    }
}
