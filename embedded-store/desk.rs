//! A desk: where the tasks of one thread hand in requests and are given their answers, many at a time.
//!
//! The writer runs on a thread of its own. Handing over each request and each answer alone would wake one thread or the
//! other every time, and a put would cost more in switching than in work. A task of the asking thread attends the desk:
//! it runs after those that are ready, hands over what they asked for together, and gives out what has been answered.
//! Without anybody attending, a desk passes everything on at once.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::inbox::{Answer, Proposal, Shared};

/// An answer and whom it is for.
type Letter = (oneshot::Sender<Answer>, Answer);

/// Who waits for an answer, and at which desk.
pub(crate) struct Reply {
    pub(crate) to: oneshot::Sender<Answer>,
    pub(crate) desk: Option<Arc<Desk>>,
}

impl Reply {
    /// Whoever asked may have gone.
    pub(crate) fn send(self, answer: Answer) {
        let _ = self.to.send(answer);
    }
}

#[derive(Default)]
struct Tray {
    attended: bool,
    requests: Vec<Proposal>,
    answers: Vec<Letter>,
}

#[derive(Default)]
pub(crate) struct Desk {
    tray: Mutex<Tray>,
    bell: AtomicWaker,
}

impl Desk {
    /// Takes a request; its place in the queue must have been taken.
    pub(crate) fn hand_in(&self, proposal: Proposal, shared: &Shared) {
        let mut tray = self.tray.lock();
        if !tray.attended {
            drop(tray);
            shared.propose(proposal);
            return;
        }
        tray.requests.push(proposal);
        let first = tray.requests.len() == 1;
        drop(tray);
        if first {
            self.bell.wake();
        }
    }

    fn give_back(&self, answers: Vec<Letter>) {
        let mut tray = self.tray.lock();
        if tray.attended {
            tray.answers.extend(answers);
            drop(tray);
            self.bell.wake();
            return;
        }
        drop(tray);
        give_out(answers);
    }

    /// Attends the desk until it is dropped; what lies there then is passed on. `submit` takes the requests of a turn.
    pub(crate) async fn attend(&self, submit: impl Fn(Vec<Proposal>)) {
        let attending = Attending { desk: self, submit };
        self.tray.lock().attended = true;
        loop {
            self.rung().await;
            // Requests that arrive while others are being read join them, as long as they keep coming.
            let mut gathered = 0;
            for _ in 0..GATHERING {
                let more = self.tray.lock().requests.len();
                if more == gathered {
                    break;
                }
                gathered = more;
                tokio::task::yield_now().await;
            }
            // Its answers may lie here as soon as a request is submitted.
            while attending.clear(true) {}
        }
    }

    /// Waits until something lies here.
    async fn rung(&self) {
        poll_fn(|cx| {
            self.bell.register(cx.waker());
            let tray = self.tray.lock();
            let empty = tray.requests.is_empty() && tray.answers.is_empty();
            if empty { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// Turns of the thread for which the first request waits at most.
const GATHERING: usize = 16;

struct Attending<'a, F: Fn(Vec<Proposal>)> {
    desk: &'a Desk,
    submit: F,
}

impl<F: Fn(Vec<Proposal>)> Attending<'_, F> {
    /// Whether there was something to submit.
    fn clear(&self, attended: bool) -> bool {
        let (requests, answers) = {
            let mut tray = self.desk.tray.lock();
            tray.attended = attended;
            (std::mem::take(&mut tray.requests), std::mem::take(&mut tray.answers))
        };
        give_out(answers);
        let some = !requests.is_empty();
        if some {
            (self.submit)(requests);
        }
        some
    }
}

impl<F: Fn(Vec<Proposal>)> Drop for Attending<'_, F> {
    fn drop(&mut self) {
        self.clear(false);
    }
}

fn give_out(answers: Vec<Letter>) {
    for (to, answer) in answers {
        let _ = to.send(answer);
    }
}

/// Answers of one batch on their way to the desks.
#[derive(Default)]
pub(crate) struct Post {
    letters: Vec<(Arc<Desk>, Vec<Letter>)>,
}

impl Post {
    pub(crate) fn add(&mut self, reply: Reply, answer: Answer) {
        let Some(desk) = reply.desk else {
            let _ = reply.to.send(answer);
            return;
        };
        let letter = (reply.to, answer);
        match self.letters.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &desk)) {
            Some((_, letters)) => letters.push(letter),
            None => self.letters.push((desk, vec![letter])),
        }
    }

    pub(crate) fn send(self) {
        for (desk, letters) in self.letters {
            desk.give_back(letters);
        }
    }
}

#[cfg(test)]
mod tests;
