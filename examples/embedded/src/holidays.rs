//! A provider of the intranet's own: the company's holidays, whole days that come back each year.

use async_trait::async_trait;
use calendar_domain::account::{
    AccountIdentity, AuthorizationRequest, CalendarListing, TokenGrant,
};
use calendar_domain::event::{
    EventChange, EventImportance, EventKind, EventSpan, EventStatus, ProviderEvent,
    ProviderEventId, ShowAs,
};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::{Authorizer, CalendarDirectory, CalendarReader, ChangeNotifier};
use calendar_domain::provider::Capabilities;
use calendar_domain::subscription::{Notification, ProviderSubscription, PushEndpoint};
use calendar_domain::sync::{
    CalendarRef, ChangesFrom, ChangesPage, Cursor, Mailbox, NextPage, SyncWindow,
};
use secrecy::SecretString;
use time::macros::datetime;
use time::{Date, Duration, Month, OffsetDateTime};

const HOLIDAYS: [(Month, u8, &str); 3] = [
    (Month::January, 1, "New Year's Day"),
    (Month::June, 12, "Company Day"),
    (Month::December, 25, "Christmas Day"),
];

/// The holidays never change, so one cursor does.
const CURSOR: &str = "never-changed";

/// All four ports of a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holidays;

impl Holidays {
    /// The only calendar.
    pub(crate) fn calendar() -> CalendarListing {
        CalendarListing {
            id: "holidays".to_owned(),
            name: "Company holidays".to_owned(),
            color: Some("#107c41".to_owned()),
            is_primary: true,
            can_edit: false,
            owner_email: None,
            is_shared: false,
        }
    }

    /// Nothing here is secret: tokens that nobody reads, good for ever.
    pub(crate) fn grant() -> TokenGrant {
        TokenGrant {
            access_token: SecretString::from("none"),
            refresh_token: None,
            expires_at: datetime!(9999-01-01 00:00 UTC),
            scopes: String::new(),
            missing: Vec::new(),
        }
    }

    fn within(window: SyncWindow) -> Vec<EventChange> {
        let years = window.start.year()..=window.end.year();
        let days = years.flat_map(|year| {
            HOLIDAYS.into_iter().filter_map(move |(month, day, title)| {
                Some((Date::from_calendar_date(year, month, day).ok()?, title))
            })
        });
        days.filter_map(|(day, title)| event(day, title))
            .filter(|event| window.overlaps(event.span))
            .map(|event| EventChange::Event(Box::new(event)))
            .collect()
    }
}

fn event(day: Date, title: &str) -> Option<ProviderEvent> {
    Some(ProviderEvent {
        // What an event is known by: the same day has the same id whenever it is asked for.
        id: ProviderEventId(format!("holiday-{day}")),
        kind: EventKind::Single,
        title: Some(title.to_owned()),
        description: None,
        location: None,
        span: EventSpan::AllDay {
            start: day,
            end: day.checked_add(Duration::DAY)?,
        },
        zone: None,
        end_zone: None,
        status: EventStatus::Confirmed,
        importance: EventImportance::Normal,
        show_as: Some(ShowAs::Oof),
        sensitivity: None,
        categories: vec!["Holiday".to_owned()],
        conversation_id: None,
        ical_uid: None,
        teams: None,
        organizer: None,
        is_organizer: None,
        attendees: Vec::new(),
        reminders: Vec::new(),
        html_link: None,
        metadata: serde_json::Map::new(),
    })
}

fn unsupported<T>(code: &str) -> PortResult<T> {
    Err(PortError::new(FailureClass::Permanent, code))
}

#[async_trait]
impl CalendarReader for Holidays {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // A cursor says nothing of days that the window moves on to: they are read anew.
            window_bound: true,
            silent_holes: false,
        }
    }

    fn is_feed(&self, _: &Cursor) -> bool {
        true
    }

    async fn changes(
        &self,
        _: &SecretString,
        _: &CalendarRef,
        from: &ChangesFrom,
    ) -> PortResult<ChangesPage> {
        let changes = match from {
            ChangesFrom::Start(window) | ChangesFrom::StartInPieces(window) => {
                Self::within(*window)
            }
            ChangesFrom::Cursor(_) => Vec::new(),
        };
        Ok(ChangesPage {
            changes,
            next: NextPage::Done(Cursor(CURSOR.to_owned())),
        })
    }

    async fn event(
        &self,
        _: &SecretString,
        _: &CalendarRef,
        _: &ProviderEventId,
    ) -> PortResult<Option<EventChange>> {
        // Asked for masters and instances only, and there is no series.
        Ok(None)
    }

    async fn instances(
        &self,
        _: &SecretString,
        _: &CalendarRef,
        _: &ProviderEventId,
        _: SyncWindow,
    ) -> PortResult<Vec<EventChange>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl CalendarDirectory for Holidays {
    async fn identity(&self, _: &SecretString) -> PortResult<AccountIdentity> {
        Ok(AccountIdentity {
            tenant_id: String::new(),
            provider_user_id: "everybody".to_owned(),
            email: None,
            display_name: None,
        })
    }

    async fn calendars(&self, _: &SecretString, _: &Mailbox) -> PortResult<Vec<CalendarListing>> {
        Ok(vec![Self::calendar()])
    }
}

/// Nobody signs in: whoever is signed in at the intranet may see the holidays.
#[async_trait]
impl Authorizer for Holidays {
    fn authorize_url(&self, _: &AuthorizationRequest) -> PortResult<String> {
        unsupported("sign_in_unsupported")
    }

    async fn exchange(
        &self,
        _: &SecretString,
        _: &SecretString,
        _: &str,
    ) -> PortResult<TokenGrant> {
        unsupported("sign_in_unsupported")
    }

    async fn refresh(&self, _: &SecretString) -> PortResult<TokenGrant> {
        Ok(Self::grant())
    }
}

/// No pushes: `Provider::push` is `None`, and the calendar is polled.
#[async_trait]
impl ChangeNotifier for Holidays {
    async fn subscribe(
        &self,
        _: &SecretString,
        _: &PushEndpoint,
        _: &SecretString,
    ) -> PortResult<ProviderSubscription> {
        unsupported("push_unsupported")
    }

    async fn renew(&self, _: &SecretString, _: &str) -> PortResult<OffsetDateTime> {
        unsupported("subscription_not_found")
    }

    async fn unsubscribe(&self, _: &SecretString, _: &str) -> PortResult<()> {
        Ok(())
    }

    async fn subscriptions(&self, _: &SecretString) -> PortResult<Vec<ProviderSubscription>> {
        Ok(Vec::new())
    }

    fn notifications(&self, _: &[u8]) -> PortResult<Vec<Notification>> {
        Ok(Vec::new())
    }
}
