//! What each credential is good for, and what ends it: tokens, a node's own key, the administrator's
//! kubeconfig, the authority of kubelets.

use std::fs;
use std::path::Path;
use std::time::Duration;

use minik8s_tests::{Agent, Cluster, CommandOutcome, Options, eventually, run};

fn server_of(cluster: &Cluster) -> String {
    cluster.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]).ok()
}

fn minik8s(cluster: &Cluster, arguments: &[&str]) -> CommandOutcome {
    let mut command = cluster.minik8s(arguments);
    run(command.arg("--data-dir").arg(cluster.data_dir()), "")
}

/// kubectl with nothing but this token.
fn as_bearer(cluster: &Cluster, token: &str, arguments: &[&str], input: &str) -> CommandOutcome {
    let (server, token) = (server_of(cluster), format!("--token={}", token.trim()));
    let mut all = vec!["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server, &token];
    all.extend(arguments);
    cluster.kubectl_with(&all, input)
}

fn openssl(arguments: &[&str]) -> CommandOutcome {
    run(std::process::Command::new("openssl").args(arguments), "")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A request for a node's client certificate, with annotations as JSON.
fn node_request(cluster: &Cluster, name: &str, node: &str, annotations: &str) -> String {
    let (key, csr) =
        (cluster.folder().join(format!("{name}.key")), cluster.folder().join(format!("{name}.csr")));
    if !csr.exists() {
        let subject = format!("/O=system:nodes/CN=system:node:{node}");
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", text(&key)]).ok();
        openssl(&["req", "-new", "-key", text(&key), "-subj", &subject, "-out", text(&csr)]).ok();
    }
    let request = openssl(&["base64", "-A", "-in", text(&csr)]).ok();
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}, annotations: {annotations}}}\n\
         spec:\n  request: {request}\n  signerName: kubernetes.io/kube-apiserver-client-kubelet\n  \
         usages: [client auth, digital signature]\n"
    )
}

fn wait_for_outcome(cluster: &Cluster, request: &str, wanted: &str) {
    eventually(&format!("request {request} is {wanted}"), Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "csr", request]);
        if outcome.stdout.contains(wanted) { Ok(()) } else { Err(outcome.to_string()) }
    });
}

#[test]
fn tokens_let_machines_join_and_end() {
    let cluster = Cluster::control_plane();
    let read = |name: &str| fs::read_to_string(cluster.data_dir().join("server").join(name)).unwrap();
    let who = |token: &str| {
        as_bearer(&cluster, token, &["auth", "whoami", "-o", "jsonpath={.status.userInfo}"], "")
    };
    let (server, agents) = (read("token"), read("agent-token"));
    assert!(who(&agents).ok().contains("system:bootstrap:minik8s"));
    who(&server).failed();
    let fresh = minik8s(&cluster, &["token", "rotate"]).ok();
    assert_eq!(read("agent-token"), fresh);
    who(&agents).failed();
    who(&fresh).ok();

    let token = minik8s(&cluster, &["token", "create", "--ttl", "1h", "--description", "for the rack"]).ok();
    let id = token.trim().rsplit("::").next().unwrap().split('.').next().unwrap().to_string();
    assert!(who(&token).ok().contains(&format!("system:bootstrap:{id}")));
    assert!(as_bearer(&cluster, &token, &["get", "nodes"], "").failed().contains("cannot list resource"));
    let list = minik8s(&cluster, &["token", "list"]).ok();
    assert!(list.contains(&id) && list.contains("for the rack") && !list.contains(token.trim()), "{list}");
    // It is kubeadm's kind of Secret.
    let name = format!("bootstrap-token-{id}");
    let kind = cluster.kubectl(&["get", "secret", "-n", "kube-system", &name, "-o", "jsonpath={.type}"]).ok();
    assert_eq!(kind, "bootstrap.kubernetes.io/token");
    minik8s(&cluster, &["token", "delete", &id]).ok();
    who(&token).failed();
    assert!(minik8s(&cluster, &["token", "delete", &id]).failed().contains("token list"));

    let brief = minik8s(&cluster, &["token", "create", "--ttl", "2s", "abcdef.0123456789abcdef"]).ok();
    eventually("the token has ended and is removed", Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "secret", "-n", "kube-system", "bootstrap-token-abcdef"]);
        if outcome.success { Err(outcome.to_string()) } else { Ok(()) }
    });
    who(&brief).failed();
    assert!(minik8s(&cluster, &["token", "create", "ABC"]).failed().contains("abcdef.0123456789abcdef"));
}

