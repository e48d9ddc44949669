//! Tests of served files: types, folders, and that nothing else can be reached.

use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};

use super::answer;

#[test]
fn files_and_folders_are_served_and_nothing_above_them() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("www");
    std::fs::create_dir_all(root.join("sub folder")).unwrap();
    std::fs::create_dir_all(root.join("site")).unwrap();
    std::fs::write(outer.path().join("secret"), "x").unwrap();
    std::fs::write(root.join("a.html"), "<p>").unwrap();
    std::fs::write(root.join("site/index.html"), "home").unwrap();

    let page = answer(&root, "a.html");
    assert_eq!((page.status(), page.body().as_ref()), (StatusCode::OK, &b"<p>"[..]));
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(answer(&root, "site/").body().as_ref(), b"home");
    let moved = answer(&root, "site");
    assert_eq!(
        (moved.status(), &moved.headers()[LOCATION]),
        (StatusCode::MOVED_PERMANENTLY, &"site/".parse().unwrap())
    );
    let list = answer(&root, "");
    let text = String::from_utf8(list.body().to_vec()).unwrap();
    assert!(text.contains("<a href=\"sub%20folder/\">sub folder/</a>"), "{text}");
    assert_eq!(answer(&root, "sub%20folder/").status(), StatusCode::OK);
    for path in ["../secret", "%2e%2e/secret", "site/../../secret", "none", "%", "%ff", "a%00"] {
        assert_eq!(answer(&root, path).status(), StatusCode::NOT_FOUND, "{path}");
    }
}
