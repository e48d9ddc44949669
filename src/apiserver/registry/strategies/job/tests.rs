//! Faults of jobs in upstream's words, and what changes are let through.

use serde_json::json;

use super::*;

fn job(spec: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "myjob", "uid": "1a2b3c"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "abc", "image": "image"}]}}},
    });
    tree["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    api::schema::apply_defaults(&api::kinds::JOB, &mut tree);
    if tree["spec"]["manualSelector"] != true {
        generate_selector(&mut tree);
    }
    tree
}

fn texts(faults: Faults) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

fn faults(tree: &Value) -> Vec<String> {
    let mut faults = Faults::new();
    let spec = spec_of(tree, &mut faults).unwrap();
    validate::job(tree, &spec, true, &mut faults);
    texts(faults)
}

#[test]
fn a_selector_is_made_and_held_against_the_pods() {
    let made = job(json!({}));
    let labels = &made["spec"]["template"]["metadata"]["labels"];
    for (label, value) in [
        ("job-name", "myjob"),
        ("batch.kubernetes.io/job-name", "myjob"),
        ("controller-uid", "1a2b3c"),
        ("batch.kubernetes.io/controller-uid", "1a2b3c"),
    ] {
        assert_eq!(labels[label], value);
    }
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "1a2b3c"}});
    assert_eq!(made["spec"]["selector"], selector);
    assert_eq!(faults(&made), [""; 0]);
    assert_eq!(made["spec"]["manualSelector"], false);

    let template = |labels: Value| {
        json!({"metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "abc", "image": "image"}]}})
    };
    let manual = job(json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}},
        "template": template(json!({"a": "b"}))}));
    assert_eq!(faults(&manual), [""; 0]);
    let nothing = job(json!({"manualSelector": true}));
    assert_eq!(
        faults(&nothing),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        ]
    );
    let foreign = job(json!({"template": template(json!({"job-name": "other"}))}));
    let found = faults(&foreign);
    assert!(
        found[0].starts_with("spec.template.metadata.labels[job-name]: Invalid value: {")
            && found[0].ends_with(": must be 'myjob'"),
        "{found:?}"
    );
}

#[test]
fn numbers_modes_and_policies() {
    let cases = [
        (
            json!({"parallelism": -1}),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"activeDeadlineSeconds": -1}),
            "spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 2}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 2, "parallelism": 100_001}),
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is \
             Indexed",
        ),
        (
            json!({"completions": 1, "backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            json!({"completionMode": "Odd", "completions": 1}),
            "spec.completionMode: Unsupported value: \"Odd\": supported values: \"NonIndexed\", \"Indexed\"",
        ),
        (
            json!({"managedBy": "plain"}),
            "spec.managedBy: Invalid value: \"plain\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            json!({"podReplacementPolicy": "Odd"}),
            "spec.podReplacementPolicy: Unsupported value: \"Odd\": supported values: \"Failed\", \
             \"TerminatingOrFailed\"",
        ),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}}),
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is \
             required",
        ),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "Count",
                "onExitCodes": {"operator": "In", "values": [0]}}]}}),
            "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "",
                "onExitCodes": {"operator": "In", "values": [1]}}]}}),
            "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \
             \"Ignore\"]",
        ),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "Count",
                "onExitCodes": {"operator": "In", "values": [2, 1], "containerName": "abc"}}]}}),
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": [{}]}}),
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be \
             specified",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 5,
                "successPolicy": {"rules": [{"succeededIndexes": "0-2,1"}]}}),
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-2,1\": error parsing succeededIndexes: \
             non-increasing order, previous: 2, current: 1",
        ),
        (
            json!({"template": {"spec": {"containers": [{"name": "abc", "image": "image"}]}}}),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
    ];
    for (spec, want) in cases {
        assert_eq!(faults(&job(spec.clone())), [want], "{spec}");
    }
}

#[test]
fn lists_of_indexes() {
    for (text, want) in [
        ("", Ok(0)),
        ("0", Ok(1)),
        ("0,2-4", Ok(4)),
        ("5", Err("too large index: \"5\"")),
        ("a", Err("cannot convert string to integer for index: \"a\"")),
        ("3-2", Err("non-increasing order, previous: 3, current: 2")),
        (
            "1-2-3",
            Err(
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                 separated by '-'",
            ),
        ),
    ] {
        assert_eq!(
            indexes::parse(text, 5),
            want.map_err(|why: &str| indexes::IndexError(why.to_string())),
            "{text}"
        );
    }
    assert_eq!(indexes::overlap("0-2,5", "3,5-6", 10), Some(5));
    assert_eq!(indexes::overlap("0-2,7", "3,5-6", 10), None);
    assert_eq!(indexes::overlap("", "1", 10), None);
}

