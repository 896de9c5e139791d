//! Every mistake at once, secrets hidden, and what good values come to.

use calendar_domain::provider::CalendarProvider;
use secrecy::ExposeSecret as _;

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Adapters that take everything.
const LENIENT: AdapterChecks = AdapterChecks {
    database_url: |_| Ok(()),
    token_keys: |_| Ok(()),
};

fn environment(more: &[(&str, &str)]) -> Environment {
    let keys = format!("k1:{KEY}");
    let mut pairs = vec![
        ("DATABASE_URL", "postgres://me:hunter2@db/cal"),
        ("CALENDAR_TOKEN_KEYS", &keys),
    ];
    pairs.extend(more);
    pairs.into_iter().collect()
}

fn read(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::read(&environment(more), LENIENT)
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = read(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url(config.listen), "http://127.0.0.1:8080");
    assert!(config.microsoft.is_none());
    assert!(config.signup_open);
    assert!(config.return_origins.is_empty());
    assert_eq!(
        config.sync,
        SyncConfig {
            past_days: 90,
            future_days: 365,
            poll: Duration::from_mins(5),
            poll_pushed: Duration::from_hours(6),
            renew_every: Duration::from_mins(30),
            renew_lead: Duration::from_hours(1),
            worker_concurrency: 16,
            mailbox_concurrency: 4,
        }
    );
    assert_eq!(
        config.log,
        LogConfig {
            filter: "info".into(),
            format: LogFormat::Text
        }
    );
    assert_eq!(
        config.database.url.expose_secret(),
        "postgres://me:hunter2@db/cal"
    );
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn values_are_taken() {
    let config = read(&[
        ("CALENDAR_LISTEN", "[::]:0"),
        ("CALENDAR_PUBLIC_URL", " https://calendar.example/base/ "),
        ("CALENDAR_MICROSOFT_CLIENT_ID", "app"),
        ("CALENDAR_MICROSOFT_CLIENT_SECRET", "s3cret"),
        ("CALENDAR_MICROSOFT_TENANT", "contoso.com"),
        ("CALENDAR_MICROSOFT_GRAPH_URL", "http://127.0.0.1:9000/v1.0"),
        ("CALENDAR_SIGNUP", "closed"),
        (
            "CALENDAR_RETURN_ORIGINS",
            "https://App.example, http://localhost:3000/",
        ),
        ("CALENDAR_RATE_LIMIT_PER_MINUTE", "120"),
        ("CALENDAR_POLL_SECONDS", "2"),
        ("CALENDAR_LOG", "info,calendar_sync=debug"),
        ("CALENDAR_LOG_FORMAT", "json"),
        ("CALENDAR_SYNC_PAST_DAYS", ""),
    ])
    .unwrap();
    assert_eq!(
        config.public_url(config.listen),
        "https://calendar.example/base"
    );
    let microsoft = config.microsoft.unwrap();
    assert_eq!(microsoft.client_id, "app");
    assert_eq!(microsoft.client_secret.unwrap().expose_secret(), "s3cret");
    assert_eq!(microsoft.tenant, "contoso.com");
    assert_eq!(
        microsoft.graph_url.unwrap().as_str(),
        "http://127.0.0.1:9000/v1.0"
    );
    assert!(!config.signup_open);
    assert_eq!(
        config.return_origins,
        ["https://app.example", "http://localhost:3000"]
    );
    assert_eq!(config.rate_limit_per_minute, 120);
    assert_eq!(config.sync.poll, Duration::from_secs(2));
    assert_eq!(config.sync.past_days, 90, "an empty value is none");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn trusted_proxies_are_addresses_and_networks() {
    let proxies = |text| {
        let config = read(&[("CALENDAR_TRUSTED_PROXIES", text)])?;
        let shown: Vec<String> = config
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect();
        Ok::<_, ConfigError>(shown)
    };
    assert_eq!(
        proxies("10.0.0.7, 192.168.0.0/16,,fd00::/8, ::1").unwrap(),
        ["10.0.0.7/32", "192.168.0.0/16", "fd00::/8", "::1/128"]
    );
    assert!(proxies("").unwrap().is_empty());
    let error = proxies("proxy.example,10.0.0.1,10.0.0.0/33,10.0.0.1:80").unwrap_err();
    assert_eq!(error.mistakes().len(), 1);
    let said = error.to_string();
    for wrong in ["`proxy.example`", "`10.0.0.0/33`", "`10.0.0.1:80`"] {
        assert!(said.contains(wrong), "{said}");
    }
    assert!(!said.contains("`10.0.0.1`"), "{said}");
}

#[test]
fn nobody_is_sent_to_the_unspecified_address() {
    let config = read(&[]).unwrap();
    assert_eq!(
        config.public_url("0.0.0.0:81".parse().unwrap()),
        "http://127.0.0.1:81"
    );
    assert_eq!(
        config.public_url("[::]:81".parse().unwrap()),
        "http://[::1]:81"
    );
}

#[test]
fn every_mistake_is_named_at_once() {
    let environment: Environment = [
        ("CALENDAR_LISTEN", "localhost"),
        ("CALENDAR_PUBLIC_URL", "ftp://x"),
        ("CALENDAR_TOKEN_KEYS", "k1:c2hvcnQ="),
        ("CALENDAR_MICROSOFT_CLIENT_SECRET", "s3cret"),
        ("CALENDAR_MICROSOFT_TENANT", "a/b"),
        ("CALENDAR_MICROSOFT_AUTHORITY_URL", "http://login.example"),
        ("CALENDAR_MICROSOFT_GRAPH_URL", "graph"),
        ("CALENDAR_SIGNUP", "maybe"),
        ("CALENDAR_RETURN_ORIGINS", "https://a.example/path"),
        ("CALENDAR_RATE_LIMIT_PER_MINUTE", "0"),
        ("CALENDAR_SYNC_PAST_DAYS", "-1"),
        ("CALENDAR_SYNC_FUTURE_DAYS", "0"),
        ("CALENDAR_POLL_SECONDS", "soon"),
        ("CALENDAR_POLL_PUSHED_SECONDS", "0"),
        ("CALENDAR_RENEW_EVERY_SECONDS", "7200"),
        ("CALENDAR_WORKER_CONCURRENCY", "0"),
        ("CALENDAR_MAILBOX_CONCURRENCY", "1e3"),
        ("CALENDAR_LOG", "loud!"),
        ("CALENDAR_LOG_FORMAT", "xml"),
    ]
    .into_iter()
    .collect();
    let text = Config::read(&environment, LENIENT).unwrap_err().to_string();
    let expected = [
        "DATABASE_URL is missing; set it (PostgreSQL, as postgres://user:password@host/name)",
        "CALENDAR_LISTEN is not an IP address with a port; write it like 127.0.0.1:8080 or [::]:8080",
        "CALENDAR_PUBLIC_URL is not an http or https URL with a host; write it like https://calendar.example",
        "CALENDAR_TOKEN_KEYS has a key `k1` of 5 bytes instead of 32; make one with `openssl rand -base64 32` and set k1:<the key>",
        "CALENDAR_MICROSOFT_CLIENT_ID is missing, though CALENDAR_MICROSOFT_CLIENT_SECRET is set; set both, or neither",
        "CALENDAR_MICROSOFT_TENANT is not a tenant; set a tenant id, a domain, common, organizations or consumers",
        "CALENDAR_MICROSOFT_AUTHORITY_URL is neither https nor on this machine; tokens go there, so use https",
        "CALENDAR_MICROSOFT_GRAPH_URL is not a URL (relative URL without a base)",
        "CALENDAR_SIGNUP is neither `open` nor `closed`; set one of them",
        "CALENDAR_RETURN_ORIGINS names `https://a.example/path`, which has a path; give the origin alone, like https://app.example",
        "CALENDAR_RATE_LIMIT_PER_MINUTE is not a whole number from 1 to 1000000",
        "CALENDAR_SYNC_PAST_DAYS is not a whole number from 0 to 3650",
        "CALENDAR_SYNC_FUTURE_DAYS is not a whole number from 1 to 3650",
        "CALENDAR_POLL_SECONDS is not a whole number from 1 to 86400",
        "CALENDAR_POLL_PUSHED_SECONDS is not a whole number from 1 to 604800",
        "CALENDAR_RENEW_LEAD_SECONDS is shorter than CALENDAR_RENEW_EVERY_SECONDS, so that subscriptions would expire between two looks; make it at least as long",
        "CALENDAR_WORKER_CONCURRENCY is not a whole number from 1 to 256",
        "CALENDAR_MAILBOX_CONCURRENCY is not a whole number from 1 to 64",
        "CALENDAR_LOG is not a level (error, warn, info, debug, trace) or a list of directives such as `info,calendar_sync=debug`",
        "CALENDAR_LOG_FORMAT is neither `text` nor `json`; set one of them",
    ];
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines, expected);
}

#[test]
fn mistakes_of_single_values() {
    let twice = format!("k1:{KEY},k1:{KEY}");
    let cases: &[(&str, &str, &str)] = &[
        (
            "DATABASE_URL",
            "mysql://x/y",
            "does not begin with postgres://",
        ),
        ("DATABASE_URL", "host=db user=me", "is not a URL"),
        ("DATABASE_URL", "postgres://a\nb/c", "control character"),
        ("CALENDAR_TOKEN_KEYS", KEY, "has no id in front of key 1"),
        ("CALENDAR_TOKEN_KEYS", "k 1:AAAA", "letters, digits"),
        ("CALENDAR_TOKEN_KEYS", "k1:!!!!", "not base64"),
        ("CALENDAR_TOKEN_KEYS", "k1:", "0 bytes instead of 32"),
        ("CALENDAR_TOKEN_KEYS", &twice, "twice"),
        (
            "CALENDAR_PUBLIC_URL",
            "https://u:p@x.example",
            "user name or password",
        ),
        ("CALENDAR_PUBLIC_URL", "https://x.example/?a=b", "query"),
        ("CALENDAR_MICROSOFT_CLIENT_ID", "a b", "blank"),
        ("CALENDAR_MICROSOFT_TENANT", "..", "is not a tenant"),
        (
            "CALENDAR_MICROSOFT_GRAPH_URL",
            "http://127.0.0.1.evil.example",
            "neither https",
        ),
        (
            "CALENDAR_RETURN_ORIGINS",
            "myapp://x",
            "not an http or https URL",
        ),
        (
            "CALENDAR_POLL_SECONDS",
            "99999999999999999999",
            "not a whole number",
        ),
    ];
    for (name, value, expected) in cases {
        let error = read(&[(name, value)]).expect_err(name).to_string();
        assert!(
            error.starts_with(name) && error.contains(expected),
            "{name}={value}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains(KEY), "{error}");
    }
}

#[test]
fn print_config_hides_secrets_and_aligns() {
    let config = read(&[
        (
            "DATABASE_URL",
            "postgres://me:hunter2@db:5433/cal?sslmode=require&password=hunter3",
        ),
        ("CALENDAR_MICROSOFT_CLIENT_ID", "app"),
        ("CALENDAR_MICROSOFT_CLIENT_SECRET", "s3cret"),
    ])
    .unwrap();
    let shown = config.to_string();
    for secret in ["hunter2", "hunter3", "s3cret", KEY] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(
            !format!("{config:?}").contains(secret),
            "Debug shows {secret}"
        );
    }
    for line in [
        "DATABASE_URL                      postgres://me:****@db:5433/cal?sslmode=require&password=****",
        "CALENDAR_LISTEN                   127.0.0.1:8080 (default)",
        "CALENDAR_TOKEN_KEYS               k1:****",
        "CALENDAR_MICROSOFT_CLIENT_SECRET  (set, hidden)",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} is not in\n{shown}"
        );
    }
    assert_eq!(shown.lines().count(), VARIABLES.len());
}

