//! The settings of a cluster, through the ConfigMap and the file.

use super::*;

#[test]
fn settings_survive_the_configmap() {
    let settings = ClusterSettings {
        cluster_cidr: "10.42.0.0/16".into(),
        cluster_dns: vec!["10.43.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        disabled: vec!["proxy".into()],
        client_ca_pem: "PEM".into(),
        kubelet_ca_pem: Some("OTHER PEM".into()),
    };
    let map = ConfigMap { data: Some(settings.to_data()), ..ConfigMap::default() };
    assert_eq!(ClusterSettings::from_data(&map), Some(settings.clone()));
    assert_eq!(ClusterSettings::from_data(&ConfigMap::default()), None);
    // As a server of an earlier version publishes them, and as an agent of one has kept them.
    let older = ClusterSettings { kubelet_ca_pem: None, ..settings };
    let map = ConfigMap { data: Some(older.to_data()), ..ConfigMap::default() };
    assert_eq!(ClusterSettings::from_data(&map), Some(older));
    let kept = r#"{"cluster-cidr":"c","cluster-dns":[],"cluster-domain":"d","client-ca.crt":"PEM"}"#;
    assert_eq!(serde_json::from_str::<ClusterSettings>(kept).unwrap().kubelet_ca_pem, None);
}
