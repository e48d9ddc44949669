//! What other servers are asked, and what is made of their answers.

use api::kinds::{INGRESS, SERVICE};
use client::{BoxFuture, Served};
use parking_lot::Mutex;
use serde_json::json;

use super::*;

/// Another API server, which notes what it is asked.
#[derive(Default)]
struct Scripted {
    versions: Vec<String>,
    answer: Value,
    asked: Mutex<Vec<String>>,
}

impl ExtensionApi for Scripted {
    fn versions(&self, group: &str) -> Vec<String> {
        if group == CUSTOM { self.versions.clone() } else { Vec::new() }
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Value, ApiError>> {
        self.asked.lock().push(path.to_string());
        Box::pin(std::future::ready(Ok(self.answer.clone())))
    }
}

/// Nobody: these tests read nothing of this server's own.
struct Nowhere;

macro_rules! absent {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name<'a>(&'a self, $($argument: $type),*) -> BoxFuture<'a, Result<$answer, ApiError>> {
            $(let _ = $argument;)*
            Box::pin(std::future::ready(Err(ApiError::internal("nobody is there"))))
        })*
    };
}

impl ObjectApi for Nowhere {
    absent! {
        get(row: &'a KindRow, at: client::ObjectRef<'a>) -> Arc<api::Object>;
        list(row: &'a KindRow, namespace: Option<&'a str>, options: &'a ListOptions) -> client::ObjectList;
        watch(row: &'a KindRow, namespace: Option<&'a str>, options: &'a api::WatchOptions) -> client::EventStream;
        create(row: &'a KindRow, namespace: Option<&'a str>, body: Value, options: &'a api::CreateOptions)
            -> Arc<api::Object>;
        create_sub(row: &'a KindRow, at: client::ObjectRef<'a>, body: Value, options: &'a api::CreateOptions)
            -> Value;
        update(row: &'a KindRow, at: client::ObjectRef<'a>, body: Value, options: &'a api::UpdateOptions)
            -> Arc<api::Object>;
        patch(row: &'a KindRow, at: client::ObjectRef<'a>, patch: api::Patch, options: &'a api::UpdateOptions)
            -> Arc<api::Object>;
        delete(row: &'a KindRow, at: client::ObjectRef<'a>, options: &'a api::DeleteOptions)
            -> Option<Arc<api::Object>>;
        delete_collection(row: &'a KindRow, namespace: Option<&'a str>, list: &'a ListOptions,
            options: &'a api::DeleteOptions) -> ();
    }
}

fn reader(versions: &[&str], answer: Value) -> (MetricsReader, Arc<Scripted>) {
    let versions = versions.iter().map(ToString::to_string).collect();
    let server = Arc::new(Scripted { versions, answer, ..Scripted::default() });
    let rows = vec![Arc::new(SERVICE.clone()), Arc::new(INGRESS.clone())];
    let (_, served) = tokio::sync::watch::channel(Arc::new(Served::new(1, rows)));
    (MetricsReader { api: Arc::new(Nowhere), extensions: server.clone(), served }, server)
}

fn selector(text: &str) -> LabelSelector {
    LabelSelector::parse(text).unwrap()
}

fn reference(version: &str, kind: &str, name: &str) -> CrossVersionObjectReference {
    let api_version = Some(version.to_string());
    CrossVersionObjectReference { api_version, kind: kind.into(), name: name.into() }
}

#[tokio::test]
async fn pods_are_asked_for_by_their_labels() {
    let item = |name: &str, value: &str| {
        json!({"describedObject": {"kind": "Pod", "name": name}, "value": value,
            "timestamp": "2026-11-28T12:00:00Z", "windowSeconds": 20})
    };
    let answer = json!({"items": [item("a", "1500m"), item("b", "2")]});
    let (reader, server) = reader(&["v9", "v1beta1", "v1beta2"], answer);
    let (pods, own) = (selector("app in (x,y)"), selector("tier=1"));
    let found = reader.of_pods("ns", &pods, "hits/s", &own).await.unwrap();
    let window = Duration::from_secs(20);
    let at = "2026-11-28T12:00:00Z".parse().unwrap();
    assert_eq!(found["a"], PodMetric { at, window, value: 1500 });
    assert_eq!(found["b"].value, 2000);
    // The server's own preference among those that are understood.
    let path = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/ns/pods/*/hits%2Fs?metricLabelSelector=tier%3D1\
                &labelSelector=app%20in%20%28x%2Cy%29";
    assert_eq!(*server.asked.lock(), [path]);
}

#[tokio::test]
async fn objects_are_asked_for_by_their_resource() {
    let answer = json!({"items": [{"value": "7"}]});
    let (reader, server) = reader(&["v1beta2"], answer);
    let nothing = LabelSelector::nothing();
    let ask = |object: CrossVersionObjectReference| {
        let (reader, nothing) = (&reader, &nothing);
        async move { reader.of_object("ns", &object, "rps", nothing).await }
    };
    assert_eq!(ask(reference("networking.k8s.io/v1", "Ingress", "main")).await.unwrap(), 7000);
    ask(reference("v1", "Service", "web")).await.unwrap();
    ask(reference("v1", "Namespace", "other")).await.unwrap();
    let root = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns";
    let end = "rps?metricLabelSelector=";
    assert_eq!(
        *server.asked.lock(),
        [
            format!("{root}/ingresses.networking.k8s.io/main/{end}"),
            format!("{root}/services/web/{end}"),
            format!("{root}/metrics/{end}"),
        ]
    );
    let error = ask(reference("apps/v1", "Deployment", "web")).await.unwrap_err().to_string();
    assert!(error.ends_with(r#"no matches for kind "Deployment" in group "apps""#), "{error}");
}

#[tokio::test]
async fn values_of_something_outside_add_up() {
    let (reader, server) = reader(&[], json!({"items": [{"value": "1"}, {"value": "250m"}]}));
    assert_eq!(reader.external("ns", "queue", &selector("q=a")).await.unwrap(), 1250);
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/queue?labelSelector=q%3Da";
    assert_eq!(*server.asked.lock(), [path]);
    let none = reader.of_pods("ns", &selector("a=b"), "hits", &selector("c=d")).await.unwrap_err();
    assert!(matches!(none, MetricsError::NoCustom));
}

#[test]
fn a_pod_counts_if_all_that_is_asked_for_was_measured() {
    let container = |name: &str, cpu: &str| json!({"name": name, "usage": {"cpu": cpu, "memory": "4Ki"}});
    let tree = json!({
        "timestamp": "2026-11-28T12:00:00Z", "window": "30s",
        "containers": [container("a", "250m"), container("b", "1500000n")],
    });
    let metric = of_pod(&tree, "cpu", None).unwrap();
    assert_eq!((metric.value, metric.window), (252, Duration::from_secs(30)));
    assert_eq!(of_pod(&tree, "memory", None).unwrap().value, 8_192_000);
    assert_eq!(of_pod(&tree, "cpu", Some("b")).unwrap().value, 2);
    assert_eq!(of_pod(&tree, "cpu", Some("c")), None);
    assert_eq!(of_pod(&tree, "disk", None), None);
    assert_eq!(of_pod(&json!({"containers": []}), "cpu", None), None);
}
