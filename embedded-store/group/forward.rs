//! Writes of a member that does not lead: the leader puts them into a record that names the member, and the
//! member answers them when it applies that record itself. So who writes reads its write, and the answers are
//! never sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::writer::queue::Answer;

/// Who waits for records that this member has asked for.
pub(crate) struct Forwards {
    member: u64,
    /// Begins anywhere, so that numbers of an earlier life are not taken for those of this one.
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Vec<Answer>>>>,
}

impl Forwards {
    pub(crate) fn new(member: u64) -> Self {
        let next = AtomicU64::new(crate::identity::new_identity());
        Forwards { member, next, waiting: Mutex::default() }
    }

    /// A number for a record, and what resolves with its answers. Nobody waits any more once it is dropped.
    pub(super) fn expect(&self) -> Expected<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answers) = oneshot::channel();
        self.waiting.lock().insert(number, answer);
        Expected { forwards: self, number, answers }
    }

    /// A record was applied here that this member has asked for.
    pub(crate) fn applied(&self, member: u64, number: u64, answers: &[Answer]) {
        if member != self.member {
            return;
        }
        let waiting = self.waiting.lock().remove(&number);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answers.to_vec());
        }
    }
}

pub(super) struct Expected<'a> {
    forwards: &'a Forwards,
    pub(super) number: u64,
    pub(super) answers: oneshot::Receiver<Vec<Answer>>,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.forwards.waiting.lock().remove(&self.number);
    }
}
