//! The entries of the flag.

use super::*;

fn check(entry: &str) -> Result<(), RuntimeConfigError> {
    RuntimeConfig::parse([entry]).map(drop)
}

fn served(entries: &[&str]) -> Vec<String> {
    let rows = RuntimeConfig::parse(entries.iter().copied()).unwrap().rows();
    rows.iter().map(|row| format!("{}/{}", row.api_version(), row.plural)).collect()
}

#[test]
fn entries_are_upstreams() {
    for good in [
        "api/all=true",
        "api/beta=false",
        "storage.k8s.io/v1",
        "apps/v1/deployments=true",
        "v1=1",
        "networking.k8s.io/v1beta1=true",
        "networking.k8s.io/v1beta1/ipaddresses=false",
        "scheduling.k8s.io/v1alpha2=false",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for (wrong, want) in [
        ("api/all=maybe", "invalid value of api/all: \"maybe\": invalid syntax"),
        ("example.com/v1=true", "unknown api groups example.com"),
        ("apps/v1beta9=true", "group version apps/v1beta9 that has not been registered"),
        ("apps/v1/pods=true", "group version apps/v1 has no resource \"pods\""),
        (
            "networking.k8s.io/v1beta1/pods",
            "group version networking.k8s.io/v1beta1 has no resource \"pods\"",
        ),
        ("apps=true", "runtime-config invalid key apps"),
        ("apps/v1=false", "apps/v1 cannot be turned off by this server yet"),
        (
            "scheduling.k8s.io/v1alpha2=true",
            "scheduling.k8s.io/v1alpha2 cannot be turned on: this server does not have it",
        ),
        (
            "resource.k8s.io/v1beta2/devicetaintrules",
            "resource.k8s.io/v1beta2/devicetaintrules cannot be turned on: this server does not have it",
        ),
    ] {
        assert_eq!(check(wrong).unwrap_err().to_string(), want);
    }
}

#[test]
fn the_narrower_entry_outranks_the_wider() {
    assert_eq!(served(&[]), [""; 0]);
    assert_eq!(served(&["networking.k8s.io/v1beta1/ipaddresses"]), ["networking.k8s.io/v1beta1/ipaddresses"]);
    let all = served(&["api/all=true"]);
    assert!(all.len() > 8, "{all:?}");
    assert!(served(&["api/all=true", "api/beta=false"]).iter().all(|row| row.contains("v1alpha1")));
    let most = served(&["api/beta=true", "resource.k8s.io/v1beta2=false"]);
    assert!(!most.is_empty() && most.iter().all(|row| !row.starts_with("resource.k8s.io")), "{most:?}");
    let left_out = RuntimeConfig::parse(["api/beta=true"]).unwrap().left_out();
    assert!(left_out.iter().any(|one| one == "coordination.k8s.io/v1beta1 leasecandidates"), "{left_out:?}");
    assert!(left_out.iter().all(|one| !one.contains("alpha")), "{left_out:?}");
}
