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
