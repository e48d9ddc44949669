//! Whether the rules that somebody holds cover those he wants to give to others.
//!
//! A rule is a product of sets: groups, resources, names and verbs. Upstream takes it apart into single
//! permissions and looks for each among the rules held, which for a role of a few hundred bytes (100 × 100
//! × 100) are a million. Here words that the same held rules contain are one class, so the product is over
//! classes: a word that no rule names counts with all others of its kind. Rules that contain a whole set are
//! known beforehand and end the descent. What remains is counted, and more than [`MAX_STEPS`] is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::rbac::v1::PolicyRule;

#[cfg(test)]
mod tests;

/// Machine words that one comparison may look at: some tenths of a second.
pub(crate) const MAX_STEPS: usize = 50_000_000;

/// The comparison would take too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rules are too many to be compared with those held: it would take more than {MAX_STEPS} steps")]
pub(crate) struct TooMany;

/// Which of `wanted` are not covered by `held`: `most` permissions at most, joined to rules of one group,
/// resource and name with the verbs that are missing there.
pub(crate) fn not_covered(
    held: &[PolicyRule],
    wanted: &[PolicyRule],
    most: usize,
) -> Result<Vec<PolicyRule>, TooMany> {
    let held = Held::new(held);
    let missing = Missing { most, ..Missing::default() };
    let mut search = Search { held: &held, steps: 0, missing };
    for rule in wanted {
        search.rule(rule)?;
    }
    Ok(search.missing.rules())
}

/// A set of held rules.
type Rules = Vec<u64>;

/// For one kind of word: which rules contain any, and which contain one that they name.
#[derive(Default)]
struct Words<'a> {
    any: Vec<u32>,
    named: HashMap<&'a str, Vec<u32>>,
}

impl<'a> Words<'a> {
    fn add(&mut self, rule: u32, words: Option<&'a [String]>) {
        for word in words.unwrap_or_default() {
            let rules = if word == "*" { &mut self.any } else { self.named.entry(word).or_default() };
            if rules.last() != Some(&rule) {
                rules.push(rule);
            }
        }
    }

    fn named(&self, word: &str) -> &[u32] {
        self.named.get(word).map_or(&[], Vec::as_slice)
    }
}

/// The rules held, by the words that they contain.
#[derive(Default)]
struct Held<'a> {
    count: usize,
    verbs: Words<'a>,
    groups: Words<'a>,
    resources: Words<'a>,
    /// `any` are the rules that name no object.
    names: Words<'a>,
    urls: Words<'a>,
    /// Beginnings of paths, sorted.
    prefixes: Vec<(&'a str, u32)>,
}

impl<'a> Held<'a> {
    fn new(rules: &'a [PolicyRule]) -> Self {
        let mut held = Held { count: rules.len(), ..Held::default() };
        for (index, rule) in rules.iter().enumerate() {
            let Ok(index) = u32::try_from(index) else { break };
            held.verbs.add(index, Some(&rule.verbs));
            held.groups.add(index, rule.api_groups.as_deref());
            held.resources.add(index, rule.resources.as_deref());
            match rule.resource_names.as_deref() {
                None | Some([]) => held.names.any.push(index),
                // A name is never a wildcard.
                Some(names) => {
                    for name in names {
                        held.names.named.entry(name).or_default().push(index);
                    }
                }
            }
            for url in rule.non_resource_urls.iter().flatten() {
                match url.strip_suffix('*') {
                    Some("") => held.urls.any.push(index),
                    Some(prefix) => held.prefixes.push((prefix, index)),
                    None => held.urls.named.entry(url).or_default().push(index),
                }
            }
        }
        held.prefixes.sort_unstable();
        held.prefixes.dedup();
        held
    }

    fn set(&self, rules: impl IntoIterator<Item = u32>) -> Rules {
        let mut set = vec![0; self.count.div_ceil(64)];
        for rule in rules {
            set[rule as usize / 64] |= 1 << (rule % 64);
        }
        set
    }

    /// Rules that name a resource, or its subresource for all resources.
    fn resource(&self, word: &str) -> Vec<u32> {
        let mut rules = self.resources.named(word).to_vec();
        if let Some((_, sub)) = word.split_once('/') {
            rules.extend(self.resources.named(&format!("*/{sub}")));
        }
        rules
    }
}