#[test]
fn what_is_no_mistake_but_worth_a_word_is_warned_of() {
    let config = read(&[
        ("CALENDAR_MICROSOFT_CLIENT_ID", "app"),
        ("CALENDAR_POLL_SECOND", "5"),
        ("CALENDAR_PUBLIC_URL", "http://calendar.example"),
    ])
    .unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("CALENDAR_POLL_SECOND "))
    );
}

#[test]
fn open_to_other_machines_without_a_public_url_is_warned_of() {
    let warned = |more: &[(&str, &str)]| {
        let config = read(more).unwrap();
        let mut warnings = config.warnings.iter();
        warnings.any(|warning| warning.starts_with("CALENDAR_PUBLIC_URL is not set"))
    };
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        assert!(warned(&[("CALENDAR_LISTEN", listen)]), "{listen}");
        let public = ("CALENDAR_PUBLIC_URL", "https://calendar.example");
        assert!(!warned(&[("CALENDAR_LISTEN", listen), public]), "{listen}");
    }
    for listen in ["127.0.0.1:8080", "127.0.0.2:0", "[::1]:8080"] {
        assert!(!warned(&[("CALENDAR_LISTEN", listen)]), "{listen}");
    }
}

#[test]
fn what_adapters_find_is_named_with_all_else_and_once_for_each_variable() {
    let strict = AdapterChecks {
        database_url: |_| Err("is not to the adapter's liking".to_owned()),
        token_keys: |_| Err("are not to the adapter's liking".to_owned()),
    };
    let lines = |more: &[(&str, &str)]| -> Vec<String> {
        let error = Config::read(&environment(more), strict).unwrap_err();
        error.to_string().lines().map(str::to_owned).collect()
    };
    assert_eq!(
        lines(&[("CALENDAR_SIGNUP", "maybe")]),
        [
            "DATABASE_URL is not to the adapter's liking",
            "CALENDAR_TOKEN_KEYS are not to the adapter's liking",
            "CALENDAR_SIGNUP is neither `open` nor `closed`; set one of them",
        ]
    );
    let broken = lines(&[("CALENDAR_TOKEN_KEYS", "broken")]);
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[1].contains("has no id"), "{broken:?}");
}

