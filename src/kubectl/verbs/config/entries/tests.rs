//! Tests of what flags make of an entry: what is set clears what it excludes.

use clap::Parser;
use client::kubeconfig::{Cluster, Loaded, Places, User};

use crate::cli::Cli;
use crate::verbs::Verb;

/// Runs `kubectl config …` on one file; answers the entries named `x`.
fn run(lines: &[&str]) -> Result<(Cluster, User), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(directory.path().join("pem"), "PEM").unwrap();
    for line in lines {
        let line = line.replace("PEM", &directory.path().join("pem").display().to_string());
        let words = ["kubectl", "config"].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut global = cli.global;
        global.kubeconfig = Some(path.clone());
        let Verb::Config(args) = cli.verb else { panic!("not config: {line}") };
        crate::verbs::config::run(global, args).map_err(|error| error.to_string())?;
    }
    let places = Places { explicit: Some(path), variable: None, home: None, system: "".into() };
    let merged = Loaded::load(&places).map_err(|error| error.to_string())?.merged;
    let cluster = merged.cluster("x").cloned().unwrap_or_default();
    Ok((cluster, merged.user("x").cloned().unwrap_or_default()))
}

#[test]
fn a_cluster_takes_what_flags_say() {
    let (cluster, _) = run(&[
        "set-cluster x --server=https://a --tls-server-name=n --insecure-skip-tls-verify=true",
        "set-cluster x --certificate-authority=PEM --embed-certs",
    ])
    .unwrap();
    assert_eq!(cluster.server, "https://a");
    assert_eq!(cluster.tls_server_name.as_deref(), Some("n"));
    assert_eq!(cluster.insecure_skip_tls_verify, None, "an authority ends insecure mode");
    assert_eq!(cluster.certificate_authority_data.as_deref(), Some("UEVN"));
    let (cluster, _) = run(&[
        "set-cluster x --certificate-authority=PEM --tls-server-name=n",
        "set-cluster x --insecure-skip-tls-verify --server https://b",
    ])
    .unwrap();
    assert_eq!(cluster.certificate_authority, None, "insecure mode drops the authority");
    assert_eq!(cluster.tls_server_name, None, "the name belonged to the server before");
}

#[test]
fn credentials_exclude_each_other() {
    let (_, user) =
        run(&["set-credentials x --token=t", "set-credentials x --username=u --password=p"]).unwrap();
    assert_eq!(
        (user.token, user.username.as_deref(), user.password.as_deref()),
        (None, Some("u"), Some("p"))
    );
    let (_, user) = run(&[
        "set-credentials x --username=u --password=p",
        "set-credentials x --token=t --client-certificate=PEM --client-key=PEM --embed-certs=true",
    ])
    .unwrap();
    assert_eq!((user.token.as_deref(), user.username, user.password), (Some("t"), None, None));
    assert_eq!(user.client_key_data.as_deref(), Some("UEVN"));
    for (line, why) in [
        ("set-credentials x --token=t --username=u", "more than one authentication method"),
        ("set-credentials x --embed-certs", "--client-certificate or --client-key to embed"),
        ("set-cluster x --embed-certs", "--certificate-authority to embed"),
        ("set-cluster x --embed-certs --certificate-authority=/nonexistent", "could not stat"),
        ("set-credentials x --exec-interactive-mode=Maybe", "invalid interactive mode"),
        ("delete-user x", "cannot delete user x, not in "),
        ("rename-context a b", "cannot rename the context \"a\", it's not in "),
    ] {
        let error = run(&[line]).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn plugins_are_changed_in_place() {
    let (_, user) = run(&[
        "set-credentials x --exec-command=aws --exec-api-version=v1 --exec-arg=a,b --exec-env=K=1 --exec-env=L=2",
        "set-credentials x --exec-env=K=3 --exec-env=L-",
        "set-credentials x --auth-provider=oidc --auth-provider-arg=a=1,b=2",
        "set-credentials x --auth-provider-arg=a-",
    ])
    .unwrap();
    let exec = user.exec.unwrap();
    assert_eq!((exec["command"].as_str(), exec["args"][1].as_str()), (Some("aws"), Some("b")));
    assert_eq!(exec["env"], serde_yaml::from_str::<serde_yaml::Value>("[{name: K, value: '3'}]").unwrap());
    let provider = user.auth_provider.unwrap();
    assert_eq!(provider["config"], serde_yaml::from_str::<serde_yaml::Value>("{b: '2'}").unwrap());
}
