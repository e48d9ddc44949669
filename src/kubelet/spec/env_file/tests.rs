//! What is a value, and what is none.

use super::*;

#[test]
fn values_are_what_is_in_the_quotes() {
    let text = "# a comment\n\n  A='one' # more\nB='two\nlines $HOME \\n'\nC=''\nD= 'x'\nE='last'";
    let of = |key| value(text, key).unwrap();
    assert_eq!(of("A").as_deref(), Some("one"));
    assert_eq!(of("B").as_deref(), Some("two\nlines $HOME \\n"));
    assert_eq!(of("E").as_deref(), Some("last"));
    assert_eq!((of("C"), of("D"), of("F")), (None, None, None));
}

#[test]
fn everything_else_is_an_error_with_its_line() {
    let fault = |text| value(text, "Z").unwrap_err();
    assert_eq!(fault("A='1'\nB"), EnvFileError::NoEquals(2));
    assert_eq!(fault("='1'"), EnvFileError::NoName(1));
    assert_eq!(fault("A ='1'"), EnvFileError::Space(1));
    assert_eq!(fault("A=1"), EnvFileError::NoQuote(1));
    assert_eq!(fault("A='1\n2' x"), EnvFileError::Rest(2));
    assert_eq!(fault("A='1'\nB='2\n3"), EnvFileError::Open(2));
    // What comes after the name that is looked for does not count.
    assert_eq!(value("A='1'\nrubbish", "A").unwrap().as_deref(), Some("1"));
}
