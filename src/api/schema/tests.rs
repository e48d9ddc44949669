//! The table is complete and consistent; checking, defaulting and decoding do what upstream does.

use serde_json::{Value, json};

use super::*;
use crate::kinds;
use crate::{FieldValidation, KindRow};

fn strict(row: &KindRow, tree: serde_json::Value) -> String {
    let mut tree = tree;
    check(row, &mut tree, FieldValidation::Strict).unwrap_err().message().to_string()
}

fn checked(row: &KindRow, tree: serde_json::Value) -> serde_json::Value {
    let mut tree = tree;
    check(row, &mut tree, FieldValidation::Strict).unwrap();
    tree
}

#[test]
fn every_line_of_the_table_is_understood() {
    let (types, fields) = table::counts();
    assert!(types > 700, "{types}");
    assert_eq!(all().count(), types);
    assert_eq!(all().map(|ty| ty.fields().len()).sum::<usize>(), fields);
    for ty in all() {
        for pair in ty.fields().windows(2) {
            assert!(pair[0].name < pair[1].name, "{ty:?}: {} comes twice", pair[0].name);
        }
        let mut numbers: Vec<u16> =
            ty.fields().iter().map(|field| field.number).filter(|one| *one > 0).collect();
        numbers.extend(ty.inline().iter().map(|(number, _)| *number));
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{ty:?}: a number comes twice");
        for (_, inline) in ty.inline() {
            for field in inline.fields() {
                assert!(ty.field(field.name).is_some(), "{ty:?} lacks {} of {inline:?}", field.name);
            }
        }
        assert_eq!(by_name(&ty.name()), Some(ty));
    }
}

#[test]
fn every_kind_has_schema_and_message() {
    for row in kinds::ALL {
        let ty = for_kind(row).unwrap_or_else(|| panic!("{} has no schema", row.kind));
        let own = ty.fields().iter().filter(|field| !matches!(field.name, "apiVersion" | "kind"));
        let inlined = |name: &str| ty.inline().iter().any(|(_, inline)| inline.field(name).is_some());
        for field in own {
            assert!(field.number > 0 || inlined(field.name), "{ty:?}.{} is not in protobuf", field.name);
        }
        if row.allows("list") {
            let list = for_gvk(&row.group, &row.version, &row.list_kind()).unwrap();
            assert_eq!(list.field("items").unwrap().object(), Some(ty));
        }
        for sub in row.subresources.iter() {
            let group = if sub.version.is_empty() { &row.group } else { &sub.group };
            let version = if sub.version.is_empty() { &row.version } else { &sub.version };
            assert!(for_gvk(group, version, &sub.kind).is_some(), "{}", sub.kind);
        }
    }
    for kind in ["DeleteOptions", "CreateOptions", "PatchOptions", "WatchEvent"] {
        assert!(for_gvk("apps", "v1", kind).is_some(), "{kind}");
    }
    assert!(for_gvk("", "v1", "Status").is_some());
    assert!(for_gvk("apps", "v1", "Nonsense").is_none());
}

#[test]
fn facts_of_fields() {
    let containers = by_name("api.core.v1.PodSpec").unwrap().field("containers").unwrap();
    assert!(containers.required && containers.patch.merge);
    assert_eq!(containers.merge_key(), Some("name"));
    assert_eq!(containers.map_keys(), ["name"]);
    assert_eq!(containers.list_type, Some(ListType::Map));
    assert_eq!(containers.object().unwrap().go_name(), "v1.Container");
    let ports = by_name("api.core.v1.ServiceSpec").unwrap().field("ports").unwrap();
    assert_eq!((ports.merge_key(), ports.map_keys()), (Some("port"), &["port", "protocol"][..]));
    let volumes = by_name("api.core.v1.PodSpec").unwrap().field("volumes").unwrap();
    assert!(volumes.patch.merge && volumes.patch.retain_keys);
    assert!(by_name("api.core.v1.PodSpec").unwrap().field("nodeSelector").unwrap().atomic_map);
    assert!(by_name("api.core.v1.SecretKeySelector").unwrap().atomic());
}

