//! Variables of containers that come from files.

use super::*;

#[test]
fn variables_of_files_come_from_the_pods_own_empty_volumes() {
    let from = |list: &str, reference: Value| {
        let env = json!([{"name": "A", "valueFrom": {"fileKeyRef": reference}}]);
        let one = json!({"name": "d", "image": "i", "env": env});
        faults(json!({
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "host", "hostPath": {"path": "/x"}}],
            list: [one],
        }))
    };
    let good = json!({"volumeName": "v", "path": "a/b.env", "key": "A"});
    let with = |field: &str, value: &str| {
        let mut reference = good.clone();
        reference[field] = json!(value);
        reference
    };
    for list in ["containers", "initContainers"] {
        assert_eq!(from(list, good.clone()), [""; 0]);
        assert_eq!(from(list, with("path", "/a.env")), [""; 0], "it begins at the volume's top");
        let at = format!("spec.{list}[0].env[0].valueFrom.fileKeyRef");
        let cases = [
            ("path", "", "path: Required value"),
            ("path", "a/../../b", "path: Invalid value: \"a/../../b\": must not contain '..'"),
            ("key", "", "key: Required value"),
            (
                "key",
                "a=b",
                "key: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ),
            ("volumeName", "none", "volumeName: Not found: \"none\""),
            (
                "volumeName",
                "host",
                "volumeName: Invalid value: \"host\": referenced volume must be of type emptyDir",
            ),
        ];
        for (field, value, fault) in cases {
            assert_eq!(from(list, with(field, value)), [format!("{at}.{fault}")]);
        }
        let none = from(list, with("volumeName", ""));
        assert_eq!(none[0], format!("{at}.volumeName: Required value"));
        let wrong = from(list, with("volumeName", "../v"));
        assert!(wrong[0].contains("a lowercase RFC 1123 label must consist of"), "{wrong:?}");
    }
}