#[test]
fn migrating_needs_the_database_only() {
    let environment: Environment = [("DATABASE_URL", "postgres://me@db/cal")]
        .into_iter()
        .collect();
    assert!(MigrateConfig::read(&environment, LENIENT.database_url).is_ok());
    for (environment, adapter) in [
        (Environment::default(), LENIENT.database_url),
        (environment, |_: &_| Err("is wrong".to_owned())),
    ] {
        let error = MigrateConfig::read(&environment, adapter).unwrap_err();
        assert_eq!(error.mistakes().len(), 1);
    }
}

#[test]
fn providers_push_to_https_and_a_simulator_on_this_machine_to_this_machine() {
    const REAL: Option<&str> = None;
    const LOCAL: Option<&str> = Some("http://127.0.0.1:9000/v1.0");
    let endpoint = |more: &[(&str, &str)], api_url: Option<&str>| {
        let api_url = api_url.map(|url| Url::parse(url).unwrap());
        read(more)
            .unwrap()
            .push_endpoint(CalendarProvider::Microsoft, api_url.as_ref())
    };
    let on = |public: &str, api_url| {
        endpoint(&[("CALENDAR_PUBLIC_URL", public)], api_url).unwrap_or_else(|off| {
            panic!("{public} {api_url:?}: {off}");
        })
    };
    for api_url in [REAL, LOCAL] {
        let endpoint = on("https://calendar.example/base/", api_url);
        assert_eq!(
            endpoint.notification_url,
            "https://calendar.example/base/webhooks/microsoft"
        );
        assert_eq!(
            endpoint.lifecycle_url,
            "https://calendar.example/base/webhooks/microsoft/lifecycle"
        );
    }
    for public in [
        "http://127.0.0.1:8080",
        "http://127.9.9.9",
        "http://[::1]:8080",
        "http://localhost:8080",
        "http://LOCALHOST",
    ] {
        for api_url in [
            "http://127.0.0.1:9000",
            "http://[::1]:9000/v1.0",
            "http://localhost:9000",
        ] {
            on(public, Some(api_url));
        }
    }

    for (public, api_url) in [
        // The real one cannot reach this machine.
        ("http://127.0.0.1:8080", REAL),
        ("http://localhost:8080", Some("https://graph.example")),
        ("http://localhost:8080", Some("https://127.0.0.1:9000")),
        ("http://localhost:8080", Some("http://192.0.2.1:9000")),
        (
            "http://localhost:8080",
            Some("http://localhost.evil.example"),
        ),
        // Nor does it push to http.
        ("http://calendar.example", REAL),
        ("http://calendar.example", LOCAL),
        ("http://localhost.evil.example", LOCAL),
        ("http://127.0.0.1.evil.example", LOCAL),
        ("http://notlocalhost", LOCAL),
        ("http://192.168.0.1:8080", LOCAL),
        ("http://[::ffff:127.0.0.1]", LOCAL),
    ] {
        let answer = endpoint(&[("CALENDAR_PUBLIC_URL", public)], api_url);
        assert_eq!(
            answer,
            Err(PushOff::NotReachable),
            "{public} with {api_url:?}"
        );
    }
}

