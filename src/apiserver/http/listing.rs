//! Lists and large objects on their way: written piece by piece from shared objects, in every form, so that
//! an answer that nobody reads holds a piece of memory and not the whole. Objects that are stored in another
//! version are converted for the piece that they are in; only what a webhook converts is converted before,
//! because it may fail, and counts against its user's share of memory until it has been read.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use api::protobuf::ListEncoder;
use api::{ApiError, Object};
use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http_body::Frame;
use serde_json::{Value, json};

use super::negotiate::{Accepted, Encoding, Form};
use super::pretty::Indenter;
use super::table::{self, Rows};
use crate::heavy::{Share, Worker};
use crate::registry::Resource;

/// About the size of a piece.
const PIECE: usize = 64 * 1024;

/// What a list is written as.
pub(super) struct Outline {
    pub(super) accepted: Accepted,
    /// Whether whole items say of which kind they are. Those of built-in kinds do not, as upstream's.
    pub(super) has_types: bool,
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
    shower: Shower,
    worker: Worker,
    /// Leave to hold what a webhook has converted.
    _share: Option<Share>,
}

/// How stored objects are shown in the version that is asked for.
struct Shower {
    /// None where they are in it.
    resource: Option<Arc<Resource>>,
    /// Bytes of all that have to be converted: small ones make a heavy list, too.
    weight: usize,
}

impl Shower {
    async fn show(&self, object: &Arc<Object>) -> Result<Arc<Object>, ApiError> {
        match &self.resource {
            Some(resource) => resource.outward(object.clone()).await,
            None => Ok(object.clone()),
        }
    }
}

/// How an object is written as an item.
enum Item {
    /// As its bytes are.
    Json {
        has_types: bool,
    },
    JsonTree(Tree),
    Yaml(Tree),
    Protobuf(Tree, ListEncoder),
}

/// What of an object is written.
enum Tree {
    Whole { has_types: bool },
    Metadata(&'static str),
    Row(Rows),
}

impl Tree {
    fn of(&self, object: &Arc<Object>) -> Result<Value, ApiError> {
        match self {
            Tree::Whole { has_types } => {
                let mut tree = object.tree().map_err(ApiError::internal)?;
                if !has_types && let Some(members) = tree.as_object_mut() {
                    members.remove("apiVersion");
                    members.remove("kind");
                }
                Ok(tree)
            }
            Tree::Metadata(version) => table::partial(object, version),
            Tree::Row(rows) => rows.row(object),
        }
    }
}

impl Listing {
    pub(super) async fn new(
        outline: Outline,
        mut items: Vec<Arc<Object>>,
        resource: &Arc<Resource>,
        worker: Worker,
    ) -> Result<Self, ApiError> {
        let mut weight = resource.outward_weight(&items);
        let mut share = None;
        if weight > 0 && resource.is_converted_elsewhere() {
            share = Some(worker.share_of_list(weight).await);
            items = resource.outward_all(items, worker.turns()).await?;
            weight = 0;
        }
        let shower = Shower { resource: (weight > 0).then(|| resource.clone()), weight };
        let has_types = outline.has_types;
        let tree = match outline.accepted.form {
            Form::Whole => Tree::Whole { has_types },
            Form::Metadata => Tree::Metadata(outline.accepted.version),
            Form::Table => Tree::Row(outline.rows.clone()),
        };
        let (start, end, item) = match (outline.accepted.encoding, outline.accepted.form) {
            (Encoding::Json, form) => {
                let item = if form == Form::Whole { Item::Json { has_types } } else { Item::JsonTree(tree) };
                (json_start(&outline), b"]}\n".to_vec(), item)
            }
            (Encoding::Yaml, _) => {
                let (start, end) = yaml_frame(&outline, items.is_empty())?;
                (start, end, Item::Yaml(tree))
            }
            (Encoding::Protobuf, _) => {
                let list = json!({ "kind": outline.kind, "apiVersion": outline.api_version, "metadata": outline.meta });
                let encoder = ListEncoder::new(&list)?;
                let length = measure(&encoder, &tree, (&items, &shower), &worker).await?;
                (encoder.start(length), ListEncoder::END.to_vec(), Item::Protobuf(tree, encoder))
            }
        };
        Ok(Listing {
            start: Some(start),
            items: items.into_iter(),
            end: Some(end),
            item,
            first: true,
            shower,
            worker,
            _share: share,
        })
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.end.is_none() {
            return Ok(None);
        }
        // By what is read: a row of a table is small, whatever the object.
        let (mut count, mut size, mut largest) = (0, 0, 0);
        for object in self.items.as_slice() {
            if size >= PIECE {
                break;
            }
            (count, size, largest) =
                (count + 1, size + object.json_len() + 1, largest.max(object.json_len()));
        }
        let is_stored = matches!(self.item, Item::Json { .. });
        if is_stored && self.shower.resource.is_none() {
            return self.write(count, size).await.map(Some);
        }
        let worker = self.worker.clone();
        let weight = largest.max(self.shower.weight);
        let size = if is_stored { size } else { size.min(PIECE) };
        let piece = worker.run(weight, pin!(self.write(count, size))).await;
        tokio::task::yield_now().await;
        piece.map(Some)
    }

