//! Faults of pods in upstream's words, and what updates may change.

mod systems;
mod variables;

use serde_json::{Value, json};

use super::*;

fn full(spec: Value) -> Value {
    let mut tree = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    tree["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    api::schema::apply_defaults(&api::kinds::POD, &mut tree);
    tree
}

fn container(extra: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"containers": [container]})
}

fn faults(spec: Value) -> Vec<String> {
    validate(&full(spec)).iter().map(ToString::to_string).collect()
}

#[test]
fn faults_of_pods() {
    assert_eq!(faults(json!({})), [""; 0]);
    let cases = [
        (json!({"containers": []}), "spec.containers: Required value"),
        (
            json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
            "spec.containers[1].name: Duplicate value: \"a\"",
        ),
        (json!({"containers": [{"name": "a"}]}), "spec.containers[0].image: Required value"),
        (json!({"containers": [{"image": "i"}]}), "spec.containers[0].name: Required value"),
        (
            json!({"containers": [{"name": "a", "image": " i"}]}),
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}),
            "spec.tolerations[0].operator: Invalid value: {\"key\":\"a\",\"operator\":\"Exists\",\"value\":\"b\"}: value must be empty when `operator` is 'Exists'",
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {}}]}),
            "spec.volumes[0].secret.secretName: Required value",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (json!({"volumes": [{"name": "v"}, {"name": "v"}]}), "spec.volumes[1].name: Duplicate value: \"v\""),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}}}]}),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
    ];
    for (spec, want) in cases {
        assert_eq!(faults(spec.clone()), [want], "{spec}");
    }
}

#[test]
fn faults_of_containers() {
    let at = "spec.containers[0]";
    let cases = [
        (json!({"ports": [{"containerPort": 0}]}), "ports[0].containerPort: Required value"),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            "ports[1].name: Duplicate value: \"a\"",
        ),
        (json!({"env": [{"value": "x"}]}), "env[0].name: Required value"),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            "env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.x\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}]}),
            "volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"imagePullPolicy": "Maybe"}),
            "imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (json!({"livenessProbe": {}}), "livenessProbe: Required value: must specify a handler type"),
        (
            json!({"livenessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2}}),
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"readinessProbe": {"tcpSocket": {"port": 80}, "exec": {"command": ["x"]}}}),
            "readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"resources": {"limits": {"memory": "-1"}, "requests": {"memory": "-1"}}}),
            "resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            json!({"resources": {"limits": {"ram": "1"}, "requests": {"cpu": "1"}}}),
            "resources.limits[ram]: Invalid value: \"ram\": must be a standard resource for containers",
        ),
        (
            json!({"resources": {"requests": {"example.com/gpu": "1"}}}),
            "resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
    ];
    for (extra, want) in cases {
        let want = format!("{at}.{want}");
        let found = faults(container(extra.clone()));
        assert_eq!(found.first(), Some(&want), "{extra}: {found:?}");
    }
}

fn update(change: impl Fn(&mut Value)) -> Vec<String> {
    let old =
        full(json!({"activeDeadlineSeconds": 100, "tolerations": [{"key": "a", "operator": "Exists"}]}));
    let mut new = old.clone();
    change(&mut new);
    update::validate(&new, &old).iter().map(ToString::to_string).collect()
}

