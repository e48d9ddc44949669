//! Steps of the wall clock.

use super::*;

#[test]
fn steering_is_no_jump_and_both_directions_are_told() {
    let (start, second) = (Duration::from_secs(1_000_000), Duration::from_secs(1));
    assert_eq!(jump(start + second, second, start), None);
    assert_eq!(jump(start + 2 * second, second, start), None);
    assert_eq!(jump(start + 11 * second, second, start), Some((true, 10 * second)));
    assert_eq!(jump(start - 9 * second, second, start), Some((false, 10 * second)));
}

#[tokio::test]
async fn a_set_clock_ends_a_sleep() {
    let supervisor = Supervisor::new();
    let mut clock = supervisor.stage("one").clock();
    supervisor.clock.send_modify(|count| *count += 1);
    let long = tokio::time::timeout(Duration::from_secs(60), clock.sleep(LONGEST_SLEEP));
    assert!(long.await.is_ok());
    let short = tokio::time::timeout(Duration::from_millis(20), clock.was_set());
    assert!(short.await.is_err(), "it is told once");
}
