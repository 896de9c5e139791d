//! Faults: scripted one by one, or drawn from a seed; which request they meet. What they do to an answer on its way is
//! in `http/delivery.rs`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Incoming;
use crate::ids::chance;
use crate::lock;
use crate::push::{NOT_REACHED, VALIDATION_ERROR};
use crate::simulator::Simulator;

/// Something that goes wrong with the requests that it matches: by default with the next one alone.
///
/// ```
/// # use calendar_simulator::{Delivery, Fault, RetryAfter};
/// // The third page of a delta round, and the one after that, are refused for half a minute.
/// let busy = Fault {
///     path_contains: "$skiptoken".to_owned(),
///     skip: 1,
///     times: 2,
///     retry_after: Some(RetryAfter::Date(30)),
///     ..Fault::graph(429, "ApplicationThrottled", "")
/// };
/// // A refresh token is rotated, and nobody hears of it.
/// let lost = Fault {
///     path_contains: "/oauth2/v2.0/token".to_owned(),
///     after: true,
///     delivery: Delivery::Closed,
///     ..Fault::default()
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Only requests with this method; any when `None`.
    pub method: Option<String>,
    /// Only requests whose path and query contain this text, any case; any request of the Graph or Entra side when
    /// empty.
    pub path_contains: String,
    /// Only requests with a token of this mailbox (user principal name), at Entra with its code or refresh token; any
    /// when `None`.
    pub mailbox: Option<String>,
    /// How many matching requests to let through first.
    pub skip: u32,
    /// How many matching requests it meets after those; 0 all of them, until faults are cleared.
    pub times: u32,
    /// Milliseconds to wait before anything else.
    pub delay_ms: u64,
    /// The request is carried out although the answer does not say so. Without it a request is carried out only when
    /// its real answer is given.
    pub after: bool,
    /// The status to answer; 0 gives the real answer.
    pub status: u16,
    /// Headers to answer, in place of those of the same names.
    pub headers: Vec<(String, String)>,
    /// A `Retry-After` header to answer.
    pub retry_after: Option<RetryAfter>,
    /// The body to answer with `status`: a string as it is, anything else as JSON, nothing for null.
    pub body: Value,
    /// What is untrue in the real answer.
    pub untruth: Option<Untruth>,
    /// How the answer is brought to the client.
    pub delivery: Delivery,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            method: None,
            path_contains: String::new(),
            mailbox: None,
            skip: 0,
            times: 1,
            delay_ms: 0,
            after: false,
            status: 0,
            headers: Vec::new(),
            retry_after: None,
            body: Value::Null,
            untruth: None,
            delivery: Delivery::Whole,
        }
    }
}

/// RFC 9110 section 10.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// An HTTP date so many seconds after the simulator's time.
    Date(i64),
}

/// What becomes of an answer on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Delivery {
    /// It arrives.
    #[default]
    Whole,
    /// The connection is closed before an answer.
    Closed,
    /// The connection is closed in the middle of the body. Without a body, before an answer.
    Cut,
    /// The body ends in its middle, and the headers promise no more.
    Truncated,
    /// The body trickles.
    Slow {
        /// In so many pieces.
        pieces: u32,
        /// So many milliseconds before each.
        pause_ms: u64,
    },
}

/// A real answer that is whole and well-formed, and does not say what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Untruth {
    /// A list is empty. A delta round ends at once, with a delta link from which on nothing is told that was not told
    /// before.
    EmptyList,
    /// Delta leaves out the second of every three occurrences of a series; `/instances` has them all.
    Holes,
    /// A token answer has no `refresh_token`; the one that was sent is still good.
    NoRefreshToken,
    /// A token answer has no right to calendars, nor has its access token.
    FewerScopes,
}

/// Faults that are drawn: the same for the same requests in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultPlan {
    /// What is drawn follows from it.
    pub seed: u64,
    /// Each is drawn for by itself; the first one drawn meets the request.
    pub faults: Vec<RandomFault>,
}

/// A fault that meets some of the requests that it matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RandomFault {
    /// So many of a thousand.
    pub per_mille: u32,
    /// The fault; in a plan `times` is how often it is given in all.
    pub fault: Fault,
}

