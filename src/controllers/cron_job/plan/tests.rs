//! Tests of schedules, decisions and history.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(spec: Value, last: Option<&str>) -> CronJob {
    let mut full = json!({"schedule": "0 * * * *", "jobTemplate": {
        "metadata": {"labels": {"app": "a"}, "annotations": {"note": "n"}},
        "spec": {"template": {}}}});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"name": "hello", "namespace": "ns", "uid": "cron",
            "creationTimestamp": "2026-01-01T09:30:00Z"},
        "spec": full,
        "status": {"lastScheduleTime": last},
    }))
    .unwrap()
}

fn at(spec: Value, last: Option<&str>, now: &str) -> CronDecision {
    decide(&cron(spec, last), &[], time(now))
}

fn start(decision: &CronDecision) -> Option<String> {
    match decision {
        CronDecision::Start { at, .. } => Some(at.to_string()),
        _ => None,
    }
}

fn told(decision: &CronDecision) -> Option<&str> {
    match decision {
        CronDecision::Sleep { tell: Some((reason, _)), .. } | CronDecision::Stop(Some((reason, _))) => {
            Some(reason)
        }
        _ => None,
    }
}

#[test]
fn a_job_is_due_on_the_hour() {
    let early = at(json!({}), None, "2026-01-01T09:59:59Z");
    assert_eq!(early, CronDecision::Sleep { wait: Duration::from_millis(1100), tell: None });
    let due = at(json!({}), None, "2026-01-01T10:00:00Z");
    let hour = Duration::from_secs(3600) + GRACE;
    assert_eq!(due, CronDecision::Start { at: time("2026-01-01T10:00:00Z"), wait: hour, many_missed: false });
    let done = at(json!({}), Some("2026-01-01T10:00:00Z"), "2026-01-01T10:00:01Z");
    assert_eq!(done, CronDecision::Sleep { wait: Duration::from_secs(3599) + GRACE, tell: None });
}

#[test]
fn of_missed_times_the_latest_is_made_up_for() {
    let late = at(json!({}), Some("2026-01-01T10:00:00Z"), "2026-01-02T15:20:00Z");
    assert_eq!(start(&late).as_deref(), Some("2026-01-02T15:00:00Z"));
    assert!(matches!(late, CronDecision::Start { many_missed: false, .. }));
    let very_late = at(json!({}), Some("2026-01-01T10:00:00Z"), "2026-02-01T15:20:00Z");
    assert!(matches!(very_late, CronDecision::Start { many_missed: true, .. }));
    let in_time = json!({"startingDeadlineSeconds": 1800});
    assert!(start(&at(in_time, Some("2026-01-01T10:00:00Z"), "2026-01-02T15:20:00Z")).is_some());
    // What was due before the deadline is not looked for at all.
    let strict = json!({"startingDeadlineSeconds": 600});
    let missed = at(strict, Some("2026-01-01T10:00:00Z"), "2026-01-02T15:20:00Z");
    assert_eq!((start(&missed), told(&missed)), (None, None));
}

#[test]
fn concurrency_suspension_and_deletion_hold_jobs_back() {
    let running = [ObjectReference { name: Some("hello-1".to_string()), ..ObjectReference::default() }];
    let decided = |spec: Value| decide(&cron(spec, None), &running, time("2026-01-01T10:00:00Z"));
    assert_eq!(told(&decided(json!({"concurrencyPolicy": "Forbid"}))), Some("JobAlreadyActive"));
    assert!(start(&decided(json!({"concurrencyPolicy": "Replace"}))).is_some());
    assert!(start(&decided(json!({"concurrencyPolicy": "Allow"}))).is_some());
    assert_eq!(decided(json!({"suspend": true})), CronDecision::Stop(None));
    let mut leaving = cron(json!({}), None);
    leaving.metadata.deletion_timestamp = Some(api::time::seconds(time("2026-01-01T10:00:00Z")));
    assert_eq!(decide(&leaving, &[], time("2026-01-01T10:00:00Z")), CronDecision::Stop(None));
    // The job of this minute is there already.
    let name = job_name(&leaving, time("2026-01-01T10:00:00Z"));
    let same = [ObjectReference { name: Some(name), ..ObjectReference::default() }];
    assert_eq!(start(&decide(&cron(json!({}), None), &same, time("2026-01-01T10:00:00Z"))), None);
}

