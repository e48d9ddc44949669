//! Lists of a job's indexes in their short form: `0,2-5,9`.

/// Why a list cannot be read, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct IndexError(pub(super) String);

/// How many indexes a list names.
pub(super) fn parse(text: &str, completions: i32) -> Result<i32, IndexError> {
    let (mut total, mut last) = (0, None);
    for fragment in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval(fragment, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return fail(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn fail<T>(why: String) -> Result<T, IndexError> {
    Err(IndexError(why))
}

/// `5` or `2-5`.
fn interval(fragment: &str, completions: i32) -> Result<(i32, i32), IndexError> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => fail(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= i64::from(completions) => fail(format!("too large index: {text:?}")),
        Ok(index) => Ok(i32::try_from(index).unwrap_or(i32::MIN)),
    };
    match fragment.split('-').collect::<Vec<_>>()[..] {
        [one] => index(one).map(|one| (one, one)),
        [first, end] => {
            let (first, end) = (index(first)?, index(end)?);
            if first >= end {
                return fail(format!("non-increasing order, previous: {first}, current: {end}"));
            }
            Ok((first, end))
        }
        _ => fail(format!(
            "the fragment {fragment:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        )),
    }
}

/// The first index that both lists name. Fragments that cannot be read are passed over: [`parse`] complains
/// of them.
pub(super) fn overlap(one: &str, other: &str, completions: i32) -> Option<i32> {
    let intervals = |text: &str| -> Vec<(i32, i32)> {
        text.split(',').filter_map(|fragment| interval(fragment, completions).ok()).collect()
    };
    let (one, other) = (intervals(one), intervals(other));
    let (mut at, mut beside) = (one.iter().peekable(), other.iter().peekable());
    while let (Some((a, b)), Some((x, y))) = (at.peek(), beside.peek()) {
        if a <= y && x <= b {
            return Some(*a.max(x));
        }
        if a <= x {
            at.next()
        } else {
            beside.next()
        };
    }
    None
}