#[test]
fn unknown_fields() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "lables": {}},
        "spec": {"foo": 1, "containers": [{"name": "c", "image": "i", "imagee": "x"}]}});
    let mut tree = pod.clone();
    let warnings = check(&kinds::POD, &mut tree, FieldValidation::Warn).unwrap();
    assert_eq!(
        warnings,
        [
            r#"unknown field "metadata.lables""#,
            r#"unknown field "spec.containers[0].imagee""#,
            r#"unknown field "spec.foo""#
        ]
    );
    assert_eq!(
        tree,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
    );
    assert_eq!(check(&kinds::POD, &mut pod.clone(), FieldValidation::Ignore).unwrap(), Vec::<String>::new());
    assert_eq!(
        strict(&kinds::POD, json!({"spec": {"foo": 1}})),
        r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo""#
    );
}

#[test]
fn wrong_types_have_go_words() {
    let said = |row: &KindRow, tree| {
        let text = strict(row, tree);
        text.split_once("cannot be handled as a ").unwrap().1.split_once(": ").unwrap().1.to_string()
    };
    assert_eq!(
        said(&kinds::DEPLOYMENT, json!({"spec": {"replicas": "3"}})),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        said(&kinds::DEPLOYMENT, json!({"spec": {"replicas": 1.5}})),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        said(&kinds::POD, json!({"spec": {"containers": [{"image": 1}]}})),
        "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"
    );
    assert_eq!(
        said(&kinds::POD, json!({"spec": {"containers": {}}})),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
    );
    assert_eq!(
        said(&kinds::POD, json!({"metadata": {"labels": {"a": 1}}})),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
    assert_eq!(said(&kinds::POD, json!([])), "json: cannot unmarshal array into Go value of type v1.Pod");
    let quantity = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}});
    assert!(said(&kinds::POD, quantity).starts_with("quantities must match the regular expression"));
    assert_eq!(said(&kinds::SECRET, json!({"data": {"a": "?"}})), "illegal base64 data at input byte 0");
}

#[test]
fn values_get_their_canonical_form() {
    let tree = checked(
        &kinds::POD,
        json!({"metadata": {"creationTimestamp": null, "annotations": {}, "deletionTimestamp": "2026-11-21T10:00:00.5+02:00"},
        "spec": {"hostNetwork": false, "nodeName": "", "automountServiceAccountToken": false, "activeDeadlineSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "stdin": false, "args": [], "resources": {"limits": {"cpu": 0.5, "memory": "1024Ki"}},
                "ports": [{"containerPort": 80, "hostPort": 0}], "livenessProbe": {"httpGet": {"port": "web"}}}]}}),
    );
    assert_eq!(
        tree,
        json!({"metadata": {"deletionTimestamp": "2026-11-21T08:00:00Z"},
        "spec": {"automountServiceAccountToken": false, "activeDeadlineSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Mi"}},
                "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "web"}}}]}})
    );
    let lease = checked(
        &kinds::LEASE,
        json!({"spec": {"renewTime": "2026-11-21T10:00:00.5Z", "holderIdentity": ""}}),
    );
    assert_eq!(lease, json!({"spec": {"renewTime": "2026-11-21T10:00:00.500000Z", "holderIdentity": ""}}));
}

