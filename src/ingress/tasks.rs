//! What hyper starts besides a connection belongs to the stage, too.

use hyper::rt::Executor;
use supervisor::{OnExit, Stage};

#[derive(Clone)]
pub(crate) struct Tasks(pub(crate) Stage);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.0.spawn_cancellable("ingress: stream", OnExit::Done, async move {
            task.await;
        });
    }
}
