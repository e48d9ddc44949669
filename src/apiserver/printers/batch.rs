//! Jobs and cron jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, CONTAINERS, IMAGES, NAME, age, at, column, containers, items, label_selector, name, number, since,
    text, wide,
};
use crate::strategy::{Cell, Column};

const SELECTOR: Column = wide("Selector", "string", "Labels of the pods that belong to it.");

pub(crate) const JOB: &[Column] = &[
    NAME,
    column("Status", "string", "Status of the job."),
    column("Completions", "string", "Pods that have succeeded, of those that are wanted."),
    column("Duration", "string", "Time required to complete the job."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn job(object: &Value, now: Timestamp) -> Vec<Cell> {
    let [names, images] = containers(&object["spec"]["template"]);
    vec![
        name(object),
        json!(status(object)),
        json!(completions(object)),
        json!(duration(object, now)),
        age(object, now),
        names,
        images,
        label_selector(&object["spec"]["selector"]),
    ]
}

fn status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        let conditions = items(job, "status.conditions");
        conditions.iter().any(|one| text(one, "type") == kind && text(one, "status") == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if !text(job, "metadata.deletionTimestamp").is_empty() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "status.succeeded");
    match (at(job, "spec.completions").as_i64(), number(job, "spec.parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let time = |path| api::time::parse(text(job, path));
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => api::time::human_duration(end.unwrap_or(now).duration_since(start)),
    }
}

pub(crate) const CRON_JOB: &[Column] = &[
    NAME,
    column("Schedule", "string", "When jobs are made, in cron's form."),
    column("Timezone", "string", "Time zone of the schedule."),
    column("Suspend", "boolean", "Whether no more jobs are made."),
    column("Active", "integer", "Jobs that run."),
    column("Last Schedule", "string", "Time since a job was last made."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn cron_job(object: &Value, now: Timestamp) -> Vec<Cell> {
    let job = at(object, "spec.jobTemplate.spec");
    let [names, images] = containers(&job["template"]);
    let last = match text(object, "status.lastScheduleTime") {
        "" => "<none>".to_string(),
        time => since(time, now),
    };
    let suspend = match at(object, "spec.suspend").as_bool() {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    vec![
        name(object),
        json!(text(object, "spec.schedule")),
        json!(at(object, "spec.timeZone").as_str().unwrap_or("<none>")),
        json!(suspend),
        json!(items(object, "status.active").len()),
        json!(last),
        age(object, now),
        names,
        images,
        label_selector(&job["selector"]),
    ]
}
