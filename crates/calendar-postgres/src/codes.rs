//! Labels of the enum types.
