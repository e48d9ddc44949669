//! The plugins over a whole registry in memory.

mod kinds;
mod optional;

use api::kinds::{
    CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONFIG_MAP, LEASE, NAMESPACE, NODE, POD, ROLE_BINDING,
    SERVICE_ACCOUNT,
};
use api::{ApiError, CreateOptions, DeleteOptions, Identity, KindRow, Patch, UpdateOptions};
use client::{ApiFor, ObjectRef};
use serde_json::{Value, json};

use crate::testing::{Harness, pod};

const HERE: Option<&str> = Some("default");

async fn account(h: &Harness, extra: Value) {
    let mut body = json!({"metadata": {"name": "default"}});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    h.create(&SERVICE_ACCOUNT, HERE, body).await;
}

async fn create_as(
    h: &Harness,
    user: &Identity,
    row: &KindRow,
    namespace: Option<&str>,
    body: Value,
) -> Result<Value, ApiError> {
    let api = h.server.as_user(user.clone());
    let object = api.create(row, namespace, body, &CreateOptions::default()).await?;
    Ok(object.tree().unwrap())
}

/// Binds a user to a cluster role with these rules.
async fn grant(h: &Harness, user: &str, rules: Value) {
    h.create(&CLUSTER_ROLE, None, json!({"metadata": {"name": user}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    h.create(&CLUSTER_ROLE_BINDING, None, binding).await;
}

#[tokio::test]
async fn nothing_is_created_where_no_namespace_is_or_stays() {
    let h = Harness::start().await;
    let body = json!({"metadata": {"name": "a"}});
    let options = CreateOptions::default();
    let missing = h.api.create(&CONFIG_MAP, Some("nowhere"), body.clone(), &options).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (404, "namespaces \"nowhere\" not found"));

    h.create(&NAMESPACE, None, json!({"metadata": {"name": "going"}})).await;
    let marked = h.delete(&NAMESPACE, None, "going").await.unwrap();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = h.api.create(&CONFIG_MAP, Some("going"), body, &options).await.unwrap_err();
    assert_eq!(refused.code(), 403);
    assert!(refused.is_namespace_terminating());
    assert_eq!(
        refused.message(),
        "configmaps \"a\" is forbidden: unable to create new content in namespace going because it is being terminated"
    );
    let immortal = h.delete(&NAMESPACE, None, "kube-system").await.unwrap_err();
    assert_eq!(
        immortal.message(),
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
    h.stop().await;
}

#[tokio::test]
async fn a_namespace_goes_once_its_finalizer_does() {
    let h = Harness::start().await;
    let created = h.create(&NAMESPACE, None, json!({"metadata": {"name": "x"}})).await.tree().unwrap();
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["status"]["phase"], "Active");
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    let mut tree = h.delete(&NAMESPACE, None, "x").await.unwrap();
    // A plain update does not take the finalizer off.
    tree["spec"] = json!({});
    let plain = h
        .api
        .update(&NAMESPACE, ObjectRef::new(None, "x"), tree.clone(), &UpdateOptions::default())
        .await
        .unwrap();
    assert_eq!(plain.tree().unwrap()["spec"]["finalizers"], json!(["kubernetes"]));
    let mut tree = plain.tree().unwrap();
    tree["spec"] = json!({});
    let at = ObjectRef::new(None, "x").sub("finalize");
    h.api.update(&NAMESPACE, at, tree, &UpdateOptions::default()).await.unwrap();
    assert!(h.get(&NAMESPACE, None, "x").await.unwrap_err().is_not_found());
    h.stop().await;
}

#[tokio::test]
async fn pods_get_account_token_tolerations_and_priority() {
    let h = Harness::start().await;
    let mut body = pod("p");
    body["spec"] = json!({"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "i", "image": "i",
        "volumeMounts": [{"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
        "volumes": [{"name": "own", "emptyDir": {}}]});
    let without = h.api.create(&POD, HERE, body.clone(), &CreateOptions::default()).await.unwrap_err();
    assert_eq!(
        without.message(),
        "pods \"p\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
    );
    account(&h, json!({"imagePullSecrets": [{"name": "pull"}]})).await;
    let pod = h.create(&POD, HERE, body).await.tree().unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    let volume = spec["containers"][0]["volumeMounts"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["readOnly"], true);
    assert_eq!(spec["initContainers"][0]["volumeMounts"].as_array().unwrap().len(), 1, "its own stays alone");
    assert_eq!(spec["volumes"][1]["name"], volume);
    assert_eq!(
        spec["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3607
    );
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(
        spec["tolerations"],
        json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ])
    );
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    h.stop().await;
}

#[tokio::test]
async fn tokens_are_mounted_only_where_they_are_wanted() {
    let h = Harness::start().await;
    account(&h, json!({"automountServiceAccountToken": false})).await;
    let spec = |extra: Value| {
        let mut body = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        body["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let mounts = |pod: Value| pod["spec"]["containers"][0]["volumeMounts"].as_array().map_or(0, Vec::len);
    let unwanted = h.create(&POD, HERE, spec(json!({}))).await.tree().unwrap();
    assert_eq!(mounts(unwanted), 0, "the account says no");
    let wanted =
        h.create(&POD, HERE, spec(json!({"automountServiceAccountToken": true}))).await.tree().unwrap();
    assert_eq!(mounts(wanted), 1, "the pod has the last word");
    let own = json!([{"operator": "Exists"}]);
    let tolerant = h.create(&POD, HERE, spec(json!({"tolerations": own}))).await.tree().unwrap();
    assert_eq!(tolerant["spec"]["tolerations"], own);
    let system = h
        .create(&POD, HERE, spec(json!({"priorityClassName": "system-node-critical"})))
        .await
        .tree()
        .unwrap();
    assert_eq!(system["spec"]["priority"], 2_000_001_000);
    let unknown = spec(json!({"priorityClassName": "nope"}));
    let error = h.api.create(&POD, HERE, unknown, &CreateOptions::default()).await.unwrap_err();
    assert!(error.message().ends_with("is forbidden: no PriorityClass with name nope was found"), "{error}");
    h.stop().await;
}

#[tokio::test]
async fn a_node_sees_and_changes_what_is_its_own() {
    let h = Harness::start().await;
    account(&h, json!({})).await;
    let node = Identity::node("n");
    let own = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}}, "status": {"capacity": {"cpu": "1"}}});
    let registered = create_as(&h, &node, &NODE, None, own).await.unwrap();
    assert_eq!(registered["status"]["capacity"]["cpu"], "1", "a node registers with its status");
    let other = create_as(&h, &node, &NODE, None, json!({"metadata": {"name": "m"}})).await.unwrap_err();
    let role = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let claimed = create_as(&h, &node, &NODE, None, role).await.unwrap_err();
    assert_eq!(
        claimed.message(),
        "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: node-role.kubernetes.io/control-plane"
    );
    assert_eq!(other.message(), "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"");
    let labels = Patch::merge(json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}));
    let api = h.server.as_user(node.clone());
    let error =
        api.patch(&NODE, ObjectRef::new(None, "n"), labels, &UpdateOptions::default()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "nodes \"n\" is forbidden: is not allowed to modify labels: node-restriction.kubernetes.io/x"
    );
    h.create(&NAMESPACE, None, json!({"metadata": {"name": "elsewhere"}})).await;
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    create_as(&h, &node, &LEASE, Some("kube-node-lease"), lease("n")).await.unwrap();
    let foreign = create_as(&h, &node, &LEASE, Some("kube-node-lease"), lease("m")).await.unwrap_err();
    assert!(
        foreign.message().ends_with("can only access node lease with the same name as the requesting node"),
        "{foreign}"
    );
    let outside = create_as(&h, &node, &LEASE, Some("elsewhere"), lease("n")).await.unwrap_err();
    assert!(
        outside.message().contains("can only access leases in the \"kube-node-lease\" system namespace"),
        "{outside}"
    );

    h.config_map("used").await;
    h.config_map("unused").await;
    let mut body = pod("p");
    body["spec"]["nodeName"] = json!("n");
    body["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "used"}}]);
    h.create(&POD, HERE, body).await;
    let get = |row: &'static KindRow, name: &'static str| {
        let api = api.clone();
        async move { api.get(row, ObjectRef::new(HERE, name)).await }
    };
    get(&POD, "p").await.unwrap();
    get(&CONFIG_MAP, "used").await.unwrap();
    let refused = get(&CONFIG_MAP, "unused").await.unwrap_err();
    assert_eq!(
        refused.message(),
        "configmaps \"unused\" is forbidden: User \"system:node:n\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"default\": no relationship found between node 'n' and this object"
    );
    let plain = create_as(&h, &node, &POD, HERE, pod("mine")).await.unwrap_err();
    assert!(plain.message().contains("node \"n\" can only create mirror pods"), "{plain}");
    h.stop().await;
}

#[tokio::test]
async fn a_node_is_given_its_pod_range_and_never_takes_one() {
    let h = Harness::start().await;
    let node = Identity::node("n");
    for spec in [json!({"podCIDR": "10.99.0.7/32"}), json!({"podCIDRs": ["10.99.0.7/32"]})] {
        let body = json!({"metadata": {"name": "n"}, "spec": spec});
        let refused = create_as(&h, &node, &NODE, None, body).await.unwrap_err();
        assert_eq!(refused.code(), 403);
        assert!(refused.message().contains("is not allowed to modify podCIDR"), "{refused}");
    }
    create_as(&h, &node, &NODE, None, json!({"metadata": {"name": "n"}})).await.unwrap();
    let patch = |user: &Identity, spec: Value| {
        let (api, patch) = (h.server.as_user(user.clone()), Patch::merge(json!({"spec": spec})));
        async move { api.patch(&NODE, ObjectRef::new(None, "n"), patch, &UpdateOptions::default()).await }
    };
    let refused = patch(&node, json!({"podCIDR": "10.42.7.0/24"})).await.unwrap_err();
    assert!(refused.message().contains("is not allowed to modify podCIDR"), "{refused}");
    let controller = Identity::service_account("kube-system", "node-controller");
    let given = json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"]});
    patch(&controller, given).await.unwrap();
    // What else it may change, it still may.
    patch(&node, json!({"providerID": "minik8s://n"})).await.unwrap();
    for user in [&node, &controller] {
        let moved = json!({"podCIDR": "10.42.2.0/24", "podCIDRs": ["10.42.2.0/24"]});
        patch(user, moved).await.unwrap_err();
    }
    h.stop().await;
}

#[tokio::test]
async fn a_node_deletes_its_own_pods_only() {
    let h = Harness::start().await;
    account(&h, json!({})).await;
    for (name, node) in [("mine", "n"), ("theirs", "m")] {
        let mut body = pod(name);
        body["spec"]["nodeName"] = json!(node);
        h.create(&POD, HERE, body).await;
    }
    let api = h.server.as_user(Identity::node("n"));
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    let error = api.delete(&POD, ObjectRef::new(HERE, "theirs"), &now).await.unwrap_err();
    assert!(
        error.message().contains("node \"n\" can only delete pods with spec.nodeName set to itself"),
        "{error}"
    );
    api.delete(&POD, ObjectRef::new(HERE, "mine"), &now).await.unwrap();
    assert!(h.get(&POD, HERE, "mine").await.unwrap_err().is_not_found());
    let status = Patch::merge(json!({"status": {"phase": "Running"}}));
    let error = api
        .patch(&POD, ObjectRef::new(HERE, "theirs").sub("status"), status, &UpdateOptions::default())
        .await;
    assert!(error.unwrap_err().message().contains("can only update pod status for pods"));
    h.stop().await;
}

#[tokio::test]
async fn nobody_grants_more_than_he_holds() {
    let h = Harness::start().await;
    let rbac = "rbac.authorization.k8s.io";
    grant(&h, "jane", json!([
        {"apiGroups": [rbac], "resources": ["clusterroles", "rolebindings"], "verbs": ["create", "update", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]))
    .await;
    let jane = Identity::user("jane", []);
    let role = |name: &str, verbs: Value| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]});
    create_as(&h, &jane, &CLUSTER_ROLE, None, role("readers", json!(["get"]))).await.unwrap();
    let error =
        create_as(&h, &jane, &CLUSTER_ROLE, None, role("writers", json!(["get", "create", "delete"])))
            .await
            .unwrap_err();
    assert_eq!(
        error.message(),
        "clusterroles.rbac.authorization.k8s.io \"writers\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\" \"delete\"]}"
    );
    let binding = |role: &str| {
        json!({"metadata": {"name": role}, "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "joe"}]})
    };
    create_as(&h, &jane, &ROLE_BINDING, HERE, binding("readers")).await.unwrap();
    let error = create_as(&h, &jane, &ROLE_BINDING, HERE, binding("cluster-admin")).await.unwrap_err();
    assert!(
        error.message().contains("is attempting to grant RBAC permissions not currently held"),
        "{error}"
    );
    let missing = create_as(&h, &jane, &ROLE_BINDING, HERE, binding("nobody")).await.unwrap_err();
    assert_eq!(missing.message(), "clusterroles.rbac.authorization.k8s.io \"nobody\" not found");
    h.stop().await;
}

#[tokio::test]
async fn a_label_is_not_the_way_to_more_rights() {
    let h = Harness::start().await;
    let rbac = "rbac.authorization.k8s.io";
    grant(
        &h,
        "eve",
        json!([
            {"apiGroups": [rbac], "resources": ["clusterroles", "clusterrolebindings", "roles"],
                "verbs": ["create", "update", "patch", "get"]},
        ]),
    )
    .await;
    let eve = h.server.as_user(Identity::user("eve", []));
    let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let patch = |row: &'static KindRow, name: &'static str, change: Value| {
        let eve = eve.clone();
        async move {
            let options = UpdateOptions::default();
            eve.patch(row, ObjectRef::new(None, name), Patch::merge(change), &options).await
        }
    };
    let error = patch(&CLUSTER_ROLE, "cluster-admin", label.clone()).await.unwrap_err();
    assert!(
        error.message().contains("is attempting to grant RBAC permissions not currently held"),
        "{error}"
    );
    // A role without rules of its own that takes others in.
    let everything = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    h.create(&CLUSTER_ROLE, None, everything).await;
    for change in [label, json!({"aggregationRule": null}), json!({"metadata": {"annotations": {"a": "b"}}})]
    {
        let error = patch(&CLUSTER_ROLE, "all", change).await.unwrap_err();
        assert_eq!(
            error.message(),
            "clusterroles.rbac.authorization.k8s.io \"all\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
        );
    }
    let error =
        patch(&CLUSTER_ROLE_BINDING, "cluster-admin", json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert!(error.unwrap_err().message().contains("is attempting to grant RBAC permissions"));
    // What the garbage collector does to let objects go, anybody may who may update.
    let owned = json!({"metadata": {"finalizers": ["example.com/a"]}});
    patch(&CLUSTER_ROLE, "cluster-admin", owned.clone()).await.unwrap();
    patch(&CLUSTER_ROLE_BINDING, "cluster-admin", owned).await.unwrap();
    // The right to escalate one role by name does not make others: a new object's name is not in the URL.
    grant(&h, "mallory", json!([
        {"apiGroups": [rbac], "resources": ["clusterroles"], "verbs": ["create"]},
        {"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["mine"], "verbs": ["escalate"]},
    ]))
    .await;
    let role = json!({"metadata": {"name": "mine"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let mallory = Identity::user("mallory", []);
    assert!(create_as(&h, &mallory, &CLUSTER_ROLE, None, role).await.is_err());
    h.stop().await;
}

#[tokio::test]
async fn who_may_update_does_not_create() {
    let h = Harness::start().await;
    let verbs = |verbs: Value| json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs}]);
    grant(&h, "joe", verbs(json!(["update"]))).await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "joe"}});
    let joe = h.server.as_user(Identity::user("joe", []));
    let at = ObjectRef::new(HERE, "l");
    let error = joe.update(&LEASE, at, lease.clone(), &UpdateOptions::default()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "leases.coordination.k8s.io \"l\" is forbidden: User \"joe\" cannot create resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"default\""
    );
    assert!(h.get(&LEASE, HERE, "l").await.unwrap_err().is_not_found());
    grant(&h, "jane", verbs(json!(["create", "update"]))).await;
    let jane = h.server.as_user(Identity::user("jane", []));
    jane.update(&LEASE, at, lease, &UpdateOptions::default()).await.unwrap();
    h.stop().await;
}

#[tokio::test]
async fn rbac_counts_at_once_and_only_where_it_is_bound() {
    let h = Harness::start().await;
    let joe = Identity::user("joe", []);
    let api = h.server.as_user(joe.clone());
    let list = |namespace: Option<&'static str>| {
        let api = api.clone();
        async move { api.list(&POD, namespace, &api::ListOptions::default()).await.map(|list| list.items.len()) }
    };
    assert_eq!(
        list(HERE).await.unwrap_err().message(),
        "pods is forbidden: User \"joe\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": "joe"}, "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "joe"}]});
    h.create(&ROLE_BINDING, HERE, binding).await;
    assert_eq!(list(HERE).await.unwrap(), 0);
    assert_eq!(
        list(None).await.unwrap_err().message(),
        "pods is forbidden: User \"joe\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    assert!(list(Some("kube-system")).await.is_err());
    // A new role that `view` takes in counts through the binding that is there.
    let options = api::ListOptions::default();
    assert!(api.list(&api::kinds::SECRET, HERE, &options).await.is_err());
    let more = json!({"metadata": {"name": "more", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]});
    h.create(&CLUSTER_ROLE, None, more).await;
    assert_eq!(api.list(&api::kinds::SECRET, HERE, &options).await.unwrap().items.len(), 0);
    h.delete(&ROLE_BINDING, HERE, "joe").await.ok();
    assert!(list(HERE).await.is_err(), "what is taken away counts at once too");
    h.stop().await;
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_only() {
    let h = Harness::start().await;
    account(&h, json!({})).await;
    let mut uids = Vec::new();
    for (name, node) in [("mine", "n"), ("theirs", "m")] {
        let mut body = pod(name);
        body["spec"]["nodeName"] = json!(node);
        body["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"path": "own"}},
            {"serviceAccountToken": {"path": "vault", "audience": "vault"}},
        ]}}]);
        uids.push(h.create(&POD, HERE, body).await.uid().to_string());
    }
    let api = h.server.as_user(Identity::node("n"));
    let ask = |bound: Value| {
        let api = api.clone();
        async move {
            let at = ObjectRef::new(HERE, "default").sub("token");
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}});
            api.create_sub(&SERVICE_ACCOUNT, at, body, &CreateOptions::default()).await
        }
    };
    let pod = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    assert!(ask(pod("mine", &uids[0])).await.is_ok());
    let for_audiences = |audiences: Value| {
        let (api, bound) = (api.clone(), pod("mine", &uids[0]));
        async move {
            let at = ObjectRef::new(HERE, "default").sub("token");
            let body = json!({"spec": {"audiences": audiences, "boundObjectRef": bound}});
            let made = api.create_sub(&SERVICE_ACCOUNT, at, body, &CreateOptions::default()).await;
            made.map(drop).map_err(|error| error.message().to_string())
        }
    };
    let refused = |why: &str| Err(format!("serviceaccounts \"default\" is forbidden: {why}"));
    assert_eq!(for_audiences(json!(["vault"])).await, Ok(()));
    assert_eq!(
        for_audiences(json!(["bank"])).await,
        refused(
            "audience \"bank\" not found in pod spec volume, system:node:n is not authorized to request tokens for this audience"
        )
    );
    assert_eq!(
        for_audiences(json!(["vault", "bank"])).await,
        refused("node may only request 0 or 1 audiences")
    );
    let rules = json!([{"apiGroups": [""], "resources": ["bank"], "resourceNames": ["default"],
        "verbs": ["request-serviceaccounts-token-audience"]}]);
    grant(&h, "system:node:n", rules).await;
    assert_eq!(for_audiences(json!(["bank"])).await, Ok(()), "an administrator may allow more");
    for (bound, why) in [
        (Value::Null, "node requested token not bound to a pod"),
        (pod("mine", ""), "node requested token with a pod binding without a uid"),
        (pod("theirs", &uids[1]), "node requested token bound to a pod scheduled on a different node"),
    ] {
        let error = ask(bound).await.unwrap_err();
        assert_eq!(error.message(), format!("serviceaccounts \"default\" is forbidden: {why}"));
    }
    h.stop().await;
}