#[test]
fn without_a_public_url_pushes_come_to_where_the_api_listens() {
    let endpoint = |listen: &str| {
        let api_url = Url::parse("http://127.0.0.1:9000").unwrap();
        let config = read(&[("CALENDAR_LISTEN", listen)]).unwrap();
        let answer = config.push_endpoint(CalendarProvider::Microsoft, Some(&api_url));
        answer.map(|endpoint| endpoint.notification_url)
    };
    for listen in ["127.0.0.1:81", "0.0.0.0:81"] {
        assert_eq!(
            endpoint(listen).unwrap(),
            "http://127.0.0.1:81/webhooks/microsoft"
        );
    }
    assert_eq!(endpoint("192.0.2.1:81"), Err(PushOff::NotReachable));
    assert_eq!(endpoint("127.0.0.1:0"), Err(PushOff::PortUnknown));
}

#[test]
fn the_documentation_shows_every_variable() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `DATABASE_URL") || line.starts_with("| `CALENDAR_"))
        .collect();
    assert_eq!(rows.len(), VARIABLES.len());
    for (row, variable) in rows.iter().zip(VARIABLES) {
        let begin = format!(
            "| `{}` | {} | {} | `",
            variable.name, variable.meaning, variable.default
        );
        assert!(
            row.starts_with(&begin),
            "docs/configuration.md has to hold: {begin}…` |"
        );
    }
}
