//! The language by what expressions come to, and what they cost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value as Json, json};

use super::*;

const NAMES: [&str; 3] = ["self", "oldSelf", "object"];

/// What an expression comes to on `self`, as JSON; else the error.
fn on(this: &Json, source: &str) -> Result<Json, String> {
    let program = Program::compile(source, &NAMES).map_err(|error| error.message)?;
    let budget = Budget::of(1_000_000);
    let activation = Activation::new(&budget).set("self", this);
    let value = program.evaluate(&activation).map_err(|error| error.to_string())?;
    let json = value.to_json(&budget).map_err(|error| error.to_string())?;
    json.ok_or_else(|| value.type_name().to_string())
}

fn of(source: &str) -> Result<Json, String> {
    on(&Json::Null, source)
}

fn holds(source: &str) {
    assert_eq!(of(source), Ok(json!(true)), "{source}");
}

#[test]
fn arithmetic_and_order_are_those_of_the_language() {
    for (source, value) in [
        ("1 + 2 * 3 - 4", json!(3)),
        ("(1 + 2) * 3", json!(9)),
        ("7 / 2", json!(3)),
        ("-7 % 3", json!(-1)),
        ("7.0 / 2.0", json!(3.5)),
        ("'a' + \"b\"", json!("ab")),
        ("[1] + [2]", json!([1, 2])),
        ("true ? 1 : 2", json!(1)),
        ("- -3", json!(3)),
        ("0x1F", json!(31)),
        ("-9223372036854775808", json!(i64::MIN)),
        (r#"r'\d' + '\u0041\n'"#, json!("\\dA\n")),
        ("{'a': 1}.a", json!(1)),
        ("[1, 2, 3][1]", json!(2)),
        ("1 < 2 && 2.5 > 2 && 1u == 1", json!(true)),
        ("'b' in {'a': 1}", json!(false)),
        ("2 in [1, 2]", json!(true)),
        ("1 == 1.0 && [1] == [1.0] && {'a': 1} == {'a': 1u}", json!(true)),
        ("null == null && null != 1", json!(true)),
        ("!false || !!false", json!(true)),
    ] {
        assert_eq!(of(source), Ok(value), "{source}");
    }
}

#[test]
fn errors_are_told_in_the_words_of_cel_go() {
    for (source, why) in [
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("[1][1]", "index out of bounds: 1"),
        ("{'a': 1}.b", "no such key: b"),
        ("1 + 'a'", "no such overload"),
        ("'a' < 1", "no such overload"),
        ("foo", "undeclared reference to 'foo' (in container '')"),
        ("foo(1)", "undeclared reference to 'foo' (in container '')"),
        (
            "1 +",
            "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("1 1", "Syntax error: mismatched input '1' expecting <EOF>"),
        ("'a", "Syntax error: unterminated string literal"),
        ("has(self)", "invalid argument to has() macro"),
        ("[1].all(1, true)", "argument must be a simple name"),
        ("namespace == 1", "reserved identifier: namespace"),
    ] {
        assert_eq!(of(source), Err(why.to_string()), "{source}");
    }
    let error = Program::compile("1 +\n  foo", &[]).unwrap_err();
    assert_eq!((error.line, error.column), (2, 3));
    assert!(error.to_string().contains("| ..^"), "{error}");
}

#[test]
fn a_side_that_decides_makes_up_for_one_that_fails() {
    holds("true || 1 / 0 > 0");
    holds("1 / 0 > 0 || true");
    holds("!(false && 1 / 0 > 0) && !(1 / 0 > 0 && false)");
    holds("[1, 0].exists(x, 1 / x > 0)");
    assert_eq!(of("[0, 2].all(x, 1 / x > 0)"), Ok(json!(false)));
    assert!(of("[0, 1].all(x, 1 / x > 0)").is_err());
}

#[test]
fn objects_are_looked_at_where_they_lie() {
    let this = json!({ "spec": { "replicas": 3, "names": ["a", "b"], "map": { "x": 1 }, "my-name": "n", "namespace": "ns" } });
    for (source, value) in [
        ("self.spec.replicas", json!(3)),
        ("self.spec.names.all(n, n != '')", json!(true)),
        ("self.spec.map.exists(k, k == 'x')", json!(true)),
        ("has(self.spec.absent)", json!(false)),
        ("has(self.spec.map.x) && !has(self.spec.map.y)", json!(true)),
        ("self.spec.my__dash__name", json!("n")),
        ("self.spec.__namespace__", json!("ns")),
        ("self.spec['replicas']", json!(3)),
        ("size(self.spec) == 5 && self.spec.names.size() == 2", json!(true)),
        ("self.spec.names.map(n, n + '!')", json!(["a!", "b!"])),
        ("self.spec.names.filter(n, n == 'a')", json!(["a"])),
        ("self.spec.names.map(n, n == 'b', n)", json!(["b"])),
        ("self.spec.names.exists_one(n, n == 'a')", json!(true)),
        ("self.spec.map.all(k, v, v == 1 && k == 'x')", json!(true)),
        ("self.spec.names.transformList(i, n, string(i) + n)", json!(["0a", "1b"])),
        ("self.spec.map.transformMap(k, v, v + 1)", json!({ "x": 2 })),
        ("self.?spec.?absent.orValue(7)", json!(7)),
        ("self.spec[?'replicas'].hasValue()", json!(true)),
        ("self.?spec.replicas.optMap(r, r * 2).orValue(0)", json!(6)),
        ("[?self.?absent, 1]", json!([1])),
        ("cel.bind(r, self.spec.replicas, r + r)", json!(6)),
        ("self == self", json!(true)),
        ("type(self.spec.replicas) == int", json!(true)),
    ] {
        assert_eq!(on(&this, source), Ok(value), "{source}");
    }
    assert_eq!(on(&this, "self.spec.absent"), Err("no such key: absent".into()));
}

#[test]
fn functions_of_texts_lists_and_times_are_there() {
    for source in [
        "'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ll')",
        "'ab12'.matches('^[a-z]+[0-9]+$') && 'a1b22'.findAll('[0-9]+') == ['1', '22']",
        "'Äb'.size() == 2 && 'Äb'.charAt(0) == 'Ä' && 'abc'.substring(1, 2) == 'b'",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && ' a '.trim() == 'a'",
        "'aXbX'.replace('X', '-') == 'a-b-' && 'abcb'.indexOf('b') == 1 && 'abcb'.lastIndexOf('b') == 3",
        "'%s is %d%%'.format(['x', 5]) == 'x is 5%' && '%.2f'.format([2.5]) == '2.50'",
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [1, 2].isSorted() && ![2, 1].isSorted()",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])",
        "[[1], [2]].flatten() == [1, 2] && [2, 1].sort() == [1, 2] && [1, 1].distinct() == [1]",
        "duration('1h30m').getMinutes() == 90 && duration('1s') < duration('2s')",
        "timestamp('2024-02-29T12:00:00Z').getFullYear() == 2024",
        "timestamp('2024-02-29T12:00:00Z') + duration('24h') == timestamp('2024-03-01T12:00:00Z')",
        "timestamp('2024-01-01T00:00:00Z').getDayOfWeek() == 1",
        "int('5') == 5 && string(5) == '5' && double('1.5') == 1.5 && bool('true')",
        "math.greatest(1, 3, 2) == 3 && math.least([4, 2]) == 2 && math.abs(-2) == 2",
        "base64.decode('aGk=') == b'hi' && base64.encode(b'hi') == 'aGk='",
        "lists.range(3) == [0, 1, 2] && [1, 2, 3].slice(1, 3) == [2, 3]",
    ] {
        holds(source);
    }
}

#[test]
fn kubernetes_types_are_there() {
    for source in [
        "isQuantity('1.5Gi') && !isQuantity('x') && quantity('1Ki').asInteger() == 1024",
        "quantity('200m').isLessThan(quantity('1')) && quantity('1').add(1) == quantity('2')",
        "quantity('-3').sign() == -1 && quantity('0').sign() == 0 && quantity('5').compareTo(quantity('4')) == 1",
        "isURL('https://a.org:80/p?q=1') && url('https://a.org:80/p?q=1').getHost() == 'a.org:80'",
        "url('https://a.org/p?q=1').getQuery() == {'q': ['1']} && url('/x').getEscapedPath() == '/x'",
        "isIP('10.0.0.1') && !isIP('10.0.0') && ip('::1').isLoopback() && ip('10.0.0.1').family() == 4",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.2.0.0/16')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-rc.1') && !isSemver('1.0')",
        "semver('1.0.0-rc.1').isLessThan(semver('1.0.0')) && semver('v1.2', true).minor() == 2",
        "!format.dns1123Label().validate('my-name').hasValue()",
        "format.named('dns1123Label').value().validate('My').hasValue()",
        "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
    ] {
        holds(source);
    }
}

#[test]
fn what_an_expression_may_cost_is_bounded() {
    let list: Json = (0..1000).collect();
    let quadratic = "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))";
    let error = on(&list, quadratic).unwrap_err();
    assert_eq!(error, "operation cancelled: actual cost limit exceeded");
    let shared = Budget::of(2_500);
    let program = Program::compile("self.all(x, x >= 0)", &NAMES).unwrap();
    let activation = Activation::new(&shared).set("self", &list);
    assert_eq!(program.holds(&activation), Err(EvalError::Cost));
    assert_eq!(shared.left(), 0);
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    assert_eq!(of(&deep), Err("expression recursion limit exceeded: 100".into()));
    let long = vec!["1"; 500].join(" + ");
    assert_eq!(of(&long), Err("expression recursion limit exceeded: 100".into()));
    holds(&vec!["true"; 500].join(" && "));
}

/// Steps that an expression takes on `self`, and whether it came to an end.
fn cost(this: &Json, source: &str) -> (u64, bool) {
    cost_within(10_000_000, this, source)
}

fn cost_within(most: u64, this: &Json, source: &str) -> (u64, bool) {
    let program = Program::compile(source, &NAMES).unwrap();
    let budget = Budget::of(most);
    let activation = Activation::new(&budget).set("self", this);
    let is_over = program.evaluate(&activation) == Err(EvalError::Cost);
    (most - budget.left(), !is_over)
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other, &Budget::of(u64::MAX / 10)) == Ok(true)
    }
}

