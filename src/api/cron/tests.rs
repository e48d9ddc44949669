//! Schedules against what upstream's library accepts, says and answers.

use super::*;

fn next(schedule: &str, zone: &str, after: &str) -> String {
    let after: Timestamp = after.parse().unwrap();
    let found = Schedule::parse(schedule).unwrap().next(after, &time_zone(zone).unwrap());
    found.map_or("never".into(), |at| at.to_string())
}

fn refused(schedule: &str) -> String {
    Schedule::parse(schedule).unwrap_err().to_string()
}

#[test]
fn faults_have_upstreams_words() {
    let cases = [
        ("", "empty spec string"),
        ("error", "expected exactly 5 fields, found 1: [error]"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
        (
            "99999999999999999999 * * * *",
            "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": \
             value out of range",
        ),
        ("@nonsense", "unrecognized descriptor: @nonsense"),
        ("@every ", "failed to parse duration : time: invalid duration \"\""),
        ("@every 5", "failed to parse duration 5: time: missing unit in duration \"5\""),
        ("@every 5x", "failed to parse duration 5x: time: unknown unit \"x\" in duration \"5x\""),
        ("TZ=UTC", "invalid schedule format: runtime error: slice bounds out of range [:-1]"),
        ("TZ=Mars/Base 0 0 * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
    ];
    for (schedule, want) in cases {
        assert_eq!(refused(schedule), want, "{schedule}");
    }
    for good in ["0 0 * * ?", "*/15 0-6,12 1 JAN-mar sun", "@every 1h30m", "CRON_TZ=Europe/Rome 0 0 * * *"] {
        Schedule::parse(good).unwrap();
    }
}

#[test]
fn times_follow_each_other() {
    let cases = [
        ("*/15 * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
        ("*/15 * * * *", "UTC", "2026-01-01T00:14:59.5Z", "2026-01-01T00:15:00Z"),
        ("20-35/15 * * * *", "UTC", "2026-01-01T00:20:00Z", "2026-01-01T00:35:00Z"),
        ("0 0 1 1 *", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@weekly", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        // Either the day of the month or that of the week.
        ("0 0 13 * fri", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("0 0 13 * *", "UTC", "2026-01-02T00:00:00Z", "2026-01-13T00:00:00Z"),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 31 2 *", "UTC", "2026-01-01T00:00:00Z", "never"),
        ("0 9 * * *", "America/New_York", "2026-01-01T12:00:00Z", "2026-01-01T14:00:00Z"),
        ("TZ=Asia/Tokyo 0 9 * * *", "America/New_York", "2026-01-01T12:00:00Z", "2026-01-02T00:00:00Z"),
        ("@every 90s", "UTC", "2026-01-01T00:00:00.7Z", "2026-01-01T00:01:30Z"),
        ("@every 1ms", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
    ];
    for (schedule, zone, after, want) in cases {
        assert_eq!(next(schedule, zone, after), want, "{schedule} {zone} {after}");
    }
}

#[test]
fn clocks_that_are_changed() {
    let zone = "America/New_York";
    // 2:30 does not come on 2012-03-11, so the next day's does.
    assert_eq!(next("30 2 11 3 *", zone, "2012-03-11T05:00:00Z"), "2013-03-11T06:30:00Z");
    assert_eq!(next("0 * * * *", zone, "2012-03-11T06:00:00Z"), "2012-03-11T07:00:00Z");
    // 1:30 comes twice on 2012-11-04.
    assert_eq!(next("30 1 4 11 *", zone, "2012-11-04T04:00:00Z"), "2012-11-04T05:30:00Z");
    assert_eq!(next("30 1 4 11 *", zone, "2012-11-04T05:30:00Z"), "2012-11-04T06:30:00Z");
    // Midnight does not come in Sao Paulo on 2018-11-04; the day begins an hour later.
    assert_eq!(next("0 1 4 11 *", "America/Sao_Paulo", "2018-11-03T12:00:00Z"), "2018-11-04T03:00:00Z");
}

#[test]
fn zones_have_their_exact_names() {
    for (name, known) in [
        ("", true),
        ("UTC", true),
        ("Europe/Rome", true),
        ("europe/rome", false),
        ("Local", false),
        ("x", false),
    ] {
        assert_eq!(time_zone(name).is_some(), known, "{name}");
    }
}
