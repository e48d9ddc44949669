//! Tests of kubeconfig files: precedence, merging, resolution, writing.

use std::path::{Path, PathBuf};

use super::{Kubeconfig, KubeconfigError, Loaded, NamedCluster, NamedContext, NamedUser, Overrides, Places};
use crate::https::Token;

const FIRST: &str = r"
apiVersion: v1
kind: Config
preferences: {}
clusters:
- cluster: {server: 'https://one:6443', certificate-authority: ca.crt}
  name: one
contexts:
- context: {cluster: one, user: admin, namespace: team}
  name: a
current-context: a
users:
- name: admin
  user: {token: secret, colour: blue}
";

const SECOND: &str = r"
clusters:
- cluster: {server: 'https://other:6443'}
  name: one
- cluster: {server: 'https://two:6443', insecure-skip-tls-verify: true}
  name: two
contexts:
- context: {cluster: two, user: plugin}
  name: b
current-context: b
users:
- name: plugin
  user: {exec: {command: aws}}
";

fn places(directory: &Path, files: &[(&str, &str)]) -> Places {
    let mut list = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        list.push(path.display().to_string());
    }
    Places {
        explicit: None,
        variable: Some(list.join(":")),
        home: None,
        system: PathBuf::from("/nonexistent"),
    }
}

#[test]
fn the_first_file_that_names_an_entry_wins() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.crt"), "PEM").unwrap();
    let loaded = Loaded::load(&places(directory.path(), &[("1", FIRST), ("2", SECOND)])).unwrap();
    assert_eq!(loaded.merged.current_context, "a");
    let config = loaded.merged.https_config(&Overrides::default()).unwrap();
    assert_eq!(config.server, "https://one:6443");
    assert_eq!(config.ca_pem.as_deref(), Some(&b"PEM"[..]), "relative to its own file");
    assert!(matches!(&config.token, Token::Static(token) if token == "secret"));
    assert_eq!(loaded.merged.namespace(&Overrides::default()), "team");
    let context = Overrides { context: Some("b".into()), ..Overrides::default() };
    let error = loaded.merged.https_config(&context).unwrap_err();
    assert!(error.to_string().contains("exec authentication plugin"), "{error}");
}

const USERS: &str = r"
clusters:
- cluster: {server: 'https://one:6443', proxy-url: 'socks5://p', tls-server-name: other}
  name: one
- {cluster: {server: 'https://one:6443', proxy-url: 'gopher://p'}, name: odd}
contexts:
- {context: {cluster: one, user: basic}, name: basic}
- {context: {cluster: odd, user: basic}, name: odd}
- {context: {cluster: one, user: acting}, name: acting}
- {context: {cluster: one, user: old}, name: old}
users:
- {name: basic, user: {username: me, password: word}}
- {name: acting, user: {token: t, as: jane, as-groups: [a, b], as-uid: u, as-user-extra: {Scopes/x: [1x, 2x]}}}
- {name: old, user: {auth-provider: {name: gcp}}}
";

#[test]
fn users_prove_themselves_by_password_and_act_as_others() {
    let config = Kubeconfig::parse(USERS, Path::new("x")).unwrap();
    let of = |context: &str| Overrides { context: Some(context.into()), ..Overrides::default() };
    let basic = config.https_config(&of("basic")).unwrap();
    assert!(matches!(&basic.token, Token::Basic(name, word) if name == "me" && word == "word"));
    assert_eq!(basic.proxy, Some(crate::https::Proxy::parse("socks5://p").unwrap()));
    assert_eq!(basic.tls_server_name.as_deref(), Some("other"));
    let other = Overrides { username: Some("you".into()), password: Some("w".into()), ..of("basic") };
    let other = config.https_config(&other).unwrap();
    assert!(matches!(&other.token, Token::Basic(name, word) if name == "you" && word == "w"));

    let error = config.https_config(&of("odd")).unwrap_err().to_string();
    assert!(error.ends_with("unsupported scheme \"gopher\", must be http, https, or socks5"), "{error}");
    let error = config.https_config(&of("old")).unwrap_err().to_string();
    assert!(error.starts_with("The gcp auth plugin has been removed."), "{error}");

    let header = |name: &str, value: &str| (name.to_string(), value.to_string());
    let acting = config.https_config(&of("acting")).unwrap();
    assert_eq!(
        acting.headers,
        [
            header("Impersonate-User", "jane"),
            header("Impersonate-Uid", "u"),
            header("Impersonate-Group", "a"),
            header("Impersonate-Group", "b"),
            header("Impersonate-Extra-Scopes%2Fx", "1x"),
            header("Impersonate-Extra-Scopes%2Fx", "2x"),
        ]
    );
    let flags = Overrides {
        impersonate: Some("joe".into()),
        impersonate_extra: vec!["k=v".into()],
        impersonate_groups: vec!["g".into()],
        ..of("basic")
    };
    let flags = config.https_config(&flags).unwrap();
    assert_eq!(
        flags.headers,
        [
            header("Impersonate-User", "joe"),
            header("Impersonate-Group", "g"),
            header("Impersonate-Extra-k", "v")
        ]
    );
    let nobody = Overrides { impersonate_groups: vec!["g".into()], ..of("basic") };
    let error = config.https_config(&nobody).unwrap_err().to_string();
    assert!(error.ends_with("requesting uid, groups or user-extra for basic without impersonating a user"));
}

