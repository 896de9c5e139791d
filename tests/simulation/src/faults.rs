//! What the provider answers instead of the truth, drawn from the seed.

use calendar_simulator::{Delivery, Fault, RetryAfter, Untruth};

use crate::rng::Rng;

/// Something that goes wrong with the next request, or with one of the next.
pub(crate) fn provider_fault(rng: &mut Rng) -> (&'static str, Fault) {
    let delivered = |delivery, after| Fault {
        delivery,
        after,
        ..Fault::default()
    };
    let untrue = |untruth| Fault {
        untruth: Some(untruth),
        ..Fault::default()
    };
    let (name, mut fault) = match rng.weighted(&[8, 8, 4, 6, 6, 6, 3, 2, 2, 4, 6, 4, 4, 6, 3]) {
        0 => ("429", Fault::graph(429, "ApplicationThrottled", "")),
        1 => {
            let retry_after = match rng.below(4) {
                0 => RetryAfter::Seconds(0),
                1 => RetryAfter::Seconds(999_999),
                2 => RetryAfter::Date(90),
                _ => RetryAfter::Seconds(30),
            };
            let fault = Fault {
                retry_after: Some(retry_after),
                ..Fault::graph(429, "ApplicationThrottled", "")
            };
            ("429 with Retry-After", fault)
        }
        2 => ("503", Fault::graph(503, "serviceNotAvailable", "")),
        3 => ("500", Fault::graph(500, "", "")),
        4 => ("401", Fault::graph(401, "InvalidAuthenticationToken", "")),
        5 => ("410", Fault::graph(410, "SyncStateNotFound", "")),
        6 => ("400", Fault::graph(400, "ErrorInvalidRequest", "")),
        7 => ("403", Fault::graph(403, "ErrorAccessDenied", "")),
        // Not ErrorItemNotFound, which says that an event is gone.
        8 => ("404", Fault::graph(404, "ResourceNotFound", "")),
        9 => ("closed before", delivered(Delivery::Closed, false)),
        10 => ("closed after", delivered(Delivery::Closed, true)),
        11 => ("cut", delivered(Delivery::Cut, true)),
        12 => ("truncated", delivered(Delivery::Truncated, true)),
        13 => ("holes", untrue(Untruth::Holes)),
        _ => ("no refresh token", untrue(Untruth::NoRefreshToken)),
    };
    fault.skip = u32::from(rng.percent(20));
    (name, fault)
}
