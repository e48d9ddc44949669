//! Only another boot makes the plugins' notes void.

use super::*;

fn config(folder: &Path) -> Config {
    Config {
        node_name: "one".into(),
        network_name: "boot-test".into(),
        bridge: "mk8s-boot-test".into(),
        table: "minik8s_boot_test".into(),
        cluster_cidr: "10.42.0.0/16".into(),
        cni_conf_dir: folder.join("cni"),
        state_dir: folder.join("network"),
    }
}

#[test]
fn addresses_are_kept_within_a_boot_and_given_back_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    forget_last_boot(&config).unwrap();
    let held = config.state_dir.join("addresses/boot-test/10.42.0.2");
    fs::create_dir_all(held.parent().unwrap()).unwrap();
    fs::write(&held, "").unwrap();
    forget_last_boot(&config).unwrap();
    assert!(held.exists(), "the same boot forgets nothing");

    // As a power cut may leave the note of the last boot.
    for noted in ["", "another boot\n"] {
        fs::write(&held, "").unwrap();
        fs::write(config.state_dir.join("boot"), noted).unwrap();
        forget_last_boot(&config).unwrap();
        assert!(!held.exists(), "{noted:?}");
    }
}