#[test]
fn errors_are_kubectls() {
    let config = Kubeconfig::parse(FIRST, Path::new("x")).unwrap();
    let wrong = Overrides { context: Some("zz".into()), ..Overrides::default() };
    assert_eq!(config.https_config(&wrong).unwrap_err().to_string(), "context \"zz\" does not exist");
    let wrong = Overrides { cluster: Some("zz".into()), ..Overrides::default() };
    assert_eq!(config.https_config(&wrong).unwrap_err().to_string(), "cluster \"zz\" does not exist");
    let none = Kubeconfig::default().https_config(&Overrides::default()).unwrap();
    assert_eq!(none.server, "http://localhost:8080");
    let explicit = Places {
        explicit: Some("/nonexistent/k".into()),
        variable: None,
        home: None,
        system: PathBuf::new(),
    };
    let error = Loaded::load(&explicit).unwrap_err();
    assert!(matches!(error, KubeconfigError::Missing { .. }));
    assert_eq!(error.to_string(), "stat /nonexistent/k: no such file or directory");
}

#[test]
fn the_system_file_is_the_last_resort() {
    let directory = tempfile::tempdir().unwrap();
    let system = directory.path().join("minik8s.yaml");
    std::fs::write(&system, FIRST).unwrap();
    let home = directory.path().join("home");
    let mut places = Places { explicit: None, variable: None, home: Some(home.clone()), system };
    assert_eq!(Loaded::load(&places).unwrap().merged.current_context, "a");
    std::fs::create_dir_all(home.join(".kube")).unwrap();
    std::fs::write(home.join(".kube/config"), SECOND).unwrap();
    assert_eq!(Loaded::load(&places).unwrap().merged.current_context, "b");
    places.variable = Some(directory.path().join("none").display().to_string());
    assert!(Loaded::load(&places).unwrap().is_empty());
}

#[test]
fn an_entry_is_changed_in_its_own_file_and_the_rest_survives() {
    let directory = tempfile::tempdir().unwrap();
    let places = places(directory.path(), &[("1", FIRST), ("2", SECOND)]);
    let mut loaded = Loaded::load(&places).unwrap();
    loaded.use_context("b").unwrap();
    assert!(!loaded.set::<NamedContext>("b", |context| context.namespace = Some("x".into())).unwrap());
    assert!(loaded.set::<NamedContext>("new", |context| context.cluster = "two".into()).unwrap());
    let again = Loaded::load(&places).unwrap();
    for context in ["a", "b", "new"] {
        assert_eq!(again.merged.context(context), loaded.merged.context(context));
    }
    let first = std::fs::read_to_string(directory.path().join("1")).unwrap();
    assert!(first.contains("colour: blue"), "unknown fields survive: {first}");
    assert!(first.contains("current-context: b") && first.contains("name: new"), "{first}");
    let second = std::fs::read_to_string(directory.path().join("2")).unwrap();
    assert!(second.contains("namespace: x"), "{second}");
    assert!(loaded.use_context("zz").is_err());
    assert_eq!(loaded.remove::<NamedContext>("new").unwrap(), Some(directory.path().join("1")));
    assert!(Loaded::load(&places).unwrap().merged.context("new").is_none());
}

#[test]
fn the_system_file_is_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let system = directory.path().join("minik8s.yaml");
    std::fs::write(&system, FIRST).unwrap();
    let home = directory.path().join("home");
    let places = Places { explicit: None, variable: None, home: Some(home.clone()), system: system.clone() };
    let mut loaded = Loaded::load(&places).unwrap();
    loaded.set::<NamedContext>("a", |context| context.namespace = Some("mine".into())).unwrap();
    loaded.remove::<NamedUser>("nobody").unwrap();
    assert_eq!(std::fs::read_to_string(&system).unwrap(), FIRST);
    let again = Loaded::load(&places).unwrap();
    assert_eq!(again.merged.namespace(&Overrides::default()), "mine");
    let cluster = again.merged.cluster("one").unwrap();
    assert_eq!(cluster.server, "https://one:6443", "the cluster stays within reach");
    assert_eq!(
        cluster.certificate_authority.as_deref(),
        Some(directory.path().join("ca.crt").as_path()),
        "paths are relative to the file that they were read from"
    );
    assert!(home.join(".kube/config").exists());

    let homeless = Places { explicit: None, variable: None, home: None, system: system.clone() };
    let mut loaded = Loaded::load(&homeless).unwrap();
    let error = loaded.use_context("a").unwrap_err();
    assert!(error.to_string().contains("HOME is not set"), "{error}");
    assert_eq!(std::fs::read_to_string(&system).unwrap(), FIRST);
}

#[test]
fn a_file_that_is_named_explicitly_is_made_by_the_first_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/new");
    let places = Places { explicit: Some(path.clone()), variable: None, home: None, system: PathBuf::new() };
    assert!(matches!(Loaded::load(&places), Err(KubeconfigError::Missing { .. })));
    let mut loaded = Loaded::load_for_change(&places).unwrap();
    assert!(loaded.set::<NamedCluster>("c", |cluster| cluster.server = "https://x".into()).unwrap());
    assert_eq!(Loaded::load(&places).unwrap().merged.cluster("c").unwrap().server, "https://x");
}

#[test]
fn an_entry_is_removed_from_every_file_and_a_context_renamed_in_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let places = places(directory.path(), &[("1", FIRST), ("2", SECOND)]);
    let mut loaded = Loaded::load(&places).unwrap();
    loaded.remove::<NamedCluster>("one").unwrap();
    assert!(Loaded::load(&places).unwrap().merged.cluster("one").is_none());
    loaded.rename_context("a", "z").unwrap();
    let again = Loaded::load(&places).unwrap();
    assert_eq!(again.merged.current_context, "z");
    assert_eq!(again.merged.context("z").unwrap().user, "admin");
    assert!(again.merged.context("a").is_none());
    assert!(loaded.rename_context("a", "y").is_err());
}
