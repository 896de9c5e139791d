//! A world in which nothing is polled: what arrives was pushed, or caught up with.

use calendar_simulator::{Options, SubscriptionInfo};
use serde_json::Value;

use crate::{User, World, day, eventually, timed};

/// Whose calendar it is.
pub const MAILBOX: &str = "ann@contoso.example";

/// Nothing is polled while a test runs.
pub const RARELY: [(&str, &str); 2] = [
    ("CALENDAR_POLL_SECONDS", "3600"),
    ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
];

/// A world whose worker polls rarely, with one calendar connected and its subscription made.
pub struct Pushed {
    /// The world.
    pub world: World,
    /// Who is signed in.
    pub user: User,
    /// The calendar's connection.
    pub connection: String,
}

impl Pushed {
    /// Starts it, with other variables, and waits until its push is healthy.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = RARELY.iter().chain(variables).copied().collect();
        let world = World::start_with(Options::default(), &variables).await;
        world
            .simulator
            .create_mailbox(MAILBOX, "Ann Example", "W. Europe Standard Time")
            .unwrap();
        let user = world.user("ann@example.com").await;
        let connection = world.connect_primary(&user, MAILBOX).await;
        let pushed = Self {
            world,
            user,
            connection,
        };
        pushed.wait_for_push("healthy").await;
        pushed
    }

    /// Creates an event of tomorrow at the provider; answers its id there.
    pub fn create(&self, title: &str) -> String {
        let event = timed(title, day(&self.world.simulator, 1), 9);
        self.world
            .simulator
            .create_event(MAILBOX, None, &event)
            .unwrap()
    }

    /// Waits until the API shows exactly these titles.
    pub async fn shows(&self, titles: &[&str]) {
        let query = format!("connection_id={}", self.connection);
        eventually(&format!("the API shows {titles:?}"), || async {
            let events = self.world.events(&self.user, &query).await;
            let mut shown: Vec<_> = events
                .iter()
                .map(|event| event["title"].as_str().unwrap().to_owned())
                .collect();
            shown.sort();
            shown == titles
        })
        .await;
    }

    /// What the API says of the connection.
    pub async fn connection(&self) -> Value {
        let path = format!("/v1/connections/{}", self.connection);
        self.world.get(&self.user, &path).await
    }

    /// Waits until the connection's push is in this state.
    pub async fn wait_for_push(&self, state: &str) {
        eventually(&format!("push is {state}"), || async {
            self.connection().await["push"]["state"] == state
        })
        .await;
    }

    /// What the API says about the subscriptions of the connection, newest first.
    pub async fn listed(&self) -> Vec<Value> {
        let path = format!("/v1/connections/{}/subscriptions", self.connection);
        let list = self.world.get(&self.user, &path).await;
        list["data"].as_array().unwrap().clone()
    }

    /// The one subscription that the provider has.
    #[must_use]
    pub fn subscription(&self) -> SubscriptionInfo {
        let mut all = self.world.simulator.subscriptions();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Waits until the provider has one subscription that is not this one, and the API shows it.
    pub async fn wait_for_another(&self, old: &str) {
        eventually("there is a new subscription", || async {
            let all = self.world.simulator.subscriptions();
            let listed = self.listed().await;
            all.len() == 1
                && all[0].id != old
                && listed[0]["subscription_id"] == all[0].id.as_str()
                && listed[0]["state"] == "active"
        })
        .await;
    }

    /// How often the simulator was asked so.
    #[must_use]
    pub fn asked(&self, method: &str, path: &str) -> usize {
        let requests = self.world.simulator.requests();
        let matching = requests
            .iter()
            .filter(|request| request.method == method && request.path.contains(path));
        matching.count()
    }

    /// Lets the stored subscription end so soon: as if weeks had gone by.
    pub async fn expires_in(&self, seconds: i32) {
        let sql = "UPDATE webhook_subscriptions SET expiration_datetime = now() + make_interval(secs => $1), \
             created_at = now() - interval '6 days' WHERE is_active";
        let client = self.world.database.connect().await;
        let rows = client.execute(sql, &[&f64::from(seconds)]).await.unwrap();
        assert_eq!(rows, 1);
    }
}
