//! Limits on signing in, per address and per account, on signing up, per address, and on the requests of a token: token
//! buckets in this process, bounded in memory. A sign-in that succeeds is given back, so that only failures use
//! a bucket up; a sign-up is not, because each costs a password hash that sign-ins wait behind.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How fast a bucket empties and fills.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Attempts at once.
    burst: f64,
    /// Attempts a second in the long run.
    per_second: f64,
}

/// Behind one address there may be a whole office.
const PER_ADDRESS: Rate = Rate {
    burst: 60.0,
    per_second: 1.0,
};
/// A person mistypes a few times.
const PER_ACCOUNT: Rate = Rate {
    burst: 10.0,
    per_second: 0.1,
};
/// Buckets of each kind; about a megabyte in all.
const MOST: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    fn left(self, bucket: Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + passed * self.per_second).min(self.burst)
    }
}

#[derive(Debug)]
struct Buckets {
    rate: Rate,
    most: usize,
    by_key: HashMap<u64, Bucket>,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            most: MOST,
            by_key: HashMap::new(),
        }
    }

    /// Takes one attempt, and says how many are left; or how long to wait for the next.
    fn take(&mut self, key: u64, now: Instant) -> Result<f64, Duration> {
        let full = Bucket {
            left: self.rate.burst,
            at: now,
        };
        let left = self
            .rate
            .left(self.by_key.get(&key).copied().unwrap_or(full), now);
        let taken = if left < 1.0 {
            Err(Duration::from_secs_f64((1.0 - left) / self.rate.per_second))
        } else {
            Ok(left - 1.0)
        };
        self.make_room(key, now);
        // Of a refusal too: whoever goes on is not the one unused the longest.
        let left = taken.unwrap_or(left);
        self.by_key.insert(key, Bucket { left, at: now });
        taken
    }

    fn give_back(&mut self, key: u64, now: Instant) {
        let rate = self.rate;
        if let Some(bucket) = self.by_key.get_mut(&key) {
            *bucket = Bucket {
                left: (rate.left(*bucket, now) + 1.0).min(rate.burst),
                at: now,
            };
        }
    }

    /// Buckets that are full again say nothing and go first; then the one unused the longest.
    fn make_room(&mut self, key: u64, now: Instant) {
        if self.by_key.len() < self.most || self.by_key.contains_key(&key) {
            return;
        }
        let rate = self.rate;
        self.by_key
            .retain(|_, bucket| rate.left(*bucket, now) < rate.burst);
        if self.by_key.len() >= self.most {
            let oldest = self
                .by_key
                .iter()
                .min_by_key(|(_, bucket)| bucket.at)
                .map(|(key, _)| *key);
            oldest.map(|key| self.by_key.remove(&key));
        }
    }
}

/// The limits on signing in and up.
#[derive(Debug)]
pub(crate) struct AttemptLimit {
    /// Keys are hashes under a secret of the process: no address is kept.
    hasher: RandomState,
    buckets: Mutex<(Buckets, Buckets)>,
}

/// One attempt that was let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    address: u64,
    /// None for a sign-up: its account is not there yet.
    account: Option<u64>,
}

impl Default for AttemptLimit {
    fn default() -> Self {
        let buckets = Mutex::new((Buckets::new(PER_ADDRESS), Buckets::new(PER_ACCOUNT)));
        Self {
            hasher: RandomState::new(),
            buckets,
        }
    }
}

impl AttemptLimit {
    /// Lets an attempt to sign in through, or says how long to wait.
    pub(crate) fn sign_in(
        &self,
        address: Option<IpAddr>,
        email: &str,
        now: Instant,
    ) -> Result<Attempt, Duration> {
        let account = self.hasher.hash_one(email.trim().to_lowercase());
        self.attempt(address, Some(account), now)
    }

    /// The same for signing up, from the address's one bucket.
    pub(crate) fn sign_up(
        &self,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Attempt, Duration> {
        self.attempt(address, None, now)
    }

    fn attempt(
        &self,
        address: Option<IpAddr>,
        account: Option<u64>,
        now: Instant,
    ) -> Result<Attempt, Duration> {
        let address = self.hasher.hash_one(address.map(network));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (addresses, accounts) = &mut *buckets;
        addresses.take(address, now)?;
        if let Some(account) = account {
            accounts.take(account, now).inspect_err(|_| {
                // Refused because of the account: others behind the address are not to blame.
                addresses.give_back(address, now);
            })?;
        }
        Ok(Attempt { address, account })
    }

    /// Gives an attempt back: a sign-in succeeded, or it failed for a reason of ours.
    pub(crate) fn give_back(&self, attempt: Attempt, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.0.give_back(attempt.address, now);
        if let Some(account) = attempt.account {
            buckets.1.give_back(account, now);
        }
    }
}

/// The limit on the requests of each token: a fuse against a caller that runs away, and no quota.
#[derive(Debug)]
pub(crate) struct RequestLimit {
    per_minute: u32,
    /// Keys are hashes under a secret of the process: no token is kept.
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

/// What a request has left of its token's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) per_minute: u32,
    /// Whole requests.
    pub(crate) left: u32,
    /// Until as many are left as there are in all.
    pub(crate) full_in: Duration,
    /// Where the request is one too many: until the next is let through.
    pub(crate) wait: Option<Duration>,
}

impl RequestLimit {
    pub(crate) fn new(per_minute: u32) -> Self {
        let rate = Rate {
            burst: per_minute.into(),
            per_second: f64::from(per_minute) / 60.0,
        };
        Self {
            per_minute,
            hasher: RandomState::new(),
            buckets: Mutex::new(Buckets::new(rate)),
        }
    }

