//! What lists of hosts say.

use std::str::FromStr;

use super::*;

#[test]
fn lists_of_hosts_answer_for_their_names_and_let_others_pass() {
    let text = ". {\n hosts {\n  192.0.2.1 One.Example\n  fd00::1 one.example\n  ttl 7\n  fallthrough\n }\n}\n\
                closed {\n hosts {\n  192.0.2.2 a.closed\n  no_reverse\n }\n}\n";
    let main = Some(vec![("Corefile".to_string(), text.to_string())]);
    let plan = Plan::of(&Maps { main, custom: None }, &[]).unwrap();
    assert_eq!(plan.host_count(), 2);
    let ask = |name: &str, kind| {
        let name = Name::from_str(name).unwrap();
        let (block, _) = plan.block(&name).unwrap();
        match block.listed(&name, kind) {
            Some(Answer::Records(all, _)) => {
                all.iter().map(|it| format!("{} {}", it.ttl, it.data)).collect::<Vec<_>>().join(", ")
            }
            Some(Answer::NoData) => "no data".to_string(),
            Some(Answer::NoName) => "no name".to_string(),
            None => "next".to_string(),
            other => format!("{other:?}"),
        }
    };
    use RecordType::{A, AAAA, MX, PTR};
    assert_eq!(ask("ONE.example.", A), "7 192.0.2.1");
    assert_eq!(ask("one.example.", AAAA), "7 fd00::1");
    assert_eq!(ask("one.example.", MX), "no data");
    assert_eq!(ask("two.example.", A), "next");
    assert_eq!(ask("1.2.0.192.in-addr.arpa.", PTR), "7 one.example.");
    assert_eq!(ask("2.2.0.192.in-addr.arpa.", PTR), "next");
    assert_eq!(ask("a.closed.", A), "3600 192.0.2.2");
    assert_eq!(ask("b.closed.", A), "no name");
}
