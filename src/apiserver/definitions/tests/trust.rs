//! What a status says is not believed.

use embedded_store::{Op, Store, Txn};

use super::*;

/// Leave to write a status is no leave to take another definition's names.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_claims_no_names() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&row, Some("default"), widget("w", json!({}))).await;
    let forge = async |name: &str, names: Value| {
        let conditions = json!([{ "type": "Established", "status": "True", "reason": "X", "message": "x",
                                  "lastTransitionTime": "2026-01-01T00:00:00Z" },
                                { "type": "NamesAccepted", "status": "True", "reason": "X", "message": "x",
                                  "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        let status = json!({ "status": { "acceptedNames": names, "conditions": conditions } });
        let at = ObjectRef::new(None, name).sub("status");
        h.api.patch(&DEFINITION, at, Patch::merge(status), &UpdateOptions::default()).await.unwrap();
    };
    // Its kind is taken. Then it claims to have been given it, or all names of the other.
    let mut second = definition("wisps", "Widget");
    second["spec"]["names"]["listKind"] = json!("WispList");
    second["spec"]["names"]["shortNames"] = json!(["wp"]);
    h.define(second.clone()).await;
    h.condition("wisps.example.com", "NamesAccepted", "False").await;
    let widgets = definition("widgets", "Widget")["spec"]["names"].clone();
    for names in [
        json!({ "plural": "wisps", "singular": "wisp", "kind": "Widget", "listKind": "WispList" }),
        json!({ "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" }),
        widgets.clone(),
    ] {
        forge("wisps.example.com", names).await;
        let tree = h.condition("wisps.example.com", "Established", "False").await;
        assert_eq!(condition(&tree, "NamesAccepted").unwrap()["reason"], "KindConflict");
        assert_eq!(tree["status"]["acceptedNames"]["plural"], "wisps");
    }
    // The other claims names that it does not ask for, and those of the second.
    forge(
        "widgets.example.com",
        json!({ "plural": "wisps", "singular": "pod", "kind": "Pod", "listKind": "PodList" }),
    )
    .await;
    let accepted = async {
        while h.get(&DEFINITION, None, "widgets.example.com").await.unwrap()["status"]["acceptedNames"]["kind"]
            != "Widget"
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), accepted).await.expect("set right in time");
    let kinds: Vec<_> =
        h.server.served().borrow().rows().iter().filter(|row| row.group == "example.com").cloned().collect();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!((&*kinds[0].plural, &*kinds[0].kind), ("widgets", "Widget"));
    assert!(h.get(&row, Some("default"), "w").await.is_ok());
    h.stop().await;
}

/// A status that was forged while nobody looked, or by an earlier program: one of the two is served.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_claim_the_same_one_is_served_after_a_restart() {
    let h = Harness::start().await;
    h.widgets().await;
    let mut second = definition("wisps", "Widget");
    second["spec"]["names"]["listKind"] = json!("WispList");
    second["spec"]["names"]["shortNames"] = json!(["wp"]);
    h.define(second).await;
    let mut tree = h.condition("wisps.example.com", "NamesAccepted", "False").await;
    tree["status"]["acceptedNames"] = tree["spec"]["names"].clone();
    tree["metadata"]["creationTimestamp"] = json!("2099-01-01T00:00:00Z");
    set_condition(&mut tree, &Condition { kind: "Established", holds: true, reason: "X", message: "x" });
    let resources = h.server.registry.resources.load();
    let key = resources.of_row(&DEFINITION).unwrap().cache().unwrap().key(None, "wisps.example.com");
    let store = h.store.clone();
    h.stop().await;
    let put = Op::Put { key: key.into(), value: api::object::encode(tree).unwrap(), lease: 0 };
    let txn = Txn { success: vec![put], ..Txn::default() };
    store.txn(txn).await.unwrap();
    let supervisor = supervisor::Supervisor::new();
    let stage = supervisor.stage("second");
    let server = crate::ApiServer::start(crate::testing::config(), store.clone(), &stage).await.unwrap();
    let kinds: Vec<_> =
        server.served().borrow().rows().iter().filter(|row| row.group == "example.com").cloned().collect();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!(&*kinds[0].plural, "widgets");
    let api = server.as_user(crate::testing::master());
    let h = Harness { server, supervisor, store, api };
    h.condition("wisps.example.com", "Established", "False").await;
    h.stop().await;
}

/// Deleting takes instances along, also where the status says that this is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_keeps_no_instances() {
    let h = Harness::start().await;
    let row = h.widgets().await;
    h.create(&row, Some("default"), widget("w", json!({}))).await;
    let status = json!({ "conditions": [
        { "type": "Established", "status": "False", "reason": "X", "message": "x", "lastTransitionTime": null },
        { "type": "Terminating", "status": "True", "reason": "X", "message": "x", "lastTransitionTime": null }] });
    let at = ObjectRef::new(None, "widgets.example.com").sub("status");
    let patch = Patch::merge(json!({ "status": status }));
    h.api.patch(&DEFINITION, at, patch, &UpdateOptions::default()).await.unwrap();
    h.delete(&DEFINITION, None, "widgets.example.com").await.unwrap();
    h.served("Widget", false).await;
    let row = h.widgets().await;
    assert!(h.api.list(&row, None, &ListOptions::default()).await.unwrap().items.is_empty());
    h.stop().await;
}