    /// Takes a request from the bucket of this token, good or not.
    pub(crate) fn take(&self, token: &str, now: Instant) -> Quota {
        let key = self.hasher.hash_one(token);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = buckets.take(key, now);
        let rate = buckets.rate;
        drop(buckets);
        let left = taken.unwrap_or(0.0).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a u32"
        )]
        let whole = left as u32;
        Quota {
            per_minute: self.per_minute,
            left: whole,
            full_in: Duration::from_secs_f64((rate.burst - left) / rate.per_second),
            wait: taken.err(),
        }
    }
}

/// Whoever has one IPv6 address has the whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_runs_out_and_recovers() {
        let (limit, now) = (AttemptLimit::default(), Instant::now());
        for index in 0_u8..10 {
            let from = Some(address(&format!("192.0.2.{index}")));
            limit.sign_in(from, "A@b.co", now).unwrap();
        }
        let wait = limit
            .sign_in(Some(address("192.0.2.99")), " a@B.co", now)
            .unwrap_err();
        assert_eq!(wait, Duration::from_secs(10));
        limit
            .sign_in(Some(address("192.0.2.99")), "other@b.co", now)
            .unwrap();
        limit
            .sign_in(Some(address("192.0.2.99")), "a@b.co", now + wait)
            .unwrap();
    }

    #[test]
    fn an_address_runs_out_whatever_the_account() {
        let (limit, now) = (AttemptLimit::default(), Instant::now());
        for index in 0..60 {
            // All of them in one /64.
            let from = Some(address(&format!("2001:db8::{index}")));
            limit.sign_in(from, &format!("{index}@b.co"), now).unwrap();
        }
        assert!(
            limit
                .sign_in(Some(address("2001:db8::ffff")), "new@b.co", now)
                .is_err()
        );
        assert!(
            limit
                .sign_in(Some(address("2001:db8:0:1::1")), "new@b.co", now)
                .is_ok()
        );
    }

    #[test]
    fn signing_up_uses_the_same_address_up() {
        let (limit, now) = (AttemptLimit::default(), Instant::now());
        let (here, there) = (Some(address("192.0.2.1")), Some(address("192.0.2.2")));
        for _ in 0..60 {
            limit.sign_up(here, now).unwrap();
        }
        assert_eq!(limit.sign_up(here, now).unwrap_err().as_secs(), 1);
        assert!(limit.sign_in(here, "a@b.co", now).is_err());
        assert!(limit.sign_up(there, now).is_ok());
        assert!(limit.sign_in(there, "a@b.co", now).is_ok());
    }

    #[test]
    fn successes_cost_nothing() {
        let (limit, now) = (AttemptLimit::default(), Instant::now());
        for _ in 0..1_000 {
            let attempt = limit.sign_in(None, "a@b.co", now).unwrap();
            limit.give_back(attempt, now);
        }
    }

    #[test]
    fn a_token_runs_out_alone_and_recovers() {
        let (limit, now) = (RequestLimit::new(60), Instant::now());
        let (one, other) = ("one", "other");
        for left in (0..60).rev() {
            let quota = limit.take(one, now);
            assert_eq!((quota.left, quota.wait), (left, None));
        }
        let quota = limit.take(one, now);
        assert_eq!((quota.left, quota.wait), (0, Some(Duration::from_secs(1))));
        assert_eq!(quota.full_in, Duration::from_mins(1));
        assert_eq!(limit.take(other, now).left, 59);
        assert_eq!(limit.take(one, now + Duration::from_secs(2)).left, 1);
    }

    #[test]
    fn tokens_that_nobody_knows_fill_no_memory_and_free_nobody() {
        let (limit, now) = (RequestLimit::new(60), Instant::now());
        let runaway = |at| limit.take("runaway", at).wait;
        for _ in 0..60 {
            assert_eq!(runaway(now), None);
        }
        for number in 0..MOST + 100 {
            // It goes on in between, and so is not the one unused the longest.
            if number % 1_000 == 0 {
                assert!(runaway(now + Duration::from_micros(number as u64)).is_some());
            }
            limit.take(
                &number.to_string(),
                now + Duration::from_micros(number as u64),
            );
        }
        assert_eq!(limit.buckets.lock().unwrap().by_key.len(), MOST);
        assert!(runaway(now + Duration::from_millis(20)).is_some());
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let (mut buckets, now) = (Buckets::new(PER_ACCOUNT), Instant::now());
        buckets.most = 3;
        for key in 0..5 {
            buckets.take(key, now + Duration::from_millis(key)).unwrap();
        }
        assert_eq!(buckets.by_key.len(), 3);
        assert!(buckets.by_key.contains_key(&4) && !buckets.by_key.contains_key(&0));
        buckets.take(9, now + Duration::from_mins(10)).unwrap();
        assert_eq!(buckets.by_key.len(), 1, "full buckets are forgotten");
    }
}
