//! The plugins of one profile, and the running of each extension point.
//!
//! The texts around a plugin's error are upstream's: people search for them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::config::{ConfigError, Factory, ProfileConfig};
use super::plugin::{Handle, Nominating, Points, PostFilterResult, Slot};
use super::plugin_set::PluginSet;
use super::{
    Code, Cycle, Diagnosis, EventToRegister, MAX_NODE_SCORE, ObservedEvent, QueueingHint, Recent, Status,
};
use crate::equivalence::Equivalence;
use crate::pod::PodInfo;

mod binding;

/// What an event means for a rejected pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Requeue {
    Skip,
    AfterBackoff,
    /// A plugin that only waited for this has got it.
    Immediately,
}

/// The plugins of one scheduler name.
pub struct Profile {
    pub(crate) handle: Handle,
    points: Points,
    /// How many filters at the head of the list look at nothing but the node: their answers are kept per
    /// signature.
    kept_filters: usize,
    names: Vec<&'static str>,
    /// The events that each plugin has registered for.
    registered: Vec<(u8, EventToRegister)>,
}

impl Profile {
    pub(super) fn new(
        config: &ProfileConfig,
        registry: &BTreeMap<String, Factory>,
        handle: Handle,
    ) -> Result<Self, ConfigError> {
        let profile = || config.scheduler_name.clone();
        if config.plugins.len() > PluginSet::MOST {
            return Err(ConfigError::TooManyPlugins(profile()));
        }
        let (mut points, mut names, mut registered) = (Points::default(), Vec::new(), Vec::new());
        for (id, (name, weight)) in config.plugins.iter().enumerate() {
            let make =
                registry.get(name).ok_or_else(|| ConfigError::UnknownPlugin(profile(), name.clone()))?;
            let plugin = make(&handle);
            if names.contains(&plugin.name()) {
                return Err(ConfigError::DuplicatePlugin(profile(), name.clone()));
            }
            // No more than `PluginSet::MOST`.
            let id = id as u8;
            let (rejecting, scoring) = (points.rejecting(), points.score.len());
            names.push(plugin.name());
            points.add(id, *weight, plugin.clone());
            if points.rejecting() > rejecting {
                registered.extend(plugin.events_to_register().into_iter().map(|event| (id, event)));
            }
            if points.score.len() > scoring && *weight <= 0 {
                return Err(ConfigError::NoWeight(profile(), name.clone()));
            }
        }
        if points.bind.is_empty() {
            return Err(ConfigError::NoBindPlugin(profile()));
        }
        let kept_filters = points.filter.iter().take_while(|slot| slot.plugin.only_node()).count();
        Ok(Profile { handle, points, kept_filters, names, registered })
    }

    /// The set that a status' plugin makes up.
    pub(crate) fn set_of(&self, status: &Status) -> PluginSet {
        let at = status.plugin().and_then(|plugin| self.names.iter().position(|name| *name == plugin));
        at.map_or(PluginSet::NONE, |id| PluginSet::of(id as u8))
    }

    /// Plugins that registered for an event.
    pub(crate) fn interested(&self, event: super::ClusterEvent) -> PluginSet {
        let matching = self.registered.iter().filter(|(_, one)| one.event.matches(event));
        matching.fold(PluginSet::NONE, |set, (id, _)| set | PluginSet::of(*id))
    }

    /// Whether something that these plugins registered for has happened since.
    pub(crate) fn missed(&self, rejectors: PluginSet, recent: &Recent, since: u64) -> bool {
        let mut theirs = self.registered.iter().filter(|(id, _)| rejectors.contains(*id));
        theirs.any(|(_, one)| recent.happened_since(one.event, since))
    }

    /// Asks the hints of the plugins that rejected a pod.
    pub(crate) fn worth_requeuing(
        &self,
        pod: &PodInfo,
        rejectors: PluginSet,
        pending: PluginSet,
        happening: &ObservedEvent<'_>,
    ) -> Requeue {
        let mut answer = Requeue::Skip;
        for (id, one) in &self.registered {
            let own = if pending.contains(*id) { Requeue::Immediately } else { Requeue::AfterBackoff };
            if !rejectors.contains(*id) || own <= answer || !one.event.matches(happening.event) {
                continue;
            }
            let hint = one.hint.as_ref().map_or(QueueingHint::Queue, |hint| hint(pod, happening));
            if hint == QueueingHint::Queue {
                answer = own;
            }
        }
        answer
    }

