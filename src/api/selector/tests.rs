//! Selector grammar: what parses, what it means, what is refused and with which words.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn matches(selector: &str, pairs: &[(&str, &str)]) -> bool {
    LabelSelector::parse(selector).unwrap().matches(&labels(pairs))
}

#[test]
fn operators_select_as_documented() {
    assert!(matches("", &[]));
    assert!(matches("a=b,c==d", &[("a", "b"), ("c", "d")]));
    assert!(!matches("a=b,c==d", &[("a", "b")]));
    assert!(matches("a!=b", &[]));
    assert!(matches("a in (x, y)", &[("a", "y")]));
    assert!(matches("a notin (x,y)", &[("b", "x")]));
    assert!(!matches("a notin (x,y)", &[("a", "x")]));
    assert!(matches("in in (in,notin)", &[("in", "notin")]));
    assert!(matches("a,!b", &[("a", "")]));
    assert!(matches("a>1,a<10", &[("a", "9")]));
    assert!(!matches("a>1", &[("a", "1")]));
    assert!(matches("a=", &[("a", "")]));
    assert!(matches("a in (,x)", &[("a", "")]));
    assert!(matches(
        "node-role.kubernetes.io/control-plane",
        &[("node-role.kubernetes.io/control-plane", "true")]
    ));
}

#[test]
fn refusals_have_upstreams_words() {
    let refused = |text: &str| LabelSelector::parse(text).unwrap_err().to_string();
    assert_eq!(refused("a=b,"), "found '', expected: identifier after ','");
    assert_eq!(refused(",a"), "found ',', expected: !, identifier, or 'end of string'");
    assert_eq!(
        refused("a b"),
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
    assert_eq!(refused("!a=b"), "found '=', expected: ',' or 'end of string'");
    assert_eq!(refused("a in b"), "unable to parse requirement: found 'b' expected: '('");
    assert_eq!(
        refused("a in ()"),
        "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
    assert_eq!(
        refused("a>x"),
        "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"
    );
    assert!(
        refused("a$=b")
            .starts_with("unable to parse requirement: <nil>: Invalid value: \"a$\": name part must consist")
    );
    assert!(
        refused("a=-")
            .starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label")
    );
}

#[test]
fn field_selectors() {
    let parsed = FieldSelector::parse("spec.nodeName=n1,metadata.name!=x==").unwrap_err().to_string();
    assert_eq!(parsed, "invalid field selector: unescaped character in value: 61");
    let parsed = FieldSelector::parse(r"status.phase!=Running,metadata.name==a\,b").unwrap();
    assert_eq!(parsed.terms.len(), 2);
    assert_eq!(
        parsed.terms[0],
        FieldTerm { path: "metadata.name".into(), equals: true, value: "a,b".into() }
    );
    assert!(!parsed.terms[1].equals);
    assert_eq!(
        FieldSelector::parse("abc").unwrap_err().to_string(),
        "invalid selector: 'abc'; can't understand 'abc'"
    );
    assert_eq!(
        FieldSelector::parse(r"a=\x").unwrap_err().to_string(),
        r"invalid field selector: invalid escape sequence: \x"
    );
    assert!(FieldSelector::parse("").unwrap().is_everything());
}

/// A selector of random requirements on few keys, and labels to match.
fn selectors() -> impl Strategy<Value = (LabelSelector, Vec<BTreeMap<String, String>>)> {
    let operator = prop::sample::select(vec![
        Operator::In,
        Operator::NotIn,
        Operator::Equals,
        Operator::NotEquals,
        Operator::Exists,
        Operator::DoesNotExist,
        Operator::GreaterThan,
        Operator::LessThan,
    ]);
    let values = prop::collection::btree_set("[0-3]", 1..3);
    let requirement = ("[a-d]", operator, values).prop_map(|(key, operator, values)| {
        let values = values.into_iter().collect();
        Requirement { key, operator, values }
    });
    let labels = prop::collection::btree_map("[a-d]", "[0-3]", 0..4);
    let selector = (prop::collection::vec(requirement, 0..6), prop::bool::weighted(0.1))
        .prop_map(|(requirements, nothing)| LabelSelector { requirements, nothing });
    (selector, prop::collection::vec(labels, 8))
}

proptest! {
    #[test]
    fn a_matcher_matches_what_its_selector_does((selector, labels) in selectors()) {
        let matcher = LabelMatcher::new(selector.clone());
        for labels in labels {
            prop_assert_eq!(matcher.matches(&labels), selector.matches(&labels), "{} {:?}", selector, labels);
        }
        prop_assert_eq!(matcher.is_everything(), selector.is_everything());
    }

    #[test]
    fn printing_and_parsing_agree(text in r"[a-z]{1,3}(=[a-z]{0,2}|!=[a-z]{0,2}| in \([a-z]{1,2}(,[a-z]{1,2}){0,2}\)|>[0-9])?(,!?[a-z]{1,4}){0,2}") {
        let parsed = LabelSelector::parse(&text).unwrap();
        prop_assert_eq!(LabelSelector::parse(&parsed.to_string()).unwrap(), parsed);
    }

    #[test]
    fn no_text_panics(text in "[a-z=!(),><\\\\ é]{0,20}") {
        let _ = LabelSelector::parse(&text);
        if let Ok(parsed) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }
}
