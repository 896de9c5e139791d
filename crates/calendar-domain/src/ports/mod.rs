//! The ports: roles that use cases talk to, each in a file of its own.

mod api_key_store;
mod calendar_provider;
mod change_notifier;
mod clock;
mod connection_store;
mod event_store;
mod overview_reader;
mod secrets;
mod subscription_store;
mod sync_queue;
mod token_cipher;
mod user_store;
mod wakeups;

pub use api_key_store::*;
pub use calendar_provider::*;
pub use change_notifier::*;
pub use clock::*;
pub use connection_store::*;
pub use event_store::*;
pub use overview_reader::*;
pub use secrets::*;
pub use subscription_store::*;
pub use sync_queue::*;
pub use token_cipher::*;
pub use user_store::*;
pub use wakeups::*;
