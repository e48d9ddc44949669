//! Names as docker normalises them.

use super::*;

#[test]
fn names_get_dockers_defaults() {
    for (text, want) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("a/b", "docker.io/a/b:latest"),
        ("localhost/b", "localhost/b:latest"),
        ("localhost:5000/b:x", "localhost:5000/b:x"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("index.docker.io/a", "docker.io/library/a:latest"),
        ("r.example/a__b/c-d.e", "r.example/a__b/c-d.e:latest"),
    ] {
        assert_eq!(ImageName::parse(text).unwrap().canonical(), want, "{text}");
    }
    let digest = format!("a/b@sha256:{}", "0".repeat(64));
    assert_eq!(ImageName::parse(&digest).unwrap().canonical(), format!("docker.io/{digest}"));
}

#[test]
fn bad_names_are_refused() {
    for bad in ["", "Busy/Box", "a b", "a:", "a:b:c", "a/", "/a", "a@b", "a..b", "-a", "a:-x", "InvalidImage"]
    {
        assert!(ImageName::parse(bad).is_err(), "{bad}");
    }
}