/// What Entra refuses a refresh with: `error`, the number of its AADSTS code, `suberror`. All but the last four end in
/// a sign-in of the user; those are the operator's matter, or pass.
pub const ENTRA_REFUSALS: [(&str, u32, Option<&str>); 17] = [
    // Expired, revoked, malformed.
    ("invalid_grant", 700_082, None),
    ("invalid_grant", 50_173, Some("bad_token")),
    ("invalid_grant", 70_008, None),
    ("invalid_grant", 70_000, Some("bad_token")),
    ("invalid_grant", 700_084, None),
    // The user has to consent, or to prove more.
    ("invalid_grant", 65_001, Some("consent_required")),
    ("consent_required", 65_001, None),
    ("invalid_grant", 50_076, Some("basic_action")),
    ("interaction_required", 50_076, Some("basic_action")),
    ("invalid_grant", 50_079, Some("basic_action")),
    ("interaction_required", 53_003, Some("message_only")),
    ("invalid_grant", 50_057, Some("user_password_expired")),
    ("login_required", 50_058, None),
    ("unauthorized_client", 700_016, None),
    ("invalid_client", 7_000_222, None),
    ("invalid_request", 90_002, None),
    ("temporarily_unavailable", 90_006, None),
];

impl Fault {
    /// A refusal as Graph words it.
    #[must_use]
    pub fn graph(status: u16, code: &str, message: &str) -> Self {
        Self {
            path_contains: "/v1.0/".to_owned(),
            status,
            body: json!({"error": {"code": code, "message": message, "innerError": {
                "date": "2026-01-01T00:00:00", "request-id": "00000000-0000-0000-0000-000000000000",
                "client-request-id": "00000000-0000-0000-0000-000000000000"}}}),
            ..Self::default()
        }
    }

    /// A subscription that is refused because the subscriber's address is not reached; nobody is asked.
    #[must_use]
    pub fn not_validated() -> Self {
        Self {
            method: Some("POST".to_owned()),
            path_contains: "/v1.0/subscriptions".to_owned(),
            ..Self::graph(400, VALIDATION_ERROR, NOT_REACHED)
        }
    }

    /// A refusal of Entra's token endpoint, of [`ENTRA_REFUSALS`] or another.
    #[must_use]
    pub fn entra(error: &str, code: u32, suberror: Option<&str>) -> Self {
        let mut body = json!({
            "error": error,
            "error_description": format!("AADSTS{code}: Refused.\r\nTrace ID: 0\r\nCorrelation ID: 0"),
            "error_codes": [code],
            "timestamp": "2026-01-01 00:00:00Z",
            "trace_id": "00000000-0000-0000-0000-000000000000",
            "correlation_id": "00000000-0000-0000-0000-000000000000",
        });
        if let Some(suberror) = suberror {
            body["suberror"] = suberror.into();
        }
        Self {
            path_contains: "/oauth2/v2.0/token".to_owned(),
            status: if error == "invalid_client" { 401 } else { 400 },
            body,
            ..Self::default()
        }
    }

    /// Whether the request is carried out.
    pub(crate) fn lets_through(&self) -> bool {
        self.after || (self.status == 0 && self.delivery != Delivery::Closed)
    }

    fn matches(&self, request: &Target<'_>) -> bool {
        self.method
            .as_ref()
            .is_none_or(|method| method.eq_ignore_ascii_case(request.method))
            && request
                .address
                .contains(&self.path_contains.to_ascii_lowercase())
            && self.mailbox.as_ref().is_none_or(|wanted| {
                request
                    .mailbox
                    .is_some_and(|upn| upn.eq_ignore_ascii_case(wanted))
            })
    }
}

