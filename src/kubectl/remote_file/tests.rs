//! Tests of files behind URLs: redirections, failures, and what is told of them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::{joined, read};

/// Answers one request a connection, with these in turn; tells what was asked for.
fn serve(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.push(lines.next().unwrap().unwrap());
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (place, serving)
}

#[test]
fn redirections_are_followed_and_failures_tried_again() {
    let (place, serving) = serve(&[
        "HTTP/1.1 302 Found\r\nLocation: /b/x.yaml\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\na: b\n",
    ]);
    assert_eq!(read(&format!("http://{place}/a?q=1")).unwrap(), "a: b\n");
    assert_eq!(
        serving.join().unwrap(),
        ["GET /a?q=1 HTTP/1.1", "GET /b/x.yaml HTTP/1.1", "GET /b/x.yaml HTTP/1.1"]
    );
}

#[test]
fn what_a_server_refuses_is_told() {
    let (place, serving) =
        serve(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]);
    let error = read(&format!("http://{place}/a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "error: unable to read URL \"http://{place}/a\", server reported 404 Not Found, status code=404"
        )
    );
    serving.join().unwrap();
}

#[test]
fn places_may_be_relative() {
    for (from, place, expected) in [
        ("https://a/b/c?x", "https://z", "https://z"),
        ("https://a/b/c?x", "/z", "https://a/z"),
        ("https://a/b/c?x=/y", "z", "https://a/b/z"),
        ("https://a", "z", "https://a/z"),
        ("https://a/b", "//c/d", "https://c/d"),
    ] {
        assert_eq!(joined(from, place), expected);
    }
}
