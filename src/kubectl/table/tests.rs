//! Golden tests of printed tables.

use api::kinds::{DEPLOYMENT, POD};
use serde_json::{Value, json};

use super::{Look, Table};
use crate::output::text_table::TextTable;

fn answer() -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
    "columnDefinitions": [
        {"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "Restarts", "priority": 0},
        {"name": "Node", "priority": 1}],
    "rows": [
        {"cells": ["a", "1/1", 0, "n1"], "object": {"metadata": {"name": "a", "namespace": "default", "labels": {"app": "web", "x.io/tier": "front"}}}},
        {"cells": ["a-long-name", "0/1", "3 (2m ago)", "n2"], "object": {"metadata": {"name": "a-long-name", "namespace": "kube-system"}}},
        {"cells": ["two\nlines", null, 1, "n"], "object": {"metadata": {}}}
    ]})
}

fn text(look: &Look) -> String {
    let table = Table::from_answer(answer(), "2026-01-01T00:00:00Z".parse().unwrap());
    look.text(&table, &DEPLOYMENT, &mut TextTable::default(), true)
}

#[test]
fn columns_are_kubectls() {
    assert_eq!(
        text(&Look::default()),
        "NAME          READY   RESTARTS\n\
         a             1/1     0\n\
         a-long-name   0/1     3 (2m ago)\n\
         two...                1\n"
    );
    let look = Look { wide: true, with_namespace: true, with_kind: true, ..Look::default() };
    assert_eq!(
        text(&look),
        "NAMESPACE     NAME                          READY   RESTARTS     NODE\n\
         default       deployment.apps/a             1/1     0            n1\n\
         kube-system   deployment.apps/a-long-name   0/1     3 (2m ago)   n2\n\
         \u{20}             deployment.apps/two...                1            n\n"
    );
    let look = Look {
        no_headers: true,
        show_labels: true,
        label_columns: vec!["x.io/tier".into()],
        ..Look::default()
    };
    let lines = text(&look);
    assert!(
        lines.starts_with("a             1/1   0            front   app=web,x.io/tier=front\n"),
        "{lines}"
    );
    assert!(lines.contains("a-long-name   0/1   3 (2m ago)           <none>\n"), "{lines}");
}

#[test]
fn widths_are_remembered_for_a_watch() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut printer = TextTable::default();
    let look = Look::default();
    look.text(&Table::from_answer(answer(), now), &POD, &mut printer, true);
    let next = json!({"kind": "Table", "columnDefinitions": answer()["columnDefinitions"], "rows": [{"cells": ["b", "1/1", 0, "n"]}]});
    assert_eq!(
        look.text(&Table::from_answer(next, now), &POD, &mut printer, false),
        "b             1/1     0\n"
    );
}

#[test]
fn a_server_without_tables_gets_names_and_ages() {
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    let object =
        json!({"kind": "Pod", "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}});
    let table = Table::from_answer(object, now);
    assert_eq!(
        Look::default().text(&table, &POD, &mut TextTable::default(), true),
        "NAME   AGE\np      5m\n"
    );
}
