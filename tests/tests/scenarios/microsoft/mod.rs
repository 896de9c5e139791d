//! For Microsoft: one file for each section of the list.

mod bad_events;
mod deletes;
mod duplicates;
mod limits;
mod meetings;
mod pushes;
mod recurrence;
mod subscriptions;
mod tokens;
mod unpushed;
mod window;

const ANN: &str = "ann@contoso.example";
const BOB: &str = "bob@contoso.example";
