//! Seats, levels, flows and queues: who may run and who is next. Pure: no clock, no task.
//!
//! A level has a nominal number of seats and keeps a part of them, whoever else is busy; what it does not use
//! beyond that others may borrow, and it gets back as they finish. Within a level the flow with the fewest
//! seats in use is next, and among these the one that has waited longest, so that many requests of one flow
//! delay nobody else's few. A flow never has more than a bound: requests cannot be taken back, and slow ones
//! would otherwise fill a level.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// What a level gets of the seats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// In proportion to the sum of all.
    pub(super) shares: usize,
    /// The part of its seats that others may borrow.
    pub(super) lendable_percent: usize,
}

/// Most requests of one flow that may wait.
pub(super) const QUEUE: usize = 300;
/// Most requests of a level that may wait.
const LEVEL_QUEUE: usize = 3000;

/// `T` is how a request that waits is told.
pub(super) struct Seats<T> {
    total: usize,
    in_use: usize,
    per_flow: usize,
    widest: usize,
    next: u64,
    levels: Vec<Level<T>>,
}

struct Level<T> {
    nominal: usize,
    /// The part of `nominal` that is never lent.
    kept: usize,
    in_use: usize,
    waiting: usize,
    flows: HashMap<u64, Flow<T>>,
    /// Flows that wait: by seats in use, then by the ticket of their first request.
    order: BTreeSet<(usize, u64, u64)>,
}

struct Flow<T> {
    in_use: usize,
    waiting: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    ticket: u64,
    width: usize,
    token: T,
}

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) level: usize,
    pub(super) flow: u64,
}

/// Who may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// A client: so many wait and no more.
    Bounded,
    /// One of our own, whose number is bounded where it comes from.
    Endless,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Running,
    /// With a ticket to leave the queue by.
    Waiting(u64),
    /// Too many wait already.
    Refused,
}

impl<T> Seats<T> {
    pub(super) fn new(total: usize, shares: &[Share]) -> Self {
        let sum: usize = shares.iter().map(|share| share.shares).sum::<usize>().max(1);
        let levels: Vec<Level<T>> = shares
            .iter()
            .map(|share| {
                let nominal = (total * share.shares).div_ceil(sum);
                Level {
                    nominal,
                    kept: nominal * (100 - share.lendable_percent.min(100)) / 100,
                    in_use: 0,
                    waiting: 0,
                    flows: HashMap::new(),
                    order: BTreeSet::new(),
                }
            })
            .collect();
        let kept: usize = levels.iter().map(|level| level.kept).sum();
        let per_flow = (total / 4).max(1);
        let widest = total.saturating_sub(kept).clamp(1, per_flow);
        Seats { total, in_use: 0, per_flow, widest, next: 0, levels }
    }

    /// The seats that a request takes which wants so many.
    pub(super) fn width(&self, wanted: usize) -> usize {
        wanted.clamp(1, self.widest)
    }

    /// A request comes. `token` is made only if it waits.
    pub(super) fn arrive(
        &mut self,
        place: Place,
        width: usize,
        patience: Patience,
        token: impl FnOnce() -> T,
    ) -> Arrival {
        let (fits, level) = (self.fits(place.level, width), &mut self.levels[place.level]);
        let flow =
            level.flows.entry(place.flow).or_insert_with(|| Flow { in_use: 0, waiting: VecDeque::new() });
        let may = fits && flow.waiting.is_empty() && flow.in_use + width <= self.per_flow;
        // Seats that stay free while requests wait are being gathered for one that needs several.
        if may && level.next(self.per_flow).is_none() {
            let Some(flow) = level.flows.get_mut(&place.flow) else { return Arrival::Refused };
            flow.in_use += width;
            level.in_use += width;
            self.in_use += width;
            return Arrival::Running;
        }
        let Some(flow) = level.flows.get_mut(&place.flow) else { return Arrival::Refused };
        let is_full = flow.waiting.len() >= QUEUE || level.waiting >= LEVEL_QUEUE;
        if is_full && patience == Patience::Bounded {
            level.forget_if_empty(place.flow);
            return Arrival::Refused;
        }
        let ticket = self.next;
        self.next += 1;
        if flow.waiting.is_empty() {
            level.order.insert((flow.in_use, ticket, place.flow));
        }
        flow.waiting.push_back(Waiting { ticket, width, token: token() });
        level.waiting += 1;
        Arrival::Waiting(ticket)
    }

