//! Our kinds beside the list of what upstream serves.

use std::collections::BTreeMap;

use super::{ALL, KindRow, Scope, Subresource};

/// What v1.36 serves, one resource or subresource a line, made by `src/api/gen`.
const UPSTREAM: &str = include_str!("upstream.txt");

/// What differs, by group and version or by one resource in it, and why. An entry that no longer differs must
/// go.
const DIFFERENCES: &[(&str, &str)] = &[
    ("certificates.k8s.io/v1beta1", ALONE),
    ("certificates.k8s.io/v1alpha1", ALONE),
    ("scheduling.k8s.io/v1alpha2", ALONE),
    ("coordination.k8s.io/v1beta1", ALONE),
    ("coordination.k8s.io/v1alpha2", ALONE),
    ("resource.k8s.io/v1beta2 devicetaintrules", ALONE),
    ("resource.k8s.io/v1beta2 devicetaintrules/status", ALONE),
    ("resource.k8s.io/v1beta1", "its requests for devices have another form, which nothing converts yet"),
    ("resource.k8s.io/v1alpha3", ALONE),
    ("internal.apiserver.k8s.io/v1alpha1", ALONE),
    ("storagemigration.k8s.io/v1beta1", ALONE),
];

/// The list was taken with every version on.
const ALONE: &str = "off by default upstream, and there is no stable version of it";

fn row_line(row: &KindRow) -> (String, String) {
    let scope = match row.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let key = format!("{}/{} {}", row.group, row.version, row.plural);
    let rest = format!(
        "{} {scope} {} verbs={} short={} categories={}",
        row.kind,
        row.singular,
        row.verbs.join(","),
        row.short_names.join(","),
        row.categories.join(",")
    );
    (key, rest)
}

fn sub_line(row: &KindRow, sub: &Subresource) -> (String, String) {
    let key = format!("{}/{} {}/{}", row.group, row.version, row.plural, sub.name);
    (key, format!("{} verbs={}", sub.kind, sub.verbs.join(",")))
}

/// Whether two lines say the same, word by word; `?` is what upstream's facts do not tell.
fn same(own: &str, upstream: &str) -> bool {
    let (own, upstream): (Vec<_>, Vec<_>) = (own.split(' ').collect(), upstream.split(' ').collect());
    let alike = |(own, other): (&&str, &&str)| own == other || *other == "?" || other.ends_with("=?");
    own.len() == upstream.len() && own.iter().zip(&upstream).all(alike)
}

#[test]
fn what_is_served_is_what_upstream_serves() {
    let upstream: BTreeMap<String, &str> = UPSTREAM
        .lines()
        .map(|line| {
            let (at, rest) = line.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            (format!("{at} {name}"), rest)
        })
        .collect();
    assert!(upstream.len() > 100, "{}", upstream.len());
    let early = super::early();
    let own: BTreeMap<String, String> = ALL
        .iter()
        .copied()
        .chain(&early)
        .flat_map(|row| {
            let parts = row.subresources.iter().map(|sub| sub_line(row, sub));
            std::iter::once(row_line(row)).chain(parts)
        })
        .collect();
    let mut differing: BTreeMap<&str, String> = BTreeMap::new();
    for (key, rest) in &upstream {
        match own.get(key) {
            None => drop(differing.insert(key, format!("{key} is not served"))),
            Some(own) if !same(own, rest) => {
                differing.insert(key, format!("{key} is\n  {own}\nand not\n  {rest}"));
            }
            Some(_) => {}
        }
    }
    for key in own.keys().filter(|key| !upstream.contains_key(*key)) {
        differing.insert(key, format!("{key} is served, and upstream does not"));
    }
    let explains = |entry: &str, key: &str| key == entry || key.split(' ').next() == Some(entry);
    let stale: Vec<_> =
        DIFFERENCES.iter().filter(|(entry, _)| !differing.keys().any(|key| explains(entry, key))).collect();
    assert!(stale.is_empty(), "these differ no longer, take them out: {stale:?}");
    let unexplained: Vec<_> = differing
        .iter()
        .filter(|(key, _)| !DIFFERENCES.iter().any(|(entry, _)| explains(entry, key)))
        .map(|(_, what)| what.as_str())
        .collect();
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
}

/// The fields of a type and of all that it refers to, without the version in the names of types.
fn form(ty: crate::schema::TypeRef, depth: usize, out: &mut Vec<String>) {
    for field in ty.fields() {
        let shape = format!("{:?} {:?} {:?}", field.ty.shape, field.list_type, field.merge_key());
        out.push(format!("{depth} {} {shape} {}", field.name, field.required));
        // Some types hold themselves.
        if let Some(inner) = field.object().filter(|_| depth < 6) {
            form(inner, depth + 1, out);
        }
    }
}

#[test]
fn early_versions_have_the_form_of_the_stable_one() {
    let rows = super::early();
    assert_eq!(rows.len(), 11);
    for row in rows {
        let stable = super::by_kind(row.stored_as.as_deref().unwrap(), &row.kind).unwrap();
        let of = |row: &KindRow| {
            let mut all = Vec::new();
            form(crate::schema::for_kind(row).unwrap(), 0, &mut all);
            all
        };
        assert_eq!(of(&row), of(stable), "{} {}", row.version, row.kind);
    }
}
