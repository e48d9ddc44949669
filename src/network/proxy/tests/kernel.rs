//! Elements over netlink, against a real kernel: what it has afterwards is what `nft` would have put there.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use super::super::elements;
use super::*;
use crate::testing::kernel::{apart, nft};

fn held(table: &Table) -> BTreeMap<String, Vec<String>> {
    crate::testing::kernel::held(table.family.keyword(), &table.name)
}

fn table(family: Family) -> Table {
    let pods = Cidr::parse(if family == Family::V4 { PODS } else { "fd00:42::/56" });
    Table { family, name: "minik8s_proxy".into(), pods }
}

/// Puts the elements there one way and the other, and takes them away again.
fn compare(family: Family, services: &[(Service, Vec<EndpointSlice>)], node: NodeFacts) {
    let (table, tables) = (table(family), Tables::default());
    let all = planned(family, node, services).elements();
    let chains: BTreeSet<Chain> = all.iter().filter_map(|element| element.value.chain()).collect();
    nft(&table.anew(all.iter()));
    let wanted = held(&table);
    assert!(wanted.values().map(Vec::len).sum::<usize>() >= all.len());
    nft(&(table.anew([].iter()) + &table.change(&chains, &[], &[])));
    let empty = held(&table);
    assert!(empty.values().all(Vec::is_empty));
    tables.change(elements::batch(&table, &[], &all)).unwrap();
    assert_eq!(held(&table), wanted);
    // An element that changes its value is among both.
    tables.change(elements::batch(&table, &all, &all)).unwrap();
    assert_eq!(held(&table), wanted);
    // All or nothing: the second of these is there no more.
    let gone = &all[all.len() / 2..][..1];
    tables.change(elements::batch(&table, gone, &[])).unwrap();
    let error = tables.change(elements::batch(&table, &all, &[])).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    tables.change(elements::batch(&table, &[], gone)).unwrap();
    assert_eq!(held(&table), wanted);
    tables.change(elements::batch(&table, &all, &[])).unwrap();
    assert_eq!(held(&table), empty);
}

#[test]
fn the_kernel_holds_what_nft_would_have_put_there() {
    apart(|| compare(Family::V4, &everything(), node()));
}

#[test]
fn the_same_of_ipv6() {
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "fd01::5", "externalIPs": ["2001:db8::9"],
        "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["2001:db8:1::/48"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    let mut service = service("six", spec);
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "2001:db8::7"}]}})).unwrap();
    let two = [("fd00:42::5", "one", json!({})), ("fd00:42::6", "two", json!({}))];
    let none = super::service("none", json!({"clusterIP": "fd01::6", "ports": [{"port": 80}]}));
    let services = [(service, vec![slice("six", ("http", "TCP", 8080), &two)]), (none, Vec::new())];
    let address: IpAddr = "2001:db8::1".parse().unwrap();
    let node = NodeFacts { address: Some(address), node_port_addresses: vec![address], ..node() };
    apart(move || compare(Family::V6, &services, node));
}

/// An echo over UDP and one over TCP, through a service; the same once its chains are made one by one.
#[test]
fn packets_of_every_protocol_find_their_endpoints() {
    let ports = json!([{"name": "t", "port": 80}, {"name": "u", "port": 80, "protocol": "UDP"}]);
    let service = super::service("echo", json!({"clusterIP": "10.43.0.6", "ports": ports}));
    let of = |name, protocol| slice("echo", (name, protocol, 8080), &[("10.42.0.5", "one", json!({}))]);
    let services = [(service, vec![of("t", "TCP"), of("u", "UDP")])];
    apart(move || {
        for arguments in
            ["link set lo up", "address add 10.42.0.5/32 dev lo", "route add 10.43.0.0/16 dev lo"]
        {
            assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
        }
        let table = table(Family::V4);
        let all = planned(Family::V4, node(), &services).elements();
        let chains: BTreeSet<Chain> = all.iter().filter_map(|element| element.value.chain()).collect();
        for script in [table.anew(all.iter()), table.anew([].iter()) + &table.change(&chains, &[], &all)] {
            nft(&script);
            let server = UdpSocket::bind("10.42.0.5:8080").unwrap();
            let client = UdpSocket::bind("10.42.0.5:0").unwrap();
            for socket in [&server, &client] {
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            }
            client.send_to(b"ping", "10.43.0.6:80").unwrap();
            let mut buffer = [0; 16];
            let (length, _) = server.recv_from(&mut buffer).expect("the packet arrives");
            assert_eq!(&buffer[..length], b"ping");
            let listener = TcpListener::bind("10.42.0.5:8080").unwrap();
            let address = "10.43.0.6:80".parse().unwrap();
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
            drop(listener);
        }
    });
}

/// Prints the figure of `docs/BENCHMARKS.md`; the bound is one that a busy machine keeps too.
#[test]
fn one_change_among_ten_thousand_services_is_quick() {
    apart(|| {
        let (table, tables) = (table(Family::V4), Tables::default());
        let element = |at: u32, to: u8| {
            let [_, _, high, low] = at.to_be_bytes();
            let address = [10, 43, high, low].into();
            let key = FrontKey { address, protocol: facts::Protocol::Tcp, port: 80 };
            let backend = ([10, 42, 0, to], 8080).into();
            Element::new(
                rules::Set::Endpoints(key.protocol),
                Key::Numbered(key, 0),
                rules::Value::To(backend),
            )
        };
        let all: Vec<Element> = (0..20_000).map(|at| element(at, 1)).collect();
        nft(&table.anew(all.iter()));
        let mut took = Vec::new();
        for round in 0..40_u8 {
            let (old, new) = ([element(500, round + 1)], [element(500, round + 2)]);
            let began = Instant::now();
            tables.change(elements::batch(&table, &old, &new)).unwrap();
            took.push(began.elapsed());
        }
        let began = Instant::now();
        nft(&table.change(&BTreeSet::new(), &[element(500, 41)], &[element(500, 1)]));
        let by_nft = began.elapsed();
        took.sort();
        println!("one change: {:?} at the median, {:?} at most; by nft {by_nft:?}", took[20], took[39]);
        assert!(took[20] < Duration::from_millis(50), "{took:?}");
    });
}