#[test]
fn little_of_a_pod_may_change() {
    assert_eq!(update(|_| {}), [""; 0]);
    assert_eq!(update(|new| new["spec"]["containers"][0]["image"] = json!("j")), [""; 0]);
    assert_eq!(update(|new| new["spec"]["activeDeadlineSeconds"] = json!(50)), [""; 0]);
    assert_eq!(
        update(|new| new["spec"]["tolerations"].as_array_mut().unwrap().push(json!({"operator": "Exists"}))),
        [""; 0]
    );
    assert_eq!(
        update(|new| new["spec"]["activeDeadlineSeconds"] = json!(101)),
        ["spec.activeDeadlineSeconds: Invalid value: 101: must be less than or equal to previous value"]
    );
    assert_eq!(
        update(|new| new["spec"]["tolerations"] = json!([])),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    assert_eq!(
        update(|new| new["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "x"}))),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let forbidden = update(|new| new["spec"]["nodeName"] = json!("n"));
    assert_eq!(forbidden.len(), 1);
    assert!(forbidden[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"), "{forbidden:?}");
    assert!(forbidden[0].ends_with("\n+ spec.nodeName: \"n\""), "{forbidden:?}");
}

#[test]
fn ended_containers_stay_ended() {
    let tree = |policy: &str, state: Value| {
        json!({"spec": {"restartPolicy": policy},
        "status": {"containerStatuses": [{"name": "c", "state": state}]}})
    };
    let ended = json!({"terminated": {"exitCode": 0}});
    let check = |policy: &str, was: Value, is: Value| {
        update::validate_status(&tree(policy, is), &tree(policy, was)).len()
    };
    let running = json!({"running": {}});
    assert_eq!(check("Never", ended.clone(), running.clone()), 1);
    assert_eq!(check("OnFailure", ended.clone(), running.clone()), 1);
    assert_eq!(check("OnFailure", json!({"terminated": {"exitCode": 1}}), running.clone()), 0);
    assert_eq!(check("Always", ended.clone(), running.clone()), 0);
    assert_eq!(check("Never", running, ended), 0);
}

#[test]
fn gated_pods_wait_visibly() {
    let status = first_status(&full(json!({"schedulingGates": [{"name": "example.com/a"}]})));
    assert_eq!(status["conditions"][0]["reason"], "SchedulingGated");
    let limits = json!({"cpu": "1", "memory": "1Gi"});
    let guaranteed = full(container(json!({"resources": {"limits": limits}})));
    assert_eq!(guaranteed["spec"]["containers"][0]["resources"]["requests"], limits);
    assert_eq!(first_status(&guaranteed)["qosClass"], "Guaranteed");
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let tree = json!({"metadata": {"name": "a.b"}, "spec": {"containers": [{
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A):3"}],
        "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"},
            {"containerPort": 80, "protocol": "TCP"}],
    }]}});
    let mut found = Vec::new();
    warnings::name(&tree, "the Pod's hostname", &mut found);
    warnings::spec(&tree["spec"], "spec", &mut found);
    assert_eq!(
        found,
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]",
        ]
    );
}

/// Names that are looked for among all others take minutes in this form, and seconds in the released one.
#[test]
fn a_pod_of_many_names_is_checked_at_once() {
    let names: Vec<String> = (0..15_000).map(|n| format!("v{n}")).collect();
    let volumes: Vec<Value> = names.iter().map(|name| json!({"name": name, "emptyDir": {}})).collect();
    let mounts: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect();
    let ports: Vec<Value> = names.iter().map(|name| json!({"name": name, "containerPort": 1})).collect();
    let env: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": "x"})).collect();
    let one = json!({"volumeMounts": mounts, "ports": ports, "env": env});
    let mut spec = container(one);
    spec["volumes"] = json!(volumes);
    spec["imagePullSecrets"] = json!(names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>());
    let tree = full(spec);
    let start = std::time::Instant::now();
    assert!(validate(&tree).is_empty());
    let mut warned = Vec::new();
    warnings::spec(&tree["spec"], "spec", &mut warned);
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
}

/// A hundred faults say enough, however many there are and whatever they are about.
#[test]
fn faults_of_one_pod_are_a_hundred() {
    let volumes: Vec<Value> = (0..5_000).map(|_| json!({"name": "-".repeat(5_000)})).collect();
    let found = validate(&full(json!({"volumes": volumes})));
    assert!(found.len() > 5_000, "all are counted");
    let error = ApiError::invalid(&api::kinds::POD, "p", found);
    assert_eq!(error.status().details.clone().unwrap().causes.unwrap().len(), 100);
    assert!(error.message().len() < 1_000_000, "{}", error.message().len());
}

#[test]
fn security_contexts_ask_for_what_there_is() {
    let at = "spec.securityContext";
    let types = "supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"";
    let pattern = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let cases = [
        (
            json!({"seccompProfile": {"type": "Localhost"}}),
            "seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost".into(),
        ),
        (
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "/etc/x"}}),
            "seccompProfile.localhostProfile: Invalid value: \"/etc/x\": must be a relative path".into(),
        ),
        (
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/../../x"}}),
            "seccompProfile.localhostProfile: Invalid value: \"a/../../x\": must not contain '..'".into(),
        ),
        (
            json!({"seccompProfile": {"type": "Off"}}),
            format!("seccompProfile.type: Unsupported value: \"Off\": {types}"),
        ),
        (
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}}),
            "appArmorProfile.localhostProfile: Invalid value: \" x\": must not be padded with whitespace".into(),
        ),
        (
            json!({"appArmorProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}}),
            "appArmorProfile.localhostProfile: Invalid value: \"x\": can only be set when AppArmor type is Localhost"
                .into(),
        ),
        (
            json!({"appArmorProfile": {"type": "Some"}}),
            format!("appArmorProfile.type: Unsupported value: \"Some\": {types}"),
        ),
        (
            json!({"sysctls": [{"name": "kernel..x", "value": "1"}]}),
            format!(
                "sysctls[0].name: Invalid value: \"kernel..x\": must have at most 253 characters and match regex {pattern}"
            ),
        ),
        (
            json!({"sysctls": [{"name": "net.a", "value": "1"}, {"name": "net.a", "value": "2"}]}),
            "sysctls[1].name: Duplicate value: \"net.a\"".into(),
        ),
        (
            json!({"seLinuxChangePolicy": "Never"}),
            "seLinuxChangePolicy: Unsupported value: \"Never\": supported values: \"MountOption\", \"Recursive\"".into(),
        ),
        (
            json!({"fsGroupChangePolicy": "Never"}),
            "fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"".into(),
        ),
    ];
    for (context, want) in cases {
        assert_eq!(faults(json!({"securityContext": context})), [format!("{at}.{want}")], "{context}");
    }
    for (shared, name) in [("hostNetwork", "net/ipv4/ip_forward"), ("hostIPC", "kernel.shmmax")] {
        let sysctls = json!({"sysctls": [{"name": name, "value": "1"}]});
        assert_eq!(faults(json!({"securityContext": sysctls})), [""; 0]);
        let want = format!(
            "{at}.sysctls[0].name: Invalid value: {name:?}: may not be specified when '{shared}' is true"
        );
        assert_eq!(faults(json!({"securityContext": sysctls, shared: true})), [want]);
    }
    let good = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/a.json"},
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "k8s-a"}});
    assert_eq!(faults(json!({"securityContext": good})), [""; 0]);
    let unmasked = container(json!({"securityContext": {"procMount": "Unmasked"}}));
    assert_eq!(
        faults(unmasked),
        [
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
        ]
    );
}

