//! Content negotiation: what a client accepts, what it sends.

use api::protobuf;
use http::HeaderMap;

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What of an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table,
    /// `PartialObjectMetadata`, or its list.
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) form: Form,
}

impl Accepted {
    /// Whether objects are sent as they are stored.
    pub(crate) fn is_stored(self) -> bool {
        self.encoding == Encoding::Json && self.form == Form::Whole
    }
}

/// One entry of an Accept header.
pub(crate) struct MediaRange<'a> {
    pub(crate) media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl MediaRange<'_> {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

pub(crate) fn accept_header(headers: &HeaderMap) -> String {
    let values = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// The entries of an Accept header in the client's order of preference. Weights other than 0 do not reorder.
pub(crate) fn ranges(accept: &str) -> Vec<MediaRange<'_>> {
    accept
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().unwrap_or("");
            let parameters = parts.filter_map(|part| part.split_once('=')).collect();
            MediaRange { media, parameters }
        })
        .filter(|range| !matches!(range.parameter("q"), "0" | "0.0" | "0.00" | "0.000"))
        .collect()
}

/// The form that a resource is answered in; none if nothing that the client accepts can be given. JSON goes
/// before protobuf where both are accepted, because objects are kept as JSON.
pub(crate) fn choose(accept: &str) -> Option<Accepted> {
    choose_with(accept, true)
}

/// [`choose`] for what has no columns: a table is passed over.
pub(crate) fn choose_without_tables(accept: &str) -> Option<Accepted> {
    choose_with(accept, false)
}

fn choose_with(accept: &str, tables: bool) -> Option<Accepted> {
    if accept.trim().is_empty() {
        return Some(Accepted { encoding: Encoding::Json, form: Form::Whole });
    }
    let mut protobuf = None;
    for range in ranges(accept) {
        let encoding = match range.media {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            protobuf::MEDIA_TYPE => Encoding::Protobuf,
            _ => continue,
        };
        let supported = range.parameter("v") == "v1" && range.parameter("g") == "meta.k8s.io";
        let form = match range.parameter("as") {
            "" => Form::Whole,
            "Table" if supported && tables => Form::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" if supported => Form::Metadata,
            _ => continue,
        };
        let accepted = Accepted { encoding, form };
        match encoding {
            // Tables hold raw objects, which protobuf has no place for here.
            Encoding::Protobuf if form == Form::Table => {}
            Encoding::Protobuf => protobuf = protobuf.or(Some(accepted)),
            // A plain form further down does not outrank a special form in protobuf that came first.
            _ => match protobuf {
                Some(first) if first.form != form => return Some(first),
                _ => return Some(accepted),
            },
        }
    }
    protobuf
}

/// The body of the 406.
pub(crate) const NOT_ACCEPTABLE: &str = "only the following media types are accepted: application/json, \
    application/yaml, application/vnd.kubernetes.protobuf";

/// The media type of a Content-Type header, without parameters.
pub(crate) fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}