#[test]
fn duplicates_are_found() {
    let body = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":"b"},"data":{"x":"1","x":"2"}}"#;
    let (mut tree, duplicates) = decode_json(body).unwrap();
    assert_eq!(tree["metadata"]["name"], "b");
    assert_eq!(duplicates, ["metadata.name", "data.x"]);
    let error =
        check_kind("", "v1", "ConfigMap", &mut tree, &duplicates, FieldValidation::Strict).unwrap_err();
    assert_eq!(error.code(), 400);
    assert_eq!(
        error.message(),
        r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "metadata.name", duplicate field "data.x""#
    );
    let body = br#"{"apiVersion":"v1","kind":"ConfigMap","none":1,"data":{"x":"1","x":"2"}}"#;
    let (mut tree, duplicates) = decode_json(body).unwrap();
    let warned = check_kind("", "v1", "ConfigMap", &mut tree, &duplicates, FieldValidation::Warn).unwrap();
    assert_eq!(warned, [r#"unknown field "none""#, r#"duplicate field "data.x""#]);
    let list = br#"{"spec":{"containers":[{"name":"a"},{"name":"b","name":"c"}]}}"#;
    assert_eq!(decode_json(list).unwrap().1, ["spec.containers[1].name"]);
    let (yaml, duplicates) = decode_yaml(b"metadata:\n  name: a\n  name: b\nmode: 0644\n").unwrap();
    assert_eq!((yaml["metadata"]["name"].as_str(), yaml["mode"].as_i64()), (Some("b"), Some(0o644)));
    assert_eq!(duplicates, ["metadata.name"]);
    assert!(decode_json(b"{\"a\":").unwrap_err().message().contains("unexpected end of JSON input"));
    assert!(decode_json(b"{} x").is_err());
    let deep = "[".repeat(100_000);
    assert!(decode_json(deep.as_bytes()).is_err());
    assert!(decode_yaml(deep.as_bytes()).is_err());
}

/// One long key with thousands of duplicates below it: each path would hold the key again.
#[test]
fn faults_of_a_body_are_a_hundred_and_short() {
    let below: Vec<String> = (0..20_000).map(|n| format!(r#""k{n}":1,"k{n}":2"#)).collect();
    let body = format!(r#"{{"data":{{"{}":{{{}}}}}}}"#, "x".repeat(300_000), below.join(","));
    let (mut tree, duplicates) = decode_json(body.as_bytes()).unwrap();
    assert_eq!(duplicates.len(), 1, "cut to the same text they are the same fault");
    assert!(duplicates[0].len() < 600 && duplicates[0].ends_with("..."), "{}", duplicates[0].len());
    let error = check_kind("", "v1", "ConfigMap", &mut tree, &duplicates, FieldValidation::Warn).unwrap_err();
    assert!(error.message().len() < 1000);

    let many: Vec<String> = (0..20_000).map(|n| format!(r#""u{n}":1,"u{n}":2"#)).collect();
    let (mut tree, duplicates) = decode_json(format!("{{{}}}", many.join(",")).as_bytes()).unwrap();
    assert_eq!(duplicates.len(), 100);
    let warnings = check_kind("", "v1", "ConfigMap", &mut tree, &duplicates, FieldValidation::Warn).unwrap();
    assert_eq!(warnings.len(), 100);
    let warnings = check_kind(
        "",
        "v1",
        "ConfigMap",
        &mut decode_json(format!("{{{}}}", many.join(",")).as_bytes()).unwrap().0,
        &[],
        FieldValidation::Warn,
    )
    .unwrap();
    assert_eq!(warnings.len(), 100);
    assert_eq!(warnings[0], r#"unknown field "u0""#);
}

#[test]
fn what_becomes_large_is_refused() {
    let too_large = |result: Result<(), crate::ApiError>| {
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.reason()), (413, "RequestEntityTooLarge"), "{error}");
        assert!(error.message().contains("bytes of memory"), "{error}");
    };
    let maps = format!("[{}]", vec![r#"{"a":0}"#; 300_000].join(","));
    too_large(decode_json(maps.as_bytes()).map(drop));
    // Ten references to ten references to ten …
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..8 {
        let references = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{references}]\n"));
    }
    let error = decode_yaml(bomb.as_bytes()).unwrap_err();
    assert!(matches!(error.code(), 400 | 413), "{error}");
    // Typed, each of these would take two kilobytes.
    let volumes = vec![json!({}); 100_000];
    let mut pod = json!({"spec": {"volumes": volumes}});
    too_large(check_kind("", "v1", "Pod", &mut pod, &[], FieldValidation::Warn).map(drop));
    let volumes = vec![json!({}); 10_000];
    let mut pod = json!({"spec": {"volumes": volumes}});
    check_kind("", "v1", "Pod", &mut pod, &[], FieldValidation::Warn).unwrap();
}

#[test]
fn weights_are_near_the_sizes_of_types() {
    use k8s_openapi::api::core::v1;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
    let near = |name: &str, size: usize| {
        let weight = super::weight::typed(by_name(name).unwrap());
        assert!(weight * 2 > size && weight < size * 3, "{name}: {weight} for {size}");
    };
    near("api.core.v1.Volume", size_of::<v1::Volume>());
    near("api.core.v1.Container", size_of::<v1::Container>());
    near("api.core.v1.PodSpec", size_of::<v1::PodSpec>());
    near("api.core.v1.EnvVar", size_of::<v1::EnvVar>());
    near("api.core.v1.KeyToPath", size_of::<v1::KeyToPath>());
    near("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", size_of::<JSONSchemaProps>());
}

fn defaulted(row: &KindRow, tree: serde_json::Value) -> serde_json::Value {
    let mut tree = checked(row, tree);
    apply_defaults(row, &mut tree);
    let again = {
        let mut again = checked(row, tree.clone());
        apply_defaults(row, &mut again);
        again
    };
    assert_eq!(tree, again, "checking and defaulting are stable");
    tree
}

#[test]
fn default_tables_name_what_exists() {
    assert_eq!(defaults::unknown_names(), Vec::<String>::new());
}

#[test]
fn a_pod_gets_its_defaults() {
    let pod = defaulted(
        &kinds::POD,
        json!({"metadata": {"name": "p"}, "spec": {"hostNetwork": true, "serviceAccountName": "me",
            "volumes": [{"name": "none"}, {"name": "s", "secret": {"secretName": "x"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "h", "hostPath": {"path": "/x"}}],
            "containers": [{"name": "c", "image": "reg:5000/a/b", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "readinessProbe": {"httpGet": {"port": 80}}}],
            "initContainers": [{"name": "i", "image": "a@sha256:00", "env": [{"name": "N",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}}),
    );
    let spec = &pod["spec"];
    for (field, want) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
        ("serviceAccount", json!("me")),
    ] {
        assert_eq!(spec[field], want, "{field}");
    }
    assert_eq!(spec["volumes"][0], json!({"name": "none", "emptyDir": {}}));
    assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    assert_eq!(spec["volumes"][2]["projected"]["defaultMode"], 420);
    assert_eq!(
        spec["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3600
    );
    assert_eq!(spec["volumes"][3]["hostPath"]["type"], "");
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["terminationMessagePolicy"], "File");
    assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    assert_eq!(container["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
    assert_eq!(
        container["readinessProbe"],
        json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3})
    );
    let init = &spec["initContainers"][0];
    assert_eq!(init["imagePullPolicy"], "IfNotPresent");
    assert_eq!(init["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
}

#[test]
fn pod_level_requests() {
    let pod = defaulted(
        &kinds::POD,
        json!({"spec": {"resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
            "containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "500m"}}},
                {"name": "b", "image": "a:1", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "image": "a:1", "resources": {"requests": {"cpu": "2"}}}]}}),
    );
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "2", "memory": "1Gi"}));
}

#[test]
fn a_template_gets_what_templates_get() {
    let deployment = defaulted(
        &kinds::DEPLOYMENT,
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"hostNetwork": true,
                "containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1"}}}]}}}}),
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}})
    );
    let template = &spec["template"]["spec"];
    assert_eq!(template["restartPolicy"], "Always");
    assert_eq!(template.get("enableServiceLinks"), None, "only a pod's");
    assert_eq!(template["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}), "only a pod's");
    assert_eq!(template["containers"][0]["ports"][0], json!({"containerPort": 80, "protocol": "TCP"}));
    let recreate = defaulted(&kinds::DEPLOYMENT, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn other_kinds_get_their_defaults() {
    let service = defaulted(&kinds::SERVICE, json!({"spec": {"ports": [{"port": 80}]}}));
    assert_eq!(
        service["spec"],
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]})
    );
    let service =
        defaulted(&kinds::SERVICE, json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}}));
    assert_eq!(service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(defaulted(&kinds::SECRET, json!({}))["type"], "Opaque");
    let slice = defaulted(&kinds::ENDPOINT_SLICE, json!({"ports": [{"port": 1}]}));
    assert_eq!(slice["ports"][0], json!({"name": "", "port": 1, "protocol": "TCP"}));
    let binding = defaulted(
        &kinds::ROLE_BINDING,
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "s", "apiGroup": ""}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][1], json!({"kind": "ServiceAccount", "name": "s"}));
    let namespace = defaulted(&kinds::NAMESPACE, json!({"metadata": {"name": "n"}}));
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n"}));
    let node = defaulted(&kinds::NODE, json!({"status": {"capacity": {"cpu": "1999999u"}}}));
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "2"}));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 8, ..Default::default() })]

    /// A number in a field without a schema, such as the data of a ControllerRevision, does not drift from
    /// one write to the next.
    #[test]
    fn a_float_reads_back_as_it_was_written(bits in proptest::collection::vec(proptest::num::f64::NORMAL, 100)) {
        for float in bits {
            let text = format!("{{\"float\":{float:e}}}");
            let (tree, _) = decode_json(text.as_bytes()).unwrap();
            proptest::prop_assert_eq!(tree["float"].as_f64(), Some(float));
            let (again, _) = decode_json(&serde_json::to_vec(&tree).unwrap()).unwrap();
            proptest::prop_assert_eq!(again, tree);
        }
    }

    /// An object that was checked and defaulted stays as it is, for every kind of the release.
    #[test]
    fn a_second_pass_changes_nothing(seed in proptest::num::u64::ANY) {
        let mut dice = random::Dice(seed);
        for ty in all() {
            let Some((group, version, kind)) = ty.kind() else { continue };
            let mut tree = random::random_object(ty, &mut dice, 0);
            check_kind(group, version, kind, &mut tree, &[], FieldValidation::Strict).unwrap();
            apply_type_defaults(ty, &mut tree);
            let mut again = tree.clone();
            let warnings = check_kind(group, version, kind, &mut again, &[], FieldValidation::Warn).unwrap();
            apply_type_defaults(ty, &mut again);
            proptest::prop_assert!(warnings.is_empty(), "{:?}", warnings);
            proptest::prop_assert_eq!(&tree, &again, "{:?}", ty);
        }
    }
}