#[test]
fn app_armor_annotations_become_fields_and_stay() {
    let key = "container.apparmor.security.beta.kubernetes.io/c";
    let mut tree = full(json!({}));
    tree["metadata"]["annotations"] = json!({key: "localhost/k8s-a"});
    annotations::to_fields(&mut tree);
    let field = &tree["spec"]["containers"][0]["securityContext"]["appArmorProfile"];
    assert_eq!(*field, json!({"type": "Localhost", "localhostProfile": "k8s-a"}));
    let texts = |faults: Faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let check = |tree: &Value| {
        let mut faults = Faults::new();
        super::validate_annotations(tree, &mut faults);
        annotations::validate_match(tree, &Path::new("spec"), &mut faults);
        texts(faults)
    };
    assert_eq!(check(&tree), [""; 0]);
    let mut other = tree.clone();
    other["metadata"]["annotations"][key] = json!("unconfined");
    let at = "spec.containers[0].securityContext.appArmorProfile";
    assert_eq!(
        check(&other),
        [format!("{at}.type: Forbidden: apparmor type in annotation and field must match")]
    );
    let mut faults = Faults::new();
    annotations::validate_change(&other, &tree, &mut faults);
    assert_eq!(
        texts(faults),
        [format!("metadata.annotations[{key}]: Forbidden: may not remove or update AppArmor annotations")]
    );
}

