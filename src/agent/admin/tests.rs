//! Requests, answers, and peers that misuse the socket.

use supervisor::Supervisor;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

fn double(number: u64) -> std::future::Ready<Result<u64, Problem>> {
    std::future::ready(match number {
        13 => Err(Problem::new("double 13", "it brings bad luck", "ask for another")),
        number => Ok(number * 2),
    })
}

async fn raw(folder: &Path, request: &[u8]) -> String {
    let (_folder, path) = place(folder).unwrap();
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The other side may have heard enough.
    let _ = stream.write_all(request).await;
    let mut text = String::new();
    let _ = BufReader::new(stream).read_line(&mut text).await;
    text
}

#[tokio::test]
async fn requests_are_answered_and_refusals_told() {
    let (folder, supervisor) = (tempfile::tempdir().unwrap(), Supervisor::new());
    serve(folder.path(), &supervisor.stage("test"), double).unwrap();
    assert_eq!(ask::<_, u64>(folder.path(), &21, TIMEOUT).await.unwrap(), 42);
    let refused = ask::<_, u64>(folder.path(), &13, TIMEOUT).await.unwrap_err().to_string();
    assert_eq!(refused, "cannot double 13: it brings bad luck; ask for another");
    let nonsense = ask::<_, String>(folder.path(), &21, TIMEOUT).await.unwrap_err();
    assert!(matches!(nonsense, AskError::Nonsense(_)), "{nonsense}");
}

#[tokio::test]
async fn misuse_is_answered_with_a_line_and_disturbs_nobody() {
    let (folder, supervisor) = (tempfile::tempdir().unwrap(), Supervisor::new());
    serve(folder.path(), &supervisor.stage("test"), double).unwrap();
    // One that connects and says nothing.
    let (_folder, path) = place(folder.path()).unwrap();
    let _silent = UnixStream::connect(path).await.unwrap();
    let garbage = raw(folder.path(), b"GET / HTTP/1.1\r\n").await;
    assert!(garbage.contains("the request cannot be read"), "{garbage}");
    let long = raw(folder.path(), &vec![b'1'; 70_000]).await;
    assert!(long.is_empty() || long.contains("longer than 65536 bytes"), "{long}");
    assert_eq!(ask::<_, u64>(folder.path(), &1, TIMEOUT).await.unwrap(), 2);
}

#[tokio::test]
async fn nobody_there_is_told_from_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = ask::<_, u64>(folder.path(), &1, TIMEOUT).await.unwrap_err();
    assert!(matches!(nothing, AskError::NotRunning));
    let supervisor = Supervisor::new();
    serve(folder.path(), &supervisor.stage("test"), double).unwrap();
    supervisor.shutdown(TIMEOUT).await;
    let left = ask::<_, u64>(folder.path(), &1, TIMEOUT).await.unwrap_err();
    assert!(matches!(left, AskError::NotRunning), "the file is there, nobody listens: {left}");
}