/// Wanted words that the same held rules contain.
struct Class<'a> {
    rules: Rules,
    words: Vec<&'a str>,
}

/// One side of the product.
struct Side<'a> {
    classes: Vec<Class<'a>>,
    /// Rules that contain all words of it.
    whole: Rules,
}

struct Search<'a> {
    held: &'a Held<'a>,
    steps: usize,
    missing: Missing,
}

impl<'a> Search<'a> {
    fn step(&mut self, steps: usize) -> Result<(), TooMany> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS { Err(TooMany) } else { Ok(()) }
    }

    fn rule(&mut self, rule: &PolicyRule) -> Result<(), TooMany> {
        let held = self.held;
        let verbs = self.side(rule.verbs.iter(), &held.verbs.any, |word| held.verbs.named(word).to_vec())?;
        if let Some(urls) = rule.non_resource_urls.as_deref().filter(|urls| !urls.is_empty()) {
            let urls = self.urls(urls)?;
            self.descend(None, &[&urls, &verbs], &mut Vec::new())?;
        }
        let (groups, resources) = (rule.api_groups.iter().flatten(), rule.resources.iter().flatten());
        let groups = self.side(groups, &held.groups.any, |word| held.groups.named(word).to_vec())?;
        let resources = self.side(resources, &held.resources.any, |word| held.resource(word))?;
        let names = match rule.resource_names.as_deref() {
            // All objects: only rules without names have that.
            None | Some([]) => {
                let rules = held.set(held.names.any.iter().copied());
                Side { whole: rules.clone(), classes: vec![Class { rules, words: vec![""] }] }
            }
            Some(names) => {
                self.side(names.iter(), &held.names.any, |word| held.names.named(word).to_vec())?
            }
        };
        self.descend(None, &[&groups, &resources, &names, &verbs], &mut Vec::new())
    }

    fn side<'b>(
        &mut self,
        words: impl Iterator<Item = &'b String>,
        any: &[u32],
        rules_of: impl Fn(&str) -> Vec<u32>,
    ) -> Result<Side<'b>, TooMany> {
        let mut classes: HashMap<Vec<u32>, Vec<&'b str>> = HashMap::new();
        let words: BTreeSet<&str> = words.map(String::as_str).collect();
        for word in words {
            let mut rules = if word == "*" { Vec::new() } else { rules_of(word) };
            rules.sort_unstable();
            self.step(1 + rules.len())?;
            classes.entry(rules).or_default().push(word);
        }
        self.joined(classes, any)
    }

    /// Paths: each is covered by itself, or by a beginning with `*`.
    fn urls<'b>(&mut self, urls: &'b [String]) -> Result<Side<'b>, TooMany> {
        let held = self.held;
        let urls: BTreeSet<&str> = urls.iter().map(String::as_str).collect();
        let urls: Vec<&str> = urls.into_iter().collect();
        let mut rules: Vec<Vec<u32>> = vec![Vec::new(); urls.len()];
        for (url, rules) in urls.iter().zip(&mut rules) {
            rules.extend(held.urls.named(url));
        }
        for (prefix, rule) in &held.prefixes {
            let from = urls.partition_point(|url| url < prefix);
            for (url, rules) in urls.iter().zip(&mut rules).skip(from) {
                if !url.starts_with(prefix) {
                    break;
                }
                self.step(1)?;
                rules.push(*rule);
            }
        }
        let mut classes: HashMap<Vec<u32>, Vec<&'b str>> = HashMap::new();
        for (url, mut rules) in urls.into_iter().zip(rules) {
            rules.sort_unstable();
            rules.dedup();
            classes.entry(rules).or_default().push(url);
        }
        self.joined(classes, &held.urls.any)
    }

    fn joined<'b>(
        &mut self,
        classes: HashMap<Vec<u32>, Vec<&'b str>>,
        any: &[u32],
    ) -> Result<Side<'b>, TooMany> {
        let any = self.held.set(any.iter().copied());
        let mut side = Side { whole: vec![u64::MAX; any.len()], classes: Vec::new() };
        for (named, words) in classes {
            self.step(any.len())?;
            let mut rules = self.held.set(named);
            rules.iter_mut().zip(&any).for_each(|(own, any)| *own |= any);
            side.whole.iter_mut().zip(&rules).for_each(|(whole, own)| *whole &= own);
            side.classes.push(Class { rules, words });
        }
        // What is missing is told in the order of the words.
        side.classes.sort_by(|one, other| one.words.cmp(&other.words));
        Ok(side)
    }

    /// `rules` contain the classes chosen so far (`None`: nothing is chosen yet).
    fn descend<'b>(
        &mut self,
        rules: Option<&Rules>,
        sides: &[&'b Side<'b>],
        chosen: &mut Vec<&'b [&'b str]>,
    ) -> Result<(), TooMany> {
        if self.missing.is_full() {
            return Ok(());
        }
        let width = self.held.count.div_ceil(64);
        self.step((1 + width) * (1 + sides.len()))?;
        let both =
            |one: &Rules, other: &Rules| -> Rules { one.iter().zip(other).map(|(a, b)| a & b).collect() };
        let all = vec![u64::MAX; width];
        let rules = rules.unwrap_or(&all);
        let whole = sides.iter().fold(rules.clone(), |rules, side| both(&rules, &side.whole));
        if sides.iter().any(|side| side.classes.is_empty()) || !is_empty(&whole) {
            return Ok(());
        }
        if is_empty(rules) || sides.is_empty() {
            return self.report(sides, chosen);
        }
        for class in &sides[0].classes {
            chosen.push(&class.words);
            let done = self.descend(Some(&both(rules, &class.rules)), &sides[1..], chosen);
            chosen.pop();
            done?;
        }
        Ok(())
    }

    /// Nothing covers what is chosen, whatever the rest: all of it is missing.
    fn report<'b>(&mut self, sides: &[&'b Side<'b>], chosen: &mut Vec<&'b [&'b str]>) -> Result<(), TooMany> {
        let Some((side, rest)) = sides.split_first() else {
            self.missing.add(chosen);
            return Ok(());
        };
        for class in &side.classes {
            if self.missing.is_full() {
                break;
            }
            self.step(1)?;
            chosen.push(&class.words);
            let done = self.report(rest, chosen);
            chosen.pop();
            done?;
        }
        Ok(())
    }
}