#[test]
fn a_token_makes_nobody_a_node_that_is_there() {
    let cluster = Cluster::control_plane();
    let token = minik8s(&cluster, &["token", "create"]).ok();
    let ask = |name: &str, annotations: &str| {
        let request = node_request(&cluster, name, "ten", annotations);
        as_bearer(&cluster, &token, &["create", "-f", "-"], &request).ok();
    };
    ask("first", "{}");
    wait_for_outcome(&cluster, "first", "Approved,Issued");
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: ten}\n";
    cluster.kubectl_with(&["create", "-f", "-"], node).ok();
    eventually("the name is taken", Duration::from_secs(20), || {
        let _ = cluster.kubectl(&["delete", "csr", "thief", "--ignore-not-found"]);
        ask("thief", "{}");
        let told = eventually("the request is judged", Duration::from_secs(20), || {
            let outcome =
                cluster.kubectl(&["get", "csr", "thief", "-o", "jsonpath={.status.conditions[0].type}"]);
            if outcome.stdout.is_empty() { Err(outcome.to_string()) } else { Ok(outcome.stdout) }
        });
        if told == "Denied" { Ok(()) } else { Err(told) }
    });
    let path = "jsonpath={.status.conditions[0].type}/{.status.conditions[0].reason}/{.status.conditions[0].message}";
    let told = cluster.kubectl(&["get", "csr", "thief", "-o", path]).ok();
    assert!(told.starts_with("Denied/NodeExists/node ten exists"), "{told}");

    // Who has its key: the certificate of the first request, and a signature by its key over the new one.
    let folder = cluster.folder();
    let pem = cluster.kubectl(&["get", "csr", "first", "-o", "jsonpath={.status.certificate}"]).ok();
    fs::write(folder.join("old.b64"), pem).unwrap();
    openssl(&[
        "base64",
        "-d",
        "-A",
        "-in",
        text(&folder.join("old.b64")),
        "-out",
        text(&folder.join("old.crt")),
    ])
    .ok();
    let _ = node_request(&cluster, "again", "ten", "{}");
    let (der, signature) = (folder.join("again.der"), folder.join("again.sig"));
    openssl(&["req", "-in", text(&folder.join("again.csr")), "-outform", "DER", "-out", text(&der)]).ok();
    let proof = |key: &str| {
        let key = folder.join(key);
        openssl(&["dgst", "-sha256", "-sign", text(&key), "-out", text(&signature), text(&der)]).ok();
        let signed = openssl(&["base64", "-A", "-in", text(&signature)]).ok();
        let certificate = fs::read_to_string(folder.join("old.crt")).unwrap();
        serde_json::json!({
            "node.minik8s.io/previous-certificate": certificate,
            "node.minik8s.io/previous-key-signature": signed.trim(),
        })
        .to_string()
    };
    ask("again", &proof("thief.key"));
    wait_for_outcome(&cluster, "again", "Denied");
    cluster.kubectl(&["delete", "csr", "again"]).ok();
    ask("again", &proof("first.key"));
    wait_for_outcome(&cluster, "again", "Approved,Issued");
}

#[test]
fn a_fresh_kubeconfig_is_made_on_the_servers_machine() {
    let cluster = Cluster::control_plane();
    let file = cluster.folder().join("fresh");
    minik8s(&cluster, &["kubeconfig", "--ttl", "1h", "--output", text(&file)]).ok();
    let with = |file: &Path, arguments: &[&str]| {
        let mut all = vec!["--kubeconfig", text(file)];
        all.extend(arguments);
        cluster.kubectl(&all)
    };
    with(&file, &["get", "nodes"]).ok();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let data =
        with(&file, &["config", "view", "--raw", "-o", "jsonpath={.users[0].user.client-certificate-data}"])
            .ok();
    let (encoded, certificate) = (cluster.folder().join("b64"), cluster.folder().join("fresh.crt"));
    fs::write(&encoded, data).unwrap();
    openssl(&["base64", "-d", "-A", "-in", text(&encoded), "-out", text(&certificate)]).ok();
    openssl(&["x509", "-noout", "-checkend", "3000", "-in", text(&certificate)]).ok();
    openssl(&["x509", "-noout", "-checkend", "3700", "-in", text(&certificate)]).failed();
    // The server's own file: 90 days, not a year.
    let own = cluster.data_dir().join("server/tls/client-admin.crt");
    openssl(&["x509", "-noout", "-checkend", "7700000", "-in", text(&own)]).ok();
    openssl(&["x509", "-noout", "-checkend", "7800000", "-in", text(&own)]).failed();
    let printed = minik8s(&cluster, &["kubeconfig", "--server", "https://api.example:6443"]).ok();
    assert!(printed.contains("server: https://api.example:6443"), "{printed}");
    assert!(minik8s(&cluster, &["kubeconfig", "--ttl", "9000h"]).failed().contains("90 days"));
}

