//! Questions and answers, one a line; and changes one by one against building anew.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> ServiceName {
    ("ns".to_string(), text.to_string())
}

fn port(name: &str, number: u16) -> NamedPort {
    (name.to_string(), "tcp".to_string(), number)
}

fn zone() -> Zone {
    let mut zone = Zone::new("Cluster.Local").unwrap();
    let plain = ServiceFacts {
        cluster_ips: vec!["10.43.0.5".parse().unwrap()],
        ports: vec![port("http", 80)],
        ..ServiceFacts::default()
    };
    zone.set_service(name("plain"), Some(plain));
    zone.set_service(name("headless"), Some(ServiceFacts::default()));
    zone.set_service(name("nobody"), Some(ServiceFacts::default()));
    let elsewhere = ServiceFacts { external_name: Some("example.org".into()), ..ServiceFacts::default() };
    zone.set_service(name("elsewhere"), Some(elsewhere));
    let endpoints = vec![
        ("10.42.0.2".parse().unwrap(), Some("first".to_string())),
        ("10.42.0.3".parse().unwrap(), None),
        ("fd00::3".parse().unwrap(), None),
    ];
    zone.set_slice(
        name("headless"),
        "a".into(),
        Some(SliceFacts { ports: vec![port("web", 8080)], endpoints }),
    );
    zone
}

fn ask(zone: &Zone, question: &str, kind: RecordType) -> String {
    match zone.answer(&Name::from_str(question).unwrap(), kind) {
        Answer::Records(all, more) => {
            let all = all.iter().chain(&more).map(|record| record.data.to_string().trim().to_string());
            all.collect::<Vec<_>>().join(", ")
        }
        Answer::Alias(_, target) => format!("alias {target}"),
        Answer::NoData => "no data".to_string(),
        Answer::NoName => "no name".to_string(),
        Answer::Elsewhere => "elsewhere".to_string(),
    }
}

#[test]
fn questions_are_answered_as_the_specification_says() {
    use RecordType::{A, AAAA, PTR, SRV, TXT};
    let zone = zone();
    for (question, kind, answer) in [
        ("plain.ns.svc.cluster.local.", A, "10.43.0.5"),
        ("PLAIN.ns.SVC.cluster.LOCAL.", A, "10.43.0.5"),
        ("plain.ns.svc.cluster.local.", AAAA, "no data"),
        ("plain.ns.svc.cluster.local.", SRV, "0 100 80 plain.ns.svc.cluster.local., 10.43.0.5"),
        ("_http._tcp.plain.ns.svc.cluster.local.", SRV, "0 100 80 plain.ns.svc.cluster.local., 10.43.0.5"),
        ("_http._udp.plain.ns.svc.cluster.local.", SRV, "no name"),
        ("_http._tcp.plain.ns.svc.cluster.local.", A, "no data"),
        ("headless.ns.svc.cluster.local.", A, "10.42.0.2, 10.42.0.3"),
        ("headless.ns.svc.cluster.local.", AAAA, "fd00::3"),
        ("first.headless.ns.svc.cluster.local.", A, "10.42.0.2"),
        ("10-42-0-3.headless.ns.svc.cluster.local.", A, "10.42.0.3"),
        ("10-42-0-2.headless.ns.svc.cluster.local.", A, "no name"),
        (
            "_web._tcp.headless.ns.svc.cluster.local.",
            SRV,
            "0 33 8080 10-42-0-3.headless.ns.svc.cluster.local., 0 33 8080 fd00--3.headless.ns.svc.cluster.local., \
             0 33 8080 first.headless.ns.svc.cluster.local., 10.42.0.3, fd00::3, 10.42.0.2",
        ),
        ("nobody.ns.svc.cluster.local.", A, "no name"),
        ("elsewhere.ns.svc.cluster.local.", A, "alias example.org."),
        ("absent.ns.svc.cluster.local.", A, "no name"),
        ("ns.svc.cluster.local.", A, "no data"),
        ("other.svc.cluster.local.", A, "no name"),
        ("svc.cluster.local.", A, "no data"),
        ("cluster.local.", A, "no data"),
        // What a search path makes of names that are others'.
        ("example.org.cluster.local.", A, "no name"),
        ("example.org.ns.svc.cluster.local.", A, "no name"),
        ("example.org.", A, "elsewhere"),
        ("10-42-0-9.ns.pod.cluster.local.", A, "10.42.0.9"),
        ("fd00--9.ns.pod.cluster.local.", AAAA, "fd00::9"),
        ("10-42-0.ns.pod.cluster.local.", A, "no name"),
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("5.0.43.10.in-addr.arpa.", PTR, "plain.ns.svc.cluster.local."),
        ("2.0.42.10.in-addr.arpa.", PTR, "first.headless.ns.svc.cluster.local."),
        ("9.9.9.9.in-addr.arpa.", PTR, "elsewhere"),
        (
            "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "fd00--3.headless.ns.svc.cluster.local.",
        ),
    ] {
        assert_eq!(ask(&zone, question, kind), answer, "{question} {kind}");
    }
}

#[test]
fn what_is_gone_has_no_names() {
    let mut zone = zone();
    for it in ["plain", "headless", "nobody", "elsewhere"] {
        zone.set_service(name(it), None);
    }
    zone.set_slice(name("headless"), "a".into(), None);
    assert_eq!(ask(&zone, "plain.ns.svc.cluster.local.", RecordType::A), "no name");
    assert_eq!(ask(&zone, "ns.svc.cluster.local.", RecordType::A), "no name");
    assert!(
        zone.services.is_empty()
            && zone.slices.is_empty()
            && zone.reverse.is_empty()
            && zone.namespaces.is_empty()
    );
}

proptest! {
    #[test]
    fn changes_one_by_one_give_the_same_names_as_built_anew(
        steps in prop::collection::vec((0_u8..4, 0_u8..2, prop::option::of((0_u8..4, any::<bool>())), any::<bool>()), 1..40)
    ) {
        let mut zone = Zone::new("cluster.local").unwrap();
        let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for (service, slice, facts, of_slice) in steps {
            let (key, slice) = (name(&format!("s{service}")), format!("slice{slice}"));
            if of_slice {
                let facts = facts.map(|(last, named)| SliceFacts {
                    ports: Vec::new(),
                    endpoints: vec![([10, 42, 0, last].into(), named.then(|| "host".to_string()))],
                });
                zone.set_slice(key.clone(), slice.clone(), facts.clone());
                slices.insert((key, slice), facts);
            } else {
                let facts = facts.map(|(last, headless)| ServiceFacts {
                    cluster_ips: if headless { Vec::new() } else { vec![[10, 43, 0, last].into()] },
                    ..ServiceFacts::default()
                });
                zone.set_service(key.clone(), facts.clone());
                services.insert(key, facts);
            }
        }
        let mut anew = Zone::new("cluster.local").unwrap();
        for ((service, slice), facts) in slices.into_iter().filter(|(_, facts)| facts.is_some()) {
            anew.set_slice(service, slice, facts);
        }
        for (service, facts) in services {
            anew.set_service(service, facts);
        }
        prop_assert_eq!(zone.reverse, anew.reverse);
        prop_assert_eq!(zone.namespaces, anew.namespaces);
        prop_assert_eq!(zone.services, anew.services);
        prop_assert_eq!(zone.slices, anew.slices);
    }
}
