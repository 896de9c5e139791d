#!/usr/bin/env python3
"""Drives the simulator with Microsoft's own Python SDK: other people's request spelling, strict typed parsing.

Run by hand, in an environment of its own:

    python3 -m venv /tmp/msgraph-venv && /tmp/msgraph-venv/bin/pip install msgraph-sdk==1.65.0
    cargo run -p calendar-simulator -- --demo --listen 127.0.0.1:8931 &
    /tmp/msgraph-venv/bin/python crates/calendar-simulator/peers/msgraph_sdk_check.py http://127.0.0.1:8931

Prints one line per check and ends with a non-zero status when one fails.
"""
import asyncio
import datetime as dt
import json
import sys
import urllib.request

from kiota_abstractions.authentication import AuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.date_time_time_zone import DateTimeTimeZone
from msgraph.generated.models.day_of_week import DayOfWeek
from msgraph.generated.models.event import Event
from msgraph.generated.models.event_type import EventType
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.online_meeting_provider_type import OnlineMeetingProviderType
from msgraph.generated.models.patterned_recurrence import PatternedRecurrence
from msgraph.generated.models.recurrence_pattern import RecurrencePattern
from msgraph.generated.models.recurrence_pattern_type import RecurrencePatternType
from msgraph.generated.models.recurrence_range import RecurrenceRange
from msgraph.generated.models.recurrence_range_type import RecurrenceRangeType
from msgraph.generated.users.item.calendar_view.calendar_view_request_builder import CalendarViewRequestBuilder as View
from msgraph.generated.users.item.calendar_view.delta.delta_request_builder import DeltaRequestBuilder as Delta
from msgraph.generated.users.item.events.item.instances.instances_request_builder import InstancesRequestBuilder as Instances

BASE = sys.argv[1]
UPN = "alex.wilber@contoso.example"


