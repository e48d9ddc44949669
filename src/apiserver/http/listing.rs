//! Lists and large objects on their way: written piece by piece from shared objects, in every form, so that an answer that
//! nobody reads holds a piece of memory and not the whole.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::protobuf::ListEncoder;
use api::{ApiError, Object};
use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use serde_json::{Value, json};

use super::negotiate::{Encoding, Form};
use super::pretty::Indenter;
use super::table::{self, Rows};

/// About the size of a piece.
const PIECE: usize = 64 * 1024;
/// So many objects are measured before others have a turn.
const MEASURED: usize = 64;

/// What a list is written as.
pub(super) struct Outline {
    pub(super) encoding: Encoding,
    pub(super) form: Form,
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) meta: Value,
    pub(super) columns: Value,
    pub(super) rows: Rows,
}

/// A list that is being written.
pub(super) struct Listing {
    start: Option<Vec<u8>>,
    items: std::vec::IntoIter<Arc<Object>>,
    end: Option<Vec<u8>>,
    item: Item,
    first: bool,
}

/// How an object is written as an item.
enum Item {
    /// As it is stored.
    Json,
    JsonTree(Tree),
    Yaml(Tree),
    Protobuf(Tree, ListEncoder),
}

/// What of an object is written.
enum Tree {
    Whole,
    Metadata,
    Row(Rows),
}

impl Tree {
    fn of(&self, object: &Arc<Object>) -> Result<Value, ApiError> {
        match self {
            Tree::Whole => object.tree().map_err(ApiError::internal),
            Tree::Metadata => table::partial(object),
            Tree::Row(rows) => rows.row(object),
        }
    }
}

impl Listing {
    pub(super) async fn new(outline: Outline, items: Vec<Arc<Object>>) -> Result<Self, ApiError> {
        let tree = match outline.form {
            Form::Whole => Tree::Whole,
            Form::Metadata => Tree::Metadata,
            Form::Table => Tree::Row(outline.rows.clone()),
        };
        let (start, end, item) = match (outline.encoding, outline.form) {
            (Encoding::Json, form) => {
                let item = if form == Form::Whole { Item::Json } else { Item::JsonTree(tree) };
                (json_start(&outline), b"]}\n".to_vec(), item)
            }
            (Encoding::Yaml, _) => {
                let (start, end) = yaml_frame(&outline, items.is_empty())?;
                (start, end, Item::Yaml(tree))
            }
            (Encoding::Protobuf, _) => {
                let list = json!({ "kind": outline.kind, "apiVersion": outline.api_version, "metadata": outline.meta });
                let encoder = ListEncoder::new(&list)?;
                let length = measure(&encoder, &tree, &items).await?;
                (encoder.start(length), ListEncoder::END.to_vec(), Item::Protobuf(tree, encoder))
            }
        };
        Ok(Listing { start: Some(start), items: items.into_iter(), end: Some(end), item, first: true })
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.end.is_none() {
            return Ok(None);
        }
        let left: usize = self.items.as_slice().iter().map(|object| object.json_len() + 1).take(256).sum();
        let mut piece = BytesMut::with_capacity(PIECE.min(left + 512) + 4096);
        if let Some(start) = self.start.take() {
            piece.put_slice(&start);
        }
        while piece.len() < PIECE {
            let Some(object) = self.items.next() else {
                piece.put_slice(&self.end.take().unwrap_or_default());
                break;
            };
            let first = std::mem::take(&mut self.first);
            self.item.write(&object, first, &mut piece)?;
        }
        Ok(Some(piece.freeze()))
    }

    fn is_done(&self) -> bool {
        self.end.is_none()
    }
}

impl Item {
    fn write(&self, object: &Arc<Object>, first: bool, out: &mut BytesMut) -> Result<(), ApiError> {
        if matches!(self, Item::Json | Item::JsonTree(_)) && !first {
            out.put_u8(b',');
        }
        match self {
            Item::Json => object.write_json(out),
            Item::JsonTree(tree) => {
                serde_json::to_writer(out.writer(), &tree.of(object)?).map_err(ApiError::internal)?;
            }
            // A sequence of one item, as it stands below its key.
            Item::Yaml(tree) => {
                let text = serde_yaml::to_string(&[tree.of(object)?]).map_err(ApiError::internal)?;
                out.put_slice(text.as_bytes());
            }
            Item::Protobuf(tree, encoder) => out.put_slice(&encoder.item(&tree.of(object)?)?),
        }
        Ok(())
    }
}

