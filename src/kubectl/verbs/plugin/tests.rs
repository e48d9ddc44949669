//! Which words name a plugin, and which program they name.

use super::*;

fn line(words: &[&str]) -> Vec<OsString> {
    ["kubectl"].iter().chain(words).map(OsString::from).collect()
}

fn named(text: &[&str]) -> Option<usize> {
    words(&line(text), &crate::cli::command()).map(<[OsString]>::len)
}

#[test]
fn only_what_kubectl_does_not_have_is_a_plugin() {
    assert_eq!(named(&["foo", "bar", "--flag", "more"]), Some(2));
    assert_eq!(named(&["get", "foo"]), None);
    assert_eq!(named(&["help", "foo"]), None);
    assert_eq!(named(&["-n", "x", "foo"]), None);
    assert_eq!(named(&["create", "networkthing", "a"]), Some(3));
    assert_eq!(named(&["create", "deployment", "a"]), None);
    assert_eq!(named(&["create", "-f", "a"]), None);
    assert_eq!(named(&[]), None);
}

#[test]
fn the_longest_name_wins_and_dashes_become_underscores() {
    let dir = tempfile::tempdir().unwrap();
    let program = |name: &str, mode: u32| {
        let file = dir.path().join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    program("kubectl-foo", 0o755);
    program("kubectl-foo-bar_baz", 0o755);
    program("kubectl-foo-bar_baz-more", 0o644);
    let found = |words: &[&str], least: usize| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        find(&words, least, dir.path().as_os_str())
            .map(|(file, count)| (file.file_name().unwrap().to_string_lossy().into_owned(), count))
    };
    assert_eq!(found(&["foo", "bar-baz", "more"], 1), Some(("kubectl-foo-bar_baz".to_string(), 2)));
    assert_eq!(found(&["foo", "other"], 1), Some(("kubectl-foo".to_string(), 1)));
    assert_eq!(found(&["foo", "other"], 2), None);
    assert_eq!(found(&["../kubectl-foo"], 1), None);

    let mut seen = BTreeMap::new();
    let command = crate::cli::command();
    let told = |name: &str, seen: &mut BTreeMap<String, PathBuf>| {
        verify(&dir.path().join(name), name, seen, &command)
    };
    assert!(told("kubectl-foo", &mut seen).is_empty());
    assert!(told("kubectl-foo", &mut seen)[0].contains("is overshadowed by"));
    assert!(told("kubectl-foo-bar_baz-more", &mut seen)[0].contains("is not executable"));
    assert!(told("kubectl-get", &mut seen)[1].contains("overwrites existing command: \"kubectl get\""));
}