#[test]
fn a_node_joins_by_a_token_that_ends_and_needs_none_afterwards() {
    let cluster = Cluster::start_with(Options { node: false, flags: Vec::new() });
    let token = minik8s(&cluster, &["token", "create", "--ttl", "1h"]).ok();
    let mut agent = Agent::start_with_token(&cluster, "two", token.trim());
    let ready = |agent: &Agent, times: usize| {
        eventually("the agent's node is Ready", Duration::from_secs(60), || {
            let log = agent.log();
            if log.matches("the node is Ready").count() >= times { Ok(()) } else { Err(log) }
        });
    };
    ready(&agent, 1);
    let serving = agent.data_dir().join("agent/kubelet-serving.crt");
    eventually("the kubelet has its certificate", Duration::from_secs(30), || {
        if serving.exists() { Ok(()) } else { Err(agent.log()) }
    });
    let tls = cluster.data_dir().join("server/tls");
    let verify =
        |authority: &str| openssl(&["verify", "-CAfile", text(&tls.join(authority)), text(&serving)]);
    verify("kubelet-ca.crt").ok();
    verify("server-ca.crt").failed();
    let published = cluster
        .kubectl(&[
            "get",
            "configmap",
            "-n",
            "kube-public",
            "kubelet-serving-ca",
            "-o",
            r"jsonpath={.data.ca\.crt}",
        ])
        .ok();
    assert_eq!(published, fs::read_to_string(tls.join("kubelet-ca.crt")).unwrap());
    let range = cluster.kubectl(&["get", "node", "two", "-o", "jsonpath={.spec.podCIDR}"]).ok();
    assert!(range.starts_with("10.42."), "given by the controller: {range}");

    agent.kill();
    agent.set_token(None);
    agent.restart(&cluster);
    ready(&agent, 2);
    // As an agent of an earlier version has it: signed by the server's authority.
    agent.kill();
    let old = fs::read(tls.join("serving-kube-apiserver.crt")).unwrap();
    let key = fs::read(tls.join("serving-kube-apiserver.key")).unwrap();
    fs::write(&serving, &old).unwrap();
    fs::write(serving.with_extension("key"), key).unwrap();
    agent.restart(&cluster);
    eventually("a certificate of the kubelets' authority is asked for", Duration::from_secs(60), || {
        let outcome = verify("kubelet-ca.crt");
        if outcome.success { Ok(()) } else { Err(format!("{outcome}{}", agent.log())) }
    });
    agent.remove(&cluster);
}

/// A certificate that ended a year ago, of the cluster's authority, in the place of the one that is there,
/// for the same key.
fn let_certificate_end(cluster: &Cluster, pair: &Path) {
    let (request, tls) = (cluster.folder().join("ended.csr"), cluster.data_dir().join("server/tls"));
    let (key, certificate) = (pair.with_extension("key"), pair.with_extension("crt"));
    let subject = "/O=system:nodes/CN=system:node:two";
    openssl(&["req", "-new", "-key", text(&key), "-subj", subject, "-out", text(&request)]).ok();
    let mut signing = std::process::Command::new("openssl");
    signing.env("LD_PRELOAD", crate::clock::library()).env("FAKETIME", "-400d");
    signing.args([
        "x509",
        "-req",
        "-days",
        "30",
        "-set_serial",
        "77",
        "-in",
        text(&request),
        "-out",
        text(&certificate),
    ]);
    // Without an extension it would be of version 1, which TLS libraries refuse.
    let extensions = cluster.folder().join("extensions");
    fs::write(&extensions, "extendedKeyUsage=clientAuth\n").unwrap();
    signing.arg("-extfile").arg(extensions);
    signing.arg("-CA").arg(tls.join("client-ca.crt")).arg("-CAkey").arg(tls.join("client-ca.key"));
    run(&mut signing, "").ok();
    openssl(&["x509", "-noout", "-checkend", "0", "-in", text(&certificate)]).failed();
}

#[test]
fn a_node_comes_back_with_its_key_and_a_new_machine_only_after_the_old_one_is_deleted() {
    let cluster = Cluster::control_plane();
    let token = minik8s(&cluster, &["token", "create", "--ttl", "1h"]).ok();
    let mut agent = Agent::start_with_token(&cluster, "two", token.trim());
    let client = agent.data_dir().join("agent/kubelet-client.crt");
    eventually("the node is there", Duration::from_secs(60), || {
        let outcome = cluster.kubectl(&["get", "node", "two"]);
        if outcome.success { Ok(()) } else { Err(format!("{outcome}{}", agent.log())) }
    });
    agent.kill();
    let_certificate_end(&cluster, &client);
    agent.restart(&cluster);
    eventually("the node has a certificate again", Duration::from_secs(60), || {
        let outcome = openssl(&["x509", "-noout", "-checkend", "0", "-in", text(&client)]);
        if outcome.success { Ok(()) } else { Err(format!("{outcome}{}", agent.log())) }
    });

    // The same machine without its keys is a stranger.
    agent.kill();
    for name in ["crt", "key"] {
        fs::remove_file(client.with_extension(name)).unwrap();
    }
    agent.restart(&cluster);
    eventually("the agent says what is wrong", Duration::from_secs(60), || {
        let log = agent.log();
        if log.contains("node two exists") && log.contains("kubectl delete node two") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert!(!client.exists());
    cluster.kubectl(&["delete", "node", "two"]).ok();
    eventually("it joins as a new node", Duration::from_secs(90), || {
        let outcome = cluster.kubectl(&["get", "node", "two"]);
        if outcome.success && client.exists() { Ok(()) } else { Err(format!("{outcome}{}", agent.log())) }
    });
    agent.remove(&cluster);
}
