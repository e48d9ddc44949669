//! Tails and rotation.

use std::io::Write;

use super::*;

fn all(log: &mut LogFile) -> Vec<String> {
    let mut lines = Vec::new();
    while log.lines(|line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap() {}
    lines
}

#[test]
fn the_last_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    let long = "x".repeat(100_000);
    std::fs::write(&path, format!("a\n{long}\nb\nc\n")).unwrap();
    for (tail, want) in [(0, vec![]), (1, vec!["c"]), (2, vec!["b", "c"]), (3, vec![long.as_str(), "b", "c"])]
    {
        assert_eq!(all(&mut LogFile::open(&path, Some(tail)).unwrap()), want, "{tail}");
    }
    assert_eq!(all(&mut LogFile::open(&path, Some(9)).unwrap()).len(), 4);
    assert_eq!(all(&mut LogFile::open(&path, None).unwrap()).len(), 4);
}

#[test]
fn rotation_is_followed_and_incomplete_lines_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    std::fs::write(&path, "a\nb").unwrap();
    let mut log = LogFile::open(&path, None).unwrap();
    assert_eq!(all(&mut log), ["a"]);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"c\n").unwrap();
    assert_eq!(all(&mut log), ["bc"]);
    std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
    std::fs::write(&path, "d\n").unwrap();
    assert_eq!(all(&mut log), ["d"]);
}
