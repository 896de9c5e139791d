//! Use case: sign a user up.

use std::sync::Arc;

use calendar_domain::failure::{FailureClass, PortError};
use calendar_domain::ports::{Clock, Secrets, UserStore};
use calendar_domain::user::{NewUser, User};
use secrecy::SecretString;

/// Signs a user up.
#[derive(Clone)]
pub struct SignUp {
    /// Where users are.
    pub users: Arc<dyn UserStore>,
    /// Hashes the password.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Who signs up. The caller has checked the shape of the address and the password.
#[derive(Clone, Debug)]
pub struct SignUpInput {
    /// The address; its case does not count.
    pub email: String,
    /// The password.
    pub password: SecretString,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
}

/// Why a user cannot sign up.
#[derive(Debug, thiserror::Error)]
pub enum SignUpError {
    /// Somebody has this address.
    #[error("the address is taken")]
    EmailTaken,
    /// A port failed.
    #[error("signing up failed")]
    Port(#[source] PortError),
}

impl SignUp {
    /// Creates the user.
    pub async fn run(&self, input: SignUpInput) -> Result<User, SignUpError> {
        let password_hash = self
            .secrets
            .hash_password(&input.password)
            .await
            .map_err(SignUpError::Port)?;
        let user = NewUser {
            email: input.email.to_lowercase(),
            password_hash,
            first_name: input.first_name,
            last_name: input.last_name,
        };
        self.users
            .create(user, self.clock.now())
            .await
            .map_err(|error| match error.class {
                FailureClass::Conflict => SignUpError::EmailTaken,
                _ => SignUpError::Port(error),
            })
    }
}
