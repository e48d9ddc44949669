//! The flags of the schedule.

use super::*;

#[test]
fn flags_are_checked() {
    let instance = Instance::of(std::path::Path::new("/nonexistent")).unwrap();
    let schedule = |cron: &str, keep| Schedule::new(cron, keep, None, &instance);
    assert!(schedule("0 */12 * * *", 5).unwrap().cron.is_some());
    assert!(schedule("off", 5).unwrap().cron.is_none());
    let problem = schedule("every day", 5).unwrap_err().to_string();
    assert!(problem.contains("every day") && problem.contains("--snapshot-schedule-cron"), "{problem}");
    assert!(schedule("off", 0).is_err());
}

#[test]
fn there_is_a_snapshot_soon_and_one_before_another_version_goes_on() {
    assert_eq!(first_after(None, false), Some(FIRST_AFTER), "a new server");
    assert_eq!(first_after(None, true), None);
    assert_eq!(first_after(Some(VERSION), false), Some(FIRST_AFTER));
    assert_eq!(first_after(Some(VERSION), true), None);
    for has_any in [true, false] {
        assert_eq!(first_after(Some("v1.35.0+minik8s1"), has_any), Some(Duration::ZERO));
    }
}
