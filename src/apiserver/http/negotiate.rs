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
    /// `apiVersion` of the form; empty for whole objects, which have their own.
    pub(crate) version: &'static str,
}

impl Accepted {
    fn whole(encoding: Encoding) -> Self {
        Accepted { encoding, form: Form::Whole, version: "" }
    }

    /// Whether objects are sent as they are stored.
    pub(crate) fn is_stored(self) -> bool {
        self.encoding == Encoding::Json && self.form == Form::Whole
    }
}

/// One entry of an Accept header.
pub(crate) struct MediaRange<'a> {
    pub(crate) media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    weight: f32,
}

impl MediaRange<'_> {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(key, _)| *key == name)
    }

    /// Whether it goes before another: by weight, or because it says more. That is no order (two ranges may
    /// each go before the other), but it is upstream's.
    fn precedes(&self, other: &MediaRange<'_>) -> bool {
        let parts = |range: &MediaRange<'_>| {
            let (main, sub) = range.media.split_once('/').unwrap_or((range.media, "*"));
            (main == "*", sub == "*")
        };
        let (own, others) = (parts(self), parts(other));
        self.weight > other.weight || (!own.0 && others.0) || (!own.1 && others.1)
    }
}

pub(crate) fn accept_header(headers: &HeaderMap) -> String {
    let values = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// More entries than this are taken as they come: sorting them as upstream does takes the square of it.
const MAX_SORTED: usize = 64;

/// The entries of an Accept header in the client's order of preference.
pub(crate) fn ranges(accept: &str) -> Vec<MediaRange<'_>> {
    let entries = accept.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let range = |entry| {
        let mut parts = str::split(entry, ';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let weight = parameters.iter().find(|(key, _)| *key == "q");
        let weight = weight.map_or(1.0, |(_, weight)| weight.parse().unwrap_or(0.0));
        MediaRange { media, parameters, weight }
    };
    let is_refused = |range: &MediaRange<'_>| matches!(range.parameter("q"), "0" | "0.0" | "0.00" | "0.000");
    let mut ranges: Vec<MediaRange<'_>> = entries.map(range).filter(|range| !is_refused(range)).collect();
    if ranges.len() <= MAX_SORTED {
        for sorted in 1..ranges.len() {
            let mut at = sorted;
            while at > 0 && ranges[at].precedes(&ranges[at - 1]) {
                ranges.swap(at, at - 1);
                at -= 1;
            }
        }
    }
    ranges
}

/// What a kind can be answered as, beside JSON and YAML of whole objects and of their metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Whether it has columns.
    pub(crate) tables: bool,
    /// Whether its objects have a message. Custom resources have none.
    pub(crate) protobuf: bool,
}

/// The form that a resource is answered in; none if nothing that the client accepts can be given. JSON goes
/// before protobuf where both are accepted, because objects are kept as JSON.
pub(crate) fn choose(accept: &str) -> Option<Accepted> {
    choose_of(accept, Offer { tables: true, protobuf: true })
}

/// [`choose`] for a kind that cannot be given in every form: what it lacks is passed over.
pub(crate) fn choose_of(accept: &str, offer: Offer) -> Option<Accepted> {
    if accept.trim().is_empty() {
        return Some(Accepted::whole(Encoding::Json));
    }
    let mut protobuf = None;
    for accepted in ranges(accept).iter().filter_map(|range| accepted(range, offer)) {
        match (accepted.encoding, protobuf) {
            (Encoding::Protobuf, first) => protobuf = first.or(Some(accepted)),
            // A plain form further down does not outrank a special form in protobuf that came first.
            (_, Some(first)) if first.form != accepted.form => return Some(first),
            _ => return Some(accepted),
        }
    }
    protobuf
}

/// What is given to a client that accepts this; none if it cannot be given.
fn accepted(range: &MediaRange<'_>, offer: Offer) -> Option<Accepted> {
    let encoding = match range.media {
        "application/json" | "*/*" | "application/*" | "*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        protobuf::MEDIA_TYPE => Encoding::Protobuf,
        _ => return None,
    };
    if !matches!(range.parameter("stream"), "" | "watch") || !matches!(range.parameter("sv"), "" | "v1") {
        return None;
    }
    if !["as", "g", "v"].iter().any(|name| range.has(name)) {
        let given = encoding != Encoding::Protobuf || offer.protobuf;
        return given.then(|| Accepted::whole(encoding));
    }
    let version = match (range.parameter("g"), range.parameter("v")) {
        ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
        // It has no messages here: who asks for it is of a time before they were used.
        ("meta.k8s.io", "v1beta1") if encoding != Encoding::Protobuf => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    let form = match range.parameter("as") {
        // Tables hold raw objects, which protobuf has no place for.
        "Table" if offer.tables && encoding != Encoding::Protobuf => Form::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata,
        _ => return None,
    };
    Some(Accepted { encoding, form, version })
}

/// The body of the 406.
pub(crate) const NOT_ACCEPTABLE: &str = "only the following media types are accepted: application/json, \
    application/yaml, application/vnd.kubernetes.protobuf";

/// The same for a watch.
pub(crate) const NOT_ACCEPTABLE_STREAM: &str = "only the following media types are accepted: \
    application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// The media type of a Content-Type header, without parameters.
pub(crate) fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}