fn resized(old: &Value, change: impl Fn(&mut Value)) -> (Value, Vec<String>) {
    let mut new = old.clone();
    change(&mut new);
    resize::prepare(&mut new, old);
    let faults = resize::validate(&new, old, validate(&new));
    (new, faults.iter().map(ToString::to_string).collect())
}

#[test]
fn a_resize_changes_cpu_and_memory_and_nothing_else() {
    let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}});
    let old = full(container(json!({"resources": resources})));
    let (new, faults) = resized(&old, |new| {
        let spec = &mut new["spec"];
        spec["containers"][0]["resources"]["requests"]["cpu"] = json!("1500m");
        spec["containers"][0]["image"] = json!("evil");
        spec["containers"][0]["securityContext"] = json!({"privileged": true});
        spec["volumes"] = json!([{"name": "h", "hostPath": {"path": "/"}}]);
        spec["nodeName"] = json!("n");
        spec["hostPID"] = json!(true);
        new["metadata"]["labels"] = json!({"a": "b"});
        new["metadata"]["annotations"] = json!({"a": "b"});
        new["metadata"]["ownerReferences"] = json!([{"name": "x"}]);
        new["status"] = json!({"phase": "Failed"});
    });
    assert_eq!(faults, [""; 0]);
    let mut want = old.clone();
    want["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1500m");
    assert_eq!(new, want);

    let refused = |change: &dyn Fn(&mut Value)| resized(&old, change).1;
    let list = |new: &mut Value| new["spec"]["containers"].as_array_mut().unwrap().clone();
    assert_eq!(
        refused(&|new| {
            let mut two = list(new);
            two.push(json!({"name": "d", "image": "i", "imagePullPolicy": "Always"}));
            new["spec"]["containers"] = json!(two);
        }),
        ["spec.containers: Forbidden: containers may not be added or removed on resize"]
    );
    assert_eq!(
        refused(&|new| new["spec"]["containers"][0]["name"] = json!("d")),
        ["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"]
    );
    assert_eq!(
        refused(&|new| {
            new["spec"]["containers"][0]["resources"]["requests"].as_object_mut().unwrap().remove("memory");
        }),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        refused(
            &|new| new["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"] = json!("1Gi")
        ),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    assert_eq!(
        refused(&|new| {
            new["spec"]["containers"][0]["resources"] =
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        }),
        ["spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing"]
    );
    let mut running = old.clone();
    running["status"] = json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
    assert_eq!(
        resized(&running, |_| {}).1,
        ["spec: Forbidden: Pod running on node without support for resize"]
    );
    let mut mirror = old.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert!(resized(&mirror, |_| {}).1[0].ends_with("static pods cannot be resized"));
}

#[test]
fn a_gated_pods_placement_becomes_narrower_only() {
    let affinity = |expressions: Value| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}})
    };
    let one = json!({"key": "a", "operator": "Exists"});
    let two = json!({"key": "b", "operator": "Exists"});
    let old = full(json!({
        "schedulingGates": [{"name": "example.com/a"}], "nodeSelector": {"a": "b"}, "affinity": affinity(json!([one])),
    }));
    let change = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]);
        update::validate(&new, &old).iter().map(|fault| fault.detail.clone()).collect::<Vec<_>>()
    };
    assert_eq!(change(&|spec| spec["nodeSelector"]["c"] = json!("d")), [""; 0]);
    assert_eq!(change(&|spec| spec["affinity"] = affinity(json!([one, two]))), [""; 0]);
    let only = "only additions are allowed (no mutations or deletions)";
    assert_eq!(change(&|spec| spec["affinity"] = affinity(json!([two]))), [only]);
    assert_eq!(
        change(&|spec| spec["nodeSelector"] = json!({"c": "d"})),
        ["only additions to spec.nodeSelector are allowed (no mutations or deletions)"]
    );
    let pods = json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "a", "labelSelector": {"matchLabels": {"a": "b"}}}]});
    let refused = change(&|spec| spec["affinity"]["podAffinity"] = pods.clone());
    assert!(refused[0].starts_with("pod updates may not change fields other than"), "{refused:?}");
}