fn is_empty(rules: &Rules) -> bool {
    rules.iter().all(|word| *word == 0)
}

/// Permissions that are missing, joined by verbs.
#[derive(Default)]
struct Missing {
    count: usize,
    most: usize,
    /// Group, resource, name.
    resources: BTreeMap<(String, String, String), BTreeSet<String>>,
    urls: BTreeMap<String, BTreeSet<String>>,
}

impl Missing {
    fn is_full(&self) -> bool {
        self.count >= self.most
    }

    fn add(&mut self, chosen: &[&[&str]]) {
        match chosen {
            [urls, verbs] => {
                for url in *urls {
                    for verb in *verbs {
                        if !self.is_full()
                            && self.urls.entry(url.to_string()).or_default().insert(verb.to_string())
                        {
                            self.count += 1;
                        }
                    }
                }
            }
            [groups, resources, names, verbs] => {
                for group in *groups {
                    for resource in *resources {
                        for name in *names {
                            self.add_verbs([group, resource, name], verbs);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn add_verbs(&mut self, [group, resource, name]: [&str; 3], verbs: &[&str]) {
        if self.is_full() {
            return;
        }
        let own = self.resources.entry((group.into(), resource.into(), name.into())).or_default();
        for verb in verbs {
            if self.count < self.most && own.insert(verb.to_string()) {
                self.count += 1;
            }
        }
    }

    fn rules(self) -> Vec<PolicyRule> {
        let some = |text: String| Some(vec![text]);
        let resources = self.resources.into_iter().map(|((group, resource, name), verbs)| PolicyRule {
            verbs: verbs.into_iter().collect(),
            api_groups: some(group),
            resources: some(resource),
            resource_names: some(name).filter(|names| !names[0].is_empty()),
            ..PolicyRule::default()
        });
        let urls = self.urls.into_iter().map(|(url, verbs)| PolicyRule {
            verbs: verbs.into_iter().collect(),
            non_resource_urls: some(url),
            ..PolicyRule::default()
        });
        resources.chain(urls).collect()
    }
}
