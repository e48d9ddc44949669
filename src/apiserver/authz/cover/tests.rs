//! The same answers as taking every rule apart, and bounded work where that would never end.

use serde_json::json;

use super::*;

fn rules(list: serde_json::Value) -> Vec<PolicyRule> {
    serde_json::from_value(list).unwrap()
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// Single permissions that are missing, found by comparing each with each rule.
fn one_by_one(held: &[PolicyRule], wanted: &[PolicyRule]) -> BTreeSet<[String; 4]> {
    let has = |list: &[String], word: &str| list.iter().any(|own| own == "*" || own == word);
    let none = Vec::new();
    let mut missing = BTreeSet::new();
    for rule in wanted {
        let (groups, resources) = (rule.api_groups.as_ref().unwrap(), rule.resources.as_ref().unwrap());
        let names = rule.resource_names.clone().unwrap_or_else(|| vec![String::new()]);
        for group in groups {
            for resource in resources {
                for name in &names {
                    for verb in &rule.verbs {
                        let covered = held.iter().any(|own| {
                            let resources = own.resources.as_ref().unwrap();
                            let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
                            let own_names = own.resource_names.as_ref().unwrap_or(&none);
                            has(&own.verbs, verb)
                                && has(own.api_groups.as_ref().unwrap(), group)
                                && (has(resources, resource)
                                    || sub.is_some_and(|sub| resources.contains(&sub)))
                                && (own_names.is_empty() || own_names.contains(name))
                        });
                        if !covered {
                            missing.insert([group, resource, name, verb].map(String::clone));
                        }
                    }
                }
            }
        }
    }
    missing
}

fn apart(rules: &[PolicyRule]) -> BTreeSet<[String; 4]> {
    let mut all = BTreeSet::new();
    for rule in rules {
        let first = |list: &Option<Vec<String>>| list.as_ref().map_or(String::new(), |list| list[0].clone());
        for verb in &rule.verbs {
            all.insert([
                first(&rule.api_groups),
                first(&rule.resources),
                first(&rule.resource_names),
                verb.clone(),
            ]);
        }
    }
    all
}

/// A small generator of numbers: the same cases every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn some(&mut self, words: &[&str], least: usize) -> Vec<String> {
        let count = least + self.below(3);
        (0..count).map(|_| words[self.below(words.len())].to_string()).collect()
    }

    fn rules(&mut self, count: usize) -> Vec<PolicyRule> {
        (0..count)
            .map(|_| PolicyRule {
                verbs: self.some(&["get", "list", "create", "*"], 1),
                api_groups: Some(self.some(&["", "apps", "*"], 1)),
                resources: Some(self.some(&["pods", "pods/scale", "*/scale", "sets", "*"], 1)),
                resource_names: Some(self.some(&["a", "b", "c"], 0)).filter(|names| !names.is_empty()),
                ..PolicyRule::default()
            })
            .collect()
    }
}

#[test]
fn answers_are_those_of_single_permissions() {
    let mut numbers = Numbers(1);
    for _ in 0..3000 {
        let (count, more) = (numbers.below(5), 1 + numbers.below(3));
        let (held, wanted) = (numbers.rules(count), numbers.rules(more));
        let found = not_covered(&held, &wanted, usize::MAX).unwrap();
        assert_eq!(apart(&found), one_by_one(&held, &wanted), "{held:?} {wanted:?}");
    }
}

#[test]
fn paths_are_covered_by_their_beginnings() {
    let held = rules(json!([
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*", "/apis*"]},
        {"verbs": ["*"], "nonResourceURLs": ["/metrics"]},
    ]));
    let wanted = rules(json!([{"verbs": ["get", "post"],
        "nonResourceURLs": ["/healthz", "/api/v1", "/api/*", "/apis", "/metrics", "/api", "*"]}]));
    let missing = not_covered(&held, &wanted, usize::MAX).unwrap();
    let told: Vec<String> = missing
        .iter()
        .map(|rule| format!("{} {}", rule.non_resource_urls.as_ref().unwrap()[0], rule.verbs.join(",")))
        .collect();
    assert_eq!(
        told,
        ["* get,post", "/api get,post", "/api/* post", "/api/v1 post", "/apis post", "/healthz post"]
    );
    let all = rules(json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]));
    assert_eq!(not_covered(&all, &wanted, usize::MAX).unwrap(), []);
}

/// A hundred words on each side are a million permissions, of which each would be looked for in each rule.
#[test]
fn a_large_product_is_a_few_classes() {
    let wanted = rules(json!([{"verbs": numbered("v", 100), "apiGroups": numbered("g", 100),
        "resources": numbered("r", 100), "resourceNames": numbered("n", 100)}]));
    let held = rules(json!([
        {"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": numbered("r", 30)},
        {"verbs": ["*"], "apiGroups": ["g1"], "resources": ["*"]},
    ]));
    let mut count =
        Search { held: &Held::new(&held), steps: 0, missing: Missing { most: 200, ..Missing::default() } };
    count.rule(&wanted[0]).unwrap();
    assert!(count.steps < 10_000, "{} steps", count.steps);
    assert_eq!(count.missing.count, 200);
    assert_eq!(not_covered(&wanted, &wanted, 200).unwrap(), []);
}

/// Rules made so that no two words are alike.
#[test]
fn what_would_never_end_is_refused() {
    let mut numbers = Numbers(2);
    let mut some = |prefix: &str| -> Vec<String> {
        numbered(prefix, 400).into_iter().filter(|_| numbers.below(2) == 0).collect()
    };
    let held: Vec<PolicyRule> = (0..600)
        .map(|_| PolicyRule {
            verbs: some("v"),
            api_groups: Some(some("g")),
            resources: Some(some("r")),
            resource_names: Some(some("n")),
            ..PolicyRule::default()
        })
        .collect();
    let wanted = rules(json!([{"verbs": numbered("v", 400), "apiGroups": numbered("g", 400),
        "resources": numbered("r", 400), "resourceNames": numbered("n", 400)}]));
    assert_eq!(not_covered(&held, &wanted, 200), Err(TooMany));
    assert!(TooMany.to_string().ends_with("more than 50000000 steps"));
}
