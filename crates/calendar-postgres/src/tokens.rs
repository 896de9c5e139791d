//! Tokens on their way into and out of the columns of a connection, each sealed for its own place.

use calendar_domain::account::{SealPlace, StoredTokens, TokenGrant, TokenSet};
use calendar_domain::failure::PortResult;
use calendar_domain::ids::ConnectionId;
use calendar_domain::ports::TokenCipher;
use secrecy::SecretString;
use time::OffsetDateTime;

fn place(connection: ConnectionId, column: &'static str) -> SealPlace {
    SealPlace {
        table: "calendar_connections",
        row: connection.0,
        column,
    }
}

/// A grant, sealed for one connection.
pub(crate) struct SealedGrant {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
}

/// Seals a grant for a connection's row.
pub(crate) fn seal(
    cipher: &dyn TokenCipher,
    connection: ConnectionId,
    grant: &TokenGrant,
) -> PortResult<SealedGrant> {
    let refresh = grant.refresh_token.as_ref();
    Ok(SealedGrant {
        access_token: cipher.seal(&grant.access_token, place(connection, "access_token"))?,
        refresh_token: refresh
            .map(|token| cipher.seal(token, place(connection, "refresh_token")))
            .transpose()?,
    })
}

/// Opens a row's tokens. What does not open is not an error: the user signs in again.
pub(crate) fn open(
    cipher: &dyn TokenCipher,
    connection: ConnectionId,
    access_token: Option<&str>,
    refresh_token: Option<&str>,
    expires_at: Option<OffsetDateTime>,
) -> StoredTokens {
    let Some(access_token) = access_token else {
        return StoredTokens::Unreadable("token_missing");
    };
    let open = |sealed: &str, column| -> Result<SecretString, &'static str> {
        cipher
            .open(sealed, place(connection, column))
            .map_err(|error| match error.code.as_str() {
                "token_not_sealed" => "token_not_sealed",
                "token_key_missing" => "token_key_missing",
                _ => "token_forged",
            })
    };
    let opened = open(access_token, "access_token").and_then(|access_token| {
        let refresh_token = refresh_token
            .map(|sealed| open(sealed, "refresh_token"))
            .transpose()?;
        // Without an expiry it is taken for expired: a refresh settles it.
        let expires_at = expires_at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Ok(TokenSet {
            access_token,
            refresh_token,
            expires_at,
        })
    });
    opened.map_or_else(StoredTokens::Unreadable, StoredTokens::Open)
}
