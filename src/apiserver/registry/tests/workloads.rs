//! The workload kinds through the whole API: what is made of them, what is refused and in which words.

use api::kinds::{
    COMPONENT_STATUS, CONTROLLER_REVISION, CRON_JOB, DAEMON_SET, DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER,
    HORIZONTAL_POD_AUTOSCALER_V1, JOB, POD_DISRUPTION_BUDGET, POD_TEMPLATE, REPLICATION_CONTROLLER,
    STATEFUL_SET,
};
use api::{
    ApiError, CreateOptions, DeleteOptions, FieldSelector, KindRow, ListOptions, Patch, UpdateOptions,
};
use serde_json::{Value, json};

use super::{HERE, at};
use crate::testing::{Harness, deployment};

/// `field: message` of each cause.
fn causes(error: &ApiError) -> Vec<String> {
    let details = error.status().details.as_ref().and_then(|details| details.causes.clone());
    let cause = |cause: k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause| {
        format!("{}: {}", cause.field.unwrap_or_default(), cause.message.unwrap_or_default())
    };
    details.unwrap_or_default().into_iter().map(cause).collect()
}

async fn refused(h: &Harness, row: &KindRow, body: Value) -> Vec<String> {
    causes(&h.api.create(row, HERE, body, &CreateOptions::default()).await.unwrap_err())
}

async fn patched(h: &Harness, row: &KindRow, sub: Option<&str>, patch: Value) -> Result<Value, ApiError> {
    let target = match sub {
        Some(sub) => at("a").sub(sub),
        None => at("a"),
    };
    let object = h.api.patch(row, target, Patch::merge(patch), &UpdateOptions::default()).await?;
    Ok(object.tree().unwrap())
}

fn workload(extra: Value) -> Value {
    let mut body = json!({"metadata": {"name": "a"}, "spec": deployment("a")["spec"]});
    body["spec"].as_object_mut().unwrap().remove("replicas");
    body["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn stateful_sets() {
    let h = Harness::start().await;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mut body = workload(json!({"serviceName": "svc", "volumeClaimTemplates": claims,
        "updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}));
    body["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/d"}]);
    let made = h.create(&STATEFUL_SET, HERE, body.clone()).await.tree().unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["podManagementPolicy"], "OrderedReady");
    // How many may be missing at once is a feature that is off.
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    assert_eq!(made["spec"]["updateStrategy"], strategy);
    let retention = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    assert_eq!(made["spec"]["persistentVolumeClaimRetentionPolicy"], retention);

    let changed = patched(&h, &STATEFUL_SET, None, json!({"spec": {"replicas": 3}})).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    let error =
        patched(&h, &STATEFUL_SET, None, json!({"spec": {"serviceName": "other"}})).await.unwrap_err();
    assert_eq!(
        error.message(),
        "StatefulSet.apps \"a\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than \
         'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', \
         'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    );
    let scale = patched(&h, &STATEFUL_SET, Some("scale"), json!({"spec": {"replicas": 5}})).await.unwrap();
    assert_eq!((&scale["kind"], &scale["status"]["selector"]), (&json!("Scale"), &json!("app=a")));
    let status = json!({"status": {"replicas": 1, "readyReplicas": 2, "collisionCount": 1}});
    let error = patched(&h, &STATEFUL_SET, Some("status"), status).await.unwrap_err();
    assert_eq!(
        causes(&error),
        ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
    );

    for (extra, want) in [
        (
            json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"MaxUnavailable\":null,\"Partition\":1}: only allowed for \
             updateStrategy 'RollingUpdate'",
        ),
        (
            json!({"podManagementPolicy": "Odd"}),
            "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {
                "resources": {"requests": {"storage": "1Gi"}}}}]}),
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (
            json!({"ordinals": {"start": -1}}),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
        ),
    ] {
        assert_eq!(refused(&h, &STATEFUL_SET, workload(extra)).await, [want]);
    }
    let mut dotted = workload(json!({}));
    dotted["metadata"]["name"] = json!("a.b");
    assert_eq!(
        refused(&h, &STATEFUL_SET, dotted).await,
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
    h.stop().await;
}

