//! The changes of 2026 in three zones, and searches in both directions that agree.

use jiff::tz::TimeZone;

use super::{Schedule, ScheduleError, wall};
use crate::core::id::Wall;

fn schedule(text: &str, zone: &str) -> Schedule {
    let found = TimeZone::get(zone).expect("the machine has the time zones of tzdata");
    Schedule::new(text, found, zone).expect("a schedule")
}

fn at(text: &str) -> Wall {
    let zoned: jiff::Timestamp = text.parse().expect("a time");
    wall(&zoned.to_zoned(TimeZone::UTC)).expect("in range")
}

/// All occurrences from `from` to `to`, as RFC 3339 in the zone.
fn between(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let (mut now, end) = (at(from), at(to));
    let mut found = Vec::new();
    while let Some(next) = schedule.after(now).filter(|next| *next < end) {
        assert!(next > now, "time goes on");
        found.push(schedule.zoned(next).expect("in range").strftime("%d. %H:%M %:z").to_string());
        now = next;
    }
    found
}

/// Zone, schedule, from, to, what occurs.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

/// The shifts of 2026. Berlin: 29 March 02:00 to 03:00, 25 October 03:00 to 02:00. New York: 8 March
/// 02:00 to 03:00, 1 November 02:00 to 01:00. Lord Howe: 5 April 02:00 to 01:30, 4 October 02:00 to
/// 02:30.
const SHIFTS: [Row; 18] = [
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28T00:00Z",
        "2026-03-31T00:00Z",
        &["28. 02:30 +01:00", "29. 03:00 +02:00", "30. 02:30 +02:00"],
    ),
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-24T00:00Z",
        "2026-10-27T00:00Z",
        &["24. 02:30 +02:00", "25. 02:30 +02:00", "26. 02:30 +01:00"],
    ),
    (
        "Europe/Berlin",
        "0 3 * * *",
        "2026-03-29T00:00Z",
        "2026-03-30T12:00Z",
        &["29. 03:00 +02:00", "30. 03:00 +02:00"],
    ),
    ("Europe/Berlin", "0 3 * * *", "2026-10-24T22:00Z", "2026-10-25T22:00Z", &["25. 03:00 +01:00"]),
    ("Europe/Berlin", "0 2 * * *", "2026-10-24T22:00Z", "2026-10-25T22:00Z", &["25. 02:00 +02:00"]),
    // Times that are left out and one at the shift are one.
    (
        "Europe/Berlin",
        "0,30 2,3 * * *",
        "2026-03-29T00:00Z",
        "2026-03-29T12:00Z",
        &["29. 03:00 +02:00", "29. 03:30 +02:00"],
    ),
    // An interval goes on evenly.
    (
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-03-29T00:10Z",
        "2026-03-29T02:10Z",
        &["29. 01:30 +01:00", "29. 03:00 +02:00", "29. 03:30 +02:00", "29. 04:00 +02:00"],
    ),
    (
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-10-24T23:40Z",
        "2026-10-25T02:10Z",
        &[
            "25. 02:00 +02:00",
            "25. 02:30 +02:00",
            "25. 02:00 +01:00",
            "25. 02:30 +01:00",
            "25. 03:00 +01:00",
        ],
    ),
    (
        "America/New_York",
        "30 2 * * *",
        "2026-03-08T00:00Z",
        "2026-03-10T00:00Z",
        &["08. 03:00 -04:00", "09. 02:30 -04:00"],
    ),
    (
        "America/New_York",
        "30 1 * * *",
        "2026-11-01T00:00Z",
        "2026-11-03T00:00Z",
        &["01. 01:30 -04:00", "02. 01:30 -05:00"],
    ),
    (
        "America/New_York",
        "15 3 * * 0",
        "2026-03-07T00:00Z",
        "2026-03-16T00:00Z",
        &["08. 03:15 -04:00", "15. 03:15 -04:00"],
    ),
    (
        "America/New_York",
        "0 * * * *",
        "2026-11-01T04:30Z",
        "2026-11-01T07:30Z",
        &["01. 01:00 -04:00", "01. 01:00 -05:00", "01. 02:00 -05:00"],
    ),
    (
        "America/New_York",
        "59 1 * * *",
        "2026-03-07T12:00Z",
        "2026-03-08T12:00Z",
        &["08. 01:59 -05:00"],
    ),
    // Half an hour.
    (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-02T20:00Z",
        "2026-10-05T00:00Z",
        &["04. 02:30 +11:00", "05. 02:15 +11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-03T20:00Z",
        "2026-04-05T20:00Z",
        &["05. 01:45 +11:00", "06. 01:45 +10:30"],
    ),
    (
        "Australia/Lord_Howe",
        "45 2 * * *",
        "2026-10-03T12:00Z",
        "2026-10-04T12:00Z",
        &["04. 02:45 +11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "*/15 * * * *",
        "2026-10-03T15:10Z",
        "2026-10-03T16:00Z",
        &["04. 01:45 +10:30", "04. 02:30 +11:00", "04. 02:45 +11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "0 2 * * *",
        "2026-04-04T12:00Z",
        "2026-04-05T12:00Z",
        &["05. 02:00 +10:30"],
    ),
];

#[test]
fn clocks_are_put_forward_and_back() {
    for (zone, text, from, to, expected) in SHIFTS {
        let got = between(&schedule(text, zone), from, to);
        assert_eq!(got, expected, "{text} in {zone} from {from}");
    }
}

#[test]
fn whoever_asks_means_the_same_instants() {
    let texts = [
        "30 2 * * *",
        "0 3 * * *",
        "*/30 1-3 * * *",
        "15 */2 * * *",
        "45 1 * * 0",
        "0 0 1 * *",
        "0,30 2,3 * * *",
        "7 * * * *",
    ];
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"] {
        for text in texts {
            let schedule = schedule(text, zone);
            let (start, end) = (at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z"));
            let mut all = Vec::new();
            let mut now = start;
            while let Some(next) = schedule.after(now).filter(|next| *next <= end) {
                all.push(next);
                now = next;
            }
            for (at, pair) in all.windows(2).enumerate() {
                let [one, next] = [pair[0], pair[1]];
                let middle = Wall(i64::midpoint(one.0, next.0));
                for asked in [one, Wall(one.0 + 1), middle, Wall(next.0 - 1)] {
                    assert_eq!(
                        schedule.after(asked),
                        Some(next),
                        "{text} in {zone} from {asked:?}"
                    );
                }
                let known = &all[at.saturating_sub(2)..=at];
                assert_eq!(
                    schedule.last(3, start, middle),
                    known,
                    "{text} in {zone} to {middle:?}"
                );
            }
            assert_eq!(schedule.last(usize::MAX >> 40, start, end), all, "{text} in {zone}");
        }
    }
}

#[test]
fn what_is_no_schedule() {
    let read = |text| Schedule::new(text, TimeZone::UTC, "UTC").map(|_| ());
    assert_eq!(read("0 3 * *"), Err(ScheduleError::Fields(4)));
    assert_eq!(read("0 0 3 * * *"), Err(ScheduleError::Fields(6)));
    assert_eq!(read("@daily"), Err(ScheduleError::Fields(1)));
    assert_eq!(read("0 0 30 2 *"), Err(ScheduleError::Never));
    assert!(matches!(read("61 * * * *"), Err(ScheduleError::Pattern(_))));
    assert!(matches!(read("0 3 * * someday"), Err(ScheduleError::Pattern(_))));
    assert_eq!(read("0 0 29 2 *"), Ok(()));
    assert_eq!(read("*/5 8-18 * jan,dec mon-fri"), Ok(()));
}
