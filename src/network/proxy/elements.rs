//! Elements as the kernel takes them: a round of changes that touches no chain goes there over netlink, in
//! one transaction. A call of `nft` for one element takes twenty times as long, for it starts a program that
//! reads the whole rule set first.
//!
//! Keys and values of several parts have each part in four bytes or a multiple. `nft` writes the same: a test
//! compares what the kernel has afterwards. Chains and rules stay with `nft`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc::{AF_INET, AF_INET6};

use super::facts::{Backend, Cidr, Family, FrontKey};
use super::rules::{Element, Key, Set, Table, Value};
use crate::nfnetlink::{Batch, DELETE_ELEMENTS, NESTED, NEW_ELEMENTS, write_attribute};

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

/// A transaction that takes elements away and adds others, in this order.
pub(crate) fn batch(table: &Table, remove: &[Element], add: &[Element]) -> Batch {
    let family = match table.family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    } as u8;
    let mut batch = Batch::new();
    for (kind, elements) in [(DELETE_ELEMENTS, remove), (NEW_ELEMENTS, add)] {
        for set in Set::ALL {
            let mut list = Vec::new();
            for element in elements.iter().filter(|element| element.set == set) {
                nested(LIST_ITEM, &encoded(element, kind == NEW_ELEMENTS), &mut list);
                if list.len() > LONGEST_LIST {
                    batch.add(kind, family, &body(table, set, &std::mem::take(&mut list)));
                }
            }
            if !list.is_empty() {
                batch.add(kind, family, &body(table, set, &list));
            }
        }
    }
    batch
}

fn body(table: &Table, set: Set, list: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(LIST_TABLE, &table.name, &mut body);
    text(LIST_SET, set.name(), &mut body);
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

fn encoded(element: &Element, whole: bool) -> Vec<u8> {
    let mut out = Vec::new();
    value(KEY, &key(&element.key, false), &mut out);
    if let Key::Source(..) = element.key {
        value(KEY_END, &key(&element.key, true), &mut out);
    }
    if !whole {
        return out;
    }
    match element.value {
        Value::None => {}
        Value::Goto(chain) => verdict(GOTO, Some(&chain.to_string()), &mut out),
        Value::Jump(chain) => verdict(JUMP, Some(&chain.to_string()), &mut out),
        Value::Reject => verdict(GOTO, Some("refuse"), &mut out),
        Value::Drop => verdict(DROP, None, &mut out),
        Value::To(backend) => {
            let mut bytes = Vec::new();
            endpoint(&backend, &mut bytes);
            value(DATA, &bytes, &mut out);
        }
    }
    if let Some(comment) = &element.comment {
        // Type, length and text with its end; labels are short enough.
        let mut data = vec![COMMENT, comment.len() as u8 + 1];
        data.extend(comment.as_bytes());
        data.push(0);
        write_attribute(USER_DATA, &data, &mut out);
    }
    out
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
            address(if end { last(range) } else { range.address }, &mut bytes);
        }
        Key::Address(it) => address(*it, &mut bytes),
        Key::Loop(it) => {
            address(*it, &mut bytes);
            address(*it, &mut bytes);
        }
    }
    bytes
}

fn address(address: IpAddr, into: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => into.extend(address.octets()),
        IpAddr::V6(address) => into.extend(address.octets()),
    }
}

fn port(port: u16, into: &mut Vec<u8>) {
    into.extend(port.to_be_bytes());
    into.extend([0, 0]);
}

fn front(key: &FrontKey, into: &mut Vec<u8>) {
    address(key.address, into);
    into.extend([key.protocol.number(), 0, 0, 0]);
    port(key.port, into);
}

fn endpoint(backend: &Backend, into: &mut Vec<u8>) {
    address(backend.ip(), into);
    port(backend.port(), into);
}

fn last(range: &Cidr) -> IpAddr {
    let prefix = u32::from(range.prefix);
    match range.address {
        IpAddr::V4(first) => {
            Ipv4Addr::from_bits(first.to_bits() | u32::MAX.checked_shr(prefix).unwrap_or(0)).into()
        }
        IpAddr::V6(first) => {
            Ipv6Addr::from_bits(first.to_bits() | u128::MAX.checked_shr(prefix).unwrap_or(0)).into()
        }
    }
}