#[tokio::test]
async fn daemon_sets_count_their_templates() {
    let h = Harness::start().await;
    let generation = |tree: &Value| {
        let counted = tree["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
        (tree["metadata"]["generation"].as_i64().unwrap(), counted)
    };
    let made = h.create(&DAEMON_SET, HERE, workload(json!({}))).await.tree().unwrap();
    assert_eq!(generation(&made), (1, json!("1")));
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    assert_eq!(made["spec"]["updateStrategy"], strategy);
    let changed = patched(&h, &DAEMON_SET, None, json!({"spec": {"minReadySeconds": 5}})).await.unwrap();
    assert_eq!(generation(&changed), (2, json!("1")));
    let annotations = json!({"deprecated.daemonset.template.generation": "9"});
    let patch = json!({"metadata": {"annotations": annotations},
        "spec": {"template": {"metadata": {"labels": {"app": "a", "b": "c"}}}}});
    let changed = patched(&h, &DAEMON_SET, None, patch).await.unwrap();
    assert_eq!(generation(&changed), (3, json!("2")));
    let error =
        patched(&h, &DAEMON_SET, None, json!({"spec": {"selector": {"matchLabels": {"b": "c"}}}})).await;
    let error = error.unwrap_err();
    assert!(
        error.message().contains("spec.selector: Invalid value: ") && error.blames("spec.selector"),
        "{error}"
    );
    assert!(error.message().contains("field is immutable"), "{error}");
    let update = |update: Value| workload(json!({"updateStrategy": {"rollingUpdate": update}}));
    assert_eq!(
        refused(&h, &DAEMON_SET, update(json!({"maxUnavailable": 0}))).await,
        ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
    );
    assert_eq!(
        refused(&h, &DAEMON_SET, update(json!({"maxSurge": "10%"}))).await,
        [
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is \
          non-zero"
        ]
    );
    let error =
        patched(&h, &DAEMON_SET, Some("status"), json!({"status": {"numberReady": -1}})).await.unwrap_err();
    assert_eq!(causes(&error), ["status.numberReady: Invalid value: -1: must be greater than or equal to 0"]);
    h.stop().await;
}

#[tokio::test]
async fn templates_are_checked_under_upstreams_paths() {
    let h = Harness::start().await;
    let mut body = workload(json!({}));
    body["spec"]["template"]["metadata"] = json!({"labels": {"app": "a", "x": "not a label"},
        "annotations": {"not a key": ""}});
    body["spec"]["template"]["spec"]["activeDeadlineSeconds"] = json!(5);
    let fields: Vec<String> = refused(&h, &DAEMON_SET, body)
        .await
        .iter()
        .map(|cause| cause.split(": ").next().unwrap().to_string())
        .collect();
    assert_eq!(
        fields,
        ["spec.template.labels", "spec.template.annotations", "spec.template.spec.activeDeadlineSeconds"]
    );
    // A template that is left out is an empty one.
    let mut body = workload(json!({}));
    body["spec"].as_object_mut().unwrap().remove("template");
    assert_eq!(
        refused(&h, &STATEFUL_SET, body).await,
        [
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value",
        ]
    );
    h.stop().await;
}

#[tokio::test]
async fn revisions_and_templates_as_objects() {
    let h = Harness::start().await;
    let revision = |data: Value| json!({"metadata": {"name": "a"}, "revision": 1, "data": data});
    let made =
        h.create(&CONTROLLER_REVISION, HERE, revision(json!({"spec": {"x": 1}}))).await.tree().unwrap();
    assert!(made["metadata"].get("generation").is_none());
    let error =
        patched(&h, &CONTROLLER_REVISION, None, json!({"data": {"spec": {"x": 2}}})).await.unwrap_err();
    assert_eq!(causes(&error), ["data: Invalid value: {\"spec\":{\"x\":2}}: field is immutable"]);
    patched(&h, &CONTROLLER_REVISION, None, json!({"revision": 2})).await.unwrap();
    let body = json!({"metadata": {"name": "b"}, "revision": -1});
    assert_eq!(
        refused(&h, &CONTROLLER_REVISION, body).await,
        [
            "revision: Invalid value: -1: must be greater than or equal to 0",
            "data: Required value: data is mandatory"
        ]
    );

    let template = deployment("a")["spec"]["template"].clone();
    let body = json!({"metadata": {"name": "a"}, "template": template});
    let made = h.create(&POD_TEMPLATE, HERE, body).await.tree().unwrap();
    assert_eq!(
        (&made["metadata"]["generation"], &made["template"]["spec"]["dnsPolicy"]),
        (&json!(1), &json!("ClusterFirst"))
    );
    assert_eq!(
        refused(&h, &POD_TEMPLATE, json!({"metadata": {"name": "b"}})).await,
        ["template.spec.containers: Required value"]
    );
    h.stop().await;
}

#[tokio::test]
async fn replication_controllers_take_labels_from_their_template() {
    let h = Harness::start().await;
    let template = deployment("a")["spec"]["template"].clone();
    let body = json!({"metadata": {"name": "a"}, "spec": {"template": template}});
    let made = h.create(&REPLICATION_CONTROLLER, HERE, body).await.tree().unwrap();
    let labels = json!({"app": "a"});
    assert_eq!((&made["spec"]["selector"], &made["metadata"]["labels"]), (&labels, &labels));
    assert_eq!((&made["spec"]["replicas"], &made["metadata"]["generation"]), (&json!(1), &json!(1)));
    let scale = patched(&h, &REPLICATION_CONTROLLER, Some("scale"), json!({"spec": {"replicas": 2}})).await;
    assert_eq!(scale.unwrap()["status"]["selector"], "app=a");
    assert_eq!(
        refused(&h, &REPLICATION_CONTROLLER, json!({"metadata": {"name": "b"}})).await,
        ["spec.selector: Required value", "spec.template: Required value"]
    );
    let fields =
        |text: &str| ListOptions { fields: FieldSelector::parse(text).unwrap(), ..ListOptions::default() };
    assert_eq!(h.names(&REPLICATION_CONTROLLER, &fields("status.replicas=0")).await, ["a"]);
    assert_eq!(h.names(&REPLICATION_CONTROLLER, &fields("status.replicas=1")).await, [""; 0]);
    // Older than the garbage collector: what it owns stays unless somebody says otherwise.
    let marked = h.delete(&REPLICATION_CONTROLLER, HERE, "a").await.unwrap();
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    h.stop().await;
}

fn job_template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn jobs_get_their_selector_and_their_status_is_selected_by() {
    let h = Harness::start().await;
    let body = json!({"metadata": {"name": "a"}, "spec": {"template": job_template()}});
    let made = h.create(&JOB, HERE, body).await.tree().unwrap();
    let uid = &made["metadata"]["uid"];
    assert_eq!(made["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], *uid);
    assert_eq!(made["spec"]["template"]["metadata"]["labels"]["job-name"], "a");
    assert_eq!((&made["spec"]["backoffLimit"], &made["metadata"]["generation"]), (&json!(6), &json!(1)));
    let fields =
        |text: &str| ListOptions { fields: FieldSelector::parse(text).unwrap(), ..ListOptions::default() };
    assert_eq!(h.names(&JOB, &fields("status.successful=0")).await, ["a"]);
    let status = json!({"status": {"succeeded": 2, "startTime": "2026-01-01T00:00:00Z"}});
    patched(&h, &JOB, Some("status"), status).await.unwrap();
    assert_eq!(h.names(&JOB, &fields("status.successful=2")).await, ["a"]);
    assert_eq!(h.names(&JOB, &fields("status.successful!=2")).await, [""; 0]);
    let background = DeleteOptions {
        propagation_policy: Some(api::PropagationPolicy::Background),
        ..DeleteOptions::default()
    };
    let marked = h.delete(&JOB, HERE, "a").await.unwrap();
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    h.api.delete(&JOB, at("a"), &background).await.unwrap();
    assert!(h.get(&JOB, HERE, "a").await.unwrap_err().is_not_found());
    h.stop().await;
}

#[tokio::test]
async fn cron_jobs_know_schedules_and_time_zones() {
    let h = Harness::start().await;
    let cron = |extra: Value| {
        let mut body = json!({"metadata": {"name": "a"},
            "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": job_template()}}}});
        body["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let made = h.create(&CRON_JOB, HERE, cron(json!({"timeZone": "Europe/Rome"}))).await.tree().unwrap();
    assert_eq!(made["spec"]["concurrencyPolicy"], "Allow");
    assert!(made["spec"]["jobTemplate"]["spec"].get("selector").is_none());
    for (extra, want) in [
        (json!({"schedule": ""}), "spec.schedule: Required value"),
        (
            json!({"schedule": "error"}),
            "spec.schedule: Invalid value: \"error\": expected exactly 5 fields, found 1: [error]",
        ),
        (
            json!({"schedule": "TZ=UTC 0 * * * *"}),
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field \
             instead",
        ),
        (
            json!({"timeZone": ""}),
            "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string",
        ),
        (
            json!({"timeZone": "Asia/../Rome"}),
            "spec.timeZone: Invalid value: \"Asia/../Rome\": unknown time zone Asia/../Rome",
        ),
        (
            json!({"timeZone": "Continent/Zone"}),
            "spec.timeZone: Invalid value: \"Continent/Zone\": unknown time zone Continent/Zone",
        ),
        (
            json!({"timeZone": "Local"}),
            "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
             https://www.iana.org/time-zones",
        ),
        (
            json!({"concurrencyPolicy": "Odd"}),
            "spec.concurrencyPolicy: Unsupported value: \"Odd\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ),
        (
            json!({"jobTemplate": {"spec": {"manualSelector": true, "template": job_template()}}}),
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ),
    ] {
        assert_eq!(refused(&h, &CRON_JOB, cron(extra.clone())).await, [want], "{extra}");
    }
    let mut long = cron(json!({}));
    long["metadata"]["name"] = json!("a".repeat(53));
    assert!(refused(&h, &CRON_JOB, long).await[0].ends_with("must be no more than 52 characters"));
    h.stop().await;
}

#[tokio::test]
async fn disruption_budgets() {
    let h = Harness::start().await;
    let body = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    h.create(&POD_DISRUPTION_BUDGET, HERE, body(json!({"minAvailable": "50%"}))).await;
    assert_eq!(
        refused(&h, &POD_DISRUPTION_BUDGET, body(json!({"maxUnavailable": "101%"}))).await,
        ["spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"]
    );
    let found =
        refused(&h, &POD_DISRUPTION_BUDGET, body(json!({"minAvailable": 1, "maxUnavailable": 1}))).await;
    assert!(found[0].ends_with("minAvailable and maxUnavailable cannot be both set"), "{found:?}");
    assert_eq!(
        refused(&h, &POD_DISRUPTION_BUDGET, body(json!({"unhealthyPodEvictionPolicy": "Odd"}))).await,
        ["spec.unhealthyPodEvictionPolicy: Unsupported value: \"Odd\": supported values: \"AlwaysAllow\", \
          \"IfHealthyBudget\""]
    );
    let unversioned = h
        .api
        .update(&POD_DISRUPTION_BUDGET, at("a"), body(json!({"minAvailable": 1})), &UpdateOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        causes(&unversioned),
        ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"]
    );
    let condition = json!({"type": "DisruptionAllowed", "status": "Odd", "reason": "no reason",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"disruptionsAllowed": -1, "conditions": [condition]}});
    let error = patched(&h, &POD_DISRUPTION_BUDGET, Some("status"), status).await.unwrap_err();
    let found = causes(&error);
    assert_eq!(
        found[0],
        "status.conditions[0].status: Unsupported value: \"Odd\": supported values: \"False\", \"True\", \"Unknown\""
    );
    assert!(
        found[1].starts_with(
            "status.conditions[0].reason: Invalid value: \"no reason\": a condition reason must"
        )
    );
    assert_eq!(found[2], "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0");
    h.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_gets_through_whatever_else_is_written() {
    let h = Harness::start().await;
    h.create(&DEPLOYMENT, HERE, deployment("a")).await;
    let mut writes = tokio::task::JoinSet::new();
    let mut write = |sub: Option<&'static str>, patch: Value| {
        let api = h.api.clone();
        writes.spawn(async move {
            let target = sub.map_or(at("a"), |sub| at("a").sub(sub));
            api.patch(&DEPLOYMENT, target, Patch::merge(patch), &UpdateOptions::default()).await
        });
    };
    for n in 1..=200 {
        write(None, json!({"metadata": {"labels": {"n": n.to_string()}}}));
        write(Some("scale"), json!({"spec": {"replicas": n}}));
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
    h.stop().await;
}

#[tokio::test]
async fn autoscalers_are_one_kind_in_two_versions() {
    let h = Harness::start().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let body = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}});
    let made = h.create(&HORIZONTAL_POD_AUTOSCALER_V1, HERE, body).await.tree().unwrap();
    assert_eq!(
        (&made["apiVersion"], &made["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(80))
    );
    assert!(made["metadata"].get("generation").is_none());
    let metrics = json!([{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]);
    let changed =
        patched(&h, &HORIZONTAL_POD_AUTOSCALER, None, json!({"spec": {"metrics": metrics}})).await.unwrap();
    assert_eq!(changed["apiVersion"], "autoscaling/v2");
    let status = json!({"status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale",
        "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    patched(&h, &HORIZONTAL_POD_AUTOSCALER, Some("status"), status).await.unwrap();
    // A client of v1 changes what it knows, and the rest stays, also what it writes over of the status.
    let v1 = h.get(&HORIZONTAL_POD_AUTOSCALER_V1, HERE, "a").await.unwrap();
    assert!(v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_string(), "{v1}");
    let conditions = json!({"autoscaling.alpha.kubernetes.io/conditions": "[]"});
    let patch = json!({"metadata": {"annotations": conditions}, "spec": {"maxReplicas": 9}});
    patched(&h, &HORIZONTAL_POD_AUTOSCALER_V1, None, patch).await.unwrap();
    let v2 = h.get(&HORIZONTAL_POD_AUTOSCALER, HERE, "a").await.unwrap();
    assert_eq!((&v2["spec"]["metrics"], &v2["spec"]["maxReplicas"]), (&metrics, &json!(9)));
    assert_eq!(v2["status"]["conditions"][0]["type"], "AbleToScale");
    assert!(v2["metadata"].get("annotations").is_none(), "{v2}");
    let body = json!({"metadata": {"name": "b"}, "spec": {"maxReplicas": 0, "minReplicas": 0,
        "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
    assert_eq!(
        refused(&h, &HORIZONTAL_POD_AUTOSCALER_V1, body).await,
        [
            "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
            "spec.maxReplicas: Required value: must be set and greater than 0",
            "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group",
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero \
             replicas",
        ]
    );
    h.stop().await;
}

#[tokio::test]
async fn component_statuses_are_looked_at_when_they_are_read() {
    let h = Harness::start().await;
    let list = h.api.list(&COMPONENT_STATUS, None, &ListOptions::default()).await.unwrap();
    let names: Vec<&str> = list.items.iter().map(|object| object.name()).collect();
    assert_eq!(names, ["controller-manager", "scheduler", "etcd-0"]);
    let condition = |tree: Value| {
        let condition = tree["conditions"][0].clone();
        (
            condition["status"].as_str().unwrap().to_string(),
            condition["error"].as_str().unwrap_or("").to_string(),
        )
    };
    let store = h.get(&COMPONENT_STATUS, None, "etcd-0").await.unwrap();
    assert_eq!(condition(store), ("True".into(), String::new()));
    let scheduler = h.get(&COMPONENT_STATUS, None, "scheduler").await.unwrap();
    assert_eq!(
        condition(scheduler),
        ("False".into(), "nobody holds the lease kube-system/kube-scheduler".into())
    );
    let lease = json!({"metadata": {"name": "kube-scheduler"}, "spec": {"holderIdentity": "me",
        "leaseDurationSeconds": 15, "renewTime": jiff::Timestamp::now().to_string()}});
    h.create(&api::kinds::LEASE, Some("kube-system"), lease).await;
    let scheduler = h.get(&COMPONENT_STATUS, None, "scheduler").await.unwrap();
    assert_eq!(condition(scheduler).0, "True");
    assert!(h.get(&COMPONENT_STATUS, None, "none").await.unwrap_err().is_not_found());
    h.stop().await;
}
