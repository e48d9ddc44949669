//! Tests of `kuberc set`: what it makes of a file, and what it refuses.

use super::{KubercCommand, SetArgs};
use crate::output::yaml;
use crate::preferences;
use crate::verbs::Verb;

fn set(line: &str) -> SetArgs {
    let words = ["kubectl", "kuberc", "set"].into_iter().chain(line.split(' ')).map(Into::into).collect();
    let cli = crate::cli::parse(words).unwrap_or_else(|stop| panic!("{}", stop.text));
    let Verb::Kuberc(args) = cli.verb else { panic!("another verb") };
    let KubercCommand::Set(args) = args.command else { panic!("another command") };
    *args
}

#[test]
fn entries_are_added_and_replaced_only_if_asked_to() {
    let mut file = preferences::empty();
    for line in [
        "--section defaults --command get --option output=wide",
        "--section aliases --name getn --command get --prependarg nodes --option --output=wide",
        "--section credentialplugin --policy Allowlist --allowlist-entry command=/bin/x",
    ] {
        let args = set(line);
        args.check().unwrap();
        args.apply(&mut file).unwrap();
    }
    let again = set("--section defaults --command get --option output=json");
    let error = again.apply(&mut file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: defaults for command \"get\" already exist, use --overwrite to replace"
    );
    set("--section defaults --command get --option output=json --overwrite").apply(&mut file).unwrap();
    set("--section defaults --command get --overwrite").apply(&mut file).unwrap();
    set("--section aliases --name getn --command get --appendarg x --overwrite").apply(&mut file).unwrap();
    assert_eq!(
        yaml::to_yaml(&preferences::tree(&file).unwrap()),
        "\
aliases:
- appendArgs:
  - x
  command: get
  name: getn
  options:
  - default: wide
    name: output
  prependArgs:
  - nodes
apiVersion: kubectl.config.k8s.io/v1beta1
credentialPluginAllowlist:
- command: /bin/x
credentialPluginPolicy: Allowlist
defaults:
- command: get
  options:
  - default: json
    name: output
kind: Preference
"
    );
}

#[test]
fn flags_that_do_not_belong_together_are_refused() {
    for (line, expected) in [
        ("--section x", "--section must be"),
        ("--section aliases --command get", "--name is required"),
        ("--section defaults --command get --name x", "--name should not be specified"),
        ("--section defaults --command get --appendarg x", "are only valid for --section=aliases"),
        ("--section defaults", "--command is required"),
        ("--section credentialplugin", "--policy is required"),
        ("--section credentialplugin --policy Allowlist", "--allowlist-entry is required"),
        ("--section credentialplugin --policy DenyAll --allowlist-entry command=x", "may only be used"),
        ("--section credentialplugin --policy Often", "--policy must be"),
    ] {
        let error = set(line).check().unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