fn changed(old: &Value, change: impl Fn(&mut Value)) -> Vec<String> {
    let mut new = old.clone();
    change(&mut new);
    let mut faults = Faults::new();
    validate::change(&new, old, &mut faults);
    texts(faults)
}

#[test]
fn what_a_change_may_touch() {
    let old = job(json!({}));
    assert_eq!(changed(&old, |new| new["spec"]["parallelism"] = json!(5)), [""; 0]);
    let found = changed(&old, |new| new["spec"]["completions"] = json!(5));
    assert_eq!(found, ["spec.completions: Invalid value: 5: field is immutable"]);
    let set_selector = |new: &mut Value| {
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
        new["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {}});
    };
    let found = changed(&old, set_selector);
    assert!(found[0].starts_with("spec.template: Invalid value: ") && found.len() == 1, "{found:?}");

    // A suspended job that has not begun may still be told where its pods go and what they get.
    let idle = job(json!({"suspend": true}));
    assert_eq!(changed(&idle, set_selector), [""; 0]);
    assert_eq!(changed(&idle, |new| new["spec"]["suspend"] = json!(false)), [""; 0]);
    let set_resources = |new: &mut Value| {
        new["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    };
    assert_eq!(changed(&idle, set_resources), [""; 0]);
    let set_image = |new: &mut Value| {
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    };
    let found = changed(&idle, set_image);
    assert!(found[0].starts_with("spec.template.spec: Invalid value: ") && found.len() == 1, "{found:?}");
    let mut started = idle.clone();
    started["status"] = json!({"startTime": "2026-01-01T00:00:00Z", "active": 0});
    assert_eq!(changed(&started, set_selector).len(), 1);
    started["status"]["conditions"] = json!([{"type": "Suspended", "status": "True"}]);
    assert_eq!(changed(&started, set_selector), [""; 0]);

    let indexed = job(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
    let found = changed(&indexed, |new| new["spec"]["completions"] = json!(5));
    assert_eq!(
        found,
        ["spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism"]
    );
    let both = |new: &mut Value| {
        new["spec"]["completions"] = json!(5);
        new["spec"]["parallelism"] = json!(5);
    };
    assert_eq!(changed(&indexed, both), [""; 0]);
}

#[test]
fn what_a_status_may_become() {
    let with = |spec: Value, status: Value| {
        let mut tree = job(spec);
        tree["status"] = status;
        tree
    };
    let check =
        |old: Value, new: Value| texts(status::validate(&with(json!({}), new), &with(json!({}), old)));
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    let done = json!({"startTime": start, "completionTime": end, "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    assert_eq!(check(json!({"startTime": start}), done.clone()), [""; 0]);
    assert_eq!(check(done.clone(), done.clone()), [""; 0]);
    let cases = [
        (
            json!({"startTime": start}),
            json!({"startTime": start, "completionTime": end, "conditions": [condition("Complete")]}),
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true \
             condition",
        ),
        (
            json!({"startTime": start}),
            json!({"startTime": start, "conditions": [condition("Failed")]}),
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            json!({}),
            json!({"completionTime": end}),
            "status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no \
             Complete=True condition",
        ),
        (
            json!({"failed": 2}),
            json!({"failed": 1}),
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ),
        (
            json!({"startTime": start}),
            json!({"startTime": end}),
            "status.startTime: Invalid value: \"2026-01-01T00:01:00Z\": field is immutable for unsuspended job once set",
        ),
        (
            json!({}),
            json!({"ready": 1}),
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
        ),
        (
            json!({}),
            json!({"completedIndexes": "0"}),
            "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed \
             completion mode",
        ),
        (
            json!({}),
            json!({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}}),
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
        ),
        (
            json!({}),
            json!({"active": -1}),
            "status.active: Invalid value: -1: must be greater than or equal to 0",
        ),
    ];
    for (old, new, want) in cases {
        let found = check(old, new);
        assert_eq!(found[0], want, "{found:?}");
    }
    let found = check(done, json!({"startTime": start, "succeeded": 1}));
    assert_eq!(
        found,
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
}
