//! Ranges by hand, and against looking at each address.

use proptest::prelude::*;

use super::*;

fn block(range: &str, except: &[&str]) -> Block {
    let parse = |text: &str| Cidr::parse(text).unwrap();
    Block { range: parse(range), except: except.iter().map(|text| parse(text)).collect() }
}

fn shown(spans: Vec<Span>) -> Vec<String> {
    spans.into_iter().map(|(first, last)| format!("{first}-{last}")).collect()
}

#[test]
fn holes_are_left_out() {
    let all = block("0.0.0.0/0", &["10.0.0.0/8", "255.255.255.0/24", "10.1.0.0/16"]);
    assert_eq!(shown(without_holes(&all)), ["0.0.0.0-9.255.255.255", "11.0.0.0-255.255.254.255"]);
    assert_eq!(shown(without_holes(&block("10.0.0.0/24", &["10.0.0.0/25"]))), ["10.0.0.128-10.0.0.255"]);
    assert_eq!(shown(without_holes(&block("10.0.0.0/24", &["10.0.0.0/24"]))), Vec::<String>::new());
    let six = block("::/0", &["8000::/1"]);
    assert_eq!(shown(without_holes(&six)), ["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    let to_the_end = block("::/0", &["::/1"]);
    assert_eq!(shown(without_holes(&to_the_end)), ["8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
}

#[test]
fn everything_is_one_range_also_at_the_end_of_all_addresses() {
    for family in [Family::V4, Family::V6] {
        let tcp = Some((Protocol::Tcp, 80, 80));
        let found = disjoint(family, [(whole(family), None), (whole(family), tcp)], 9).unwrap();
        assert_eq!(found, [(whole(family), vec![None])]);
    }
}

#[test]
fn more_than_is_wanted_is_found_out_before_it_is_made() {
    // Each lies in the one before it and has another port: the pieces have all ports of those around them.
    let nested = |count: u16| {
        (0..count).map(|at| {
            let span = (address(Family::V4, at.into()), address(Family::V4, 1_000_000 - u128::from(at)));
            (span, Some((Protocol::Tcp, at * 2, at * 2)))
        })
    };
    assert_eq!(disjoint(Family::V4, nested(3), 9).unwrap().len(), 5);
    assert_eq!(disjoint(Family::V4, nested(3), 8), None);
    assert_eq!(disjoint(Family::V4, nested(30_000), 32_768), None);
}

proptest! {
    #[test]
    fn what_is_allowed_stays_so_and_nothing_overlaps(
        boxes in prop::collection::vec((0_u8..20, 0_u8..20, prop::option::of((any::<bool>(), 0_u16..9, 0_u16..9))), 0..8)
    ) {
        let of = |last: u8| IpAddr::from([10, 0, 0, last]);
        let boxes: Vec<(Span, PortRange)> = boxes
            .into_iter()
            .map(|(a, b, ports)| {
                let protocol = |tcp| if tcp { Protocol::Tcp } else { Protocol::Udp };
                let ports = ports.map(|(tcp, first, last)| (protocol(tcp), first.min(last), first.max(last)));
                ((of(a.min(b)), of(a.max(b))), ports)
            })
            .collect();
        let found = disjoint(Family::V4, boxes.clone(), 1_000).unwrap();
        let flat: Vec<(Span, PortRange)> =
            found.iter().flat_map(|(span, all)| all.iter().map(|ports| (*span, *ports))).collect();
        for last in 0..22 {
            for (protocol, port) in [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|it| (0..10).map(move |port| (it, port))) {
                let holds = |(span, ports): &&(Span, PortRange)| {
                    span.0 <= of(last) && of(last) <= span.1
                        && ports.is_none_or(|it| it.0 == protocol && it.1 <= port && port <= it.2)
                };
                let wanted = boxes.iter().any(|it| holds(&it));
                prop_assert_eq!(flat.iter().filter(holds).count(), usize::from(wanted));
            }
        }
    }
}
