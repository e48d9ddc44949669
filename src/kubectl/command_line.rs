//! Reading a command line before it is parsed: which command it names, and where that ends. What completes
//! words and what applies preferences look at lines that need not be whole.

use clap::{Arg, ArgAction, Command};

/// The command that words name, below the root.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Named {
    /// `["set", "env"]`; by their own names, not by aliases.
    pub(crate) path: Vec<String>,
    /// Where the last of its words stands; none without a command.
    pub(crate) last: Option<usize>,
    /// The first word that is neither a flag nor a command.
    pub(crate) other: Option<usize>,
}

/// Finds the command of a line without the program's name.
pub(crate) fn find(root: &Command, words: &[String]) -> Named {
    let mut named = Named::default();
    let mut chain = vec![root];
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if word == "--" {
            break;
        }
        if word.starts_with('-') && word.len() > 1 {
            at += 1 + usize::from(takes_next(&chain, word));
            continue;
        }
        let current = chain.last().copied().unwrap_or(root);
        match current.find_subcommand(word) {
            Some(next) => {
                named.path.push(next.get_name().to_string());
                named.last = Some(at);
                chain.push(next);
            }
            None => {
                named.other = Some(at);
                break;
            }
        }
        at += 1;
    }
    named
}

/// The command at a path of names.
pub(crate) fn at<'a>(root: &'a Command, path: &[String]) -> Option<&'a Command> {
    path.iter().try_fold(root, |command, name| command.find_subcommand(name))
}

/// Flags of a command, and those that every command takes.
pub(crate) fn flags<'a>(root: &'a Command, path: &[String]) -> Vec<&'a Arg> {
    let own = at(root, path).filter(|_| !path.is_empty());
    let global = root.get_arguments().filter(|arg| !arg.is_positional());
    let mut all: Vec<&Arg> =
        own.into_iter().flat_map(Command::get_arguments).filter(|arg| !arg.is_positional()).collect();
    for arg in global {
        if all.iter().all(|own| own.get_long() != arg.get_long()) {
            all.push(arg);
        }
    }
    all
}

/// Whether a flag's value is the word after it.
pub(crate) fn has_value(arg: &Arg) -> bool {
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    takes && !arg.is_require_equals_set()
}

/// Whether a word is a flag that takes the next word as its value.
fn takes_next(chain: &[&Command], word: &str) -> bool {
    let find = |is_it: &dyn Fn(&Arg) -> bool| {
        chain.iter().rev().find_map(|command| command.get_arguments().find(|arg| is_it(arg)))
    };
    if let Some(name) = word.strip_prefix("--") {
        return !name.contains('=') && find(&|arg| arg.get_long() == Some(name)).is_some_and(has_value);
    }
    // Of letters together only the last can want the next word, and each before it no value at all.
    let mut letters = word.chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        let Some(arg) = find(&|arg| arg.get_short() == Some(letter)) else { return false };
        if has_value(arg) {
            return letters.peek().is_none();
        }
    }
    false
}

/// Whether a line gives a flag, by its long name or by its letter.
pub(crate) fn gives(words: &[String], arg: &Arg, all: &[&Arg]) -> bool {
    let long = arg.get_long().map(|name| format!("--{name}"));
    let is_switch = |letter: char| all.iter().any(|one| one.get_short() == Some(letter) && !has_value(one));
    words.iter().take_while(|word| *word != "--").any(|word| {
        if let Some(long) = &long
            && (word == long || word.strip_prefix(long.as_str()).is_some_and(|rest| rest.starts_with('=')))
        {
            return true;
        }
        let Some(short) = arg.get_short() else { return false };
        let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            return false;
        };
        // `-it`: what comes before it must be switches.
        letters
            .chars()
            .position(|letter| letter == short)
            .is_some_and(|at| letters.chars().take(at).all(is_switch))
    })
}
