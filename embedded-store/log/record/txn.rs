//! The encoding of transactions.

use super::{DecodeError, Input, put_bytes, put_optional, put_u64};
use crate::types::{Compare, CompareOp, CompareTarget, Durability, Op, RangeRequest, Txn};

pub(super) fn encode_txn(out: &mut Vec<u8>, txn: &Txn) {
    out.push(u8::from(txn.durability == Durability::Lazy) | u8::from(txn.may_use_reserve) << 1);
    for count in [txn.compares.len(), txn.success.len(), txn.failure.len()] {
        out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }
    for compare in &txn.compares {
        put_bytes(out, &compare.key);
        put_optional(out, compare.range_end.as_ref());
        out.push(match compare.op {
            CompareOp::Equal => 0,
            CompareOp::NotEqual => 1,
            CompareOp::Greater => 2,
            CompareOp::Less => 3,
        });
        let (target, number) = match &compare.target {
            CompareTarget::Version(v) => (0, *v),
            CompareTarget::CreateRevision(v) => (1, *v),
            CompareTarget::ModRevision(v) => (2, *v),
            CompareTarget::Lease(v) => (3, v.cast_unsigned()),
            CompareTarget::Value(_) => (4, 0),
        };
        out.push(target);
        match &compare.target {
            CompareTarget::Value(value) => put_bytes(out, value),
            _ => put_u64(out, number),
        }
    }
    txn.success.iter().chain(&txn.failure).for_each(|op| encode_op(out, op));
}

fn encode_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Put { key, value, lease } => {
            out.push(0);
            put_bytes(out, key);
            put_u64(out, lease.cast_unsigned());
            put_bytes(out, value);
        }
        Op::Delete { key, range_end } => {
            out.push(1);
            put_bytes(out, key);
            put_optional(out, range_end.as_ref());
        }
        Op::Range(range) => {
            out.push(2);
            put_bytes(out, &range.key);
            put_optional(out, range.range_end.as_ref());
            put_u64(out, range.limit as u64);
            put_u64(out, range.revision);
            out.push(u8::from(range.keys_only) | u8::from(range.count_only) << 1);
        }
        Op::Update { key, value, lease } => {
            out.push(3);
            put_bytes(out, key);
            put_optional(out, value.as_ref());
            out.push(u8::from(lease.is_some()));
            put_u64(out, lease.unwrap_or(0).cast_unsigned());
        }
        Op::Txn(inner) => {
            out.push(4);
            encode_txn(out, inner);
        }
    }
}

pub(super) fn decode_txn(input: &mut Input<'_>, depth: usize) -> Result<Txn, DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError("transactions lie too deep in one another"))?;
    let flags = input.u8()?;
    let durability = if flags & 1 == 0 { Durability::Synced } else { Durability::Lazy };
    let (compares, success, failure) = (input.u32()?, input.u32()?, input.u32()?);
    // No `collect` with a size hint: a count is believed only as far as there is input for it.
    let mut txn = Txn { durability, may_use_reserve: flags & 2 != 0, ..Txn::default() };
    for _ in 0..compares {
        txn.compares.push(decode_compare(input)?);
    }
    for _ in 0..success {
        txn.success.push(decode_op(input, depth)?);
    }
    for _ in 0..failure {
        txn.failure.push(decode_op(input, depth)?);
    }
    Ok(txn)
}

fn decode_compare(input: &mut Input<'_>) -> Result<Compare, DecodeError> {
    let (key, range_end) = (input.bytes()?, input.optional()?);
    let op = match input.u8()? {
        0 => CompareOp::Equal,
        1 => CompareOp::NotEqual,
        2 => CompareOp::Greater,
        3 => CompareOp::Less,
        _ => return Err(DecodeError("unknown comparison")),
    };
    let target = match input.u8()? {
        0 => CompareTarget::Version(input.u64()?),
        1 => CompareTarget::CreateRevision(input.u64()?),
        2 => CompareTarget::ModRevision(input.u64()?),
        3 => CompareTarget::Lease(input.i64()?),
        4 => CompareTarget::Value(input.bytes()?),
        _ => return Err(DecodeError("unknown target of a comparison")),
    };
    Ok(Compare { key, range_end, op, target })
}

fn decode_op(input: &mut Input<'_>, depth: usize) -> Result<Op, DecodeError> {
    Ok(match input.u8()? {
        0 => {
            let (key, lease) = (input.bytes()?, input.i64()?);
            Op::Put { key, value: input.bytes()?, lease }
        }
        1 => Op::Delete { key: input.bytes()?, range_end: input.optional()? },
        2 => {
            let (key, range_end) = (input.bytes()?, input.optional()?);
            let limit = usize::try_from(input.u64()?).map_err(|_| DecodeError("limit is too large"))?;
            let revision = input.u64()?;
            let flags = input.u8()?;
            let (keys_only, count_only) = (flags & 1 != 0, flags & 2 != 0);
            Op::Range(RangeRequest { key, range_end, limit, revision, keys_only, count_only })
        }
        3 => {
            let (key, value) = (input.bytes()?, input.optional()?);
            let (given, lease) = (input.u8()? != 0, input.i64()?);
            Op::Update { key, value, lease: given.then_some(lease) }
        }
        4 => Op::Txn(Box::new(decode_txn(input, depth)?)),
        _ => return Err(DecodeError("unknown operation")),
    })
}
