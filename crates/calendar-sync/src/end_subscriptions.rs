//! What disconnecting and deleting a user have in common: subscriptions that nobody needs any more end at
//! the provider.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use calendar_domain::account::StoredTokens;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::Clock;
use calendar_domain::subscription::EndingSubscription;
use secrecy::SecretString;
use tokio::task::JoinSet;

use crate::{Provider, Providers};

/// Somebody waits for the answer; and a subscription that is not ended expires by itself.
const WITHIN: StdDuration = StdDuration::from_secs(8);

/// Ends them, side by side; a failure is logged. To be called after the store has let go of them.
pub(crate) async fn end_subscriptions(
    providers: &Providers,
    clock: &Arc<dyn Clock>,
    ending: Vec<EndingSubscription>,
) {
    let mut tasks = JoinSet::new();
    for subscription in ending {
        let Some(provider) = providers.get(subscription.provider) else {
            continue;
        };
        let (provider, clock) = (provider.clone(), clock.clone());
        tasks.spawn(async move { end(&provider, clock.as_ref(), subscription).await });
    }
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                not_ended(&error.code);
            }
        }
    };
    if tokio::time::timeout(WITHIN, all).await.is_err() {
        not_ended("timeout");
    }
}

fn not_ended(code: &str) {
    tracing::warn!(
        code,
        "a subscription was not ended at the provider; it expires by itself"
    );
}

async fn end(
    provider: &Provider,
    clock: &dyn Clock,
    subscription: EndingSubscription,
) -> PortResult<()> {
    let tokens = match subscription.tokens {
        StoredTokens::Open(tokens) => tokens,
        StoredTokens::Unreadable(code) => {
            return Err(PortError::new(FailureClass::Authentication, code));
        }
    };
    let id = &subscription.subscription_id;
    let mut answer = Err(PortError::new(FailureClass::Authentication, "expired"));
    if tokens.expires_at > clock.now() {
        answer = provider
            .notifier
            .unsubscribe(&tokens.access_token, id)
            .await;
    }
    match (answer, &tokens.refresh_token) {
        // An account that is gone has no use for its refresh token; one that stays may refresh under its
        // lease only.
        (Err(error), Some(refresh_token))
            if error.class == FailureClass::Authentication && !subscription.account_stays =>
        {
            let token: SecretString = provider
                .authorizer
                .refresh(refresh_token)
                .await?
                .access_token;
            provider.notifier.unsubscribe(&token, id).await
        }
        (answer, _) => answer,
    }
}
