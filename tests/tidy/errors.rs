//! Errors are types: a `Result` whose error is a `String` says neither what was attempted nor why.

use std::fs;

use crate::{all_rust_files, root};

/// How many results with a `String` as their error a text has.
fn count(text: &str) -> usize {
    let mut found = 0;
    for (at, opening) in text.match_indices("Result<") {
        let (mut depth, mut begin) = (0_usize, None);
        for (offset, sign) in text[at + opening.len()..].char_indices() {
            let here = at + opening.len() + offset;
            match sign {
                '<' | '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => begin = Some(here + 1),
                // The arrow of a function type closes nothing.
                '>' if text[..here].ends_with('-') => {}
                '>' if depth == 0 => {
                    found += usize::from(begin.is_some_and(|begin| text[begin..here].trim() == "String"));
                    break;
                }
                '>' => depth -= 1,
                ';' | '{' if depth == 0 => break,
                _ => {}
            }
        }
    }
    found
}

#[test]
fn errors_are_types() {
    let root = root();
    let mut wrong = Vec::new();
    for file in all_rust_files() {
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        if name.ends_with("tests.rs") || name.contains("/tests/") || name.starts_with("tests/tidy/") {
            continue;
        }
        let found = count(&fs::read_to_string(&file).unwrap());
        if found > 0 {
            wrong.push(format!("{name}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "results whose error is a String: {wrong:?}");
}

#[test]
fn the_check_of_errors_sees_them() {
    assert_eq!(count("fn a() -> Result<(), String> {}"), 1);
    assert_eq!(count("type A<T> = Result<BTreeMap<String, (u8, String)>, String>;"), 1);
    assert_eq!(count("fn a(f: impl Fn() -> Result<String, u8>) -> Result<String, Error> {}"), 0);
    assert_eq!(count("BoxFuture<'a, Result<Result<u8, String>, u8>>"), 1);
}