#[test]
fn patterns_of_an_expression_are_read_once_and_others_are_paid() {
    let names: Json = (0..100).map(|at| format!("name-{at}")).collect();
    let constant = cost(&names, "self.all(n, n.matches('^[a-z0-9-]+$'))");
    let made = cost(&names, "self.all(n, n.matches('^[a-z0-9-]' + '+$'))");
    let many = cost(&names, "self.all(n, n.matches(n))");
    assert!(constant.0 < 2_000 && constant.1, "{constant:?}");
    assert!(made.0 > constant.0 + 400 && made.0 < 4_000, "read once: {made:?}");
    assert!(many.0 > 100 * 400, "each is read: {many:?}");
    let large: Json = (0..100).map(|at| format!("\\pL{{60}}{at}")).collect();
    assert!(!cost_within(150_000, &large, "self.all(n, !''.matches(n))").1, "large ones are paid as such");
    let (text, pattern) = ("a".repeat(10_000), "a".repeat(400));
    let product = cost(&json!([text]), &format!("self[0].matches('{pattern}')"));
    assert!(product.0 >= 1_000 * 100, "{product:?}");
    assert!(of(&format!("'a'.matches('{}')", "a".repeat(10_000))).is_err());
    assert!(of("'a'.matches('(')").unwrap_err().starts_with("error parsing regexp"));
    let every = json!(["A".repeat(5_000)]);
    assert!(
        !cost_within(100_000, &every, "self[0].findAll('.*[^A-Z]|[A-Z]').size() > 0").1,
        "rests are looked at again"
    );
}

