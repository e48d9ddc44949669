//! Headers, and how far redirects are followed.

use serde_json::json;
use supervisor::{OnExit, Supervisor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::probes::ProbeKind;
use crate::probes::prober::{Finding, NodeProber, Prober};
use crate::runtime::scripted::ScriptedRuntime;
use crate::testing::Journal;

/// Answers each path by a script for as long as its supervisor lives; what was asked can be received.
async fn server(
    script: impl Fn(&str) -> String + Send + 'static,
) -> (u16, mpsc::UnboundedReceiver<String>, Supervisor) {
    let supervisor = Supervisor::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::unbounded_channel();
    supervisor.stage("test").spawn_cancellable("server", OnExit::Done, async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !text.ends_with("\r\n\r\n") {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "the request ends too early: {text}");
                text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
            }
            let answer = script(text.split(' ').nth(1).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Whoever asked may have gone.
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    (port, receiver, supervisor)
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_string()
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nmove")
}

fn action(port: u16, path: &str, headers: serde_json::Value) -> HTTPGetAction {
    serde_json::from_value(json!({"port": port, "path": path, "httpHeaders": headers})).unwrap()
}

fn target() -> Target {
    let container = serde_json::from_value(json!({"name": "a"})).unwrap();
    Target { container, id: "a".to_string(), ip: Some([127, 0, 0, 1].into()) }
}

async fn ask_for(action: &HTTPGetAction) -> Result<(u16, String), RequestError> {
    get(action, &target(), "kube-probe", Duration::from_secs(30)).await
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed() {
    let (port, mut asked, _server) = server(|path| match path {
        "/a/start?x=1" => to("next"),
        "/a/next" => to("/end?y=2"),
        _ => ok(),
    })
    .await;
    let action =
        action(port, "/a/start?x=1", json!([{"name": "Host", "value": "web"}, {"name": "X", "value": "1"}]));
    assert_eq!(ask_for(&action).await.unwrap(), (200, "ok".to_string()));
    for (path, referer) in
        [("/a/start?x=1", None), ("/a/next", Some("/a/start?x=1")), ("/end?y=2", Some("/a/next"))]
    {
        let text = asked.recv().await.unwrap().to_lowercase();
        assert!(text.starts_with(&format!("get {path} http/1.1\r\n")), "{text}");
        assert!(text.contains("\r\nhost: web\r\n") && text.contains("\r\nx: 1\r\n"), "{text}");
        let referer = referer.map(|path| format!("\r\nreferer: http://127.0.0.1:{port}{path}\r\n"));
        assert!(referer.is_none_or(|line| text.contains(&line)), "{text}");
    }
}

#[tokio::test]
async fn another_port_is_followed_without_the_given_host() {
    let (second, mut asked, _second) = server(|_| ok()).await;
    let (first, _asked, _first) = server(move |_| to(&format!("http://127.0.0.1:{second}/"))).await;
    let action = action(first, "", json!([{"name": "host", "value": "web"}]));
    assert_eq!(ask_for(&action).await.unwrap().0, 200);
    let text = asked.recv().await.unwrap().to_lowercase();
    assert!(text.contains(&format!("\r\nhost: 127.0.0.1:{second}\r\n")), "{text}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_a_success_with_a_warning() {
    let (port, _asked, _server) = server(|_| to("http://elsewhere.invalid/")).await;
    let prober =
        NodeProber(Arc::new(ScriptedRuntime::new(Journal::default(), Supervisor::new().stage("test"))));
    let probe = serde_json::from_value(json!({"httpGet": {"port": port}})).unwrap();
    match prober.probe(&probe, &target(), Duration::from_secs(30)).await {
        Finding::Warning(text) => assert_eq!(text, "Probe terminated redirects, Response body: move"),
        _ => panic!("no warning: {}", ProbeKind::Readiness.title()),
    }
}

#[tokio::test]
async fn a_circle_of_redirects_fails() {
    let (port, mut asked, _server) = server(|_| to("/again")).await;
    let error = ask_for(&action(port, "/", json!(null))).await.unwrap_err();
    assert_eq!(error.to_string(), "Get \"/again\": stopped after 10 redirects");
    let mut requests = 0;
    while asked.try_recv().is_ok() {
        requests += 1;
    }
    // The last one may not have been noted yet.
    assert!((MOST_REQUESTS - 1..=MOST_REQUESTS).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_the_answer() {
    let (port, _asked, _server) =
        server(|_| "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n".to_string()).await;
    assert_eq!(ask_for(&action(port, "/", json!(null))).await.unwrap(), (301, String::new()));
}

#[tokio::test]
async fn usual_headers_are_sent_unless_others_are_given() {
    let (port, mut asked, _server) = server(|_| ok()).await;
    ask_for(&action(port, "with space#part", json!(null))).await.unwrap();
    let text = asked.recv().await.unwrap().to_lowercase();
    assert!(text.starts_with("get /with%20space http/1.1\r\n"), "{text}");
    for line in [
        &format!("host: 127.0.0.1:{port}"),
        "user-agent: kube-probe/1.36",
        "accept: */*",
        "connection: close",
    ] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{line}: {text}");
    }
    let given = json!([{"name": "accept", "value": ""}, {"name": "User-Agent", "value": "me"}]);
    ask_for(&action(port, "/", given)).await.unwrap();
    let text = asked.recv().await.unwrap().to_lowercase();
    assert!(text.contains("\r\nuser-agent: me\r\n") && !text.contains("accept:"), "{text}");
}