    /// Writes the next items, and the end after the last.
    async fn write(&mut self, count: usize, size: usize) -> Result<Bytes, ApiError> {
        let mut piece = BytesMut::with_capacity(size + 1024);
        if let Some(start) = self.start.take() {
            piece.put_slice(&start);
        }
        for object in self.items.by_ref().take(count) {
            let first = std::mem::take(&mut self.first);
            self.item.write(&self.shower.show(&object).await?, first, &mut piece)?;
        }
        if self.items.as_slice().is_empty() {
            piece.put_slice(&self.end.take().unwrap_or_default());
        }
        Ok(piece.freeze())
    }

    fn is_done(&self) -> bool {
        self.end.is_none()
    }
}

impl Item {
    fn write(&self, object: &Arc<Object>, first: bool, out: &mut BytesMut) -> Result<(), ApiError> {
        if matches!(self, Item::Json { .. } | Item::JsonTree(_)) && !first {
            out.put_u8(b',');
        }
        match self {
            Item::Json { has_types: true } => object.write_json(out),
            Item::Json { has_types: false } => object.write_json_untyped(out),
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
    let (columns, items) = match outline.accepted.form {
        Form::Table => (format!(",\"columnDefinitions\":{}", outline.columns), "rows"),
        Form::Whole | Form::Metadata => (String::new(), "items"),
    };
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta}{columns},\"{items}\":[")
        .into_bytes()
}

/// What stands before and after the items.
fn yaml_frame(outline: &Outline, is_empty: bool) -> Result<(Vec<u8>, Vec<u8>), ApiError> {
    let text = |value: &Value| serde_yaml::to_string(value).map_err(ApiError::internal);
    let (mut start, key, end) = match outline.accepted.form {
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

/// Protobuf says how long a list is before it begins: each item is encoded once to be measured and once to be
/// sent.
async fn measure(
    encoder: &ListEncoder,
    tree: &Tree,
    (items, shower): (&[Arc<Object>], &Shower),
    worker: &Worker,
) -> Result<usize, ApiError> {
    let (mut length, mut read) = (0, 0);
    for object in items {
        let item = async {
            let object = shower.show(object).await?;
            Ok::<_, ApiError>(encoder.item(&tree.of(&object)?)?.len())
        };
        length += worker.run(object.json_len().max(shower.weight), pin!(item)).await?;
        read += object.json_len();
        if read >= PIECE {
            read = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(length)
}

/// A list with what else is done to its pieces.
struct Pieces {
    listing: Box<Listing>,
    indenter: Option<Indenter>,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        Ok(self.listing.next_piece().await?.map(|piece| indented(piece, &mut self.indenter)))
    }
}

fn indented(piece: Bytes, indenter: &mut Option<Indenter>) -> Bytes {
    let Some(indenter) = indenter else { return piece };
    let mut out = Vec::with_capacity(piece.len() * 2);
    indenter.push(&piece, &mut out);
    // The last line has an end, which indentation does not know of.
    if piece.last() == Some(&b'\n') && indenter.is_outside() {
        out.push(b'\n');
    }
    Bytes::from(out)
}

/// The body of a list. One of a single piece is sent with its length; a mistake in the first piece is still
/// an answer.
pub(super) async fn list(listing: Listing, pretty: bool) -> Result<Body, ApiError> {
    let mut pieces = Pieces { listing: Box::new(listing), indenter: pretty.then(Indenter::default) };
    let first = pieces.next().await?.unwrap_or_default();
    if pieces.listing.is_done() {
        return Ok(Body::from(first));
    }
    let rest = futures::stream::try_unfold(pieces, |mut pieces| async move {
        Ok::<_, ApiError>(pieces.next().await?.map(|piece| (piece, pieces)))
    });
    Ok(Body::from_stream(futures::stream::iter([Ok(first)]).chain(rest)))
}

/// One object, written in parts that are shared with the cache.
struct Written {
    parts: VecDeque<Bytes>,
    indenter: Option<Indenter>,
}

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let written = &mut *self;
        let piece = match written.parts.front_mut() {
            Some(part) if part.len() > PIECE => Some(part.split_to(PIECE)),
            _ => written.parts.pop_front(),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(indented(piece, &mut written.indenter)))))
    }
}

/// The body of an object too large to be copied for each of its readers.
pub(super) fn large(object: &Object, pretty: bool) -> Body {
    let mut parts = VecDeque::from(object.json_parts());
    parts.push_back(Bytes::from_static(b"\n"));
    Body::new(Written { parts, indenter: pretty.then(Indenter::default) })
}

#[cfg(test)]
mod tests;
