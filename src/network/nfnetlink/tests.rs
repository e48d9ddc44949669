//! Messages as the kernel writes them, and how damaged ones are taken.

use super::*;

fn tuple(
    source: [u8; 4],
    source_port: u16,
    destination: [u8; 4],
    destination_port: u16,
    protocol: u8,
) -> Vec<u8> {
    let (mut addresses, mut ports, mut all) = (Vec::new(), Vec::new(), Vec::new());
    write_attribute(1, &source, &mut addresses);
    write_attribute(2, &destination, &mut addresses);
    write_attribute(1, &[protocol], &mut ports);
    write_attribute(2, &source_port.to_be_bytes(), &mut ports);
    write_attribute(3, &destination_port.to_be_bytes(), &mut ports);
    write_attribute(1 | NESTED, &addresses, &mut all);
    write_attribute(2 | NESTED, &ports, &mut all);
    all
}

fn flow(protocol: u8, endpoint: u8) -> Vec<u8> {
    let mut body = Vec::new();
    let original = tuple([10, 42, 0, 9], 4000, [10, 43, 0, 10], 53, protocol);
    write_attribute(TUPLE_ORIGINAL | NESTED, &original, &mut body);
    let reply = tuple([10, 42, 0, endpoint], 5353, [10, 42, 0, 9], 4000, protocol);
    write_attribute(TUPLE_REPLY | NESTED, &reply, &mut body);
    request(CT_GET, 0, 2, &body)
}

fn allowed() -> Flows {
    Flows::from([(([10, 43, 0, 10].into(), 53), BTreeSet::from(["10.42.0.2:5353".parse().unwrap()]))])
}

#[test]
fn only_udp_flows_to_endpoints_that_are_gone_are_deleted() {
    let delete = |bytes: Vec<u8>| messages(&bytes).next().and_then(|message| deletion(&message, &allowed()));
    assert_eq!(delete(flow(UDP, 2)), None, "it serves");
    assert_eq!(delete(flow(6, 3)), None, "TCP ends by itself");
    let request = delete(flow(UDP, 3)).expect("a deletion");
    let message = messages(&request).next().unwrap();
    assert_eq!((message.kind, message.family), (CT_DELETE, 2));
    let tuple = Tuple::parse(attribute(message.body, TUPLE_ORIGINAL).unwrap()).unwrap();
    assert_eq!((tuple.destination, tuple.destination_port), ([10, 43, 0, 10].into(), 53));
}

#[test]
fn what_is_cut_short_is_passed_over() {
    let whole = [flow(UDP, 3), flow(UDP, 4)].concat();
    for length in 0..whole.len() {
        let found = messages(&whole[..length]).filter_map(|message| deletion(&message, &allowed())).count();
        assert!(found <= 1, "{length}");
    }
    for at in 0..whole.len() {
        let mut bent = whole.clone();
        bent[at] = 0xff;
        let _ = messages(&bent).filter_map(|message| deletion(&message, &allowed())).count();
    }
}

fn news(kind: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, text) in attributes {
        write_attribute(*kind, format!("{text}\0").as_bytes(), &mut body);
    }
    request(kind, 0, 2, &body)
}

fn lost(sequence: &[Vec<u8>]) -> Option<u8> {
    let mut transaction = Transaction::default();
    let bytes = sequence.concat();
    messages(&bytes).find_map(|message| transaction.take(&message, "ours", &["services"]))
}

#[test]
fn a_table_is_lost_if_it_is_gone_when_the_transaction_ends() {
    let gone = news(DELETED_TABLE, &[(1, "ours")]);
    let end = news(NEW_GENERATION, &[]);
    assert_eq!(lost(std::slice::from_ref(&gone)), None, "not before the transaction ends");
    assert_eq!(lost(&[gone.clone(), end.clone()]), Some(2));
    let made = news(NEW_TABLE, &[(1, "ours")]);
    assert_eq!(lost(&[gone, made, end.clone()]), None, "it was replaced");
    assert_eq!(lost(&[news(DELETED_TABLE, &[(1, "theirs")]), end.clone()]), None);
    let rule = |chain| news(DELETED_RULE, &[(1, "ours"), (2, chain)]);
    assert_eq!(lost(&[rule("cluster-3"), end.clone()]), None);
    assert_eq!(lost(&[rule("services"), end.clone()]), Some(2));
    assert_eq!(lost(&[news(DELETED_CHAIN, &[(1, "ours"), (3, "services")]), end]), Some(2));
}