    /// The plugin that keeps the pod out of the queue, if one does.
    pub(crate) fn run_pre_enqueue(&self, pod: &PodInfo) -> Option<PluginSet> {
        for slot in &self.points.pre_enqueue {
            let status = slot.plugin.pre_enqueue(pod);
            if !status.is_success() {
                if status.is_error() {
                    let error = status.message();
                    tracing::warn!(plugin = slot.name, pod = %pod.key.1, error, "PreEnqueue failed");
                }
                return Some(PluginSet::of(slot.id));
            }
        }
        None
    }

    /// The nodes that are left, or who rejects the pod and why.
    pub(crate) fn run_pre_filter(&self, cycle: &mut Cycle<'_>) -> Result<Confined, (PluginSet, Status)> {
        let mut confined = Confined::default();
        let mut rejected = None;
        cycle.state.skip_filter = PluginSet::NONE;
        for slot in &self.points.pre_filter {
            let (result, status) = slot.plugin.pre_filter(cycle);
            let by = PluginSet::of(slot.id);
            match status.code() {
                Code::Success => {}
                Code::Skip => {
                    cycle.state.skip_filter.insert(slot.id);
                    continue;
                }
                // Eviction may help, and only if all plugins have been heard can that be tried.
                Code::Unschedulable => {
                    rejected = Some((by, status.by(slot.name)));
                    continue;
                }
                Code::UnschedulableAndUnresolvable | Code::Pending => return Err((by, status.by(slot.name))),
                Code::Error | Code::Wait => {
                    let what = format!("running PreFilter plugin {:?}", slot.name);
                    return Err((by, status.while_doing(what).by(slot.name)));
                }
            }
            let Some(names) = result.node_names else { continue };
            confined.meet(names, slot);
            if let Some(status) = confined.nothing_left() {
                return Err((confined.by, status));
            }
        }
        rejected.map_or(Ok(confined), Err)
    }

    /// The filters at the head of the list that look at nothing but the node.
    fn run_kept_filters(&self, cycle: &Cycle<'_>, node: u32) -> Option<(PluginSet, Status)> {
        self.run_filters(&self.points.filter[..self.kept_filters], cycle, node)
    }

    /// All other filters.
    pub(crate) fn run_other_filters(&self, cycle: &Cycle<'_>, node: u32) -> Option<(PluginSet, Status)> {
        self.run_filters(&self.points.filter[self.kept_filters..], cycle, node)
    }

    fn run_filters(
        &self,
        filters: &[Slot<dyn super::FilterPlugin>],
        cycle: &Cycle<'_>,
        node: u32,
    ) -> Option<(PluginSet, Status)> {
        let info = &cycle.cache.nodes[node as usize];
        for slot in filters {
            if cycle.state.skip_filter.contains(slot.id) && !slot.plugin.only_node() {
                continue;
            }
            let status = slot.plugin.filter(cycle, info);
            if status.is_success() {
                continue;
            }
            let status = match status.is_rejected() {
                true => status,
                false => status.while_doing(format!("running {:?} filter plugin", slot.name)),
            };
            return Some((PluginSet::of(slot.id), status.by(slot.name)));
        }
        None
    }

    pub(crate) fn run_post_filter(
        &self,
        cycle: &mut Cycle<'_>,
        diagnosis: &Diagnosis,
    ) -> (PostFilterResult, Status) {
        let mut kept = PostFilterResult::default();
        let mut reasons: Vec<Cow<'static, str>> = Vec::new();
        for slot in &self.points.post_filter {
            let (result, status) = slot.plugin.post_filter(cycle, self, diagnosis);
            match status.code() {
                Code::Success | Code::UnschedulableAndUnresolvable => return (result, status.by(slot.name)),
                Code::Unschedulable | Code::Pending => {
                    if result.nominating != Nominating::Keep {
                        kept = result;
                    }
                    reasons.extend(status.reasons().iter().cloned());
                }
                Code::Error | Code::Wait | Code::Skip => {
                    let error = status.message();
                    tracing::warn!(plugin = slot.name, pod = %cycle.pod.key.1, error, "PostFilter failed");
                    return (PostFilterResult::default(), Status::error(error).by(slot.name));
                }
            }
        }
        (kept, Status::with_code(Code::Unschedulable, reasons))
    }

    pub(crate) fn run_pre_score(&self, cycle: &mut Cycle<'_>, nodes: &[u32]) -> Result<(), Status> {
        cycle.state.skip_score = PluginSet::NONE;
        for slot in &self.points.pre_score {
            let status = slot.plugin.pre_score(cycle, nodes);
            if status.is_skip() {
                cycle.state.skip_score.insert(slot.id);
            } else if !status.is_success() {
                return Err(status.while_doing(format!("running PreScore plugin {:?}", slot.name)));
            }
        }
        Ok(())
    }

