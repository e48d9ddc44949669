//! The generated configuration, and what is taken out of a dump of the nat table.

use super::*;

fn config() -> Config {
    Config {
        node_name: "one".into(),
        network_name: "minik8s-abc".into(),
        bridge: "mk8s-abc".into(),
        table: "minik8s_abc".into(),
        cluster_cidr: "10.42.0.0/16".into(),
        cni_conf_dir: "/nowhere".into(),
        state_dir: "/state".into(),
    }
}

#[test]
fn the_configuration_names_bridge_range_and_state() {
    let list = conflist(&config(), "10.42.7.0/24");
    assert_eq!(list["name"], "minik8s-abc");
    assert_eq!(list["plugins"][0]["bridge"], "mk8s-abc");
    assert_eq!(list["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.42.7.0/24");
    assert_eq!(list["plugins"][0]["ipam"]["dataDir"], "/state/addresses");
    assert_eq!(list["plugins"][1]["type"], "portmap");
}

const DUMP: &str = "*nat\n\
:PREROUTING ACCEPT [0:0]\n\
:CNI-DN-aaa - [0:0]\n\
:CNI-DN-bbb - [0:0]\n\
:CNI-HOSTPORT-DNAT - [0:0]\n\
:CNI-HOSTPORT-MASQ - [0:0]\n\
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
-A CNI-DN-aaa -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.0.5:80\n\
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"minik8s-abc\\\" id: \\\"1\\\"\" -j CNI-DN-aaa\n";

const OTHER: &str = "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"another\\\" id: \\\"2\\\"\" -j CNI-DN-bbb\n";

#[test]
fn all_of_port_mapping_goes_with_its_last_user() {
    let script = without_port_mappings(DUMP, &mark_of_network("minik8s-abc"));
    assert!(script.contains("-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"), "{script}");
    for chain in ["CNI-DN-aaa", "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ"] {
        assert!(script.contains(&format!("-X {chain}\n")), "{chain}: {script}");
    }
}

#[test]
fn another_networks_port_mappings_stay() {
    let script = without_port_mappings(&format!("{DUMP}{OTHER}"), &mark_of_network("minik8s-abc"));
    assert!(script.contains("-X CNI-DN-aaa\n"), "{script}");
    assert!(!script.contains("CNI-DN-bbb") && !script.contains("-X CNI-HOSTPORT-DNAT"), "{script}");
    assert!(!script.contains("-D PREROUTING"), "{script}");
}

#[test]
fn nothing_is_done_where_nothing_is_ours() {
    assert_eq!(
        without_port_mappings("*nat\n:PREROUTING ACCEPT [0:0]\n", &mark_of_network("minik8s-abc")),
        ""
    );
}
