//! The `Prefer` headers of a Graph request.

use super::MAX_PAGE;
use crate::error::GraphError;
use crate::http::Incoming;
use crate::quirks::Quirks;
use crate::zones::Zone;

/// The `Prefer` headers of a request.
#[derive(Clone, Debug)]
pub(super) struct Preferences {
    pub(super) immutable: bool,
    pub(super) zone: Zone,
    pub(super) text_body: bool,
    pub(super) page_size: Option<usize>,
    pub(super) applied: Vec<String>,
}

/// Reads them; several may be in one header or in several. Unknown ones are ignored, as HTTP asks.
pub(super) fn preferences(request: &Incoming, quirks: &Quirks) -> Result<Preferences, GraphError> {
    let mut found = Preferences {
        immutable: !quirks.ids_per_request,
        zone: Zone::utc(),
        text_body: false,
        page_size: None,
        applied: Vec::new(),
    };
    for part in split_outside_quotes(&request.prefer().unwrap_or_default()) {
        let Some((name, value)) = part.split_once('=') else {
            continue;
        };
        let (name, bare) = (
            name.trim().to_ascii_lowercase(),
            value.trim().trim_matches('"'),
        );
        match name.as_str() {
            "outlook.timezone" => {
                found.zone = Zone::find(bare).ok_or_else(|| GraphError::zone(bare))?;
            }
            "outlook.body-content-type" => {
                found.text_body = bare.eq_ignore_ascii_case("text");
            }
            "idtype" => found.immutable |= bare.eq_ignore_ascii_case("ImmutableId"),
            "odata.maxpagesize" => {
                let size: usize = bare.parse().map_err(|_| {
                    GraphError::invalid("The value of odata.maxpagesize is invalid.")
                })?;
                found.page_size = Some(size.clamp(1, MAX_PAGE));
            }
            _ => continue,
        }
        found.applied.push(part.trim().to_owned());
    }
    Ok(found)
}

fn split_outside_quotes(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        if c == ',' && !quoted {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}
