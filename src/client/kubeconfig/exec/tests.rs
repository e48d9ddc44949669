//! Tests of exec plugins: what they are told and may answer, caching, policies, and client-go's errors.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::{Plugin, PluginPolicy};
use crate::https::CredentialSource;

fn program(directory: &Path, text: &str) -> String {
    let path = directory.join("plugin");
    // Written by another process: a file that this one has open for writing cannot be executed by a child
    // that another test forks at the same time.
    let script = format!("#!/bin/sh\n{text}\n");
    let status = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &script])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111);
    path.display().to_string()
}

fn plugin(command: &str, more: &str, policy: PluginPolicy) -> Plugin {
    let text = format!(
        "command: {command}\napiVersion: client.authentication.k8s.io/v1\ninteractiveMode: Never\n{more}"
    );
    let exec = serde_yaml::from_str(&text).unwrap();
    Plugin::new("me", &exec, policy, json!({"server": "https://one"})).unwrap()
}

const ANSWER: &str = r#"printf '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"%s"}}' "#;

#[tokio::test]
async fn a_plugin_is_told_of_the_cluster_and_run_again_only_when_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("count");
    let script = format!(
        "echo x >> {0}; echo \"$KUBERNETES_EXEC_INFO\" > {0}.info; {ANSWER} \"$WORD-$1-$(grep -c x {0})\"",
        counter.display()
    );
    let command = program(directory.path(), &script);
    let plugin = plugin(
        &command,
        "args: [first]\nenv: [{name: WORD, value: w}]\nprovideClusterInfo: true",
        PluginPolicy::AllowAll,
    );
    let one = plugin.current().await.unwrap();
    assert_eq!(one.token.as_deref(), Some("w-first-1"));
    assert_eq!(plugin.current().await.unwrap().token.as_deref(), Some("w-first-1"));
    plugin.refused(&one);
    let two = plugin.current().await.unwrap();
    assert_eq!(two.token.as_deref(), Some("w-first-2"));
    plugin.refused(&one);
    assert_eq!(plugin.current().await.unwrap(), two, "only what is in use can be refused");
    let info = std::fs::read_to_string(directory.path().join("count.info")).unwrap();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        info,
        json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
               "spec": {"interactive": false, "cluster": {"server": "https://one"}}})
    );
}

#[tokio::test]
async fn expired_credentials_are_obtained_anew() {
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("count");
    let script = format!(
        r#"echo x >> {0}; printf '{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{{"token":"%s","expirationTimestamp":"2020-01-01T00:00:00Z"}}}}' "$(grep -c x {0})""#,
        counter.display()
    );
    let plugin = plugin(&program(directory.path(), &script), "", PluginPolicy::AllowAll);
    assert_eq!(plugin.current().await.unwrap().token.as_deref(), Some("1"));
    assert_eq!(plugin.current().await.unwrap().token.as_deref(), Some("2"));
}

#[tokio::test]
async fn failures_are_told_in_client_gos_words() {
    let directory = tempfile::tempdir().unwrap();
    for (script, expected) in [
        ("exit 3", "failed with exit code 3"),
        (
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\"}'",
            "exec plugin didn't return a status field",
        ),
        (
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1beta1\"}'",
            "exec plugin is configured to use API version client.authentication.k8s.io/v1, plugin returned version client.authentication.k8s.io/v1beta1",
        ),
        (
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{}}'",
            "exec plugin didn't return a token or cert/key pair",
        ),
        (
            "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{\"clientKeyData\":\"x\"}}'",
            "exec plugin returned only certificate or key, not both",
        ),
        ("echo nonsense", "decoding stdout: "),
    ] {
        let plugin = plugin(&program(directory.path(), script), "", PluginPolicy::AllowAll);
        let error = plugin.current().await.unwrap_err().to_string();
        assert!(error.starts_with("getting credentials: ") && error.contains(expected), "{error}");
    }
    let missing = plugin("/nonexistent/p", "installHint: get it", PluginPolicy::AllowAll);
    let error = missing.current().await.unwrap_err().to_string();
    assert!(error.contains("exec: executable /nonexistent/p not found\n\nIt looks like"), "{error}");
    assert!(error.ends_with("\n\nget it"), "{error}");
}

#[tokio::test]
async fn a_policy_says_which_plugins_run() {
    let directory = tempfile::tempdir().unwrap();
    let command = program(directory.path(), &format!("{ANSWER} t"));
    let allowed = plugin(&command, "", PluginPolicy::Allowlist(vec![command.clone()]));
    assert_eq!(allowed.current().await.unwrap().token.as_deref(), Some("t"));
    let other = plugin(&command, "", PluginPolicy::Allowlist(vec!["other".to_string()]));
    let error = other.current().await.unwrap_err().to_string();
    assert!(error.ends_with("is not permitted by the credential plugin allowlist"), "{error}");
    let denied = plugin(&command, "", PluginPolicy::DenyAll);
    let error = denied.current().await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("getting credentials: plugin {command:?} not allowed: policy set to \"DenyAll\"")
    );
}

#[test]
fn a_plugin_that_is_not_described_well_is_refused_before_it_runs() {
    for (text, expected) in [
        ("apiVersion: client.authentication.k8s.io/v1", "command must be specified for me"),
        ("command: x", "apiVersion must be specified for me"),
        (
            "{command: x, apiVersion: client.authentication.k8s.io/v1alpha1}",
            "exec plugin: invalid apiVersion \"client.authentication.k8s.io/v1alpha1\"",
        ),
        (
            "{command: x, apiVersion: client.authentication.k8s.io/v1}",
            "interactiveMode must be specified for me",
        ),
        (
            "{command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Often}",
            "invalid interactiveMode for me: \"Often\"",
        ),
    ] {
        let exec = serde_yaml::from_str(text).unwrap();
        let error = Plugin::new("me", &exec, PluginPolicy::AllowAll, json!({})).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
