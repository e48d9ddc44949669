//! What a node answers is bounded, and what a client asks for stays one option.

use super::*;

#[tokio::test]
async fn a_refusal_of_any_length_is_not_kept() {
    assert_eq!(refusal(Body::from(" no such container\n")).await, "no such container");
    // It has no end: who reads it to the end never returns.
    let endless = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b'x'; 1024]));
    let text = refusal(Body::from_stream(endless)).await;
    assert!(text.len() < 200 && text.contains("cannot be read"), "{text}");
}

#[test]
fn a_value_stays_a_value() {
    assert_eq!(encoded("Stdout"), "Stdout");
    assert_eq!(encoded("a&follow=true#+ ü"), "a%26follow%3Dtrue%23%2B%20%C3%BC");
}
