//! Rotation by size, and what is kept.

use std::io::Read;

use flate2::read::GzDecoder;

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn event(bytes: usize) -> Vec<Vec<u8>> {
    vec![vec![b'x'; bytes]]
}

#[test]
fn a_full_log_is_rotated_and_a_limitless_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for (max_size, expected) in [(1, 2), (0, 1)] {
        let logs = folder.path().join(max_size.to_string());
        let path = logs.join("audit.log");
        let mut log =
            LogFile::new(LogOptions { path: path.clone(), max_size, ..LogOptions::default() }).unwrap();
        log.write(&event(600 << 10)).unwrap();
        assert_eq!(names(&logs), ["audit.log"], "nothing is rotated yet");
        log.write(&event(600 << 10)).unwrap();
        assert_eq!(names(&logs).len(), expected, "{:?}", names(&logs));
        let all: u64 = names(&logs).iter().map(|name| fs::metadata(logs.join(name)).unwrap().len()).sum();
        assert_eq!(all, 2 * ((600 << 10) + 1));
    }
}

#[test]
fn a_log_that_is_gone_is_written_anew_after_a_rotation_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut log =
        LogFile::new(LogOptions { path: path.clone(), max_size: 1, ..LogOptions::default() }).unwrap();
    log.write(&event(600 << 10)).unwrap();
    fs::remove_file(&path).unwrap();
    log.write(&event(600 << 10)).expect("an event is not lost for a rotation");
    assert!(fs::metadata(&path).expect("the log is there again").len() > 600 << 10);
}

#[test]
fn rotated_logs_go_by_number_and_age_and_are_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rotated = |at: Timestamp| format!("audit-{}.log", at.strftime(STAMP));
    let now = Timestamp::now();
    let ago = |hours| rotated(now - SignedDuration::from_hours(hours));
    let (fresh, second, third, old) = (ago(1), ago(2), ago(3), ago(50));
    for name in [&fresh, &second, &third, &old, &"audit-notes.log".to_string()] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let mut options = LogOptions { path, max_age: 2, ..LogOptions::default() };
    tidy(&options).unwrap();
    assert!(!names(folder.path()).contains(&old), "it is older than two days");
    options.max_backups = 2;
    options.compress = true;
    tidy(&options).unwrap();
    let mut expected = vec![format!("{fresh}.gz"), format!("{second}.gz"), "audit-notes.log".to_string()];
    expected.sort();
    assert_eq!(names(folder.path()), expected, "what is no log of ours stays");
    let mut text = String::new();
    let file = File::open(folder.path().join(format!("{fresh}.gz"))).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, fresh);
    tidy(&options).unwrap();
    assert_eq!(names(folder.path()), expected, "what is compressed stays as it is");
}
