//! Elements of the service rules as the kernel takes them ([`crate::nfnetlink::elements`]). `nft` writes the
//! same: a test compares what the kernel has afterwards.

use super::facts::{Backend, FrontKey};
use super::rules::{Element, Key, Table, Value};
use crate::nfnetlink::Batch;
use crate::nfnetlink::elements::{
    self, Data, Encoded, last_address, write_address, write_port, write_protocol,
};

/// A transaction that takes elements away and adds others, in this order.
pub(crate) fn batch(table: &Table, remove: &[Element], add: &[Element]) -> Batch {
    let encoded = |all: &[Element]| all.iter().map(encoded).collect();
    elements::batch(table.family.number(), &table.name, encoded(remove), encoded(add))
}

fn encoded(element: &Element) -> Encoded {
    let key_end = matches!(element.key, Key::Source(..)).then(|| key(&element.key, true));
    let data = match element.value {
        Value::None => Data::None,
        Value::Goto(chain) => Data::Goto(chain.to_string()),
        Value::Jump(chain) => Data::Jump(chain.to_string()),
        Value::Reject => Data::Goto("refuse".to_string()),
        Value::Drop => Data::Drop,
        Value::To(backend) => {
            let mut bytes = Vec::new();
            endpoint(&backend, &mut bytes);
            Data::Value(bytes)
        }
    };
    let comment = element.comment.clone();
    Encoded { set: element.set.name(), key: key(&element.key, false), key_end, data, comment }
}

/// A key; the end of the range that it is, if it is one.
fn key(key: &Key, end: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    match key {
        Key::Front(it) => front(it, &mut bytes),
        Key::Numbered(it, number) => {
            front(it, &mut bytes);
            bytes.extend(number.to_ne_bytes());
        }
        Key::Backend(it, backend) => {
            front(it, &mut bytes);
            endpoint(backend, &mut bytes);
        }
        Key::Source(it, range) => {
            front(it, &mut bytes);
            let last = last_address(range.address, range.prefix);
            write_address(if end { last } else { range.address }, &mut bytes);
        }
        Key::Address(it) => write_address(*it, &mut bytes),
        Key::Loop(it) => {
            write_address(*it, &mut bytes);
            write_address(*it, &mut bytes);
        }
    }
    bytes
}

fn front(key: &FrontKey, into: &mut Vec<u8>) {
    write_address(key.address, into);
    write_protocol(key.protocol.number(), into);
    write_port(key.port, into);
}

fn endpoint(backend: &Backend, into: &mut Vec<u8>) {
    write_address(backend.ip(), into);
    write_port(backend.port(), into);
}