#[test]
fn what_looks_at_every_pair_pays_for_it_before() {
    let lists = json!([(0..2_000).collect::<Vec<_>>(), (5_000..7_000).collect::<Vec<_>>()]);
    for name in ["contains", "equivalent", "intersects"] {
        assert!(!cost(&lists, &format!("sets.{name}(self[0], self[1])")).1, "{name}");
    }
    assert!(cost(&lists, "self[0].distinct()").0 >= 2_000 * 1_999 / 2 / 10);
    let few = json!([(0..100).collect::<Vec<_>>()]);
    assert!(cost(&few, "sets.contains(self[0], self[0])").0 >= 10_000);
}

#[test]
fn a_walk_is_paid_round_by_round() {
    let long: Json = (0..1_000_000).collect();
    let first = cost(&long, "self.exists(x, x == 0)");
    assert!(first.0 < 20 && first.1, "{first:?}");
    let all = cost(&json!((0..1_000).collect::<Vec<_>>()), "self.all(x, true)");
    assert!((2_000..3_000).contains(&all.0), "{all:?}");
}

#[test]
fn what_is_made_is_paid_by_its_size_before() {
    let text = json!(["x".repeat(100_000), "y".repeat(100_000), vec!["a"; 1_000]]);
    for source in [
        "self[0].replace('', self[1])",
        "self[0].replace('x', self[1])",
        "self[2].join(self[0])",
        "self[2].map(a, self[0] + a)",
        "self[0].split('').map(a, self[0].split(''))",
        "self[2].map(a, self[2] + self[2])",
        "'%s'.format([self[2].map(a, self[2].map(b, self[0]))])",
    ] {
        let (steps, is_done) = cost(&text, source);
        assert!(!is_done && steps >= 1_000_000, "{source}: {steps}");
    }
    let (steps, is_done) = cost(&text, "self[0] + self[1]");
    assert!(is_done && steps >= 20_000, "{steps}");
}