    /// Scores of one node that depend on nothing else, in the order of the plugins that give them.
    fn run_kept_scores(&self, cycle: &Cycle<'_>, node: u32, into: &mut Vec<Result<i64, Status>>) {
        let info = &cycle.cache.nodes[node as usize];
        let kept = self.points.score.iter().filter(|slot| slot.plugin.only_node());
        into.extend(kept.map(|slot| slot.plugin.score(cycle, info)));
    }

    /// Brings what is kept of a node's answers up to date.
    pub(crate) fn refresh(&self, kept: &mut Equivalence, cycle: &Cycle<'_>, node: u32) {
        let version = cycle.cache.nodes[node as usize].version;
        let Some(row) = kept.outdated(node, version) else { return };
        row.rejection = self.run_kept_filters(cycle, node);
        if row.rejection.is_none() {
            self.run_kept_scores(cycle, node, &mut row.scores);
        }
    }

    /// The weighted sums of all scores, by node.
    pub(crate) fn run_score(
        &self,
        cycle: &Cycle<'_>,
        kept: &Equivalence,
        nodes: &[u32],
    ) -> Result<Vec<i64>, Status> {
        let mut totals = vec![0; nodes.len()];
        let mut scores = vec![0; nodes.len()];
        let mut kept_at = 0;
        for slot in &self.points.score {
            let only_node = slot.plugin.only_node();
            let at = kept_at;
            kept_at += usize::from(only_node);
            if cycle.state.skip_score.contains(slot.id) {
                continue;
            }
            let running = || format!("running Score plugins: plugin {:?} failed with", slot.name);
            for (score, node) in scores.iter_mut().zip(nodes) {
                let own = if only_node {
                    kept.score(*node, at)
                } else {
                    slot.plugin.score(cycle, &cycle.cache.nodes[*node as usize])
                };
                *score = own.map_err(|status| status.while_doing(running()))?;
            }
            let status = slot.plugin.normalize_score(cycle, &mut scores);
            if !status.is_success() {
                let what = format!("running Normalize on Score plugins: plugin {:?} failed with", slot.name);
                return Err(status.while_doing(what));
            }
            for (total, score) in totals.iter_mut().zip(&scores) {
                if !(0..=MAX_NODE_SCORE).contains(score) {
                    return Err(Status::error(format!(
                        "applying score defaultWeights on Score plugins: plugin {:?} returns an invalid score \
                         {score}, it should in the range of [0, {MAX_NODE_SCORE}] after normalizing",
                        slot.name
                    )));
                }
                *total += slot.weight * score;
            }
        }
        Ok(totals)
    }
}

/// A rejection is passed on as it is, anything else becomes an error that names the plugin.
fn failed(status: Status, what: &str, plugin: &'static str) -> Status {
    match status.is_rejected() {
        true => status.by(plugin),
        false => status.while_doing(format!("{what} {plugin:?}")).by(plugin),
    }
}

/// The nodes that PreFilter plugins leave.
#[derive(Default)]
pub(crate) struct Confined {
    /// All if none are named.
    pub(crate) names: Option<BTreeSet<String>>,
    /// Plugins that named nodes.
    pub(crate) by: PluginSet,
    plugins: BTreeSet<&'static str>,
}

impl Confined {
    fn meet(&mut self, names: Vec<String>, slot: &Slot<dyn super::PreFilterPlugin>) {
        let names: BTreeSet<String> = names.into_iter().collect();
        self.names = Some(match self.names.take() {
            None => names,
            Some(before) => before.intersection(&names).cloned().collect(),
        });
        self.by.insert(slot.id);
        self.plugins.insert(slot.name);
    }

    fn listed(&self) -> String {
        self.plugins.iter().copied().collect::<Vec<_>>().join(" ")
    }

    fn nothing_left(&self) -> Option<Status> {
        if !self.names.as_ref()?.is_empty() {
            return None;
        }
        Some(Status::unresolvable(match self.plugins.len() {
            1 => format!("node(s) didn't satisfy plugin {}", self.listed()),
            _ => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", self.listed()),
        }))
    }

    /// What is told of the nodes that were left out.
    pub(crate) fn passed_over(&self) -> Status {
        Status::unresolvable(format!("node(s) didn't satisfy plugin(s) [{}]", self.listed()))
    }
}

impl Points {
    /// How many entries the extension points have at which a pod can be rejected for a while.
    fn rejecting(&self) -> usize {
        self.pre_enqueue.len()
            + self.pre_filter.len()
            + self.filter.len()
            + self.reserve.len()
            + self.permit.len()
    }
}
