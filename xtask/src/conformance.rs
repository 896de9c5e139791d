//! `cargo xtask conformance`: docs/conformance.md, made from tests/conformance.txt and what a run of the tests showed.
//!
//! A test belongs to a row by its name: `…::microsoft::…::t07_…` shows row T07 for Microsoft. One outside a module of a
//! provider (a property, say) has to pass as well, but shows nothing for any provider alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::{codegen, test, workspace};

const LIST: &str = "tests/conformance.txt";
const PAGE: &str = "docs/conformance.md";
/// As the list marks them, as modules are called, as the page shows them.
const PROVIDERS: [(char, &str, &str); 3] = [
    ('M', "microsoft", "Microsoft"),
    ('G', "google", "Google"),
    ('C', "caldav", "CalDAV"),
];
const HEAD: &str = "<!-- Made by `cargo xtask conformance` from a run of the tests. Do not edit. -->

# Conformance

What a calendar sync service must survive, each row taken from faults that users of calendar software reported in public. A row is a **pass** for
a provider when the run had at least one test of that name and all of them passed; *not yet* otherwise, and – where it does
not concern the provider. `cargo xtask ci` fails when this page says anything else than its run of the tests; a row's tests are found by its number
(`t07_`), and most run over the real programs, PostgreSQL and a simulated provider.
";

/// A row of the list.
#[derive(Debug)]
struct Scenario<'list> {
    section: &'list str,
    id: &'list str,
    /// The providers' letters.
    concerns: &'list str,
    text: &'list str,
}

/// Runs the scenarios' tests and writes the page, or compares it.
pub(crate) async fn run(check: bool) -> Result<()> {
    let list = list()?;
    let mut arguments = vec!["--".to_owned()];
    for scenario in read(&list)? {
        arguments.push(format!("{}_", scenario.id.to_lowercase()));
    }
    let output = test::run_and_collect(&arguments).await?;
    update(&output, check)
}

/// Writes or compares the page. `output` is that of a run over the whole workspace which succeeded.
pub(crate) fn update(output: &str, check: bool) -> Result<()> {
    let page = page(&read(&list()?)?, &results(output))?;
    codegen::write(&[(PAGE, page)], check, "cargo xtask conformance")
}

fn list() -> Result<String> {
    let file = workspace::root().join(LIST);
    std::fs::read_to_string(file).with_context(|| format!("cannot read {LIST}"))
}

/// The rows of the list, in its order.
fn read(list: &str) -> Result<Vec<Scenario<'_>>> {
    let mut section = "";
    let mut scenarios = Vec::new();
    for line in list.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        } else if !line.is_empty() && !line.starts_with('#') {
            let mut parts = line.splitn(3, ' ');
            let (Some(id), Some(concerns), Some(text)) = (parts.next(), parts.next(), parts.next())
            else {
                bail!("{LIST}: not an id, providers and a text: {line}");
            };
            scenarios.push(Scenario {
                section,
                id,
                concerns,
                text,
            });
        }
    }
    Ok(scenarios)
}

/// What a run says of each test, as libtest prints it: whether it ran and passed.
fn results(output: &str) -> Vec<(&str, bool)> {
    let lines = output.lines();
    let lines = lines.filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    lines.map(|(name, result)| (name, result == "ok")).collect()
}

/// The row that a test belongs to (`t07`), and the provider that it is about.
fn row(test: &str) -> Option<(&str, Option<char>)> {
    let mut path = test.rsplit("::");
    let (id, _) = path.next()?.split_once('_')?;
    let number = id.strip_prefix('t')?;
    if number.len() != 2 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let provider = path.find_map(|module| {
        let found = PROVIDERS.iter().find(|(_, name, _)| *name == module);
        found.map(|(letter, ..)| *letter)
    });
    Some((id, provider))
}

