//! Whose an image is, also for the next process, after a crash and with damaged files.

use k8s_cri::v1 as cri;
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::host::Linux;
use crate::runtime::scripted::ScriptedRuntime;
use crate::testing::{Journal, TestNode, named_pod};

struct Bench {
    folder: TempDir,
    runtime: Arc<ScriptedRuntime>,
    _supervisor: supervisor::Supervisor,
}

impl Bench {
    fn new() -> Self {
        let supervisor = supervisor::Supervisor::new();
        let runtime = Arc::new(ScriptedRuntime::new(Journal::default(), supervisor.stage("test")));
        Bench { folder: tempfile::tempdir().unwrap(), runtime, _supervisor: supervisor }
    }

    /// The records as another process reads them.
    fn records(&self) -> PullRecords {
        PullRecords::new(self.runtime.clone(), Arc::new(Linux::new()), self.folder.path())
    }

    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.folder.path().join("image_manager").join(kind));
        listed.into_iter().flatten().map(|one| one.unwrap().path()).collect()
    }
}

const IMAGE: &str = "r.example/team/app:1";

fn name() -> ImageName {
    ImageName::parse(IMAGE).unwrap()
}

fn credential(secret: &str, hash: &str) -> Credential {
    let text = |text: &str| text.to_string();
    let secret = PullSecret {
        namespace: text("ns"),
        name: text(secret),
        uid: format!("uid-{secret}"),
        credential_hash: text(hash),
    };
    Credential { auth: cri::AuthConfig::default(), secret }
}

async fn pull(records: &PullRecords, reference: &str, secret: Option<PullSecret>) {
    records.begin(IMAGE).await.unwrap();
    records.pulled(IMAGE, &name(), reference, secret).await;
}

#[tokio::test]
async fn what_the_node_has_not_pulled_is_everybodys() {
    let bench = Bench::new();
    assert_eq!(bench.records().access(IMAGE, &name(), "sha256:1").await, Access::Everybody);
    pull(&bench.records(), "sha256:2", None).await;
    assert_eq!(bench.records().access(IMAGE, &name(), "sha256:2").await, Access::Everybody);
    assert_eq!(bench.files("pulling").len(), 0);
    // Under another name nobody has asked for it.
    let other = ImageName::parse("r.example/other/app:1").unwrap();
    assert_eq!(bench.records().access("r.example/other/app:1", &other, "sha256:2").await, Access::Nobody);
}

#[tokio::test]
async fn who_has_the_secret_may_use_the_image() {
    let bench = Bench::new();
    pull(&bench.records(), "sha256:1", Some(credential("a", "h1").secret)).await;
    let records = bench.records();
    assert_eq!(records.access(IMAGE, &name(), "sha256:1").await, Access::Holders);
    let admits = async |credentials: &[Credential]| records.admits(&name(), "sha256:1", credentials).await;
    assert!(!admits(&[]).await);
    assert!(!admits(&[credential("b", "h2")]).await);
    assert!(admits(&[credential("b", "h2"), credential("a", "h1")]).await);
    // The same credentials in another secret, and then other credentials in that one.
    assert!(admits(&[credential("c", "h1")]).await);
    assert!(admits(&[credential("c", "h3")]).await);
    assert!(bench.records().admits(&name(), "sha256:1", &[credential("d", "h3")]).await, "it was noted");
    // Without credentials it is everybody's, and stays so.
    pull(&records, "sha256:1", None).await;
    pull(&records, "sha256:1", Some(credential("e", "h5").secret)).await;
    assert_eq!(bench.records().access(IMAGE, &name(), "sha256:1").await, Access::Everybody);
}

