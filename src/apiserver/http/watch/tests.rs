//! What a watch holds while nobody reads it.

use std::sync::Arc;

use api::WatchOptions;

use super::*;
use crate::registry::Call;
use crate::testing::{Harness, master};

async fn frames(h: &Harness, encoding: Encoding, form: Form) -> Frames {
    let registry = &h.server.registry;
    let resource = registry.resources.load().find("", "v1", "configmaps").unwrap().clone();
    let user = Arc::new(master());
    let call = Call::new(&resource, Some("default"), &user);
    let watch = registry.watch(&call, &WatchOptions::default()).await.unwrap();
    Frames {
        watch,
        resource: resource.clone(),
        accepted: Accepted {
            encoding,
            form,
            version: if form == Form::Whole { "" } else { "meta.k8s.io/v1" },
        },
        include: None,
        stopping: Box::pin(CancellationToken::new().cancelled_owned()),
        columns_sent: false,
        worker: Worker::new(&registry.turns, &user),
        parts: VecDeque::new(),
        share: None,
    }
}

/// The next piece, if it comes without waiting for anybody: a piece lets others go first once.
async fn at_hand(frames: &mut Frames) -> Option<Bytes> {
    let others = async {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        piece = frames.next_piece() => piece,
        () = others => None,
    }
}

async fn large(h: &Harness, name: &str) -> Arc<Object> {
    let body = json!({ "metadata": { "name": name }, "data": { "k": "x".repeat(500 * 1024) } });
    h.create(&api::kinds::CONFIG_MAP, Some("default"), body).await
}

#[tokio::test]
async fn a_large_object_is_sent_in_slices_of_the_cache() {
    let h = Harness::start().await;
    let object = large(&h, "a").await;
    large(&h, "b").await;
    let stored: Vec<Bytes> = object.json_parts();
    let is_shared = |part: &Bytes| stored.iter().any(|whole| whole.as_ptr_range().contains(&part.as_ptr()));
    let mut frames = frames(&h, Encoding::Json, Form::Whole).await;
    let (mut all, mut copied) = (Vec::new(), 0);
    while !all.ends_with(b"}\n") {
        let piece = frames.next_piece().await.unwrap();
        copied += if is_shared(&piece) { 0 } else { piece.len() };
        all.extend_from_slice(&piece);
    }
    assert!(copied < PIECE, "{copied} bytes are the watcher's own");
    let frame: Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(frame, json!({ "type": "ADDED", "object": object.tree().unwrap() }));
}

#[tokio::test]
async fn a_piece_of_small_objects_is_small_and_takes_no_more_room() {
    let h = Harness::start().await;
    for n in 0..100 {
        let body = json!({ "metadata": { "name": format!("c{n}") }, "data": { "k": "x".repeat(1000) } });
        h.create(&api::kinds::CONFIG_MAP, Some("default"), body).await;
    }
    for form in [Form::Whole, Form::Metadata, Form::Table] {
        let (mut frames, mut events) = (frames(&h, Encoding::Json, form).await, 0);
        while events < 100 {
            let piece = frames.next_piece().await.unwrap();
            events += piece.iter().filter(|byte| **byte == b'\n').count();
            let own = piece.try_into_mut().expect("nobody shares it");
            assert!(own.len() < PIECE + 4096, "{} bytes", own.len());
            assert!(own.capacity() <= own.len() + own.len() / 4, "{} for {}", own.capacity(), own.len());
        }
    }
    h.stop().await;
}

#[tokio::test]
async fn converted_objects_under_way_are_bounded_for_each_user() {
    let h = Harness::start().await;
    large(&h, "a").await;
    let (mut unread, mut held) = (Vec::new(), 0);
    for _ in 0..64 {
        let mut frames = frames(&h, Encoding::Protobuf, Form::Whole).await;
        held += at_hand(&mut frames).await.map_or(0, |piece| piece.len());
        unread.push(frames);
    }
    assert!(held > 0 && held <= 16 * 1024 * 1024, "{held}");
    let mut waiting = frames(&h, Encoding::Protobuf, Form::Whole).await;
    assert!(at_hand(&mut waiting).await.is_none());
    drop((unread, waiting));
    let mut waiting = frames(&h, Encoding::Protobuf, Form::Whole).await;
    assert!(at_hand(&mut waiting).await.is_some());
}

#[tokio::test]
async fn a_piece_is_bounded_by_what_was_read_for_it() {
    let h = Harness::start().await;
    for name in ["a", "b", "c"] {
        large(&h, name).await;
    }
    let mut frames = frames(&h, Encoding::Json, Form::Metadata).await;
    for _ in 0..3 {
        let piece = frames.next_piece().await.unwrap();
        assert_eq!(piece.iter().filter(|byte| **byte == b'\n').count(), 1, "one object, one piece");
    }
}