    /// A request has ended.
    pub(super) fn finish(&mut self, place: Place, width: usize) {
        self.in_use -= width;
        self.levels[place.level].change(place.flow, |in_use| in_use - width);
        self.levels[place.level].in_use -= width;
        self.levels[place.level].forget_if_empty(place.flow);
    }

    /// A request that waits gives up. False if it is running by now.
    pub(super) fn leave(&mut self, place: Place, ticket: u64) -> bool {
        let level = &mut self.levels[place.level];
        let Some(flow) = level.flows.get_mut(&place.flow) else { return false };
        let Some(at) = flow.waiting.iter().position(|one| one.ticket == ticket) else { return false };
        if at == 0 {
            level.order.remove(&(flow.in_use, ticket, place.flow));
        }
        flow.waiting.remove(at);
        level.waiting -= 1;
        if at == 0
            && let Some(first) = flow.waiting.front()
        {
            level.order.insert((flow.in_use, first.ticket, place.flow));
        }
        level.forget_if_empty(place.flow);
        true
    }

    /// The next request that runs, if any can. To be asked until none can, after every change.
    pub(super) fn start(&mut self) -> Option<T> {
        let next = |index: usize| {
            let level = &self.levels[index];
            let flow = level.next(self.per_flow)?;
            let width = level.flows[&flow].waiting.front()?.width;
            // Those that have less than is theirs go before those that borrow.
            let urgency = (level.in_use >= level.nominal, level.in_use * 1024 / level.nominal.max(1));
            self.fits(index, width).then_some((urgency, Place { level: index, flow }))
        };
        let waiting = (0..self.levels.len()).filter(|index| self.levels[*index].waiting > 0);
        let (_, place) = waiting.filter_map(next).min_by_key(|(urgency, _)| *urgency)?;
        let level = &mut self.levels[place.level];
        let flow = level.flows.get_mut(&place.flow)?;
        let one = flow.waiting.pop_front()?;
        level.order.remove(&(flow.in_use, one.ticket, place.flow));
        flow.in_use += one.width;
        if let Some(first) = flow.waiting.front() {
            level.order.insert((flow.in_use, first.ticket, place.flow));
        }
        level.waiting -= 1;
        level.in_use += one.width;
        self.in_use += one.width;
        Some(one.token)
    }

    /// Whether a level may have so many seats more: what the others keep is not touched.
    fn fits(&self, level: usize, width: usize) -> bool {
        let others = self.levels.iter().enumerate().filter(|(index, _)| *index != level);
        let kept: usize = others.map(|(_, other)| other.kept.saturating_sub(other.in_use)).sum();
        self.in_use + width + kept <= self.total
    }
}

impl<T> Level<T> {
    /// The flow whose turn it is. Those that have all that one flow may have are passed over.
    fn next(&self, per_flow: usize) -> Option<u64> {
        let allowed = |flow: &u64| {
            let flow = &self.flows[flow];
            flow.waiting.front().is_some_and(|one| flow.in_use + one.width <= per_flow)
        };
        self.order.iter().map(|(_, _, flow)| *flow).find(allowed)
    }

    /// Changes a flow's seats and its turn with them.
    fn change(&mut self, key: u64, change: impl FnOnce(usize) -> usize) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let before = flow.in_use;
        flow.in_use = change(before);
        if let Some(first) = flow.waiting.front() {
            self.order.remove(&(before, first.ticket, key));
            self.order.insert((flow.in_use, first.ticket, key));
        }
    }

    fn forget_if_empty(&mut self, key: u64) {
        if self.flows.get(&key).is_some_and(|flow| flow.in_use == 0 && flow.waiting.is_empty()) {
            self.flows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