#[test]
fn zones_and_bad_schedules() {
    let berlin = json!({"schedule": "30 11 * * *", "timeZone": "Europe/Berlin"});
    let due = at(berlin.clone(), None, "2026-01-01T10:30:00Z");
    assert_eq!(start(&due).as_deref(), Some("2026-01-01T10:30:00Z"));
    let job = new_job(&cron(berlin, None), time("2026-01-01T10:30:00Z"));
    assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED_AT], "2026-01-01T11:30:00+01:00");
    assert_eq!(
        told(&at(json!({"timeZone": "Mars/Base"}), None, "2026-01-01T10:30:00Z")),
        Some("UnknownTimeZone")
    );
    assert_eq!(
        told(&at(json!({"schedule": "bad"}), None, "2026-01-01T10:30:00Z")),
        Some("UnparseableSchedule")
    );
    let never = at(json!({"schedule": "59 23 31 2 *"}), None, "2026-01-01T10:30:00Z");
    assert_eq!(told(&never), Some("InvalidSchedule"));
}

#[test]
fn a_job_is_named_by_its_minute() {
    let job = new_job(&cron(json!({}), None), time("2026-01-01T10:00:00Z"));
    assert_eq!(job.metadata.name.as_deref(), Some("hello-29454360"));
    let annotations = job.metadata.annotations.unwrap();
    assert_eq!(
        (annotations["note"].as_str(), annotations[SCHEDULED_AT].as_str()),
        ("n", "2026-01-01T10:00:00Z")
    );
    assert_eq!(job.metadata.labels.unwrap()["app"], "a");
    assert_eq!(job.metadata.owner_references.unwrap()[0].uid, "cron");
}

fn job(name: &str, kind: &str, minute: u32) -> Arc<Job> {
    let at = format!("2026-01-01T10:{minute:02}:00Z");
    let conditions = json!([{"type": kind, "status": "True"}]);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "status": {"startTime": at, "completionTime": at, "conditions": conditions},
        }))
        .unwrap(),
    )
}

#[test]
fn the_history_has_limits() {
    let jobs = [
        job("d", "Complete", 4),
        job("a", "Complete", 1),
        job("b", "Failed", 2),
        job("c", "Complete", 3),
        job("e", "Suspended", 5),
    ];
    let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1});
    let spec = cron(limits, None).spec;
    let names = |jobs: Vec<Arc<Job>>| {
        jobs.iter().map(|job| text(&job.metadata.name).to_string()).collect::<Vec<String>>()
    };
    assert_eq!(names(superfluous(&spec, &jobs)), ["a", "c"]);
    let unlimited = cron(json!({"failedJobsHistoryLimit": 0}), None).spec;
    assert_eq!(names(superfluous(&unlimited, &jobs)), ["b"]);
}

#[test]
fn jobs_that_ended_are_active_no_more() {
    let active = |name: &str| json!({"name": name, "uid": name});
    let mut status: CronJobStatus =
        serde_json::from_value(json!({"active": [active("a"), active("b"), active("c")]})).unwrap();
    let ended =
        observe(&mut status, &[job("a", "Complete", 9), job("b", "Failed", 30), job("x", "Complete", 2)]);
    let names: Vec<(&str, &str)> = ended.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(names, [("a", "Complete"), ("b", "Failed")]);
    assert_eq!(status.active.as_ref().unwrap().len(), 1);
    assert_eq!(status.last_successful_time.as_ref().unwrap().0, time("2026-01-01T10:09:00Z"));
    assert!(forget(&mut status, "c"));
    assert_eq!(status.active, None);
}

proptest! {
    /// However late we look, and however often, no time is used twice, none lies in the future, and none that
    /// came after the last one is passed over for an earlier one.
    #[test]
    fn no_time_is_used_twice(
        schedule in prop::sample::select(vec![
            "* * * * *", "*/7 * * * *", "0 3 * * 1-5", "30 6-16/4 * * *", "@hourly", "@every 90m", "0 0 1 * *",
        ]),
        looks in prop::collection::vec(1_i64..200_000, 1..30),
    ) {
        let mut cron = cron(json!({"schedule": schedule}), None);
        let timetable = Timetable::of(&cron.spec).unwrap();
        let mut now = time("2026-01-01T09:30:00Z");
        let mut used: Option<Timestamp> = None;
        for passed in looks {
            now = api::time::plus_seconds(now, passed);
            if let CronDecision::Start { at, wait, .. } = decide(&cron, &[], now) {
                prop_assert!(at <= now && used.is_none_or(|used| used < at));
                prop_assert!(timetable.next(at).is_none_or(|next| next > now), "{at} is not the latest");
                prop_assert!(wait >= GRACE);
                used = Some(at);
                cron.status.get_or_insert_default().last_schedule_time = Some(api::time::seconds(at));
                prop_assert_eq!(start(&decide(&cron, &[], now)), None);
            }
        }
    }
}
