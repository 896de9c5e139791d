//! An error with its causes on one line, for logs.

use std::error::Error;
use std::fmt;

/// Shows an error and its sources, joined by `: `. A source that only repeats what stands before it
/// is left out.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calendar_domain::failure::{FailureClass, PortError};

    #[test]
    fn causes_stand_behind_their_effect_once() {
        let refused = std::io::Error::other("connection refused");
        let error = PortError::with_source(FailureClass::Retryable, "database_down", refused);
        assert_eq!(
            ErrorChain(&error).to_string(),
            "database_down: connection refused"
        );

        let same = PortError::with_source(FailureClass::Retryable, "x", std::io::Error::other("x"));
        assert_eq!(ErrorChain(&same).to_string(), "x");
    }
}