#[test]
fn what_is_named_again_is_not_copied_and_what_is_shared_is_paid_as_often_as_it_is_walked() {
    let text = json!(["x".repeat(100_000)]);
    let named = cost(&text, "cel.bind(s, self[0] + 'a', [1, 2, 3].all(x, s.size() > x))");
    assert!(named.1 && named.0 < 100_000, "{named:?}");
    let tree = json!({ "a": (0..200_000).collect::<Vec<_>>(), "b": (0..200_000).collect::<Vec<_>>() });
    assert!(cost(&tree, "[self.a] == [self.b]").0 >= 20_000, "parts of parts are paid");
    let mut source = "[1]".to_string();
    for at in 0..30 {
        source = format!("cel.bind(v{at}, {source}, [v{at}, v{at}])");
    }
    let error = on(&Json::Null, &source).unwrap_err();
    assert_eq!(error, "operation cancelled: actual cost limit exceeded", "2^30 parts as JSON");
}

#[test]
fn an_expression_has_steps_of_its_own() {
    let list: Json = (0..1000).collect();
    let program = Program::compile("self.all(x, self.all(y, x + y >= 0))", &NAMES).unwrap();
    let budget = Budget::of(10_000_000);
    let activation = Activation::new(&budget).set("self", &list);
    for left in (0..10u64).rev() {
        assert_eq!(program.holds(&activation), Err(EvalError::Cost));
        assert!((left * 1_000_000).abs_diff(budget.left()) < 100, "{}", budget.left());
    }
}

#[test]
fn variables_are_evaluated_once_and_only_if_they_are_needed() {
    let compile = |source: &str| Program::compile(source, &["object", "variables"]).unwrap();
    let (bad, good, two) = (compile("object.absent"), compile("object.n * 2"), compile("variables.good + 1"));
    let object = json!({ "n": 4 });
    let budget = Budget::of(1000);
    let activation = Activation::new(&budget).set("object", &object).variables(vec![
        ("bad", &bad),
        ("good", &good),
        ("two", &two),
    ]);
    let check = compile("variables.two == 9");
    assert_eq!(check.holds(&activation), Ok(true));
    let fails = compile("variables.bad == 1");
    let why = fails.holds(&activation).unwrap_err().to_string();
    assert_eq!(why, "composited variable \"bad\" fails to evaluate: no such key: absent");
}

struct Yes;

impl Authorizer for Yes {
    fn check(&self, check: &Check) -> Decision {
        Decision { allowed: check.resource == "pods" && check.verb == "get", reason: check.namespace.clone() }
    }
}

#[test]
fn an_authorizer_is_asked_step_by_step() {
    let one = "authorizer.group('').resource('pods').namespace('ns').check('get').allowed() \
        && authorizer.group('').resource('pods').namespace('ns').check('get').reason() == 'ns'";
    let two = "!authorizer.path('/healthz').check('get').allowed()";
    let compile = |source: &str| Program::compile(source, &["authorizer"]).unwrap();
    let (both, one, two) = (compile(&format!("{one} && {two}")), compile(one), compile(two));
    let budget = Budget::of(10_000_000);
    let activation =
        Activation::new(&budget).set("authorizer", Value::authorizer(Check::default())).authorizer(&Yes);
    assert_eq!((one.holds(&activation), two.holds(&activation)), (Ok(true), Ok(true)));
    assert_eq!(both.holds(&activation), Err(EvalError::Cost), "an expression may ask twice");
}

#[test]
fn what_a_policy_applies_is_an_object() {
    let source = "Object{spec: Object.spec{replicas: object.n, names: ['a']}, ?gone: optional.none()}";
    let program = Program::compile(source, &["object"]).unwrap();
    let (object, budget) = (json!({ "n": 2 }), Budget::of(1000));
    let activation = Activation::new(&budget).set("object", &object);
    let value = program.evaluate(&activation).unwrap();
    assert_eq!(value.to_json(&budget), Ok(Some(json!({ "spec": { "replicas": 2, "names": ["a"] } }))));
    assert_eq!(value.type_name(), "Object");
}