fn json_start(outline: &Outline) -> Vec<u8> {
    let (kind, version, meta) = (&outline.kind, &outline.api_version, &outline.meta);
    let (columns, items) = match outline.form {
        Form::Table => (format!(",\"columnDefinitions\":{}", outline.columns), "rows"),
        Form::Whole | Form::Metadata => (String::new(), "items"),
    };
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta}{columns},\"{items}\":[")
        .into_bytes()
}

/// What stands before and after the items.
fn yaml_frame(outline: &Outline, is_empty: bool) -> Result<(Vec<u8>, Vec<u8>), ApiError> {
    let text = |value: &Value| serde_yaml::to_string(value).map_err(ApiError::internal);
    let (mut start, key, end) = match outline.form {
        Form::Table => {
            let all = json!({
                "apiVersion": outline.api_version, "columnDefinitions": outline.columns,
                "kind": outline.kind, "metadata": outline.meta,
            });
            (text(&all)?, "rows:", String::new())
        }
        Form::Whole | Form::Metadata => {
            let rest = json!({ "kind": outline.kind, "metadata": outline.meta });
            (text(&json!({ "apiVersion": outline.api_version }))?, "items:", text(&rest)?)
        }
    };
    start.push_str(key);
    start.push_str(if is_empty { " []\n" } else { "\n" });
    Ok((start.into_bytes(), end.into_bytes()))
}

/// Protobuf says how long a list is before it begins: each item is encoded once to be measured and once to be sent.
async fn measure(encoder: &ListEncoder, tree: &Tree, items: &[Arc<Object>]) -> Result<usize, ApiError> {
    let mut length = 0;
    for some in items.chunks(MEASURED) {
        for object in some {
            length += encoder.item(&tree.of(object)?)?.len();
        }
        tokio::task::yield_now().await;
    }
    Ok(length)
}

/// What is written piece by piece.
enum Source {
    List(Box<Listing>),
    /// Parts of one object, shared with the cache.
    Object(VecDeque<Bytes>),
}

/// A body that is written as it is read.
struct Written {
    source: Source,
    indenter: Option<Indenter>,
    /// Made before the answer began.
    first: Option<Bytes>,
}

impl Written {
    fn next_piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let piece = match &mut self.source {
            Source::List(listing) => listing.next_piece()?,
            Source::Object(parts) => match parts.front_mut() {
                Some(part) if part.len() > PIECE => Some(part.split_to(PIECE)),
                _ => parts.pop_front(),
            },
        };
        Ok(match (piece, &mut self.indenter) {
            (Some(piece), Some(indenter)) => {
                let mut out = Vec::with_capacity(piece.len() * 2);
                indenter.push(&piece, &mut out);
                // The last line has an end, which indentation does not know of.
                if piece.last() == Some(&b'\n') && indenter.is_outside() {
                    out.push(b'\n');
                }
                Some(Bytes::from(out))
            }
            (piece, _) => piece,
        })
    }
}

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let piece = match self.first.take() {
            Some(piece) => Ok(Some(piece)),
            None => self.next_piece(),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)).transpose())
    }
}

/// The body of a list. One of a single piece is sent with its length; a mistake in the first piece is still an answer.
pub(super) fn list(listing: Listing, pretty: bool) -> Result<Body, ApiError> {
    let indenter = pretty.then(Indenter::default);
    let mut written = Written { source: Source::List(Box::new(listing)), indenter, first: None };
    let first = written.next_piece()?.unwrap_or_default();
    if matches!(&written.source, Source::List(listing) if listing.is_done()) {
        return Ok(Body::from(first));
    }
    written.first = Some(first);
    Ok(Body::new(written))
}

/// The body of an object too large to be copied for each of its readers.
pub(super) fn large(object: &Object, pretty: bool) -> Body {
    let mut parts = VecDeque::from(object.json_parts());
    parts.push_back(Bytes::from_static(b"\n"));
    Body::new(Written {
        source: Source::Object(parts),
        indenter: pretty.then(Indenter::default),
        first: None,
    })
}

#[cfg(test)]
mod tests;
