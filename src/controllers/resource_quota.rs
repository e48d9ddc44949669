//! ResourceQuotas: what a namespace uses is counted anew when a quota changes and whenever something in the
//! namespace is gone or has ended.
//!
//! Admission adds to the count in each write's own transaction. So the controller reads the quota first and
//! then lists: an object that the list does not have comes with a newer version of the quota, and the update
//! is refused. Counting thus never takes away what somebody has just been charged for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::kinds::RESOURCE_QUOTA;
use api::quantity::Quantity;
use api::quota::{self, Usage};
use api::{ApiError, KindRow, ListOptions, Object, UpdateOptions};
use client::{Change, Informer, ObjectApi, ObjectRef, ServedKinds, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::context::{ControllerContext, Key, ReconcileResult, key_of};

const ACCOUNT: &str = "resourcequota-controller";
/// Upstream's `--resource-quota-sync-period`: for what ends without a change, such as a pod whose node is
/// lost.
const RESYNC: Duration = Duration::from_secs(300);

struct Controller {
    live: Arc<dyn ObjectApi>,
    served: ServedKinds,
}

pub(crate) fn start(context: &ControllerContext) {
    let queue: WorkQueue<Key> = WorkQueue::new("resource-quota");
    let quotas: Informer<ResourceQuota> = context.informers.of();
    let controller = Arc::new(Controller { live: context.act_as(ACCOUNT), served: context.served() });
    let keys = queue.clone();
    quotas.on_change(move |change| keys.add(key_of(&change.latest().metadata)));
    let (keys, known) = (queue.clone(), quotas.clone());
    let counted = |row: &KindRow| quota::is_counted(row) && row.allows("watch");
    let followed = context.follow_kinds("resource quota controller", counted, move |row, change| {
        if frees(row, change) {
            let namespace = change.latest().namespace();
            for one in known.list(namespace) {
                keys.add(key_of(&one.metadata));
            }
        }
    });
    let ready = async move {
        quotas.synced().await;
        followed.await;
    };
    context.run(&queue, 2, ready, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Whether a change may give something back. What is used more is admission's to count.
fn frees(row: &KindRow, change: &Change<Object>) -> bool {
    match (&change.old, &change.new) {
        (_, None) => true,
        (Some(old), Some(new)) => {
            let ended = |pod: &Object| pod.typed::<Pod>().is_ok_and(|pod| api::pod::is_terminal(&pod));
            match (&*row.group, &*row.plural) {
                ("", "pods") => new.metadata().deletion_timestamp.is_some() || (ended(new) && !ended(old)),
                ("", "services" | "persistentvolumeclaims") => true,
                _ => false,
            }
        }
        (None, Some(_)) => false,
    }
}

impl Controller {
    async fn reconcile(&self, (namespace, name): &Key) -> ReconcileResult {
        let at = ObjectRef::new(Some(namespace), name);
        // Upstream's role has no `get`.
        let listed = self.live.list(&RESOURCE_QUOTA, Some(namespace), &ListOptions::default()).await?;
        let Some(object) = listed.items.iter().find(|one| one.name() == name) else { return Ok(None) };
        let mut tree = object.tree().map_err(ApiError::internal)?;
        let hard = tree["spec"]["hard"].clone();
        let used = self.count(namespace, &tree).await?;
        let status = json!({"hard": hard, "used": printed(&used)});
        let is_told = |part: &str| quota::amounts(&tree["status"][part]) == quota::amounts(&status[part]);
        if !(is_told("hard") && is_told("used")) {
            tree["status"] = status;
            self.live.update(&RESOURCE_QUOTA, at.sub("status"), tree, &UpdateOptions::default()).await?;
        }
        Ok(Some(RESYNC))
    }

    /// What the namespace uses of all that the quota limits.
    async fn count(&self, namespace: &str, tree: &Value) -> Result<Usage, ApiError> {
        let limited: Vec<String> =
            tree["spec"]["hard"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let mut used: Usage = limited.iter().map(|name| (name.clone(), Quantity::ZERO)).collect();
        let now = Timestamp::now();
        let served = self.served.borrow().clone();
        // A kind that several versions serve counts once.
        let mut rows: BTreeMap<String, Arc<KindRow>> = BTreeMap::new();
        for row in served.rows().iter().filter(|row| quota::is_counted(row) && row.allows("list")) {
            if limited.iter().any(|name| quota::concerns(row, name)) {
                rows.entry(row.group_resource()).or_insert_with(|| row.clone());
            }
        }
        for row in rows.values() {
            let objects = self.live.list(row, Some(namespace), &ListOptions::default()).await?.items;
            for object in objects {
                let own = quota::usage_under(tree, row, &object, now).map_err(ApiError::internal)?;
                for (name, amount) in own.into_iter().flatten() {
                    if let Some(sum) = used.get_mut(&name) {
                        *sum = sum.plus(amount);
                    }
                }
                // There may be many; others have a turn meanwhile.
                tokio::task::consume_budget().await;
            }
        }
        Ok(used)
    }
}

fn printed(usage: &Usage) -> Value {
    usage.iter().map(|(name, amount)| (name.clone(), json!(amount.to_string()))).collect()
}
