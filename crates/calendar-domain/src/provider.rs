//! Calendar providers and what they can do.

use std::fmt;

/// A calendar provider (`calendar_provider` in the database).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CalendarProvider {
    /// Google Calendar.
    Google,
    /// Microsoft 365 and Outlook.com, through Microsoft Graph.
    Microsoft,
    /// Apple iCloud and other `CalDAV` servers.
    Apple,
}

impl CalendarProvider {
    /// The name in our API and logs: lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::Microsoft => "microsoft",
            Self::Apple => "apple",
        }
    }
}

impl fmt::Display for CalendarProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a provider's change feed does, where a use case has to care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// A sync token covers one time window only; to move the window, a full pass is needed
    /// (Graph's `calendarView/delta`; Google's sync tokens cover everything).
    pub window_bound: bool,
    /// A deleted occurrence is not reported; it is only missing from its series
    /// (Graph; Google reports it as a cancelled exception).
    pub silent_holes: bool,
}
