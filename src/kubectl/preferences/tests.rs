//! Tests of preferences: which file counts, what is refused, and how lines are rewritten.

use std::path::PathBuf;

use client::kubeconfig::PluginPolicy;

use super::{Place, Preferences, flag_of, place_of, read};
use crate::cli::command;
use crate::error::Result;

const FILE: &str = "
apiVersion: kubectl.config.k8s.io/v1beta1
kind: Preference
defaults:
- command: get
  options: [{name: output, default: wide}, {name: watch, default: 'true'}]
- command: set env
  options: [{name: list, default: 'true'}]
aliases:
- name: getn
  command: get
  prependArgs: [nodes]
  options: [{name: show-labels, default: 'true'}]
- name: runx
  command: run
  options: [{name: image, default: nginx}]
  appendArgs: [--, sh]
";

fn of(text: &str) -> Preferences {
    read(text, "f").unwrap().unwrap()
}

fn rewritten(preferences: &Preferences, line: &str) -> Result<String> {
    preferences.validate()?;
    let words = std::iter::once("kubectl").chain(line.split(' ')).map(str::to_string).collect();
    Ok(preferences.rewritten(&command(), words)?[1..].join(" "))
}

#[test]
fn lines_get_the_flags_that_they_do_not_give() {
    let preferences = of(FILE);
    for (line, expected) in [
        ("get pods", "get --output=wide --watch=true pods"),
        ("get pods -o yaml", "get --watch=true pods -o yaml"),
        ("get pods -oyaml -w", "get pods -oyaml -w"),
        ("get pods --output=json", "get --watch=true pods --output=json"),
        ("-n get get pods", "-n get get --output=wide --watch=true pods"),
        ("set env deploy/x", "set env --list=true deploy/x"),
        ("set image deploy/x a=b", "set image deploy/x a=b"),
        ("describe get", "describe get"),
        ("getn", "get --show-labels=true nodes"),
        ("getn -l a=b", "get --show-labels=true nodes -l a=b"),
        ("-n x getn one", "-n x get --show-labels=true nodes one"),
        ("getn --show-labels=false", "get nodes --show-labels=false"),
        ("runx web", "run --image=nginx web -- sh"),
        ("__complete getn x", "__complete get --show-labels=true nodes x"),
        ("other x", "other x"),
    ] {
        assert_eq!(rewritten(&preferences, line).unwrap(), expected, "{line}");
    }
}

#[test]
fn old_versions_and_several_documents_are_read() {
    let text = "kind: Other\n---\napiVersion: kubectl.config.k8s.io/v1alpha1\nkind: Preference\noverrides:\n- command: delete\n  flags: [{name: interactive, default: 'true'}]\naliases: null\n";
    assert_eq!(rewritten(&of(text), "delete pod x").unwrap(), "delete --interactive=true pod x");
    assert_eq!(read("", "f"), Ok(None));
    assert!(read("a: b", "f").unwrap_err().to_string().starts_with("no valid preferences found in f"));
}

#[test]
fn what_is_wrong_is_told_in_kubectls_words() {
    let with = |text: &str| format!("apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n{text}");
    for (text, line, expected) in [
        (
            "aliases: [{name: a-b, command: get}]",
            "get",
            "invalid alias name, can only include alphabetical characters",
        ),
        ("aliases: [{name: a, command: get}, {name: a, command: run}]", "get", "duplicate alias name a"),
        ("aliases: [{name: a, command: nope}]", "a", "command \"nope\" not found to set alias \"a\": [nope]"),
        (
            "aliases: [{name: a, command: get, options: [{name: nope, default: x}]}]",
            "a",
            "invalid alias flag nope in alias a",
        ),
        (
            "defaults: [{command: get, options: [{name: nope, default: x}]}]",
            "get pods",
            "invalid flag nope for command get",
        ),
        (
            "defaults: [{command: get, options: [{name: --output, default: x}]}]",
            "get",
            "flag name --output should be in long form without dashes",
        ),
    ] {
        let error = rewritten(&of(&with(text)), line).unwrap_err();
        assert_eq!(error.to_string(), format!("error: {expected}"));
    }
}

#[test]
fn the_file_is_the_flags_the_variables_or_the_homes() {
    let place = |file: &str, is_explicit: bool| Some(Place { file: PathBuf::from(file), is_explicit });
    let home = || Some(PathBuf::from("/home/me"));
    assert_eq!(place_of(None, "", home()).unwrap(), place("/home/me/.kube/kuberc", false));
    assert_eq!(place_of(None, "/v", home()).unwrap(), place("/v", true));
    assert_eq!(place_of(Some("/f"), "/v", home()).unwrap(), place("/f", true));
    assert_eq!(place_of(None, "off", home()).unwrap(), None);
    assert!(place_of(Some("/f"), "off", home()).is_err());
    let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<_>>();
    assert_eq!(flag_of(&words("get --kuberc f pods")).unwrap().as_deref(), Some("f"));
    assert_eq!(flag_of(&words("get --kuberc=f pods")).unwrap().as_deref(), Some("f"));
    assert_eq!(flag_of(&words("exec x -- --kuberc f")).unwrap(), None);
    assert!(flag_of(&words("get --kuberc")).is_err());
}

#[test]
fn a_policy_needs_a_list_only_if_it_is_one() {
    let policy = |text: &str| {
        of(&format!("apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n{text}")).plugin_policy()
    };
    assert_eq!(policy("").unwrap(), PluginPolicy::AllowAll);
    assert_eq!(policy("credentialPluginPolicy: DenyAll").unwrap(), PluginPolicy::DenyAll);
    let list = "credentialPluginPolicy: Allowlist\ncredentialPluginAllowlist:";
    assert_eq!(
        policy(&format!("{list} [{{command: /bin/x}}]")).unwrap(),
        PluginPolicy::Allowlist(vec!["/bin/x".to_string()])
    );
    for wrong in [" []", " [{}]", " [{command: /bin/../x}]", ""] {
        assert!(policy(&format!("{list}{wrong}")).is_err(), "{wrong}");
    }
    assert!(policy("credentialPluginPolicy: Sometimes").is_err());
    assert!(policy("credentialPluginAllowlist: [{command: x}]").is_err());
}
