//! Encryption at rest, as somebody sees it who has got hold of the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use minik8s_tests::{Cluster, CommandOutcome, Options, eventually, run};

/// Of `correct horse battery staple`, as it would lie in the store.
const PLAIN: &str = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==";

fn encrypt(cluster: &Cluster, verb: &str) -> CommandOutcome {
    run(cluster.minik8s(&["secrets-encrypt", verb, "--data-dir"]).arg(cluster.data_dir()), "")
}

fn snapshot(cluster: &Cluster, verb: &[&str]) -> CommandOutcome {
    run(cluster.minik8s(&[&["snapshot"], verb].concat()).arg("--data-dir").arg(cluster.data_dir()), "")
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Files with the secret's text.
fn leaks(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(folder, &mut all);
    all.retain(|path| {
        // Sockets cannot be read.
        let content = fs::read(path).unwrap_or_default();
        content.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes())
    });
    all
}

/// Several secrets by one request each.
fn secrets(count: usize) -> String {
    (0..count)
        .map(|at| {
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: s{at:03}}}\nstringData: {{password: correct horse \
                 battery staple}}\n---\n"
            )
        })
        .collect()
}

fn password(cluster: &Cluster, name: &str) -> String {
    cluster.get("secret", name)["data"]["password"].as_str().unwrap().to_string()
}

#[test]
fn a_secret_is_in_no_file_and_comes_back_from_a_snapshot() {
    let flags = vec!["--secrets-encryption".to_string()];
    let mut cluster = Cluster::start_with(Options { node: false, flags });
    cluster.kubectl_with(&["create", "-f", "-"], &secrets(3)).ok();
    let said = encrypt(&cluster, "status").ok();
    assert!(said.contains("Encryption: enabled") && said.contains("Key: key1 (active)"), "{said}");
    let file = snapshot(&cluster, &["save"]).ok().lines().next().unwrap().to_string();
    assert_eq!(leaks(cluster.folder()), Vec::<PathBuf>::new());

    cluster.kill();
    cluster.start();
    assert_eq!(password(&cluster, "s000"), PLAIN);
    assert_eq!(leaks(cluster.folder()), Vec::<PathBuf>::new(), "after a crash");
    cluster.stop();
    assert_eq!(leaks(cluster.folder()), Vec::<PathBuf>::new(), "after the end");

    // The snapshot brings the keys, which are sealed in it.
    let key = fs::read_to_string(cluster.data_dir().join("server/seal-key")).unwrap();
    let old = cluster.folder().join("old");
    fs::rename(cluster.data_dir(), &old).unwrap();
    let file = old.join(Path::new(&file).strip_prefix(cluster.data_dir()).unwrap());
    snapshot(&cluster, &["restore", file.to_str().unwrap(), "--seal-key", key.trim()]).ok();
    cluster.start();
    assert_eq!(password(&cluster, "s002"), PLAIN);
}

#[test]
fn a_running_cluster_is_encrypted_and_a_crash_on_the_way_loses_nothing() {
    let mut cluster = Cluster::control_plane();
    cluster.kubectl_with(&["create", "-f", "-"], &secrets(300)).ok();
    assert!(!leaks(&cluster.data_dir()).is_empty(), "the test sees what is there");
    let said = encrypt(&cluster, "enable").ok();
    assert!(said.starts_with("300 values were written anew") && said.contains("older form: 0"), "{said}");
    assert_eq!(leaks(&cluster.data_dir()), Vec::<PathBuf>::new());
    assert!(encrypt(&cluster, "enable").failed().contains("secrets are encrypted already"));

    let mut rotate = cluster.minik8s(&["secrets-encrypt", "rotate", "--data-dir"]);
    rotate.arg(cluster.data_dir()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut rotating = rotate.spawn().unwrap();
    eventually("the new key is there", std::time::Duration::from_secs(20), || {
        let said = encrypt(&cluster, "status").ok();
        if said.contains("key2") { Ok(()) } else { Err(said) }
    });
    cluster.kill();
    rotating.wait().unwrap();
    cluster.start();
    for name in ["s000", "s150", "s299"] {
        assert_eq!(password(&cluster, name), PLAIN);
    }
    let said = encrypt(&cluster, "reencrypt").ok();
    assert!(said.contains("Key: key2 (active)") && said.contains("older form: 0"), "{said}");
    assert!(said.contains("Encrypted values: 300"), "{said}");

    let said = encrypt(&cluster, "disable").ok();
    assert!(said.contains("Encryption: disabled") && said.contains("Encrypted values: 0"), "{said}");
    assert_eq!(password(&cluster, "s299"), PLAIN);
}

#[test]
fn a_file_in_upstreams_form_is_followed_while_the_server_runs() {
    let mut cluster = Cluster::prepare(Options::default());
    let file = cluster.folder().join("encryption.yaml");
    let write = |provider: &str, name: &str, byte: &str| {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: \
             [secrets]\n  providers:\n  - {provider}: {{keys: [{{name: {name}, secret: {byte}}}]}}\n  - \
             secretbox: {{keys: [{{name: old, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}}]}}\n  - \
             identity: {{}}\n"
        );
        // As editors do it.
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
    };
    write("secretbox", "one", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=");
    cluster.add_flags(&["--encryption-provider-config", file.to_str().unwrap()]);
    cluster.start();
    cluster.kubectl_with(&["create", "-f", "-"], &secrets(2)).ok();
    assert_eq!(leaks(&cluster.data_dir()), Vec::<PathBuf>::new());
    assert!(encrypt(&cluster, "rotate").failed().contains("a file says what is encrypted"));

    fs::write(&file, "kind: Nonsense\n").unwrap();
    eventually("it is refused", std::time::Duration::from_secs(20), || {
        let log = cluster.log();
        if log.contains("the encryption configuration is refused") { Ok(()) } else { Err(log) }
    });
    assert_eq!(password(&cluster, "s000"), PLAIN);
    cluster.stop();
    write("aesgcm", "two", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=");
    cluster.start();
    let said = encrypt(&cluster, "status").ok();
    let unreadable = "Unreadable: unable to transform key \"/registry/secrets/default/s000\"";
    assert!(said.contains(unreadable), "{said}");
    let refused = cluster.kubectl(&["get", "secret", "s000"]).failed();
    assert!(refused.contains("unable to transform key"), "{refused}");
    write("secretbox", "one", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=");
    eventually("it is read again", std::time::Duration::from_secs(20), || {
        let outcome = cluster.kubectl(&["get", "secret", "s001"]);
        if outcome.success { Ok(()) } else { Err(outcome.to_string()) }
    });
    assert_eq!(password(&cluster, "s000"), PLAIN);
}
