//! Runs tasks that are joined, and stops them in order.
//!
//! A process here is a stack of stages (store, API server, controllers, node …). Every task belongs to a
//! stage and says what its failure means; nothing is spawned bare. Stopping goes from the newest stage to the
//! oldest, each joined before the next is told, so that a component never outlives what it talks to. The
//! bounds and timeouts that every port has for its clients are here too, because crates that may not use
//! each other share them. Knows nothing of Kubernetes.

mod clock;
mod connections;
mod latch;
mod stage;
mod write_timeout;

pub use clock::Clock;
pub use connections::{Admission, ConnectionLimiter, ConnectionLimits, Standing};
pub use latch::Latch;
pub use stage::{OnExit, Stage, StageReport, Supervisor, Tasks};
pub use tokio_util::sync::CancellationToken;
pub use write_timeout::WriteTimeout;
