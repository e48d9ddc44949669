//! The entries of the flag.

use super::*;

#[test]
fn entries_are_upstreams() {
    for good in ["api/all=true", "api/beta=false", "storage.k8s.io/v1", "apps/v1/deployments=true", "v1=1"] {
        assert_eq!(check_runtime_config([good]), Ok(()), "{good}");
    }
    for (wrong, want) in [
        ("api/all=maybe", "invalid value of api/all: \"maybe\": invalid syntax"),
        ("example.com/v1=true", "unknown api groups example.com"),
        ("apps/v1beta9=true", "group version apps/v1beta9 that has not been registered"),
        ("apps/v1/pods=true", "group version apps/v1 has no resource \"pods\""),
        ("apps=true", "runtime-config invalid key apps"),
        ("apps/v1=false", "apps/v1 cannot be turned off by this server yet"),
    ] {
        assert_eq!(check_runtime_config([wrong]).unwrap_err().to_string(), want);
    }
}
