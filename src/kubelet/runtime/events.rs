//! What happens to containers, as it happens: CRI's event stream where the runtime has one, containerd's own
//! task events where it does not (1.6), and a slow relist that finds what both missed.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::events::{TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use k8s_cri::v1 as cri;

use super::{Cri, Runtime, RuntimeError, labels};

/// How often the relist runs: a safety net only.
const RELIST: Duration = Duration::from_secs(60);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContainerEvent {
    Started {
        container: String,
    },
    /// A container or sandbox has ended. The CRI side of the runtime may learn of it a moment after us.
    Exited {
        container: String,
    },
    OutOfMemory {
        container: String,
    },
    /// The stream begins anew: anything may have happened before.
    Resumed,
    /// A pod's containers differ from the last relist.
    PodChanged {
        uid: String,
    },
}

/// Delivers events to `deliver` for ever.
pub(crate) async fn follow(runtime: &dyn Runtime, deliver: impl Fn(ContainerEvent) + Send + Sync) {
    let mut delay = Duration::from_millis(50);
    loop {
        let began = tokio::time::Instant::now();
        if let Err(error) = runtime.follow(&deliver).await {
            tracing::debug!(%error, "the runtime's event stream failed");
        }
        if began.elapsed() > Duration::from_secs(10) {
            delay = Duration::from_millis(50);
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}

type Deliver<'a> = &'a (dyn Fn(ContainerEvent) + Send + Sync);

/// The events of a CRI runtime until its stream ends.
pub(super) async fn stream(cri: &Cri, deliver: Deliver<'_>) -> Result<(), RuntimeError> {
    match follow_cri(cri, deliver).await {
        Err(error) if error.is_unimplemented() => follow_containerd(cri, deliver).await,
        ended => ended,
    }
}

async fn follow_cri(cri: &Cri, deliver: Deliver<'_>) -> Result<(), RuntimeError> {
    let mut stream = cri.container_events().await?;
    deliver(ContainerEvent::Resumed);
    while let Some(event) = stream.message().await? {
        let container = event.container_id;
        match cri::ContainerEventType::try_from(event.container_event_type) {
            Ok(cri::ContainerEventType::ContainerStartedEvent) => {
                deliver(ContainerEvent::Started { container })
            }
            Ok(cri::ContainerEventType::ContainerStoppedEvent) => {
                deliver(ContainerEvent::Exited { container })
            }
            _ => {}
        }
    }
    Ok(())
}

async fn follow_containerd(cri: &Cri, deliver: Deliver<'_>) -> Result<(), RuntimeError> {
    let filters = vec![r#"topic~="^/tasks/(start|exit|oom)$",namespace==k8s.io"#.to_string()];
    let mut stream =
        EventsClient::new(cri.channel()).subscribe(SubscribeRequest { filters }).await?.into_inner();
    deliver(ContainerEvent::Resumed);
    while let Some(envelope) = stream.message().await? {
        let Some(event) = envelope.event else { continue };
        if let Some(event) = decode(&envelope.topic, &event.value) {
            deliver(event);
        }
    }
    Ok(())
}

fn decode(topic: &str, bytes: &[u8]) -> Option<ContainerEvent> {
    use prost::Message;
    match topic {
        "/tasks/start" => TaskStart::decode(bytes)
            .ok()
            .map(|event| ContainerEvent::Started { container: event.container_id }),
        "/tasks/exit" => {
            let event = TaskExit::decode(bytes).ok()?;
            // An exec that ended inside the container has its own id.
            (event.id == event.container_id)
                .then_some(ContainerEvent::Exited { container: event.container_id })
        }
        "/tasks/oom" => TaskOom::decode(bytes)
            .ok()
            .map(|event| ContainerEvent::OutOfMemory { container: event.container_id }),
        _ => None,
    }
}

type Seen = HashMap<String, Vec<(String, i32)>>;

/// Compares the list of containers with the previous one, once a minute.
pub(crate) async fn relist(runtime: &dyn Runtime, instance: &str, deliver: impl Fn(ContainerEvent)) {
    let mut seen = Seen::new();
    loop {
        tokio::time::sleep(RELIST).await;
        let Ok(containers) =
            runtime.containers([(labels::INSTANCE.to_string(), instance.to_string())].into()).await
        else {
            continue;
        };
        let mut now = Seen::new();
        for one in containers {
            let uid = one.labels.get(labels::POD_UID).cloned().unwrap_or_default();
            now.entry(uid).or_default().push((one.id, one.state));
        }
        for list in now.values_mut() {
            list.sort();
        }
        for uid in now.keys().chain(seen.keys()) {
            if now.get(uid) != seen.get(uid) {
                deliver(ContainerEvent::PodChanged { uid: uid.clone() });
            }
        }
        seen = now;
    }
}