impl FaultPlan {
    /// Whatever passes by itself when a client tries again, each kind with the same chance: refusals to wait with every
    /// form of `Retry-After`, outages, 401, links that have expired, connections that break, answers that are lost or
    /// nonsense, at Graph and at Entra. What needs a sign-in, and every [`Untruth`], is left out.
    #[must_use]
    pub fn transient(seed: u64, per_mille: u32) -> Self {
        let throttled = |retry_after| Fault {
            retry_after,
            ..Fault::graph(429, "ApplicationThrottled", "")
        };
        let nonsense = |status, body: &str| Fault {
            status,
            body: body.into(),
            ..Fault::default()
        };
        let delivered = |after, delivery| Fault {
            after,
            delivery,
            ..Fault::default()
        };
        let gone = |path: &str, headers: Vec<(String, String)>| Fault {
            path_contains: path.to_owned(),
            headers,
            ..Fault::graph(410, "SyncStateNotFound", "")
        };
        let elsewhere = "https://graph.microsoft.com/v1.0/me/calendarView/delta?$deltatoken=";
        let location = vec![("Location".to_owned(), elsewhere.to_owned())];
        let faults = [
            throttled(None),
            throttled(Some(RetryAfter::Seconds(0))),
            throttled(Some(RetryAfter::Seconds(2))),
            throttled(Some(RetryAfter::Date(3))),
            throttled(Some(RetryAfter::Seconds(u64::MAX))),
            Fault {
                retry_after: Some(RetryAfter::Seconds(1)),
                ..nonsense(503, "")
            },
            nonsense(500, ""),
            nonsense(502, "<html><body>Bad Gateway</body></html>"),
            nonsense(200, "<html><body>Sign in to the network</body></html>"),
            nonsense(200, "{\"unexpected\":true}"),
            nonsense(200, ""),
            Fault::graph(504, "UnknownError", ""),
            Fault::graph(401, "InvalidAuthenticationToken", ""),
            gone("$skiptoken", Vec::new()),
            gone("$skiptoken", location.clone()),
            gone("$deltatoken", Vec::new()),
            gone("$deltatoken", location),
            delivered(false, Delivery::Closed),
            delivered(true, Delivery::Closed),
            delivered(false, Delivery::Cut),
            delivered(false, Delivery::Truncated),
            delivered(
                false,
                Delivery::Slow {
                    pieces: 5,
                    pause_ms: 20,
                },
            ),
            Fault::entra("temporarily_unavailable", 90_006, None),
        ];
        let faults = faults.into_iter().map(|fault| {
            let fault = Fault { times: 0, ..fault };
            RandomFault { per_mille, fault }
        });
        Self {
            seed,
            faults: faults.collect(),
        }
    }
}

/// What of a request decides on faults.
struct Target<'a> {
    method: &'a str,
    /// Path and query in lower case.
    address: String,
    mailbox: Option<&'a str>,
}

/// All faults behind one lock.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    scripted: VecDeque<Fault>,
    plan: FaultPlan,
    /// Per fault of the plan: how many requests it matched, and how many it met.
    drawn: Vec<(u64, u32)>,
    given: u64,
}

impl Faults {
    fn take(&mut self, request: &Target<'_>) -> Option<Fault> {
        let mut scripted = self.scripted.iter();
        let fault = match scripted.position(|fault| fault.matches(request)) {
            Some(at) => self.scripted(at),
            None => self.draw(request),
        };
        self.given += u64::from(fault.is_some());
        fault
    }

    /// The scripted fault at a place; `None` when it lets the request through.
    fn scripted(&mut self, at: usize) -> Option<Fault> {
        let fault = self.scripted.get_mut(at)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        match fault.times {
            0 => Some(fault.clone()),
            1 => self.scripted.remove(at),
            _ => {
                fault.times -= 1;
                Some(fault.clone())
            }
        }
    }

    fn draw(&mut self, request: &Target<'_>) -> Option<Fault> {
        let mut met = None;
        for (index, (random, (matched, given))) in
            self.plan.faults.iter().zip(&mut self.drawn).enumerate()
        {
            let fault = &random.fault;
            if !fault.matches(request) {
                continue;
            }
            *matched += 1;
            let drawn = chance(self.plan.seed, "fault", &[index as u64, *matched]) % 1000;
            if met.is_none()
                && *matched > u64::from(fault.skip)
                && (fault.times == 0 || *given < fault.times)
                && drawn < u64::from(random.per_mille)
            {
                *given += 1;
                met = Some(fault.clone());
            }
        }
        met
    }
}

impl Simulator {
    /// Queues a fault behind those that wait already: of several that match a request, the first one meets it.
    pub fn script_fault(&self, fault: Fault) {
        lock(&self.0.faults).scripted.push_back(fault);
    }

    /// The scripted faults that have requests to meet yet.
    #[must_use]
    pub fn pending_faults(&self) -> Vec<Fault> {
        lock(&self.0.faults).scripted.iter().cloned().collect()
    }