/// One trait serves both who knows the type and who does not.
#[test]
fn the_schema_of_a_kind_checks_defaults_and_is_walked() {
    let schema: Box<dyn Schema> = Box::new(BuiltIn::of(&kinds::POD));
    let container = json!({ "name": "c", "image": "i", "wrong": 1 });
    let mut tree = json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "containers": [container] } });
    let warnings = schema.check(&mut tree, &[], FieldValidation::Warn).unwrap();
    assert_eq!(warnings, [r#"unknown field "spec.containers[0].wrong""#]);
    schema.default(&mut tree).unwrap();
    assert_eq!(tree["spec"]["restartPolicy"], "Always");
    let containers = schema.root().member("spec").place.member("containers");
    assert_eq!((containers.merge_key, &*containers.map_keys), (Some("name"), &["name"][..]));
    assert!(containers.place.member("ports").merged_list);
    assert!(schema.root().member("status").place.member("nothing").list_type.is_none());

    let unknown = BuiltIn::named("example.com", "v1", "Thing");
    let mut tree = json!({ "anything": 1 });
    assert!(unknown.check(&mut tree, &[], FieldValidation::Strict).unwrap().is_empty());
    unknown.default(&mut tree).unwrap();
    assert_eq!(tree, json!({ "anything": 1 }));
    assert!(matches!(unknown.root(), Place::Unknown));
}

#[test]
fn a_status_that_nobody_has_told_is_as_go_writes_it() {
    let status = |row: &KindRow| for_kind(row).and_then(empty_status).unwrap_or_default();
    assert_eq!(status(&kinds::DEPLOYMENT), json!({}));
    assert_eq!(status(&kinds::INGRESS), json!({"loadBalancer": {}}));
    assert_eq!(status(&kinds::STATEFUL_SET), json!({"replicas": 0}));
    assert_eq!(status(&kinds::CONFIG_MAP), Value::Null);
}
