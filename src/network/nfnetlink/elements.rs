//! Elements of sets and maps as the kernel takes them.
//!
//! A round of changes that touches no chain goes to the kernel over netlink, in one transaction. A call of
//! `nft` for one element takes twenty times as long, for it starts a program that reads the whole rule set
//! first. Chains and rules stay with `nft`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Batch, DELETE_ELEMENTS, NESTED, NEW_ELEMENTS, write_attribute};

/// Larger rounds are for `nft`: the socket's buffer has an end.
pub(crate) const MOST_AT_ONCE: usize = 512;
/// A list is cut here: the length of an attribute has 16 bits.
const LONGEST_LIST: usize = 16_384;

// linux/netfilter/nf_tables.h
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ITEM: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const USER_DATA: u16 = 6;
const KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const DROP: i32 = 0;
/// The first kind of user data of an element: its comment, as `nft` shows it.
const COMMENT: u8 = 0;

/// An element in bytes. Keys of several parts have each part in four bytes or a multiple, as `nft` writes
/// them.
pub(crate) struct Encoded {
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
    /// The end of the range that the key is, in a set of ranges.
    pub(crate) key_end: Option<Vec<u8>>,
    pub(crate) data: Data,
    pub(crate) comment: Option<Arc<str>>,
}

/// What a map leads to.
pub(crate) enum Data {
    None,
    Goto(String),
    Jump(String),
    Drop,
    Value(Vec<u8>),
}

/// A transaction that takes elements away and adds others, in this order.
pub(crate) fn batch(family: u8, table: &str, remove: Vec<Encoded>, add: Vec<Encoded>) -> Batch {
    let mut batch = Batch::new();
    for (kind, mut elements) in [(DELETE_ELEMENTS, remove), (NEW_ELEMENTS, add)] {
        elements.sort_by_key(|element| element.set);
        for of_set in elements.chunk_by(|a, b| a.set == b.set) {
            let mut list = Vec::new();
            for element in of_set {
                nested(LIST_ITEM, &element.bytes(kind == NEW_ELEMENTS), &mut list);
                if list.len() > LONGEST_LIST {
                    batch.add(kind, family, &body(table, element.set, &std::mem::take(&mut list)));
                }
            }
            if !list.is_empty() {
                batch.add(kind, family, &body(table, of_set[0].set, &list));
            }
        }
    }
    batch
}

fn body(table: &str, set: &str, list: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(LIST_TABLE, table, &mut body);
    text(LIST_SET, set, &mut body);
    nested(LIST_ELEMENTS, list, &mut body);
    body
}

fn nested(kind: u16, content: &[u8], into: &mut Vec<u8>) {
    write_attribute(kind | NESTED, content, into);
}

fn text(kind: u16, text: &str, into: &mut Vec<u8>) {
    write_attribute(kind, &[text.as_bytes(), b"\0"].concat(), into);
}

fn value(kind: u16, bytes: &[u8], into: &mut Vec<u8>) {
    let mut data = Vec::new();
    write_attribute(DATA_VALUE, bytes, &mut data);
    nested(kind, &data, into);
}

impl Encoded {
    fn bytes(&self, whole: bool) -> Vec<u8> {
        let mut out = Vec::new();
        value(KEY, &self.key, &mut out);
        if let Some(end) = &self.key_end {
            value(KEY_END, end, &mut out);
        }
        if !whole {
            return out;
        }
        match &self.data {
            Data::None => {}
            Data::Goto(chain) => verdict(GOTO, Some(chain), &mut out),
            Data::Jump(chain) => verdict(JUMP, Some(chain), &mut out),
            Data::Drop => verdict(DROP, None, &mut out),
            Data::Value(bytes) => value(DATA, bytes, &mut out),
        }
        if let Some(comment) = &self.comment {
            // Type, length and text with its end; comments are short enough.
            let mut data = vec![COMMENT, comment.len() as u8 + 1];
            data.extend(comment.as_bytes());
            data.push(0);
            write_attribute(USER_DATA, &data, &mut out);
        }
        out
    }
}

fn verdict(code: i32, chain: Option<&str>, into: &mut Vec<u8>) {
    let (mut verdict, mut data) = (Vec::new(), Vec::new());
    write_attribute(VERDICT_CODE, &code.to_be_bytes(), &mut verdict);
    if let Some(chain) = chain {
        text(VERDICT_CHAIN, chain, &mut verdict);
    }
    nested(DATA_VERDICT, &verdict, &mut data);
    nested(DATA, &data, into);
}

pub(crate) fn write_address(address: IpAddr, into: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => into.extend(address.octets()),
        IpAddr::V6(address) => into.extend(address.octets()),
    }
}

pub(crate) fn write_port(port: u16, into: &mut Vec<u8>) {
    into.extend(port.to_be_bytes());
    into.extend([0, 0]);
}

pub(crate) fn write_protocol(number: u8, into: &mut Vec<u8>) {
    into.extend([number, 0, 0, 0]);
}

/// The last address of a range.
pub(crate) fn last_address(first: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match first {
        IpAddr::V4(first) => {
            Ipv4Addr::from_bits(first.to_bits() | u32::MAX.checked_shr(prefix).unwrap_or(0)).into()
        }
        IpAddr::V6(first) => {
            Ipv6Addr::from_bits(first.to_bits() | u128::MAX.checked_shr(prefix).unwrap_or(0)).into()
        }
    }
}
