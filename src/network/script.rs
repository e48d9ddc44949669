//! Text for `nft`: what the rules of services and of policies write alike.

use std::fmt::Write;

/// One command (its verb, the table's family and name) about elements of a set; none if there are none.
pub(crate) fn write_elements<E>(
    (verb, family, table): (&str, &str, &str),
    set: &str,
    elements: impl Iterator<Item = E>,
    write_one: impl Fn(E, &mut String),
    script: &mut String,
) {
    let mut is_first = true;
    for element in elements {
        if is_first {
            let _ = write!(script, "{verb} element {family} {table} {set} {{ ");
        } else {
            script.push_str(",\n");
        }
        is_first = false;
        write_one(element, script);
    }
    if !is_first {
        script.push_str(" }\n");
    }
}

/// Removes a table; that there is none is fine.
pub(crate) fn removal(family: &str, table: &str) -> String {
    format!("add table {family} {table}\ndelete table {family} {table}\n")
}
