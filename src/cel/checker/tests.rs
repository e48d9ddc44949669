//! Types, by what is found and by what is left alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::rc::Rc;

use crate::{Fields, Program, Type};

struct Thing;

impl Fields<'static> for Thing {
    fn name(&self) -> String {
        "Thing".into()
    }

    fn field(&self, name: &str) -> Option<Type<'static>> {
        Some(match name {
            "size" => Type::Int,
            "ratio" => Type::Double,
            "name" => Type::String,
            "since" => Type::Timestamp,
            "any" => Type::Dyn,
            "tags" => Type::list(Type::String),
            "labels" => Type::map(Type::String),
            "inner" => Type::Object(Rc::new(Thing)),
            "things" => Type::list(Type::Object(Rc::new(Thing))),
            _ => return None,
        })
    }
}

/// What is found, and what the expression comes to.
fn check(source: &str) -> (Vec<String>, String) {
    let program = Program::compile(source, &["self", "oldSelf"]).unwrap();
    let thing = Type::Object(Rc::new(Thing));
    let checked = program.check_types(&[("self", thing.clone()), ("oldSelf", Type::optional(thing))]);
    (checked.faults.into_iter().map(|fault| fault.message).collect(), checked.of.to_string())
}

#[test]
fn what_fits_is_left_alone() {
    for (source, of) in [
        ("self.size > 1 && self.size < 1.5", "bool"),
        ("self.inner.inner.size == self.things[0].size", "bool"),
        ("self.any.x.y > 'a' || self.any == 3", "bool"),
        ("self.things.all(t, t.name.startsWith('a') && t.size > 0)", "bool"),
        ("self.things.filter(t, t.size > 0)[0].name", "string"),
        ("self.things.map(t, t.name)", "list(string)"),
        ("self.labels.all(k, k != '' && self.labels[k] != k)", "bool"),
        ("self.labels.exists(k, v, k == v)", "bool"),
        ("has(self.inner.name) ? self.name : 'none'", "string"),
        ("oldSelf.hasValue() && oldSelf.value().size == self.size", "bool"),
        ("self.?inner.?name.orValue('') == ''", "bool"),
        ("oldSelf.optMap(o, o.size + 1).orValue(0)", "int"),
        ("self.since + duration('1h') > timestamp('2020-01-01T00:00:00Z')", "bool"),
        ("self.name == null || self.tags + ['x'] == self.tags", "bool"),
        ("cel.bind(n, self.size, n * 2)", "int"),
        ("size(self.tags) > self.tags.size()", "bool"),
        ("'a' in self.tags && 'b' in self.labels", "bool"),
        ("{'a': 1}.a + 1", "int"),
        ("type(self.size) == int", "bool"),
        ("quantity('1').isGreaterThan(quantity('2'))", "dyn"),
    ] {
        assert_eq!(check(source), (Vec::new(), of.to_string()), "{source}");
    }
}

#[test]
fn what_cannot_be_is_told_in_the_words_of_cel_go() {
    for (source, fault) in [
        ("self.z == 1", "undefined field 'z'"),
        ("self.inner.?z.hasValue()", "undefined field 'z'"),
        ("has(self.things[0].z)", "undefined field 'z'"),
        ("self.things.exists(t, t.z > 0)", "undefined field 'z'"),
        ("self.name.z == 1", "type 'string' does not support field selection"),
        ("self.size > '1'", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("'a' + self.size", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("self.size == self.name", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.ratio != 1", "found no matching overload for '_!=_' applied to '(double, int)'"),
        ("self.ratio % 2.0 == 1.0", "found no matching overload for '_%_' applied to '(double, double)'"),
        ("self.size && true", "found no matching overload for '_&&_' applied to '(int, bool)'"),
        ("!self.name", "found no matching overload for '!_' applied to '(string)'"),
        ("self.size in self.name", "found no matching overload for '@in' applied to '(int, string)'"),
        ("oldSelf.value().size + 'a'", "found no matching overload for '_+_' applied to '(int, string)'"),
        (
            "self.size.all(x, x > 0)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
    ] {
        assert_eq!(check(source).0, [fault], "{source}");
    }
}

#[test]
fn types_do_not_lie_deeper_in_each_other_than_the_stack_bears() {
    let source = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    let (faults, of) = check(&source);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(of, "list(list(list(list(list(dyn)))))");
}