def admin(method, path, body=None):
    request = urllib.request.Request(
        f"{BASE}/admin/{path}", method=method, data=None if body is None else json.dumps(body).encode()
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


class Token(AuthenticationProvider):
    def __init__(self, token):
        self.token = token

    async def authenticate_request(self, request, additional_authentication_context={}):
        request.headers.add("Authorization", f"Bearer {self.token}")


def client(token):
    adapter = GraphRequestAdapter(Token(token))
    adapter.base_url = f"{BASE}/v1.0"
    return GraphServiceClient(request_adapter=adapter)


def check(what, ok, detail=""):
    print(("ok    " if ok else "FAIL  ") + what, detail if not ok else "")
    if not ok:
        check.failed = True


check.failed = False


async def error(call):
    try:
        await call
    except ODataError as problem:
        return problem.response_status_code, problem.error.code
    return None


async def main():
    g = client(admin("POST", f"mailboxes/{UPN}/tokens")["access_token"])
    today = dt.date.today()
    start, end = f"{today - dt.timedelta(20)}T00:00:00Z", f"{today + dt.timedelta(40)}T00:00:00Z"

    me = await g.me.get()
    check("me", me.user_principal_name == UPN and me.display_name == "Alex Wilber")
    settings = await g.me.mailbox_settings.get()
    check("mailbox settings", settings.time_zone == "W. Europe Standard Time")
    calendars = (await g.me.calendars.get()).value
    check("calendars", [c.name for c in calendars] == ["Calendar", "Birthdays", "Project Falcon"])
    check("calendar by id", (await g.me.calendars.by_calendar_id(calendars[1].id).get()).name == "Birthdays")
    check("default calendar", (await g.me.calendar.get()).is_default_calendar)

    page, events = await g.me.events.get(), []
    while True:
        events += page.value
        if not page.odata_next_link:
            break
        page = await g.me.events.with_url(page.odata_next_link).get()
    check("events, paged", len(events) > 50 and len({e.id for e in events}) == len(events), len(events))
    check("typed members", all(e.type and e.start.date_time and e.created_date_time.tzinfo for e in events))
    check("a join url", any(e.online_meeting and e.online_meeting.join_url for e in events))

    rc = RequestConfiguration(query_parameters=View.CalendarViewRequestBuilderGetQueryParameters(
        start_date_time=start, end_date_time=end, top=500))
    rc.headers.add("Prefer", 'IdType="ImmutableId"')
    view = (await g.me.calendar_view.get(rc)).value
    check("calendar view", {e.type for e in view} >= {EventType.SingleInstance, EventType.Occurrence, EventType.Exception})

    made = await g.me.events.post(Event(
        subject="SDK", body=ItemBody(content_type=BodyType.Html, content="<b>hello</b>"),
        start=DateTimeTimeZone(date_time=f"{today}T10:00:00", time_zone="Pacific Standard Time"),
        end=DateTimeTimeZone(date_time=f"{today}T11:00:00", time_zone="Pacific Standard Time"),
        is_online_meeting=True, online_meeting_provider=OnlineMeetingProviderType.TeamsForBusiness,
        transaction_id="7E163156-7762-4BEB-A1C6-729EA81755A7"))
    check("create", made.id and made.online_meeting.join_url.startswith("https://teams.microsoft.com/"))
    check("body preview", made.body_preview == "hello")
    one = g.me.events.by_event_id(made.id)
    changed = await one.patch(Event(subject="SDK changed"))
    check("patch", changed.subject == "SDK changed" and changed.change_key != made.change_key)
    check("get", (await one.get()).subject == "SDK changed")
    await one.delete()
    check("delete, then 404", await error(one.get()) == (404, "ErrorItemNotFound"))

    series = await g.me.events.post(Event(
        subject="SDK series",
        start=DateTimeTimeZone(date_time="2026-01-05T10:00:00", time_zone="W. Europe Standard Time"),
        end=DateTimeTimeZone(date_time="2026-01-05T11:00:00", time_zone="W. Europe Standard Time"),
        recurrence=PatternedRecurrence(
            pattern=RecurrencePattern(type=RecurrencePatternType.Weekly, interval=1, days_of_week=[DayOfWeek.Monday]),
            range=RecurrenceRange(type=RecurrenceRangeType.EndDate, start_date=dt.date(2026, 1, 5), end_date=dt.date(2026, 2, 28)))))
    check("series master", series.type == EventType.SeriesMaster and series.recurrence.range.end_date == dt.date(2026, 2, 28))
    rc = RequestConfiguration(query_parameters=Instances.InstancesRequestBuilderGetQueryParameters(
        start_date_time="2026-01-01T00:00:00Z", end_date_time="2026-12-31T00:00:00Z"))
    instances = (await g.me.events.by_event_id(series.id).instances.get(rc)).value
    check("instances", len(instances) == 8 and all(i.series_master_id == series.id for i in instances), len(instances))

    def prefer():
        rc = RequestConfiguration(query_parameters=Delta.DeltaRequestBuilderGetQueryParameters(
            start_date_time=start, end_date_time=end))
        rc.headers.add("Prefer", 'IdType="ImmutableId"')
        rc.headers.add("Prefer", "odata.maxpagesize=25")
        return rc

    async def walk(page):
        rows, pages = [], 1
        while True:
            rows += page.value
            if page.odata_delta_link:
                return rows, pages, page.odata_delta_link
            following = RequestConfiguration()
            following.headers.add("Prefer", 'IdType="ImmutableId"')
            page = await g.me.calendar_view.delta.with_url(page.odata_next_link).get(following)
            pages += 1

    rows, pages, link = await walk(await g.me.calendar_view.delta.get(prefer()))
    instances = {r.id for r in rows if r.type != EventType.SeriesMaster}
    check("delta shows the whole view", instances == {e.id for e in view}, f"{len(instances)} against {len(view)}")
    check("delta pages", pages > 3, pages)
    victim = next(r.id for r in rows if r.type == EventType.SingleInstance)
    await g.me.events.by_event_id(victim).delete()
    rows, _, link = await walk(await g.me.calendar_view.delta.with_url(link).get())
    check("@removed", any("@removed" in r.additional_data for r in rows), rows)
    admin("POST", f"mailboxes/{UPN}/invalidate-delta-tokens")
    check("410", await error(g.me.calendar_view.delta.with_url(link).get()) == (410, "SyncStateNotFound"))

    check("401", await error(client("nonsense").me.get()) == (401, "InvalidAuthenticationToken"))
    check("unknown user", await error(g.users.by_user_id("nobody@example.com").get()) == (404, "ErrorInvalidUser"))
    check("events delta is refused", (await error(g.me.events.delta.get()))[0] == 400)
    sys.exit(1 if check.failed else 0)


asyncio.run(main())
