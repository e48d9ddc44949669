//! Entries, partial lines and options.

use super::*;

fn written(lines: &[&str], options: LogOptions) -> String {
    let mut writer = Writer::new(options);
    let mut out = Vec::new();
    for line in lines {
        writer.write(line.as_bytes(), &mut out);
    }
    String::from_utf8(out).unwrap()
}

const LINES: [&str; 4] = [
    "2026-01-01T00:00:01.000000001Z stdout F one",
    "2026-01-01T00:00:02.5Z stderr P tw",
    "2026-01-01T00:00:02.6Z stderr F o",
    "2026-01-01T00:00:03Z stdout F ",
];

#[test]
fn partial_lines_are_joined() {
    assert_eq!(written(&LINES, LogOptions::default()), "one\ntwo\n\n");
}

#[test]
fn options_choose_and_stamp() {
    let stamped = LogOptions { timestamps: true, ..LogOptions::default() };
    assert_eq!(
        written(&LINES, stamped),
        "2026-01-01T00:00:01.000000001Z one\n2026-01-01T00:00:02.500000000Z two\n2026-01-01T00:00:03.000000000Z \n"
    );
    let since = LogOptions { since: Some("2026-01-01T00:00:02Z".parse().unwrap()), ..LogOptions::default() };
    assert_eq!(written(&LINES, since), "two\n\n");
    let limited = LogOptions { limit: Some(5), ..LogOptions::default() };
    assert_eq!(written(&LINES, limited), "one\nt");
    let errors = LogOptions { stream: Some("stderr"), ..LogOptions::default() };
    assert_eq!(written(&LINES, errors), "two\n");
}

#[test]
fn other_lines_are_passed_over() {
    assert_eq!(written(&["garbage", "", "x y z"], LogOptions::default()), "");
}
