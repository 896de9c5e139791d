//! The use cases: connect an account, sync a connection, take notifications, sign users up
//! and in.
//!
//! A use case talks to ports only (`calendar_domain::ports`); who implements them is wired by the
//! binaries. Each is a struct of its ports with one async method `run`.

#[macro_use]
mod access;
mod complete_connect;
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

pub use complete_connect::{
    CallbackInput, CompleteConnect, CompleteConnectError, CompletedConnect,
};
pub use delete_user::DeleteUser;
pub use disconnect::Disconnect;
pub use providers::{Provider, Providers};
pub use sign_in::{Authenticate, SESSION_LIFETIME, SignIn, SignInError, SignedIn};
pub use sign_up::{SignUp, SignUpError, SignUpInput};
pub use start_connect::{StartConnect, StartConnectError, StartConnectInput, StartedConnect};
pub use sync_account::{PassReport, SyncAccount, SyncSettings};
pub use take_notifications::{TakeNotifications, TakeNotificationsError, TakenNotifications};
