//! Cron jobs.

use api::FieldError;
use api::cron::{Schedule, time_zone};
use api::validation::{Faults, Path};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJobSpec, JobSpec};
use serde_json::{Map, Value};

use super::{job, non_negative, pod_template, typed};
use crate::printers::{self, text};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];
/// Names of jobs are labels of 63 bytes, 11 of which tell the time.
const MAX_NAME: usize = 52;
/// A part of a time zone's name.
const MAX_ZONE_PART: usize = 14;

pub(super) struct CronJobs;

fn validate(tree: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let at = Path::new("spec");
    let Some(spec) = typed::<CronJobSpec>(&tree["spec"], &at, &mut faults) else { return faults };
    match &*spec.schedule {
        "" => faults.push(FieldError::required(at.child("schedule"), "")),
        schedule => {
            let named_before = old.is_some_and(|old| text(old, "spec.schedule").contains("TZ"));
            let zone = spec.time_zone.is_some();
            validate_schedule(schedule, named_before, zone, &at.child("schedule"), &mut faults);
        }
    }
    let seconds = spec.starting_deadline_seconds.unwrap_or(0);
    non_negative(&mut faults, &at.child("startingDeadlineSeconds"), seconds);
    if let Some(zone) = &spec.time_zone
        && old.is_none_or(|old| old["spec"]["timeZone"] != *zone.as_str())
    {
        validate_zone(zone, &at.child("timeZone"), &mut faults);
    }
    match spec.concurrency_policy.as_deref().unwrap_or("") {
        "" => faults.push(FieldError::required(at.child("concurrencyPolicy"), "")),
        policy if POLICIES.contains(&policy) => {}
        other => {
            faults.push(FieldError::not_supported(at.child("concurrencyPolicy"), other, &POLICIES));
        }
    }
    let at_template = at.child("jobTemplate");
    let job = spec.job_template.spec.unwrap_or_default();
    validate_job(&job, printers::at(tree, "spec.jobTemplate.spec"), &at_template.child("spec"), &mut faults);
    for (field, limit) in [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        non_negative(&mut faults, &at.child(field), i64::from(limit.unwrap_or(0)));
    }
    faults
}

fn validate_job(job: &JobSpec, tree: &Value, at: &Path<'_>, faults: &mut Faults) {
    job::validate::spec(job, tree, at, faults);
    if let Some(selector) = &job.selector {
        let message = "`selector` will be auto-generated";
        faults.push(FieldError::invalid(at.child("selector"), selector, message));
    }
    if job.manual_selector == Some(true) {
        faults.push(FieldError::not_supported(at.child("manualSelector"), true, &["nil", "false"]));
    }
}

/// A schedule that names its zone is accepted where it did so before there was a field for it.
fn validate_schedule(schedule: &str, named_before: bool, has_zone: bool, at: &Path<'_>, faults: &mut Faults) {
    if let Err(why) = Schedule::parse(schedule) {
        faults.push(FieldError::invalid(at, schedule, why.to_string()));
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !named_before {
        let message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        faults.push(FieldError::invalid(at, schedule, message));
    } else if has_zone {
        let message = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        faults.push(FieldError::invalid(at, schedule, message));
    }
}

fn validate_zone(zone: &str, at: &Path<'_>, faults: &mut Faults) {
    if zone.is_empty() {
        return faults.push(FieldError::invalid(at, zone, "timeZone must be nil or non-empty string"));
    }
    let unknown = format!("unknown time zone {zone}");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
    let is_part = |part: &str| {
        (1..=MAX_ZONE_PART).contains(&part.len())
            && part.bytes().all(fits)
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
    };
    if !zone.split('/').all(is_part) {
        return faults.push(FieldError::invalid(at, zone, unknown));
    }
    if zone.eq_ignore_ascii_case("local") {
        let message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        faults.push(FieldError::invalid(at, zone, message));
    }
    // The zone of the machine has a name that can be looked up, and only that spelling of it.
    if zone != "Local" && time_zone(zone).is_none() {
        faults.push(FieldError::invalid(at, zone, unknown));
    }
}

impl Strategy for CronJobs {
    /// Go writes the metadata of templates even if there is nothing in it; clients rely on it.
    fn default(&self, _ctx: &RequestContext<'_>, tree: &mut Value) {
        for template in ["/spec/jobTemplate", "/spec/jobTemplate/spec/template"] {
            if let Some(template) = tree.pointer_mut(template).and_then(Value::as_object_mut) {
                template.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
            }
        }
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        let mut faults = validate(tree, None);
        let name = text(tree, "metadata.name");
        if name.len() > MAX_NAME {
            let message = format!("must be no more than {MAX_NAME} characters");
            faults.push(FieldError::invalid("metadata.name", name, message));
        }
        faults
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, old: &Value) -> Faults {
        match ctx.subresource {
            Some("status") => Faults::new(),
            _ => validate(new, Some(old)),
        }
    }

    fn warnings(&self, ctx: &RequestContext<'_>, tree: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if ctx.subresource.is_some() {
            return warnings;
        }
        pod_template::name_warnings(tree, old, &mut warnings);
        let spec = |tree: &'_ Value| printers::at(tree, "spec.jobTemplate.spec").clone();
        job::warnings(&spec(tree), old.map(spec).as_ref(), "spec.jobTemplate.spec", &mut warnings);
        if old.is_some() && text(tree, "spec.schedule").contains("TZ") {
            // The path is upstream's.
            warnings.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_string(),
            );
        }
        warnings
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        printers::batch::CRON_JOB
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::batch::cron_job(tree, now)
    }
}