#[test]
fn values_do_not_lie_deeper_in_each_other_than_the_stack_bears() {
    for (first, step) in [
        ("[1]", "[variables.PREVIOUS]"),
        ("{'a': 1}", "{'a': variables.PREVIOUS}"),
        ("optional.of(1)", "optional.of(variables.PREVIOUS)"),
        ("Object{a: 1}", "Object{a: variables.PREVIOUS}"),
        ("[1]", "[1].map(x, variables.PREVIOUS)"),
        ("{'a': 1}", "{'a': 1}.transformMap(k, v, variables.PREVIOUS)"),
    ] {
        let names: Vec<String> = (0..500).map(|at| format!("v{at}")).collect();
        let source = |at: usize| match at {
            0 => first.to_string(),
            _ => step.replace("PREVIOUS", &names[at - 1]),
        };
        let compile = |source: &str| Program::compile(source, &["variables"]).unwrap();
        let programs: Vec<Program> = (0..names.len()).map(|at| compile(&source(at))).collect();
        let budget = Budget::of(1_000_000);
        let variables = names.iter().map(String::as_str).zip(&programs).collect();
        let activation = Activation::new(&budget).variables(variables);
        // Step by step, so that no evaluation is deep.
        let forced: Vec<Program> =
            (1..=50).map(|at| compile(&format!("variables.v{} != 0", at * 10 - 1))).collect();
        let results: Vec<_> = forced.iter().map(|program| program.holds(&activation)).collect();
        let fits = results.iter().take_while(|result| **result == Ok(true)).count();
        assert_eq!(fits, 40, "{step}: {results:?}");
        let why = results[40].clone().unwrap_err().to_string();
        assert!(why.ends_with("expression recursion limit exceeded: 400"), "{step}: {why}");
    }
}

#[test]
fn patterns_are_those_of_re2() {
    for (source, matches) in [
        (r"'é'.matches(r'^\w+$')", false),
        (r"'é'.matches('^' + r'\w+$')", false),
        (r"'e_9'.matches(r'^\w+$')", true),
        (r"'٣'.matches(r'^\d$')", false),
        (r"'3'.matches(r'^\d$')", true),
        (r"'\u00a0'.matches(r'^\s$')", false),
        (r"' '.matches(r'^\s$')", true),
        (r"'a٣b5'.find(r'\d') == '5'", true),
        (r"'a{b'.matches('^a{b$')", true),
        (r"'[&'.matches('^[[&]+$')", true),
    ] {
        assert_eq!(of(source), Ok(json!(matches)), "{source}");
    }
    assert!(of("'a'.matches('a{1001}')").unwrap_err().starts_with("error parsing regexp"));
}

#[test]
fn timestamps_are_those_of_rfc_3339() {
    for text in [
        "2019-01-01T00:00:00Z",
        "2019-01-01T02:00:00+02:00",
        "2019-01-01T00:00:00.000Z",
        "2019-01-01T00:00:00,0Z",
        "2019-01-01T00:00:00.0000000009Z",
    ] {
        holds(&format!("timestamp('{text}') == timestamp(1546300800)"));
    }
    for text in [
        "2019-01-01 00:00:00Z",
        "2019-01-01t00:00:00Z",
        "2019-01-01T00:00:00z",
        "2019-01-01T00:00:00Z[Europe/Paris]",
        "2019-01-01T00:00:00+02:00[Europe/Paris]",
        "2019-01-01T00:00:00",
        "2019-01-01T00:00Z",
        "2019-01-01T00:00:00.Z",
        "2019-01-01T00:00:00+0200",
        "2019-01-01T00:00:60Z",
        "2019-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2019-01-01",
        "",
        "é",
    ] {
        let why = of(&format!("timestamp('{text}')")).unwrap_err();
        assert_eq!(why, format!("parsing time {text:?} as RFC3339 failed"));
    }
    assert_eq!(of("duration('x')"), Err("time: invalid duration \"x\"".into()));
    let twice = "{'a': 1}.transformMapEntry(k, v, {'b': v}) == {'b': 1} && {'a': 1, 'c': 1}.transformMapEntry(k, v, {'b': v}) == {}";
    assert_eq!(of(twice), Err("insert failed: key b already exists".into()));
}
