//! Who may do what, over the network: certificates, anonymous callers, signing requests, service account
//! tokens.

use std::time::Duration;

use minik8s_tests::{Cluster, Options, eventually, run};

#[test]
fn strangers_see_health_and_nothing_else() {
    let cluster = Cluster::control_plane();
    let server = server_of(&cluster);
    let raw = |path: &str| {
        let mut curl = cluster.network.command(0, "curl".as_ref());
        run(curl.args(["-sk", &format!("{server}{path}")]), "")
    };
    assert_eq!(raw("/readyz").ok(), "ok");
    assert!(raw("/cacerts").ok().contains("BEGIN CERTIFICATE"));
    assert!(raw("/livez").ok() == "ok" && raw("/healthz").ok() == "ok");
    for path in ["/version", "/api/v1/namespaces", "/api", "/openapi/v3", "/metrics", "/", "/nowhere"] {
        let refused = raw(path).json();
        assert_eq!(
            (&refused["reason"], &refused["code"]),
            (&"Unauthorized".into(), &401.into()),
            "{path}: {refused}"
        );
    }
}

#[test]
fn strangers_are_authorized_as_upstream_does_if_a_flag_says_so() {
    let flags = vec!["--anonymous-auth".to_string()];
    let cluster = Cluster::start_with(Options { node: false, flags });
    let server = server_of(&cluster);
    let raw = |path: &str| {
        let mut curl = cluster.network.command(0, "curl".as_ref());
        run(curl.args(["-sk", &format!("{server}{path}")]), "")
    };
    assert!(raw("/version").ok().contains("gitVersion"));
    let refused = raw("/api/v1/namespaces").json();
    assert_eq!(refused["reason"], "Forbidden", "{refused}");
    let wanted = "namespaces is forbidden: User \"system:anonymous\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope";
    assert_eq!(refused["message"], wanted);
}

fn server_of(cluster: &Cluster) -> String {
    cluster.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]).ok()
}

#[test]
fn a_service_account_may_do_what_its_role_says() {
    let cluster = Cluster::control_plane();
    let server = server_of(&cluster);
    cluster.kubectl(&["create", "serviceaccount", "reader"]).ok();
    cluster.kubectl(&["create", "role", "reads", "--verb=get,list", "--resource=configmaps"]).ok();
    cluster
        .kubectl(&["create", "rolebinding", "reads", "--role=reads", "--serviceaccount=default:reader"])
        .ok();
    let token = cluster.kubectl(&["create", "token", "reader"]).ok();
    let token = format!("--token={}", token.trim());
    let as_reader = |arguments: &[&str]| {
        let mut all =
            vec!["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server, &token];
        all.extend(arguments);
        cluster.kubectl(&all)
    };
    as_reader(&["get", "configmaps"]).ok();
    let refused = as_reader(&["get", "secrets"]).failed();
    let wanted = "User \"system:serviceaccount:default:reader\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";
    assert!(refused.contains(wanted), "{refused}");
    cluster.kubectl(&["delete", "serviceaccount", "reader"]).ok();
    eventually("the token dies with its account", Duration::from_secs(20), || {
        let outcome = as_reader(&["get", "configmaps"]);
        if outcome.success { Err(outcome.to_string()) } else { Ok(()) }
    });
}

#[test]
fn an_approved_request_makes_a_user() {
    let cluster = Cluster::control_plane();
    let folder = cluster.folder();
    let key = folder.join("jane.key");
    let csr = folder.join("jane.csr");
    let openssl = |arguments: &[&str]| run(std::process::Command::new("openssl").args(arguments), "");
    let key_text = key.display().to_string();
    let csr_text = csr.display().to_string();
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key_text]).ok();
    openssl(&["req", "-new", "-key", &key_text, "-subj", "/CN=jane/O=qa/O=dev", "-out", &csr_text]).ok();
    let request = openssl(&["base64", "-A", "-in", &csr_text]).ok();
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: jane}}\nspec:\n  request: {request}\n  \
         signerName: kubernetes.io/kube-apiserver-client\n  expirationSeconds: 86400\n  usages: [client auth]\n"
    );
    cluster.kubectl_with(&["apply", "-f", "-"], &manifest).ok();
    assert!(cluster.kubectl(&["get", "csr", "jane"]).ok().contains("Pending"));
    cluster.kubectl(&["certificate", "approve", "jane"]).ok();
    let pem = eventually("the request is signed", Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "csr", "jane", "-o", "jsonpath={.status.certificate}"]);
        if outcome.success && !outcome.stdout.is_empty() {
            Ok(outcome.stdout)
        } else {
            Err(outcome.to_string())
        }
    });
    let certificate = folder.join("jane.crt");
    std::fs::write(folder.join("jane.b64"), pem).unwrap();
    let b64 = folder.join("jane.b64").display().to_string();
    let certificate_text = certificate.display().to_string();
    openssl(&["base64", "-d", "-A", "-in", &b64, "-out", &certificate_text]).ok();
    let as_jane = |arguments: &[&str]| {
        let server = server_of(&cluster);
        let mut all = vec!["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server];
        all.extend(["--client-certificate", &certificate_text, "--client-key", &key_text]);
        all.extend(arguments);
        cluster.kubectl(&all)
    };
    let refused = as_jane(&["get", "pods"]).failed();
    assert!(refused.contains("User \"jane\" cannot list resource \"pods\""), "{refused}");
    cluster.kubectl(&["create", "rolebinding", "dev", "--clusterrole=view", "--group=dev"]).ok();
    as_jane(&["get", "pods"]).ok();
    let groups = as_jane(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"]).ok();
    assert_eq!(groups, r#"["qa","dev","system:authenticated"]"#);
}

#[test]
fn bindings_say_whose_node_certificates_are_approved_by_themselves() {
    let cluster = Cluster::control_plane();
    let role = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
    let role_flag = format!("--clusterrole={role}");
    cluster.kubectl(&["create", "clusterrolebinding", "robots-join", &role_flag, "--group=robots"]).ok();
    cluster
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "robots-ask",
            "--clusterrole=system:node-bootstrapper",
            "--group=robots",
        ])
        .ok();
    let folder = cluster.folder();
    let place = |name: &str| folder.join(name).display().to_string();
    let openssl = |arguments: &[&str]| run(std::process::Command::new("openssl").args(arguments), "");
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &place("key")]).ok();
    let subject = "/O=system:nodes/CN=system:node:ten";
    openssl(&["req", "-new", "-key", &place("key"), "-subj", subject, "-out", &place("csr")]).ok();
    let request = openssl(&["base64", "-A", "-in", &place("csr")]).ok();
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: ten}}\nspec:\n  request: {request}\n  \
         signerName: kubernetes.io/kube-apiserver-client-kubelet\n  usages: [client auth, digital signature]\n"
    );
    // Neither a bootstrapper nor a node: only the binding speaks for it.
    cluster.kubectl_with(&["create", "--as=r2d2", "--as-group=robots", "-f", "-"], &manifest).ok();
    eventually("the request is approved and signed", Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "csr", "ten"]);
        if outcome.stdout.contains("Approved,Issued") { Ok(()) } else { Err(outcome.to_string()) }
    });
    let message =
        cluster.kubectl(&["get", "csr", "ten", "-o", "jsonpath={.status.conditions[0].message}"]).ok();
    assert_eq!(message, "Auto approving kubelet client certificate after SubjectAccessReview.");
}
