//! JSON patch (RFC 6902), counting what it costs.
//!
//! A patch of a kilobyte can double a document with every `copy`, nest it deeper with every `move`, or shift
//! a long list ten thousand times. Copied bytes are bounded as upstream does it, and so are their memory, the
//! depth of what is made and the number of values that are moved. As upstream, a negative index counts from
//! the end and `test` for null holds for a member that is absent.

use serde_json::{Map, Value};

use super::PatchError;
use crate::bounds::{Budget, COPIES, MAX_COPIED, MAX_DEPTH, json_len};

/// Operations that one patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// Values that list operations may shift and moves may walk over: about half a second.
const MAX_MOVED: usize = 50_000_000;

type Patched<T> = Result<T, PatchError>;

/// What one patch has used.
struct Cost {
    copied: usize,
    moved: usize,
    memory: Budget,
}

impl Cost {
    fn copy(&mut self, value: &Value) -> Patched<()> {
        let left = MAX_COPIED - self.copied;
        let size = json_len(value, left);
        self.copied += size;
        if size > left {
            return Err(PatchError::Spent(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED}",
                self.copied
            )));
        }
        Ok(self.memory.tree(value)?)
    }

    fn shift(&mut self, values: usize) -> Patched<()> {
        self.moved = self.moved.saturating_add(values);
        if self.moved <= MAX_MOVED {
            return Ok(());
        }
        Err(PatchError::Spent(format!("the JSON patch moves more than {MAX_MOVED} values")))
    }

    /// Refuses a value that nests too deep where it is to stand.
    fn depth(&mut self, value: &Value, at: usize) -> Patched<()> {
        let mut walked = 0;
        let fits = at <= MAX_DEPTH && fits(value, MAX_DEPTH - at, &mut walked);
        self.shift(walked)?;
        if fits { Ok(()) } else { Err(PatchError::Spent(format!("exceeded max depth {MAX_DEPTH}"))) }
    }
}

fn fits(value: &Value, depth: usize, walked: &mut usize) -> bool {
    *walked += 1;
    match (value, depth.checked_sub(1)) {
        (Value::Array(list), Some(depth)) => list.iter().all(|one| fits(one, depth, walked)),
        (Value::Object(map), Some(depth)) => map.values().all(|one| fits(one, depth, walked)),
        (Value::Array(_) | Value::Object(_), None) => false,
        _ => true,
    }
}

/// Applies a patch document. After an error the tree is in an unspecified state.
pub fn json_patch(tree: &mut Value, patch: &Value) -> Patched<()> {
    let Value::Array(operations) = patch else {
        let found = if patch.is_object() { "object" } else { "value" };
        let why = format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Patch");
        return Err(PatchError::Malformed(why));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge { allowed: MAX_OPERATIONS, got: operations.len() });
    }
    let mut cost = Cost { copied: 0, moved: 0, memory: Budget::of(COPIES) };
    operations.iter().try_for_each(|operation| {
        let operation = operation.as_object().ok_or_else(|| misfit("an operation is not an object"))?;
        apply(tree, operation, &mut cost)
    })
}

fn misfit(why: impl Into<String>) -> PatchError {
    PatchError::Rejected(why.into())
}

fn missing(path: &str) -> PatchError {
    misfit(format!("doc is missing path: {path:?}"))
}

fn apply(tree: &mut Value, operation: &Map<String, Value>, cost: &mut Cost) -> Patched<()> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = text("path").ok_or_else(|| misfit("operation missing path field"))?;
    let from = || text("from").ok_or_else(|| misfit("operation missing from field"));
    let value = || operation.get("value").ok_or_else(|| misfit("operation missing value field"));
    match text("op") {
        Some("add") => add(tree, path, value()?.clone(), cost),
        Some("remove") => remove(tree, path, cost).map(drop),
        Some("replace") => {
            let value = value()?;
            cost.depth(value, tokens(path)?.count())?;
            *find(tree, path)?.ok_or_else(|| missing(path))? = value.clone();
            Ok(())
        }
        Some("move") => {
            let from = from()?;
            let value = remove(tree, from, cost)?;
            add(tree, path, value, cost)
        }
        Some("copy") => {
            let from = from()?;
            let source = find(tree, from)?.ok_or_else(|| missing(from))?;
            cost.copy(source)?;
            let value = source.clone();
            add(tree, path, value, cost)
        }
        Some("test") => {
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            match find(tree, path)? {
                Some(found) if found == wanted => Ok(()),
                None if wanted.is_null() => Ok(()),
                _ => Err(misfit(format!("testing value {path} failed"))),
            }
        }
        other => Err(misfit(format!("Unexpected kind: {}", other.unwrap_or("unknown")))),
    }
}

/// The parts of a pointer (RFC 6901), still escaped.
fn tokens(pointer: &str) -> Patched<impl Iterator<Item = &str>> {
    let rest = match pointer {
        "" => None,
        _ => Some(pointer.strip_prefix('/').ok_or_else(|| missing(pointer))?),
    };
    Ok(rest.into_iter().flat_map(|rest| rest.split('/')))
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A place in a list of so many elements.
fn index(token: &str, len: usize) -> Option<usize> {
    match token.strip_prefix('-') {
        Some(back) => len.checked_sub(number(back)?),
        None => number(token),
    }
}

fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// What stands at a pointer; none if its last step leads nowhere.
fn find<'a>(tree: &'a mut Value, pointer: &str) -> Patched<Option<&'a mut Value>> {
    let mut at = Some(tree);
    for token in tokens(pointer)? {
        at = match at.ok_or_else(|| missing(pointer))? {
            Value::Object(map) => map.get_mut(&unescaped(token)),
            Value::Array(list) => index(token, list.len()).and_then(|index| list.get_mut(index)),
            _ => return Err(missing(pointer)),
        };
    }
    Ok(at)
}

/// What holds the last step of a pointer, and that step.
fn parent<'a, 'b>(tree: &'a mut Value, pointer: &'b str) -> Patched<(&'a mut Value, &'b str)> {
    let (before, last) = pointer.rsplit_once('/').ok_or_else(|| missing(pointer))?;
    Ok((find(tree, before)?.ok_or_else(|| missing(pointer))?, last))
}

fn add(tree: &mut Value, pointer: &str, value: Value, cost: &mut Cost) -> Patched<()> {
    cost.depth(&value, tokens(pointer)?.count())?;
    if pointer.is_empty() {
        *tree = value;
        return Ok(());
    }
    match parent(tree, pointer)? {
        (Value::Object(map), last) => {
            map.insert(unescaped(last), value);
        }
        (Value::Array(list), "-") => list.push(value),
        (Value::Array(list), last) => {
            // From the end: behind the last is the first place.
            let at = index(last, list.len() + 1).filter(|at| *at <= list.len());
            let at = at.ok_or_else(|| misfit(format!("Unable to access invalid index: {last}")))?;
            cost.shift(list.len() - at)?;
            list.insert(at, value);
        }
        _ => return Err(missing(pointer)),
    }
    Ok(())
}

fn remove(tree: &mut Value, pointer: &str, cost: &mut Cost) -> Patched<Value> {
    let removed = match parent(tree, pointer)? {
        (Value::Object(map), last) => map.remove(&unescaped(last)),
        (Value::Array(list), last) => {
            let at = index(last, list.len()).filter(|at| *at < list.len());
            let at = at.ok_or_else(|| misfit(format!("Unable to access invalid index: {last}")))?;
            cost.shift(list.len() - at)?;
            Some(list.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing(pointer))
}
