//! Messages of DNS: what a query asks, and how answers are put together. Pure; the format itself is
//! `hickory-proto`'s.
//!
//! Answers over UDP are as large as the client's EDNS says, 1232 bytes at most (what passes every network
//! whole), or 512. Larger ones are cut and say so. Absent: DNSSEC, zone transfers, updates.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

/// The largest answer over UDP.
pub(crate) const LARGEST_DATAGRAM: u16 = 1232;
const SMALLEST_DATAGRAM: u16 = 512;

/// A query that can be answered.
#[derive(Clone, Debug)]
pub(crate) struct ValidQuery {
    pub(crate) query: Query,
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    /// What the client takes over UDP, if it speaks EDNS, and whether it wants DNSSEC records.
    edns: Option<(u16, bool)>,
}

/// What the answer consists of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) authoritative: bool,
}

impl Content {
    pub(crate) fn of_code(code: ResponseCode) -> Self {
        Content { code, ..Content::default() }
    }
}

/// What bytes from a client are.
pub(crate) enum Received {
    ValidQuery(Box<ValidQuery>),
    /// Something that is answered at once.
    Refused(Vec<u8>),
    /// Something that must not be answered, such as an answer.
    Nothing,
}

/// Reads what a client has sent.
pub(crate) fn read(bytes: &[u8]) -> Received {
    let refuse = |id: u16, op_code: OpCode, code: ResponseCode| {
        let message = Message::error_msg(id, op_code, code);
        message.to_vec().map_or(Received::Nothing, Received::Refused)
    };
    let Some(id) = bytes.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return Received::Nothing };
    // An answer to an answer could go on for ever.
    if bytes.len() < 12 || bytes[2] & 0x80 != 0 {
        return Received::Nothing;
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return refuse(id, OpCode::Query, ResponseCode::FormErr);
    };
    if message.metadata.op_code != OpCode::Query {
        return refuse(id, message.metadata.op_code, ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return refuse(id, OpCode::Query, ResponseCode::FormErr) };
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refuse(id, OpCode::Query, ResponseCode::Refused);
    }
    Received::ValidQuery(Box::new(ValidQuery {
        query: query.clone(),
        id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: message.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)),
    }))
}

impl ValidQuery {
    /// Client's number and question, for telling whether a query is our own that came back.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn wants_dnssec(&self) -> bool {
        self.edns.is_some_and(|(_, dnssec)| dnssec)
    }

    /// The answer as bytes; cut to what the client takes, unless it goes over TCP.
    pub(crate) fn answer(&self, content: Content, over_tcp: bool) -> Option<Vec<u8>> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authoritative = content.authoritative;
        message.metadata.response_code = content.code;
        message.add_query(self.query.clone());
        message.insert_answers(content.answers);
        message.insert_authorities(content.authorities);
        message.insert_additionals(content.additionals);
        if let Some((_, dnssec)) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_DATAGRAM);
            edns.set_dnssec_ok(dnssec);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().ok()?;
        let offered = self.edns.map_or(SMALLEST_DATAGRAM, |(size, _)| size);
        let limit = offered.clamp(SMALLEST_DATAGRAM, LARGEST_DATAGRAM);
        if over_tcp || bytes.len() <= usize::from(limit) {
            return Some(bytes);
        }
        message.truncate().to_vec().ok()
    }

    /// The same question for a name server, under another number.
    pub(crate) fn forwarded(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM);
        edns.set_dnssec_ok(self.wants_dnssec());
        message.set_edns(edns);
        message.to_vec().ok()
    }

    /// The same for another name.
    pub(crate) fn about(&self, query: Query) -> ValidQuery {
        ValidQuery { query, ..self.clone() }
    }
}

/// What a name server has answered, if it is the answer to this question; and whether it was cut.
pub(crate) fn read_answer(bytes: &[u8], id: u16, query: &Query) -> Option<(Content, bool)> {
    let message = Message::from_vec(bytes).ok()?;
    let fits = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.queries.as_slice() == std::slice::from_ref(query);
    fits.then(|| {
        let content = Content {
            code: message.metadata.response_code,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
            authoritative: false,
        };
        (content, message.metadata.truncation)
    })
}

#[cfg(test)]
mod tests;
