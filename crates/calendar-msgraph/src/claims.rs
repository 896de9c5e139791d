//! What an access token says of its user, where it is a JWT (tokens of personal accounts are not).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Claims read without checking the signature: good to name a tenant or to share a limit, for no
/// decision about access. Source: <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    /// Tenant.
    #[serde(deserialize_with = "text")]
    pub(crate) tid: Option<String>,
    /// The user's id in the tenant.
    #[serde(deserialize_with = "text")]
    pub(crate) oid: Option<String>,
    /// The user's sign-in name, mostly an address.
    #[serde(deserialize_with = "text")]
    pub(crate) upn: Option<String>,
}

impl Claims {
    /// The claims of `token`; none where it is opaque or unreadable.
    pub(crate) fn of(token: &SecretString) -> Self {
        let mut parts = token.expose_secret().split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Self::default();
        };
        URL_SAFE_NO_PAD
            .decode(payload.trim_end_matches('='))
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }
}

/// A claim of another type is as good as none.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> SecretString {
        SecretString::from(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload)))
    }

    #[test]
    fn claims_of_a_jwt_are_read() {
        let claims = Claims::of(&token(r#"{"tid":"t","oid":"o","upn":7,"aud":["x"]}"#));
        assert_eq!(claims.tid.as_deref(), Some("t"));
        assert_eq!(claims.oid.as_deref(), Some("o"));
        assert_eq!(claims.upn, None);
    }

    #[test]
    fn anything_else_has_no_claims() {
        for text in [
            "",
            "EwBQA8l6BAAU",
            "a.b.c",
            "a.b",
            "e30.bm90IGpzb24.x",
            "..",
            "a.b.c.d",
        ] {
            assert!(
                Claims::of(&SecretString::from(text)).tid.is_none(),
                "{text}"
            );
        }
        assert!(Claims::of(&token("[]")).tid.is_none());
    }
}
