//! Whose ingresses are whose.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde_json::{Value, json};

use super::{Classes, names_secret};

fn class(name: &str, controller: &str, default: bool) -> IngressClass {
    let mark = json!({"ingressclass.kubernetes.io/is-default-class": default.to_string()});
    let meta = json!({"name": name, "annotations": mark});
    serde_json::from_value(json!({"metadata": meta, "spec": {"controller": controller}})).unwrap()
}

fn ingress(annotation: Option<&str>, class: Option<&str>, tls: Value) -> Ingress {
    let mut meta = json!({"name": "i", "namespace": "n"});
    if let Some(annotation) = annotation {
        meta["annotations"] = json!({"kubernetes.io/ingress.class": annotation});
    }
    let spec = json!({"ingressClassName": class, "tls": tls});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

#[test]
fn the_class_says_whose_an_ingress_is() {
    let all = [
        class("minik8s", "minik8s.io/ingress", false),
        class("traefik", "minik8s.io/ingress", false),
        class("nginx", "k8s.io/ingress-nginx", true),
    ];
    let classes = Classes::of(all.iter());
    let have = |annotation, class| classes.have(&ingress(annotation, class, json!([])));
    assert!(have(None, Some("minik8s")) && have(None, Some("traefik")) && have(Some("minik8s"), None));
    assert!(!have(None, Some("nginx")) && !have(Some("nginx"), None) && !have(None, Some("gone")));
    // Another's default is not ours.
    assert!(!have(None, None));
    let default = [class("minik8s", "minik8s.io/ingress", true)];
    assert!(Classes::of(default.iter()).have(&ingress(None, None, json!([]))));
}

#[test]
fn secrets_are_named_for_tls() {
    let one = ingress(None, None, json!([{"hosts": ["a"]}, {"secretName": "s"}]));
    assert!(names_secret(&one, "s") && !names_secret(&one, "t") && !names_secret(&one, ""));
}
