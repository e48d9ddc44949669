//! The submission queue of one thread: its tasks submit requests and receive their answers in batches.
//!
//! The writer runs on a thread of its own. Handing over each request and each answer alone would wake one
//! thread or the other every time, and a put would spend more on context switches than on work. So one task
//! of the submitting thread drives the queue: it runs after the tasks that are ready, hands over all their
//! requests together, and sends out the answers. While nobody drives the queue, requests and answers pass
//! straight through.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::writer::queue::{Answer, Proposal, Shared};

/// An answer and its receiver.
type Answered = (oneshot::Sender<Answer>, Answer);

/// Where an answer goes, and through which submission queue.
pub(crate) struct Reply {
    pub(crate) to: oneshot::Sender<Answer>,
    pub(crate) submissions: Option<Arc<SubmissionQueue>>,
}

impl Reply {
    /// The receiver may have gone.
    pub(crate) fn send(self, answer: Answer) {
        let _ = self.to.send(answer);
    }
}

#[derive(Default)]
struct Buffers {
    driven: bool,
    requests: Vec<Proposal>,
    answers: Vec<Answered>,
}

#[derive(Default)]
pub(crate) struct SubmissionQueue {
    buffers: Mutex<Buffers>,
    waker: AtomicWaker,
}

impl SubmissionQueue {
    /// Submits a request. The caller must hold a slot of the writer's queue for it.
    pub(crate) fn submit(&self, proposal: Proposal, shared: &Shared) {
        let mut buffers = self.buffers.lock();
        if !buffers.driven {
            drop(buffers);
            shared.propose(proposal);
            return;
        }
        buffers.requests.push(proposal);
        let first = buffers.requests.len() == 1;
        drop(buffers);
        if first {
            self.waker.wake();
        }
    }

    fn deliver(&self, answers: Vec<Answered>) {
        let mut buffers = self.buffers.lock();
        if buffers.driven {
            buffers.answers.extend(answers);
            drop(buffers);
            self.waker.wake();
            return;
        }
        drop(buffers);
        send_all(answers);
    }

    /// Drives the queue until this future is dropped; what it holds then is passed on. `submit` takes the
    /// requests of one turn.
    pub(crate) async fn drive(&self, submit: impl Fn(Vec<Proposal>)) {
        let driver = Driver { submissions: self, submit };
        self.buffers.lock().driven = true;
        loop {
            self.woken().await;
            // Requests that arrive meanwhile join the batch, as long as they keep coming.
            let mut gathered = 0;
            for _ in 0..GATHERING_TURNS {
                let more = self.buffers.lock().requests.len();
                if more == gathered {
                    break;
                }
                gathered = more;
                tokio::task::yield_now().await;
            }
            // A request may be answered as soon as it is submitted.
            while driver.clear(true) {}
        }
    }

    /// Waits until there are requests or answers.
    async fn woken(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let buffers = self.buffers.lock();
            let empty = buffers.requests.is_empty() && buffers.answers.is_empty();
            if empty { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// The first request of a batch waits for at most this many turns of the thread.
const GATHERING_TURNS: usize = 16;

struct Driver<'a, F: Fn(Vec<Proposal>)> {
    submissions: &'a SubmissionQueue,
    submit: F,
}

impl<F: Fn(Vec<Proposal>)> Driver<'_, F> {
    /// Submits and answers everything. Returns whether there was something to submit.
    fn clear(&self, driven: bool) -> bool {
        let (requests, answers) = {
            let mut buffers = self.submissions.buffers.lock();
            buffers.driven = driven;
            (std::mem::take(&mut buffers.requests), std::mem::take(&mut buffers.answers))
        };
        send_all(answers);
        let some = !requests.is_empty();
        if some {
            (self.submit)(requests);
        }
        some
    }
}

impl<F: Fn(Vec<Proposal>)> Drop for Driver<'_, F> {
    fn drop(&mut self) {
        self.clear(false);
    }
}

fn send_all(answers: Vec<Answered>) {
    for (to, answer) in answers {
        let _ = to.send(answer);
    }
}

/// The answers of one batch, sorted by submission queue.
#[derive(Default)]
pub(crate) struct Deliveries {
    answers: Vec<(Arc<SubmissionQueue>, Vec<Answered>)>,
}

impl Deliveries {
    pub(crate) fn add(&mut self, reply: Reply, answer: Answer) {
        let Some(submissions) = reply.submissions else {
            let _ = reply.to.send(answer);
            return;
        };
        let answered = (reply.to, answer);
        match self.answers.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &submissions)) {
            Some((_, answers)) => answers.push(answered),
            None => self.answers.push((submissions, vec![answered])),
        }
    }

    pub(crate) fn send(self) {
        for (submissions, answers) in self.answers {
            submissions.deliver(answers);
        }
    }
}

#[cfg(test)]
mod tests;
