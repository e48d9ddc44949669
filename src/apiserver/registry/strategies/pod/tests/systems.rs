//! What a pod asks of its operating system, and how it is called there.

use super::*;

#[test]
fn faults_are_upstreams() {
    let cases = [
        (
            json!({"os": {"name": "beos"}}),
            "spec.os: Unsupported value: \"beos\": supported values: \"linux\", \"windows\"",
        ),
        (json!({"os": {"name": ""}}), "spec.os.name: Required value"),
        (
            json!({"os": {"name": "windows"}, "securityContext": {"fsGroup": 1}}),
            "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
        ),
        (
            json!({"os": {"name": "windows"}, "hostPID": true}),
            "spec.hostPID: Forbidden: cannot be set for a windows pod",
        ),
        (
            json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            json!({"hostnameOverride": "a.b", "setHostnameAsFQDN": true}),
            "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
        ),
        (
            json!({"hostnameOverride": "a.b", "hostNetwork": true}),
            "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true",
        ),
        (
            json!({"hostnameOverride": "a".repeat(65)}),
            "spec.hostnameOverride: Too long: may not be more than 64 bytes",
        ),
    ];
    for (spec, want) in cases {
        assert_eq!(faults(spec.clone()), [want], "{spec}");
    }
}

#[test]
fn users_of_windows_have_a_form() {
    let count = |name: &str| {
        let options = json!({"windowsOptions": {"runAsUserName": name}});
        faults(json!({"os": {"name": "windows"}, "securityContext": options})).len()
    };
    for name in ["Administrator", r"DOMAIN\user", r"a.example.com\user", r"NT AUTHORITY\SYSTEM"] {
        assert_eq!(count(name), 0, "{name}");
    }
    for name in ["", "a\tb", r"a\b\c", r"D\", "..", "a@b", r".d\u", &"u".repeat(105)] {
        assert_eq!(count(name), 1, "{name:?}");
    }
    let message = "hostNetwork must be true if pod contains any hostProcess containers";
    assert_eq!(
        faults(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}})),
        [format!("spec.hostNetwork: Invalid value: false: {message}")]
    );
}

#[test]
fn searches_may_have_underscores() {
    let count = |search: &str| faults(json!({"dnsConfig": {"searches": [search]}})).len();
    for search in [".", "_tcp.example.com.", "a_b.example"] {
        assert_eq!(count(search), 0, "{search}");
    }
    for search in ["a..b", "_", "A"] {
        assert_eq!(count(search), 1, "{search}");
    }
}
