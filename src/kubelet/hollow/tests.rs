//! A hollow node's containers do what their script says.

use std::collections::HashMap;

use k8s_cri::v1 as cri;

use super::runtime::HollowRuntime;
use super::*;
use crate::runtime::Runtime;
use crate::runtime::events::ContainerEvent;

fn annotated(pairs: &[(&str, &str)]) -> cri::PodSandboxConfig {
    let annotations: HashMap<String, String> =
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    cri::PodSandboxConfig { annotations, ..Default::default() }
}

async fn created(runtime: &HollowRuntime, sandbox: cri::PodSandboxConfig) -> (String, String) {
    let id = runtime.run_sandbox(sandbox, String::new()).await.unwrap();
    let container = runtime.create_container(&id, Default::default(), Default::default()).await.unwrap();
    (id, container)
}

async fn state(runtime: &HollowRuntime, id: &str) -> (cri::ContainerState, i32) {
    let status = runtime.container(id).await.unwrap();
    (status.state(), status.exit_code)
}

#[tokio::test(start_paused = true)]
async fn containers_start_and_end_when_the_script_says() {
    let supervisor = supervisor::Supervisor::new();
    let script = Script { ready_after: Duration::from_secs(7) };
    let runtime = HollowRuntime::new(1, script, supervisor.stage("test"));
    let began = tokio::time::Instant::now();
    let (_, plain) = created(&runtime, annotated(&[])).await;
    assert_eq!(state(&runtime, &plain).await.0, cri::ContainerState::ContainerCreated);
    runtime.start_container(&plain).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 7);
    assert_eq!(state(&runtime, &plain).await.0, cri::ContainerState::ContainerRunning);

    let own = annotated(&[(READY_AFTER, "1500ms"), (EXIT_AFTER, "1m"), (EXIT_CODE, "4")]);
    let (_, short) = created(&runtime, own).await;
    let began = tokio::time::Instant::now();
    runtime.start_container(&short).await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 1500);
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let deliver = move |event| drop(sender.send(event));
    let following = runtime.clone();
    let heard = async {
        let wanted = ContainerEvent::Exited { container: short.clone() };
        while events.recv().await != Some(wanted.clone()) {}
    };
    tokio::select! {
        ended = following.follow(&deliver) => ended.unwrap(),
        () = heard => {}
    }
    assert_eq!(began.elapsed().as_secs(), 61);
    assert_eq!(state(&runtime, &short).await, (cri::ContainerState::ContainerExited, 4));
    assert_eq!(state(&runtime, &plain).await.0, cri::ContainerState::ContainerRunning);
}

#[tokio::test]
async fn stopping_and_removing_leaves_nothing() {
    let supervisor = supervisor::Supervisor::new();
    let runtime = HollowRuntime::new(1, Script::default(), supervisor.stage("test"));
    let (sandbox, container) = created(&runtime, annotated(&[(READY_AFTER, "nonsense")])).await;
    runtime.start_container(&container).await.unwrap();
    let ip = runtime.sandbox(&sandbox).await.unwrap().network.unwrap().ip;
    assert!(ip.starts_with("100.64.1."), "{ip}");
    runtime.stop_sandbox(&sandbox).await.unwrap();
    assert_eq!(state(&runtime, &container).await, (cri::ContainerState::ContainerExited, 137));
    let refused = runtime.create_container(&sandbox, Default::default(), Default::default()).await;
    assert!(refused.unwrap_err().is_not_found());
    runtime.remove_sandbox(&sandbox).await.unwrap();
    assert!(runtime.container(&container).await.unwrap_err().is_not_found());
    assert!(runtime.sandboxes(HashMap::new()).await.unwrap().is_empty());
}
