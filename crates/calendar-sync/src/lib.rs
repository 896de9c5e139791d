//! The use cases: connect an account, sync a connection, disconnect.
