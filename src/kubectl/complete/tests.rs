//! Tests of completion without a server: which word is asked for, and what it can be.

use super::found::global;
use super::{Directive, What, candidates, line_of, wanted};
use crate::cli::command;

fn words(line: &str) -> Vec<String> {
    line.split(' ').filter(|word| !word.is_empty()).map(str::to_string).collect()
}

fn what(before: &str, last: &str) -> (Vec<String>, What, String) {
    let found = wanted(&command(), &words(before), last);
    (found.named.path, found.what, found.prefix)
}

async fn names(before: &str, last: &str) -> (Vec<String>, Directive) {
    let (root, before) = (command(), words(before));
    let wanted = wanted(&root, &before, last);
    let (found, directive) = candidates(&root, &before, &wanted).await;
    let found = found.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(&wanted.prefix));
    (found.collect(), directive)
}

#[test]
fn a_word_is_a_command_a_flag_a_value_or_an_argument() {
    let path = |line: &str| words(line);
    let arguments = |line: &str| What::Argument(words(line));
    for (before, last, expected) in [
        ("", "ge", (path(""), arguments(""), "ge")),
        ("get", "po", (path("get"), arguments(""), "po")),
        ("-n kube-system get pods", "x", (path("get"), arguments("pods"), "x")),
        ("get -n kube-system pods -w", "x", (path("get"), arguments("pods"), "x")),
        ("get -n", "kube", (path("get"), What::Value("namespace".into()), "kube")),
        ("get", "--namespace=kube", (path("get"), What::Value("namespace".into()), "kube")),
        ("get", "--na", (path("get"), What::Flag, "--na")),
        ("exec -it pod -c", "", (path("exec"), What::Value("container".into()), "")),
        ("exec pod --", "l", (path("exec"), What::Foreign, "l")),
        ("config use-context", "a", (path("config use-context"), arguments(""), "a")),
        (
            "create rolebinding x --clusterrole",
            "",
            (path("create rolebinding"), What::Value("clusterrole".into()), ""),
        ),
        ("delete --cascade", "x", (path("delete"), arguments(""), "x")),
    ] {
        let (expected_path, expected_what, prefix) = expected;
        assert_eq!(what(before, last), (expected_path, expected_what, prefix.to_string()), "{before} {last}");
    }
}

#[tokio::test]
async fn what_needs_no_server_is_completed() {
    assert_eq!(names("", "rol").await, (vec!["rollout".to_string()], Directive::NoFiles));
    assert_eq!(names("rollout", "re").await.0, ["restart", "resume"]);
    assert_eq!(names("rollout restart", "d").await.0, ["deployment", "daemonset"]);
    assert_eq!(names("rollout restart deployment/a", "d").await.1, Directive::NoSpace);
    assert_eq!(names("completion", "").await.0, ["bash", "zsh", "fish", "powershell"]);
    assert_eq!(names("completion bash", "").await.0, Vec::<String>::new());
    assert_eq!(names("get -o", "js").await.0, ["json", "jsonpath", "jsonpath-as-json", "jsonpath-file"]);
    assert_eq!(names("apply -f", "").await.1, Directive::Extensions);
    assert_eq!(names("apply", "").await.1, Directive::NoFiles, "a group of commands has no files");
    assert_eq!(names("kustomize", "").await.1, Directive::Default);
    let flags = names("get", "--show").await.0;
    assert!(flags.contains(&"--show-labels".to_string()), "{flags:?}");
    assert!(names("get", "-").await.0.contains(&"-o".to_string()));
    assert!(names("get", "--kube").await.0.contains(&"--kubeconfig".to_string()));
}

#[tokio::test]
async fn contexts_clusters_and_users_come_from_the_kubeconfig() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(
        &path,
        "contexts: [{name: b, context: {}}, {name: a, context: {}}]\nclusters: [{name: c, cluster: {}}]\nusers: [{name: u, user: {}}]\n",
    )
    .unwrap();
    let line = |rest: &str| format!("--kubeconfig {} {rest}", path.display());
    assert_eq!(names(&line("config use-context"), "").await.0, ["a", "b"]);
    assert_eq!(names(&line("config use-context a"), "").await.0, Vec::<String>::new());
    assert_eq!(names(&line("config delete-cluster"), "").await.0, ["c"]);
    assert_eq!(names(&line("get --user"), "").await.0, ["u"]);
}

#[test]
fn flags_of_every_command_are_found_wherever_they_stand() {
    let line = words("get -l a=b --context one pods -n two -o wide -s=https://x");
    let global = global(&command(), &line);
    assert_eq!(global.context.as_deref(), Some("one"));
    assert_eq!(global.namespace.as_deref(), Some("two"));
    assert_eq!(global.server.as_deref(), Some("https://x"));
}

#[test]
fn only_lines_of_scripts_are_completed() {
    let args = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<_>>();
    assert!(line_of(&args(&["kubectl", "__complete", "get", ""])).is_some_and(|line| line.describes));
    assert!(line_of(&args(&["kubectl", "__completeNoDesc", ""])).is_some_and(|line| !line.describes));
    assert!(line_of(&args(&["kubectl", "get"])).is_none());
}
