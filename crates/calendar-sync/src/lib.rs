//! The use cases: connect an account, sync a connection, take notifications, sign users up
//! and in.
//!
//! A use case talks to ports only (`calendar_domain::ports`); who implements them is wired by the
//! binaries. Each is a struct of its ports with one async method `run`.
//!
//! For programs that embed the service: calendar-api and calendar-worker call these, and so can the routes of
//! a host program.
//!
//! ```
//! use std::sync::Arc;
//!
//! use calendar_domain::account::CalendarChoice;
//! use calendar_domain::ids::UserId;
//! use calendar_domain::ports::{Clock, ConnectSessionStore, Secrets};
//! use calendar_domain::provider::CalendarProvider;
//! use calendar_sync::{Providers, StartConnect, StartConnectError, StartConnectInput};
//!
//! /// Where to send the browser of a user who wants to connect Outlook.
//! async fn connect_outlook(
//!     user_id: UserId,
//!     connect_sessions: Arc<dyn ConnectSessionStore>,
//!     providers: Arc<Providers>,
//!     secrets: Arc<dyn Secrets>,
//!     clock: Arc<dyn Clock>,
//! ) -> Result<String, StartConnectError> {
//!     let start = StartConnect {
//!         connect_sessions,
//!         providers,
//!         secrets,
//!         clock,
//!         redirect_uri: "https://intranet.example/calendar/v1/oauth/callback".to_owned(),
//!     };
//!     let input = StartConnectInput {
//!         user_id,
//!         provider: CalendarProvider::Microsoft,
//!         delegate_email: None,
//!         calendars: CalendarChoice::Primary,
//!         return_url: None,
//!     };
//!     Ok(start.run(input).await?.authorize_url)
//! }
//! ```

#[macro_use]
mod access;
mod authenticate;
mod complete_connect;
mod create_api_key;
mod delete_user;
mod disconnect;
mod end_subscriptions;
mod pass;
mod providers;
mod push;
mod sign_in;
mod sign_up;
mod start_connect;
mod sync_account;
mod take_notifications;

pub use authenticate::{Authenticate, Authenticated};
pub use complete_connect::{
    CallbackInput, CompleteConnect, CompleteConnectError, CompletedConnect,
};
pub use create_api_key::{CreateApiKey, CreateApiKeyError, CreatedApiKey};
pub use delete_user::DeleteUser;
pub use disconnect::Disconnect;
pub use providers::{Provider, Providers};
pub use sign_in::{SESSION_LIFETIME, SignIn, SignInError, SignedIn};
pub use sign_up::{SignUp, SignUpError, SignUpInput};
pub use start_connect::{StartConnect, StartConnectError, StartConnectInput, StartedConnect};
pub use sync_account::{PassReport, SyncAccount, SyncSettings};
pub use take_notifications::{TakeNotifications, TakeNotificationsError, TakenNotifications};