#[tokio::test]
async fn a_pull_that_nobody_saw_end_gives_the_image_to_nobody() {
    let bench = Bench::new();
    let records = bench.records();
    records.begin(IMAGE).await.unwrap();
    assert_eq!(records.access(IMAGE, &name(), "sha256:1").await, Access::Nobody, "it is being pulled");
    drop(records);
    bench.runtime.list_images(vec![cri::Image {
        id: "sha256:1".to_string(),
        repo_tags: vec![IMAGE.to_string()],
        ..cri::Image::default()
    }]);
    let records = bench.records();
    assert_eq!(records.access(IMAGE, &name(), "sha256:1").await, Access::Nobody);
    assert_eq!((bench.files("pulling").len(), bench.files("pulled").len()), (0, 1));
    // One whose image is not there has nothing to guard.
    records.begin("r.example/gone:1").await.unwrap();
    assert_eq!(bench.records().access(IMAGE, &name(), "sha256:1").await, Access::Nobody);
    assert_eq!(bench.files("pulling").len(), 0);
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_images_that_were_there_alone() {
    let bench = Bench::new();
    let records = bench.records();
    let there = "hollow/r.example/team/app:1";
    records.begin(IMAGE).await.unwrap();
    records.abandoned(IMAGE, Some(there)).await;
    assert_eq!(records.access(IMAGE, &name(), there).await, Access::Everybody);
    records.begin(IMAGE).await.unwrap();
    records.abandoned(IMAGE, None).await;
    assert_eq!(records.access(IMAGE, &name(), there).await, Access::Nobody, "it came meanwhile");
    assert_eq!(bench.files("pulling").len(), 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_opens_nothing() {
    let bench = Bench::new();
    pull(&bench.records(), "sha256:1", None).await;
    std::fs::write(&bench.files("pulled")[0], "{").unwrap();
    let records = bench.records();
    assert_eq!(records.access(IMAGE, &name(), "sha256:1").await, Access::Nobody);
    pull(&records, "sha256:1", None).await;
    assert_eq!(records.access(IMAGE, &name(), "sha256:1").await, Access::Everybody);
    assert_eq!(bench.records().access(IMAGE, &name(), "sha256:1").await, Access::Everybody);
}

#[tokio::test]
async fn records_go_with_their_images() {
    let bench = Bench::new();
    let records = bench.records();
    pull(&records, "sha256:1", None).await;
    pull(&records, "sha256:2", None).await;
    let before = Timestamp::now() - jiff::SignedDuration::from_secs(60);
    records.prune(&HashSet::new(), before).await;
    assert_eq!(bench.files("pulled").len(), 2, "they are newer than the list");
    records.prune(&["sha256:2"].into(), Timestamp::now() + jiff::SignedDuration::from_secs(1)).await;
    assert_eq!(bench.files("pulled").len(), 1);
    assert_eq!(bench.records().access(IMAGE, &name(), "sha256:2").await, Access::Everybody);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_a_secret_opened_is_pulled_again_for_a_pod_without_it() {
    let node = TestNode::new();
    let image = "r.example/app:1";
    node.runtime.without_image(image);
    let auths = json!({"auths": {"r.example": {"username": "u", "password": "p"}}}).to_string();
    let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, auths);
    node.api.put_object(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "ns", "uid": "k"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data},
    }));
    let spec = |secrets: serde_json::Value, policy: &str| {
        let container = json!({"name": "a", "image": image, "imagePullPolicy": policy});
        json!({"imagePullSecrets": secrets, "containers": [container]})
    };
    let with = json!([{"name": "key"}]);
    let has = "can be accessed by the pod";
    node.run(&named_pod("one", "one", spec(with.clone(), "IfNotPresent")));
    node.until("start_container a").await;
    assert_eq!(node.journal.count("pull_image r.example/app:1"), 1);
    node.journal.take();
    // The same secret opens it at once, also for Never.
    for (at, name) in ["two", "three"].into_iter().enumerate() {
        node.run(&named_pod(name, name, spec(with.clone(), ["IfNotPresent", "Never"][at])));
        node.until("start_container a").await;
        let journal = node.journal.take();
        assert!(journal.iter().any(|line| line.contains(has)), "{journal:#?}");
        assert!(!journal.iter().any(|line| line.starts_with("pull_image")), "{journal:#?}");
    }
    // Without it the registry decides.
    node.runtime.fail("pull_image", Code::Unknown, "authorization failed");
    node.run(&named_pod("four", "four", spec(json!([]), "IfNotPresent")));
    node.until("event Failed: Error: ErrImagePull").await;
    let journal = node.journal.take();
    assert!(!journal.iter().any(|line| line.contains(has)), "{journal:#?}");
    node.run(&named_pod("five", "five", spec(json!([]), "Never")));
    node.until("event ErrImageNeverPull").await;
}
