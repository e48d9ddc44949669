//! What Corefiles come to, and what is said of those that cannot be used.

use super::*;

fn map(entries: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(entries.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect())
}

fn read(maps: &Maps) -> Result<Corefile, CorefileError> {
    Corefile::of(maps, &|path| (path == "/etc/hosts").then(|| "192.0.2.9 machine # this\n".to_string()))
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

#[test]
fn without_config_maps_the_hosts_servers_are_asked() {
    let corefile = read(&Maps::default()).unwrap();
    let [block] = corefile.blocks.as_slice() else { panic!("one block") };
    assert!(block.has_cluster && block.cache == 30);
    assert_eq!(block.forwards[0].to, [Target::File("/etc/resolv.conf".into())]);
    assert_eq!(
        (corefile.block(&name("example.org.")), block.forward(&name("example.org."))),
        (Some(0), Some(0))
    );
}

#[test]
fn k3s_users_override_and_add_servers() {
    let custom = map(&[
        ("a.override", "hosts {\n  192.0.2.1 One.example two.example\n  fallthrough\n}\n"),
        (
            "b.server",
            "corp.example:53 {\n  errors\n  cache 10\n  forward . 192.0.2.53 dns://192.0.2.54:5353 {\n    policy sequential\n  }\n}\n",
        ),
        ("ignored", "nonsense {"),
    ]);
    let main = map(&[("Corefile", DEFAULT), ("NodeHosts", "192.0.2.10 node-a\n")]);
    let corefile = read(&Maps { main, custom }).unwrap();
    assert_eq!(corefile.blocks.len(), 2);
    let [nodes, hosts] = corefile.blocks[0].hosts.as_slice() else { panic!("two lists") };
    assert_eq!(nodes.addresses[&name("node-a.")], ["192.0.2.10".parse::<IpAddr>().unwrap()]);
    assert_eq!((nodes.ttl, hosts.ttl, hosts.falls_through), (60, 3600, true));
    assert!(hosts.addresses.contains_key(&name("one.example.")));
    assert_eq!(hosts.names[&"192.0.2.1".parse::<IpAddr>().unwrap()].len(), 2);
    assert_eq!(corefile.block(&name("x.corp.example.")), Some(1));
    assert_eq!(corefile.block(&name("example.")), Some(0));
    assert_eq!(corefile.blocks[1].cache, 10);
    let servers = ["192.0.2.53:53", "192.0.2.54:5353"].map(|it| Target::Server(it.parse().unwrap()));
    assert_eq!(corefile.blocks[1].forwards[0].to, servers);
}

#[test]
fn the_longest_zone_is_asked_but_for_exceptions() {
    let text = ". {\n hosts /etc/hosts machine { \n }\n forward . 192.0.2.1 {\n  except inner.example\n }\n forward example 192.0.2.2\n}\n";
    let corefile = read(&Maps { main: map(&[("Corefile", text)]), custom: None }).unwrap();
    let block = &corefile.blocks[0];
    assert_eq!(block.forward(&name("a.example.")), Some(1));
    assert_eq!(block.forward(&name("a.org.")), Some(0));
    assert!(!block.has_cluster && block.cache == 0 && !block.hosts[0].falls_through);
    assert!(block.hosts[0].addresses.contains_key(&name("machine.")));
    assert_eq!(block.hosts[0].zones, [name("machine.")]);
}

#[test]
fn what_cannot_be_used_is_named_with_its_line() {
    for (text, why) in [
        ("", "Corefile:0: there is no server block"),
        (".:53 {\n  errors\n", "Corefile:2: a closing brace is missing"),
        (".:53 {\n}\n}\n", "Corefile:3: a closing brace too many"),
        (".:53 {\n  rewrite name a b\n}\n", "Corefile:2: rewrite: the plugin \"rewrite\" is not supported"),
        (".:54 {\n}\n", "Corefile:1: .:54: \".:54\" is no zone of port 53"),
        (".:53 {\n  forward .\n}\n", "Corefile:2: forward: it takes 1 to 15 servers"),
        (
            ".:53 {\n  forward . tls://192.0.2.1\n}\n",
            "Corefile:2: forward: \"tls://192.0.2.1\" is no server that can be asked",
        ),
        (".:53 {\n  hosts {\n    nonsense a\n  }\n}\n", "Corefile:3: nonsense: it is no address with names"),
        (".:53 {\n  import ../x\n}\n", "Corefile:2: import: only files of the ConfigMaps can be imported"),
        (".:53 {\n  log \"x\n}\n", "Corefile:2: a quotation mark has no other"),
        ("a {\n}\nb a {\n}\n", "Corefile:0: the zone a. has two server blocks"),
        ("import /etc/coredns/Corefile\n", "Corefile:1: import: files import each other"),
        ("a { b {\n", "Corefile:1: braces stand at the end of a line and on lines of their own"),
    ] {
        let error = read(&Maps { main: map(&[("Corefile", text)]), custom: None }).unwrap_err();
        assert_eq!(error.to_string(), why, "{text}");
    }
    let error = read(&Maps { main: map(&[]), custom: None }).unwrap_err();
    assert_eq!(error.to_string(), "coredns:0: the ConfigMap has no key Corefile");
    // A mistake in a custom file is named there.
    let custom = map(&[("x.server", "example {\n  nonsense\n}\n")]);
    let error = read(&Maps { main: None, custom }).unwrap_err();
    assert_eq!(error.to_string(), "x.server:2: nonsense: the plugin \"nonsense\" is not supported");
}
