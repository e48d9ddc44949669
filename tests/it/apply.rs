//! Server-side apply with real clients: kubectl, the bundled one, and Helm 4, which installs charts by it.

use std::path::{Path, PathBuf};

use minik8s_tests::{Cluster, CommandOutcome, eventually, helm, kubectls, run};
use serde_json::Value;

const SETTINGS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, size: small}
";

/// Entries of managed fields: manager, operation, subresource.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_string();
    entries.iter().map(|one| format!("{} {}", text(one, "manager"), text(one, "operation"))).collect()
}

fn applies_on_the_server(cluster: &Cluster, kubectl: &dyn Fn(&[&str], &str) -> CommandOutcome) {
    let apply = |more: &[&str], text: &str| {
        let arguments = [&["apply", "--server-side", "-f", "-"], more].concat();
        kubectl(&arguments, text)
    };
    assert_eq!(apply(&[], SETTINGS).ok(), "configmap/settings serverside-applied\n");
    assert_eq!(apply(&[], SETTINGS).ok(), "configmap/settings serverside-applied\n");
    let blue = SETTINGS.replace("green", "blue");
    let refused = apply(&["--field-manager", "painter"], &blue).failed();
    assert!(
        refused.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.colour"),
        "{refused}"
    );
    assert!(refused.contains("--force-conflicts"), "{refused}");
    apply(&["--field-manager", "painter", "--force-conflicts"], &blue).ok();
    let object = kubectl(&["get", "configmap", "settings", "--show-managed-fields", "-o", "json"], "").json();
    assert_eq!(object["data"]["colour"], "blue");
    assert_eq!(managers(&object), ["kubectl Apply", "painter Apply"]);
    // What both wanted stays until the last one drops it.
    let nothing = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n";
    apply(&["--field-manager", "painter"], nothing).ok();
    assert_eq!(cluster.get("configmap", "settings")["data"]["size"], "small");
    apply(&[], nothing).ok();
    assert!(cluster.get("configmap", "settings")["data"].is_null());
    let wrong = SETTINGS.replace("\ndata:", "\ndate:");
    let refused = apply(&["--validate=false"], &wrong).failed();
    assert!(refused.contains(".date: field not declared in schema"), "{refused}");
    // From the client's side to the server's: nothing is lost, nothing conflicts, and the annotation follows.
    kubectl(&["delete", "configmap", "settings"], "").ok();
    kubectl(&["apply", "-f", "-"], SETTINGS).ok();
    apply(&[], &blue).ok();
    let object = kubectl(&["get", "configmap", "settings", "--show-managed-fields", "-o", "json"], "").json();
    let owners = managers(&object);
    assert!(owners.contains(&"kubectl Apply".to_string()), "{owners:?}");
    assert!(!owners.contains(&"kubectl-client-side-apply Update".to_string()), "{owners:?}");
    let applied =
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].clone();
    assert!(applied.as_str().is_some_and(|text| text.contains("blue")), "{applied}");
    kubectl(&["delete", "configmap", "settings"], "").ok();
}

#[test]
fn every_kubectl_applies_on_the_server() {
    let cluster = Cluster::control_plane();
    for program in kubectls() {
        let program: &Path = &program;
        eprintln!("with {}", program.display());
        applies_on_the_server(&cluster, &|arguments, input| cluster.kubectl_of(program, arguments, input));
    }
    applies_on_the_server(&cluster, &|arguments, input| cluster.own_kubectl_with(arguments, input));
}

struct Charts<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
}

impl Charts<'_> {
    fn helm(&self, arguments: &[&str]) -> CommandOutcome {
        let mut command = self.cluster.command(&self.program);
        let folder = self.cluster.folder();
        command.env("HOME", folder).env("KUBECONFIG", self.cluster.kubeconfig()).current_dir(folder);
        run(command.args(arguments), "")
    }

    fn image(&self) -> String {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        self.cluster.kubectl(&["get", "deployment", "site-web", "-o", path]).ok()
    }
}

#[test]
fn helm_installs_upgrades_and_rolls_back_a_chart() {
    if std::env::var_os("MINIK8S_WITHOUT_HELM").is_some() {
        eprintln!("left out: tests/run.sh could not download Helm");
        return;
    }
    let cluster = Cluster::with_node();
    let charts = Charts { cluster: &cluster, program: helm() };
    assert!(charts.helm(&["version", "--short"]).ok().starts_with("v4."), "Helm 4 is wanted");
    charts.helm(&["create", "web"]).ok();
    // The chart's image would come from a registry: the local one serves instead of it.
    let template = cluster.folder().join("web/templates/deployment.yaml");
    let text = std::fs::read_to_string(&template).unwrap();
    let serving = "          command: [httpd, -f, -p, '80']\n          imagePullPolicy:";
    let text = text.replacen("          imagePullPolicy:", serving, 1);
    assert!(text.contains("httpd"), "{text}");
    std::fs::write(&template, text).unwrap();
    let (name, tag) = minik8s_tests::BUSYBOX.rsplit_once(':').unwrap();
    let (name, tag) = (format!("image.repository={name}"), format!("image.tag={tag}"));
    let probes = ["--set", "livenessProbe=null", "--set", "readinessProbe=null"];
    let with_image = [&["--set", &*name, "--set", &*tag], &probes[..]].concat();
    let install = [&["install", "site", "web", "--wait", "--timeout", "120s"], &with_image[..]].concat();
    let installed = charts.helm(&install).ok();
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    let deployment =
        cluster.kubectl(&["get", "deployment", "site-web", "--show-managed-fields", "-o", "json"]);
    let deployment = deployment.json();
    assert!(managers(&deployment).contains(&"helm Apply".to_string()), "{:?}", managers(&deployment));
    assert_eq!(deployment["status"]["readyReplicas"], 1);
    assert_eq!(cluster.get("service", "site-web")["spec"]["ports"][0]["port"], 80);
    let upgrade = [&["upgrade", "site", "web", "--set", "service.port=81"], &with_image[..]].concat();
    charts.helm(&upgrade).ok();
    let ports = cluster.get("service", "site-web")["spec"]["ports"].clone();
    assert_eq!((ports.as_array().map(Vec::len), &ports[0]["port"]), (Some(1), &Value::from(81)), "{ports}");
    let image = charts.image();
    let other =
        [&["upgrade", "site", "web", "--set", "image.tag=other"], &with_image[..2], &probes[..]].concat();
    charts.helm(&other).ok();
    assert_ne!(charts.image(), image);
    charts.helm(&["rollback", "site", "1"]).ok();
    assert_eq!(charts.image(), image);
    assert_eq!(cluster.get("service", "site-web")["spec"]["ports"][0]["port"], 80);
    let history = charts.helm(&["history", "site"]).ok();
    assert!(history.contains("Rollback to 1"), "{history}");
    charts.helm(&["uninstall", "site"]).ok();
    eventually("the chart is gone", std::time::Duration::from_secs(60), || {
        let left = cluster.kubectl(&["get", "deployment,service,serviceaccount", "-o", "name"]).ok();
        if left.contains("site-web") { Err(left) } else { Ok(()) }
    });
}