    /// Draws faults for the requests from now on that no scripted fault matches.
    pub fn set_fault_plan(&self, plan: FaultPlan) {
        let mut faults = lock(&self.0.faults);
        faults.drawn = vec![(0, 0); plan.faults.len()];
        faults.plan = plan;
    }

    /// What faults are drawn from.
    #[must_use]
    pub fn fault_plan(&self) -> FaultPlan {
        lock(&self.0.faults).plan.clone()
    }

    /// Nothing goes wrong any more: drops the scripted faults and the plan.
    pub fn clear_faults(&self) {
        let mut faults = lock(&self.0.faults);
        faults.scripted.clear();
        faults.plan = FaultPlan::default();
        faults.drawn.clear();
    }

    /// How many requests met a fault, scripted or drawn.
    #[must_use]
    pub fn faults_given(&self) -> u64 {
        lock(&self.0.faults).given
    }

    /// The fault that a request meets. `mailbox` is whose token it has.
    pub(crate) fn take_fault(&self, request: &Incoming, mailbox: Option<&str>) -> Option<Fault> {
        let mut faults = lock(&self.0.faults);
        if faults.scripted.is_empty() && faults.plan.faults.is_empty() {
            return None;
        }
        faults.take(&Target {
            method: &request.method,
            address: format!("{}?{}", request.path, request.raw_query).to_ascii_lowercase(),
            mailbox,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(faults: &mut Faults, address: &str) -> bool {
        faults
            .take(&Target {
                method: "GET",
                address: address.to_owned(),
                mailbox: Some("a@b.example"),
            })
            .is_some()
    }

    fn planned(seed: u64, random: &[RandomFault]) -> Faults {
        Faults {
            drawn: vec![(0, 0); random.len()],
            plan: FaultPlan {
                seed,
                faults: random.to_vec(),
            },
            ..Faults::default()
        }
    }

    fn random(per_mille: u32, fault: Fault) -> RandomFault {
        RandomFault { per_mille, fault }
    }

    #[test]
    fn a_scripted_fault_meets_so_many_requests_after_so_many() {
        let mut faults = Faults::default();
        faults.scripted.push_back(Fault {
            skip: 2,
            times: 3,
            ..Fault::default()
        });
        let seen: Vec<bool> = (0..7).map(|_| met(&mut faults, "/")).collect();
        assert_eq!(seen, [false, false, true, true, true, false, false]);
        assert_eq!(faults.given, 3);
        faults.scripted.push_back(Fault {
            times: 0,
            ..Fault::default()
        });
        assert!((0..100).all(|_| met(&mut faults, "/")));
    }

    #[test]
    fn what_is_drawn_follows_from_the_seed_and_the_order() {
        let run = |seed| {
            let all = Fault {
                times: 0,
                ..Fault::default()
            };
            let mut faults = planned(seed, &[random(100, all)]);
            (0..10_000)
                .map(|_| met(&mut faults, "/"))
                .collect::<Vec<bool>>()
        };
        let hits = |seen: &[bool]| seen.iter().filter(|met| **met).count();
        let first = run(1);
        assert_eq!(first, run(1));
        assert_ne!(first, run(2));
        for seed in 0..20 {
            let seen = run(seed);
            assert!((800..1200).contains(&hits(&seen)), "{}", hits(&seen));
            for part in seen.chunks(1000) {
                assert!((50..160).contains(&hits(part)), "{seed}: {}", hits(part));
            }
        }
    }

    #[test]
    fn a_drawn_fault_has_its_filters_and_its_number() {
        let fault = Fault {
            path_contains: "X".to_owned(),
            skip: 1,
            times: 2,
            ..Fault::default()
        };
        let mut faults = planned(1, &[random(1000, fault)]);
        let seen: Vec<bool> = ["x", "y", "x", "x", "y", "x"]
            .into_iter()
            .map(|address| met(&mut faults, address))
            .collect();
        assert_eq!(seen, [false, false, true, true, false, false]);
        let never = Fault {
            times: 0,
            mailbox: Some("other@b.example".to_owned()),
            ..Fault::default()
        };
        let mut faults = planned(1, &[random(1000, never)]);
        assert!(!met(&mut faults, "/"));
    }
}
