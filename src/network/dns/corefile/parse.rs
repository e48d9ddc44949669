//! Words, lines and braces of a Corefile.

use super::CorefileError;

/// A line: its first word, the others, and what is in braces after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) body: Option<Vec<Directive>>,
}

impl Directive {
    pub(super) fn wrong(&self, why: &str) -> CorefileError {
        CorefileError { file: self.file.clone(), line: self.line, why: format!("{}: {why}", self.name) }
    }
}

/// How deep braces go: server block, plugin, options.
const DEEPEST: usize = 4;

pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Directive>, CorefileError> {
    let wrong = |line: usize, why: &str| CorefileError { file: file.to_string(), line, why: why.to_string() };
    // Directives of each level that is open.
    let mut open: Vec<Vec<Directive>> = vec![Vec::new()];
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = words(line).ok_or_else(|| wrong(number, "a quotation mark has no other"))?;
        let opens = words.last().is_some_and(|word| word == "{");
        if opens {
            words.pop();
        }
        if words.first().is_some_and(|word| word == "}") {
            if words.len() > 1 || opens || open.len() < 2 {
                return Err(wrong(number, "a closing brace too many"));
            }
            let body = open.pop().unwrap_or_default();
            if let Some(head) = open.last_mut().and_then(|level| level.last_mut()) {
                head.body = Some(body);
            }
            continue;
        }
        if words.iter().any(|word| word == "{" || word == "}") {
            return Err(wrong(number, "braces stand at the end of a line and on lines of their own"));
        }
        let mut words = words.into_iter();
        let Some(name) = words.next() else {
            if opens {
                return Err(wrong(number, "a brace without a name before it"));
            }
            continue;
        };
        let directive =
            Directive { file: file.to_string(), line: number, name, arguments: words.collect(), body: None };
        if let Some(level) = open.last_mut() {
            level.push(directive);
        }
        if opens {
            if open.len() >= DEEPEST {
                return Err(wrong(number, "braces within too many others"));
            }
            open.push(Vec::new());
        }
    }
    match <[Vec<Directive>; 1]>::try_from(open) {
        Ok([all]) => Ok(all),
        Err(_) => Err(wrong(text.lines().count(), "a closing brace is missing")),
    }
}

/// The words of a line without its comment; none if a quotation does not end.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => break,
            '"' => {
                let mut word = String::new();
                loop {
                    match letters.next()? {
                        '"' => break,
                        letter => word.push(letter),
                    }
                }
                words.push(word);
            }
            letter if letter.is_whitespace() => {}
            letter => {
                let mut word = String::from(letter);
                while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
                    word.push(letter);
                }
                words.push(word);
            }
        }
    }
    Some(words)
}
