//! Rust source as a list of words and signs, without comments and literals: enough to see modules, imports
//! and paths.

/// A word (identifier or keyword), `::`, or any other single sign. What stands in strings and comments is
/// left out.
pub(crate) fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        at += match rest {
            ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => 1 + string(&rest[1..]),
            ['\'', ..] => quote(rest),
            [':', ':', ..] => {
                found.push("::".to_string());
                2
            }
            [first, ..] if first.is_alphabetic() || *first == '_' => {
                let length = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                let word: String = rest[..length].iter().collect();
                match raw_string(&word, &rest[length..]) {
                    Some(literal) => length + literal,
                    None => {
                        found.push(word);
                        length
                    }
                }
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    found.push(first.to_string());
                }
                1
            }
            [] => 1,
        };
    }
    found
}

/// The length of a block comment; they nest.
fn block_comment(chars: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The length of a string literal after its opening quote, the closing one included.
fn string(chars: &[char]) -> usize {
    let mut at = 0;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a character literal or of a lifetime.
fn quote(chars: &[char]) -> usize {
    match chars {
        ['\'', '\\', _, rest @ ..] => 4 + rest.iter().take_while(|c| **c != '\'').count(),
        ['\'', _, '\'', ..] => 3,
        _ => 1 + chars.iter().skip(1).take_while(|c| c.is_alphanumeric() || **c == '_').count(),
    }
}

/// The length of what follows the prefix of a raw string (`r`, `br`, `cr`) or raw identifier.
fn raw_string(prefix: &str, rest: &[char]) -> Option<usize> {
    if !["r", "br", "cr"].contains(&prefix) {
        return None;
    }
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return (prefix == "r" && hashes == 1).then_some(1);
    }
    let mut at = hashes + 1;
    while at < rest.len() {
        if rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(at)
}

#[test]
fn words_and_signs_are_told_from_comments_and_literals() {
    let source = r####"
        // crate::one
        /* crate::two /* nested */ crate::three */
        use crate::four; let a = "crate::five \" crate::six"; let b = r#"crate::seven"#;
        let c: &'static str = b"x"; let d = '"'; let e = '\''; crate::eight();
    "####;
    let paths = tokens(source)
        .windows(3)
        .filter(|w| w[0] == "crate" && w[1] == "::")
        .map(|w| w[2].clone())
        .collect::<Vec<_>>();
    assert_eq!(paths, ["four", "eight"]);
    assert!(!tokens(source).contains(&"static".to_string()), "a lifetime is no word");
}
