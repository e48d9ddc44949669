//! Objects of a cluster by kubectl: made, asked for one value, waited for.

use std::time::Duration;

use minik8s_tests::{Cluster, eventually};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn create(cluster: &Cluster, object: &Value) {
    cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).ok();
}

/// The value at a JSONPath.
pub(crate) fn query(cluster: &Cluster, what: &[&str], path: &str) -> String {
    let path = format!("jsonpath={path}");
    let mut arguments = vec!["get"];
    arguments.extend(what);
    arguments.extend(["-o", &path]);
    cluster.kubectl(&arguments).ok()
}

#[track_caller]
pub(crate) fn until(cluster: &Cluster, what: &[&str], path: &str, wanted: &str) {
    eventually(&format!("{path} of {what:?} is {wanted:?}"), LIMIT, || {
        let found = query(cluster, what, path);
        if found == wanted {
            return Ok(());
        }
        let everything = cluster.kubectl(&["get", "all,pv,pvc,events", "-A"]);
        Err(format!("{found}\n{everything}\n{}", cluster.log()))
    });
}
