//! A one-way flag that tasks wait on: closed until it is opened once. Replaces polled booleans and global
//! channels.

use std::sync::Arc;

use tokio::sync::watch;

/// Clones share the flag.
#[derive(Clone, Debug)]
pub struct Latch {
    name: Arc<str>,
    state: watch::Sender<bool>,
}

impl Latch {
    /// A closed latch; the name is for messages such as `/readyz?verbose`.
    pub fn new(name: &str) -> Self {
        Latch { name: name.into(), state: watch::Sender::new(false) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it; opening again does nothing.
    pub fn open(&self) {
        self.state.send_replace(true);
    }

    pub fn is_open(&self) -> bool {
        *self.state.borrow()
    }

    /// Returns once it is open.
    pub async fn wait(&self) {
        let mut receiver = self.state.subscribe();
        // The sender lives in `self`, so this cannot fail while we wait.
        let _ = receiver.wait_for(|open| *open).await;
    }
}
