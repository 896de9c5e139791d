//! How many requests go to one mailbox at once, within this process.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use calendar_domain::sync::Mailbox;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::claims::Claims;

/// Limits that nobody holds are dropped when there are more than this.
const SWEEP_AT: usize = 1024;

/// One semaphore per mailbox in use. Clones share them.
#[derive(Clone)]
pub(crate) struct MailboxLimits {
    permits: usize,
    limits: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    hasher: RandomState,
}

impl MailboxLimits {
    pub(crate) fn new(permits: usize) -> Self {
        Self {
            permits,
            limits: Arc::default(),
            hasher: RandomState::new(),
        }
    }

    /// Waits until a request to the mailbox may go out. Hold the permit until the answer is read.
    pub(crate) async fn acquire(
        &self,
        token: &SecretString,
        mailbox: &Mailbox,
    ) -> Option<OwnedSemaphorePermit> {
        let semaphore = self.semaphore(self.key(token, mailbox));
        // Never closed, so always `Some`; a caller without a permit would only be unlimited.
        semaphore.acquire_owned().await.ok()
    }

    fn semaphore(&self, key: String) -> Arc<Semaphore> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.len() >= SWEEP_AT {
            limits.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        Arc::clone(
            limits
                .entry(key)
                .or_insert_with(|| Arc::new(Semaphore::new(self.permits))),
        )
    }

    /// The owner's address where it is known, so that an owner and a delegate share a limit; else
    /// the user's id; else the token itself, hashed with a key of this process.
    fn key(&self, token: &SecretString, mailbox: &Mailbox) -> String {
        if let Mailbox::Delegate(owner) = mailbox {
            return owner.to_lowercase();
        }
        let claims = Claims::of(token);
        match (claims.upn, claims.oid) {
            (Some(upn), _) => upn.to_lowercase(),
            (None, Some(oid)) => oid,
            (None, None) => format!("{:016x}", self.hasher.hash_one(token.expose_secret())),
        }
    }
}

impl fmt::Debug for MailboxLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys are addresses.
        f.debug_struct("MailboxLimits")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_fifth_request_to_a_mailbox_waits_and_others_do_not() {
        let limits = MailboxLimits::new(4);
        let token = SecretString::from("opaque");
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(limits.acquire(&token, &Mailbox::Own).await.unwrap());
        }
        let fifth = tokio::time::timeout(
            Duration::from_millis(50),
            limits.acquire(&token, &Mailbox::Own),
        );
        assert!(fifth.await.is_err());
        let delegate = Mailbox::Delegate("Ada@Example.com".to_owned());
        assert!(limits.acquire(&token, &delegate).await.is_some());
        assert!(
            limits
                .acquire(&SecretString::from("other"), &Mailbox::Own)
                .await
                .is_some()
        );
        held.pop();
        assert!(limits.acquire(&token, &Mailbox::Own).await.is_some());
    }

    #[test]
    fn an_owner_and_a_delegate_share_the_limit() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        let limits = MailboxLimits::new(1);
        let payload = URL_SAFE_NO_PAD.encode(r#"{"upn":"ada@example.com","oid":"o"}"#);
        let owner = SecretString::from(format!("e30.{payload}.s"));
        let delegate = Mailbox::Delegate("Ada@Example.com".to_owned());
        assert_eq!(
            limits.key(&owner, &Mailbox::Own),
            limits.key(&SecretString::from("x"), &delegate)
        );
    }

    #[test]
    fn limits_that_nobody_holds_are_dropped() {
        let limits = MailboxLimits::new(1);
        let held = limits.semaphore("held".to_owned());
        for n in 0..5000 {
            drop(limits.semaphore(n.to_string()));
        }
        assert!(limits.limits.lock().unwrap().len() <= SWEEP_AT);
        assert!(Arc::ptr_eq(&held, &limits.semaphore("held".to_owned())));
    }
}
