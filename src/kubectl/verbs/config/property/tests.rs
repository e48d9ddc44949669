//! Tests of the paths of properties.

use client::kubeconfig::{Loaded, NamedCluster, Places};

use super::{SetArgs, change, set};

fn loaded(directory: &std::path::Path) -> (Places, Loaded) {
    let places = Places {
        explicit: Some(directory.join("config")),
        variable: None,
        home: None,
        system: std::path::PathBuf::new(),
    };
    let loaded = Loaded::load_for_change(&places).unwrap();
    (places, loaded)
}

#[test]
fn a_value_is_set_where_its_path_leads() {
    let directory = tempfile::tempdir().unwrap();
    let (places, mut loaded) = loaded(directory.path());
    for (property, value) in [
        ("clusters.10.10.12.56.server", "https://1.2.3.4"),
        ("clusters.10.10.12.56.insecure-skip-tls-verify", "T"),
        ("contexts.c.cluster", "10.10.12.56"),
        ("users.u.client-key-data", "a2V5"),
        ("users.u.exec.command", "aws"),
        ("users.u.auth-provider.config.a.b", "x"),
        ("current-context", "c"),
    ] {
        change(&mut loaded, property, Some((value, false))).unwrap();
    }
    change(&mut loaded, "users.u.client-certificate-data", Some(("pem", true))).unwrap();
    let read = Loaded::load(&places).unwrap().merged;
    let cluster = read.cluster("10.10.12.56").unwrap();
    assert_eq!((cluster.server.as_str(), cluster.insecure_skip_tls_verify), ("https://1.2.3.4", Some(true)));
    assert_eq!(read.context("c").unwrap().cluster, "10.10.12.56");
    let user = read.user("u").unwrap();
    assert_eq!(user.client_key_data.as_deref(), Some("a2V5"));
    assert_eq!(user.client_certificate_data.as_deref(), Some("cGVt"), "raw bytes are encoded");
    assert_eq!(user.exec.as_ref().unwrap()["command"], "aws");
    assert_eq!(user.auth_provider.as_ref().unwrap()["config"]["a.b"], "x");
    assert_eq!(read.current_context, "c");
}

#[test]
fn unset_takes_away_a_field_an_entry_or_all() {
    let directory = tempfile::tempdir().unwrap();
    let (places, mut loaded) = loaded(directory.path());
    for name in ["a", "b", "c"] {
        let server = format!("https://{name}");
        loaded.set::<NamedCluster>(name, |cluster| cluster.server.clone_from(&server)).unwrap();
    }
    change(&mut loaded, "clusters.a.server", None).unwrap();
    change(&mut loaded, "clusters.b", None).unwrap();
    let read = Loaded::load(&places).unwrap().merged;
    assert_eq!(read.cluster("a").unwrap().server, "");
    assert!(read.cluster("b").is_none());
    let error = change(&mut loaded, "clusters.b.server", None).unwrap_err();
    assert!(error.to_string().contains("current map key `b` is invalid"), "{error}");
    change(&mut loaded, "clusters", None).unwrap();
    assert!(Loaded::load(&places).unwrap().merged.clusters.is_empty());
}

#[test]
fn paths_that_lead_nowhere_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut loaded) = loaded(directory.path());
    for (property, value, why) in [
        ("", "x", "you must specify a property"),
        ("colour", "x", "unable to parse colour"),
        ("clusters.a", "x", "can't set a map to a value"),
        ("clusters.a.server.b", "x", "can't have more steps after a string"),
        ("clusters.a.insecure-skip-tls-verify", "maybe", "invalid syntax"),
        ("users.u.client-key-data", "?", "error decoding input value"),
        ("users.u.exec.args", "x", "unrecognized slice type"),
        ("users.u.exec.colour", "x", "unable to parse users.u.exec.colour"),
        ("clusters.a.server", "", "you cannot use set to unset a property"),
    ] {
        let args = SetArgs {
            property_name: property.to_string(),
            property_value: value.to_string(),
            set_raw_bytes: None,
        };
        let error = set(&mut loaded, &args).unwrap_err().to_string();
        assert!(error.contains(why), "{property}: {error}");
    }
    assert!(!directory.path().join("config").exists());
}