fn page(scenarios: &[Scenario<'_>], results: &[(&str, bool)]) -> Result<String> {
    let mut by_row: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (test, passed) in results {
        let Some((id, provider)) = row(test) else {
            continue;
        };
        let scenario = scenarios.iter().find(|row| row.id.eq_ignore_ascii_case(id));
        let scenario = scenario.with_context(|| format!("{LIST} has no row of the test {test}"))?;
        if provider.is_some_and(|provider| !scenario.concerns.contains(provider)) {
            bail!("{LIST} says that {} does not concern {test}", scenario.id);
        }
        let tests = by_row.entry(scenario.id).or_default();
        tests.push((provider, *passed));
    }
    let mut page = HEAD.to_owned();
    let mut section = "";
    let mut passes = [0; PROVIDERS.len()];
    for scenario in scenarios {
        if scenario.section != section {
            section = scenario.section;
            write!(
                page,
                "\n## {section}\n\n| | | Microsoft | Google | CalDAV |\n|---|---|---|---|---|\n"
            )?;
        }
        let tests = by_row.get(scenario.id).map_or(&[][..], Vec::as_slice);
        write!(page, "| {} | {} |", scenario.id, scenario.text)?;
        for ((letter, ..), passes) in PROVIDERS.iter().zip(&mut passes) {
            let state = state(scenario, *letter, tests);
            *passes += usize::from(state == PASS);
            write!(page, " {state} |")?;
        }
        page.push('\n');
    }
    page.push('\n');
    for ((letter, _, name), passes) in PROVIDERS.iter().zip(passes) {
        let rows = scenarios
            .iter()
            .filter(|row| row.concerns.contains(*letter))
            .count();
        writeln!(page, "{name}: {passes} of {rows}.  ")?;
    }
    Ok(page)
}

const PASS: &str = "**pass**";

/// What the page says of a row for a provider, `tests` being those of the row.
fn state(scenario: &Scenario<'_>, provider: char, tests: &[(Option<char>, bool)]) -> &'static str {
    let mut its = tests
        .iter()
        .filter(|(about, _)| about.is_none_or(|about| about == provider));
    if !scenario.concerns.contains(provider) {
        "–"
    } else if its.clone().any(|(about, _)| about.is_some()) && its.all(|(_, passed)| *passed) {
        PASS
    } else {
        "not yet"
    }
}

#[cfg(test)]
mod tests {
    use super::{page, read, results, row};

    const LIST: &str = "# A comment\n\n## First\nT01 MG One thing.\nT02 C Another thing.\n";

    /// The rows that the page shows, after a run which printed this.
    fn rows(output: &str) -> Result<[String; 2], String> {
        let page =
            page(&read(LIST).unwrap(), &results(output)).map_err(|error| error.to_string())?;
        let row = |id: &str| {
            let line = page
                .lines()
                .find(|line| line.starts_with(&format!("| {id} |")));
            line.unwrap().to_owned()
        };
        Ok([row("T01"), row("T02")])
    }

    fn of_the_first(output: &str) -> String {
        let [first, _] = rows(output).unwrap();
        first
    }

    #[test]
    fn tests_find_their_rows_by_name() {
        assert_eq!(row("microsoft::t07_one"), Some(("t07", Some('M'))));
        assert_eq!(
            row("scenarios::google::pushes::t07_one"),
            Some(("t07", Some('G')))
        );
        assert_eq!(row("plan::t02_one"), Some(("t02", None)));
        for other in [
            "t07",
            "t7_one",
            "microsoft::two",
            "t07_one::other",
            "total_07",
            "t123_x",
        ] {
            assert_eq!(row(other), None, "{other}");
        }
    }

    #[test]
    fn a_row_passes_only_when_all_its_tests_ran_and_passed() {
        let pass = "| T01 | One thing. | **pass** | not yet | – |";
        let not_yet = "| T01 | One thing. | not yet | not yet | – |";
        let ok = "test microsoft::t01_a ... ok\n";
        assert_eq!(of_the_first(ok), pass);
        let second = "test crate::microsoft::t01_b ... ok\ntest t01_general ... ok\n";
        assert_eq!(
            of_the_first(&format!("running 3 tests\n{ok}{second}")),
            pass
        );
        // Not run, ignored, failed, broken off; or no test of the provider's own.
        assert_eq!(of_the_first(""), not_yet);
        for other in [
            "test microsoft::t01_b ... ignored",
            "test microsoft::t01_b ... ignored, takes an hour: ok",
            "test microsoft::t01_b ... FAILED",
            "test microsoft::t01_b ... ",
            "test t01_general ... FAILED",
        ] {
            assert_eq!(of_the_first(other), not_yet, "{other}");
            assert_eq!(of_the_first(&format!("{ok}{other}\n")), not_yet, "{other}");
            assert_eq!(of_the_first(&format!("{other}\n{ok}")), not_yet, "{other}");
        }
        assert_eq!(of_the_first("test t01_general ... ok"), not_yet);
        assert_eq!(of_the_first("microsoft::t01_a ... ok"), not_yet);
        // Another provider's failure is its own.
        let both = format!("{ok}test google::t01_a ... FAILED\n");
        assert_eq!(of_the_first(&both), pass);
    }

    #[test]
    fn a_test_of_no_row_is_a_mistake() {
        for test in ["microsoft::t09_a", "microsoft::t02_a"] {
            let error = rows(&format!("test {test} ... ok")).unwrap_err();
            assert!(error.contains(test), "{error}");
        }
    }

    #[test]
    fn the_list_can_be_read() {
        let list = super::list().unwrap();
        let scenarios = read(&list).unwrap();
        let ids: Vec<_> = scenarios
            .iter()
            .map(|scenario| scenario.id.to_owned())
            .collect();
        let expected: Vec<_> = (1..=62).map(|number| format!("T{number:02}")).collect();
        assert_eq!(ids, expected);
        for scenario in scenarios {
            assert!(
                scenario
                    .concerns
                    .chars()
                    .all(|letter| "MGC".contains(letter))
            );
        }
    }
}
