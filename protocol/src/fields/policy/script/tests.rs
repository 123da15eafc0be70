//! What scripts can do, what they cannot, and where they are stopped.

use super::super::tests::{at, merged, value};
use super::super::{Base, Merged, Policy, merge};
use super::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn policy(source: &str) -> Policy {
    Policy::Custom(Arc::new(Script::compile(source).unwrap()))
}

/// A policy whose function has this body.
fn body(body: &str) -> Policy {
    policy(&format!("fn merge(base, versions) {{ {body} }}"))
}

#[track_caller]
fn gives(script: &str, base: &Json, versions: &[Json], expected: &Json) {
    assert_eq!(merged(&body(script), base, versions), Merged::Value(Some(value(expected))), "{script}");
}

/// Why a script on the versions 1 and 2 of the base 0 gave no value; the latest version is shown.
#[track_caller]
fn fails(script: &Policy) -> ScriptFailure {
    match merged(script, &json!(0), &[json!(1), json!(2)]) {
        Merged::Conflict { shown, reason: Some(Reason::Script(failure)) } => {
            assert_eq!(shown, Some(Value::from(2.0)));
            failure
        }
        other => panic!("{other:?}"),
    }
}

/// Its message, where what it did failed.
#[track_caller]
fn message(script: &str) -> String {
    match fails(&body(script)) {
        ScriptFailure::Failed { line, message } => format!("{line}: {message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_merges() {
    let longest = policy(
        "// The longest list stands, and of equally long ones the latest.
         fn merge(base, versions) {
             let best = versions[0];
             for version in versions {
                 if version.deleted { return conflict(); }
                 if version.value.len() >= best.value.len() { best = version; }
             }
             best.value
         }",
    );
    let versions = [json!([1, 2, 3]), json!([4]), json!([5, 6, 7])];
    assert_eq!(merged(&longest, &json!([]), &versions), Merged::Value(Some(value(&json!([5, 6, 7])))));
    let deleted = merged(&longest, &json!([]), &[json!([1]), json!(null)]);
    let reason = Some(Reason::Script(ScriptFailure::Undecided));
    assert_eq!(deleted, Merged::Conflict { shown: Some(value(&json!([1]))), reason });
    assert_eq!(merged(&body("deleted()"), &json!(1), &[json!(1), json!(2)]), Merged::Value(None));
}

#[test]
fn scripts_see_the_base_and_who_wrote_when() {
    let two = [json!(3), json!(4)];
    gives("base + (versions[0].value - base) + (versions[1].value - base)", &json!(1), &two, &json!(6));
    gives("base ?? 7", &json!(null), &two, &json!(7));
    let told = "let v = versions[1]; #{time: v.time, region: v.region, author: v.author, gone: v.deleted, any: v.value}";
    let expected = json!({"time": 2, "region": "r3", "author": "", "gone": true, "any": null});
    gives(told, &json!(1), &[json!(3), json!(null)], &expected);
    let unknown = merge(&body("1"), Base::Unknown, &[at(1, None), at(2, Some(Value::from(1.0)))]);
    assert_eq!(unknown.reason(), Some(Reason::BaseUnknown));
}

#[test]
fn scripts_have_a_library() {
    let two = [json!(1), json!(2)];
    for (script, expected) in [
        (
            "[abs(-1.5), abs(-2), floor(1.5), ceiling(1.5), round(2.5), to_int(2.9), 7.0 / 2.0]",
            json!([1.5, 2, 1, 2, 3, 2, 3.5]),
        ),
        ("`${1.5} and ${2}`", json!("1.5 and 2")),
        (
            "[len(\"aé👩\"), \"abc\".contains(\"b\"), \"b\" in \"abc\", \"abc\".starts_with(\"a\"), \"abc\".ends_with(\"a\")]",
            json!([3, true, true, true, false]),
        ),
        ("\" a-b \".trim().replace(\"-\", \"+\").split(\"+\")", json!(["a", "b"])),
        ("let l = [3, \"b\", 1.0, 1, [2], \"a\"]; l.unique(); l.sort(); l", json!([1, 3, "a", "b", [2]])),
        (
            "let l = [1] + [2]; l.push(3); l.reverse(); [l, l.index_of(2.0), l.index_of(9), 3 in l, l.remove(0), l.remove(9), l]",
            json!([[3, 2, 1], 1, -1, true, 3, null, [2, 1]]),
        ),
        ("[\"a\", \"b\"].join(\", \")", json!("a, b")),
        (
            "let o = #{b: 1, a: [2]}; [o.len(), o.keys(), o.values(), \"a\" in o, o.remove(\"b\"), o]",
            json!([2, ["a", "b"], [[2], 1], true, 1, {"a": [2]}]),
        ),
        (
            "[[1, #{a: 2}] == [1.0, #{a: 2.0}], #{a: 1} != #{a: 2}, [1] == #{}, 1 == 1.0]",
            json!([true, true, false, true]),
        ),
        ("let sum = 0; for i in 0..4 { sum += i; } for i in 1..=2 { sum += i; } sum", json!(9)),
    ] {
        gives(script, &json!(0), &two, &expected);
    }
}

#[test]
fn scripts_have_nothing_else() {
    for script in [
        "switch 1 { 1 => 2 }",
        "2 ** 3",
        "eval(\"1\")",
        "print(1)",
        "let f = |x| x; 1",
        "Fn(\"merge\")",
        "import \"x\" as y;",
        "try { 1 } catch { 2 }",
        "unknown",
    ] {
        let error = Script::compile(&format!("fn merge(base, versions) {{\n  {script}\n}}")).unwrap_err();
        assert_eq!(error.line, 2, "{script}: {error}");
    }
    for script in [
        "timestamp()",
        "sleep(1)",
        "rand()",
        "sqrt(2.0)",
        "sin(1.0)",
        "parse_json(\"1\")",
        "exit(1)",
        "blob(5)",
    ] {
        assert!(message(script).contains("not found"), "{script}: {}", message(script));
    }
}

#[test]
fn what_is_no_script_is_refused_with_its_place() {
    let error = Script::compile("fn merge(base, versions) {\n  1 +\n}").unwrap_err();
    assert_eq!((error.line, error.column), (3, 1), "{error}");
    assert!(error.to_string().starts_with("line 3, column 1: "), "{error}");
    for none in ["", "fn merge(base) { 1 }", "let merge = 1;", "fn merged(base, versions) { 1 }"] {
        let error = Script::compile(none).unwrap_err();
        assert_eq!(error.to_string(), "there is no function merge(base, versions)");
    }
    let deep = format!("fn merge(base, versions) {{ {}1{} }}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(Script::compile(&deep).unwrap_err().message.contains("complexity"));
    let deep = format!("fn merge(base, versions) {{ {}1{} }}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Script::compile(&deep).unwrap_err().message.contains("complexity"));
}

#[test]
fn endless_work_and_few_calls_with_much_of_it_are_stopped() {
    for script in [
        "loop {}",
        "while true { let x = 1; }",
        "let l = []; for i in 0..1000 { l.push(i); } for i in 0..40 { l.sort(); } 1",
        "let l = []; for i in 0..1000 { l.push(i); } for i in 0..40 { l.contains(-1); } 1",
        "let l = []; for i in 0..1000 { l.push(i); } for i in 0..40 { if l == [] {} } 1",
        "let s = \"a\"; while s.len() < 30000 { s += s; } for i in 0..2 { s.replace(\"a\", \"b\"); } 1",
        "for i in 0..9223372036854775807 {}",
        // Members that are set one by one are counted when the object is next used as a whole.
        "let o = #{}; let i = 0; loop { o[`${i}`] = i; i += 1; }",
    ] {
        assert_eq!(fails(&body(script)), ScriptFailure::Operations, "{script}");
    }
}

#[test]
fn growth_is_stopped() {
    for script in [
        "let s = \"ab\"; loop { s += s; }",
        "let l = [1]; loop { l.push(l); }",
        "let l = [1]; loop { l = l + l; }",
        "let l = []; loop { l.push(1); }",
        "let s = \"aaaaaaaaaaaaaaaa\"; loop { s = s.replace(\"a\", s); }",
        "let s = \"aaaaaaaaaaaaaaaa\"; let l = [s, s, s, s, s]; loop { s = l.join(s); l = [s, s, s, s]; }",
        "let s = \"aaaaaaaaaaaaaaaa\"; loop { s = `${s}${s}`; }",
        // Nested as deep as there are elements, which copying and dropping must survive.
        "let l = []; loop { l = [l]; }",
        "let o = #{}; loop { o = #{o: o}; }",
        "let l = []; loop { l = [#{l: l}]; let copy = l; }",
    ] {
        assert_eq!(fails(&body(script)), ScriptFailure::Size, "{script}");
    }
}

#[test]
fn deep_calls_and_many_variables_are_stopped() {
    let endless = "fn deeper(x) { 1 + (1 + (1 + (1 + deeper([x])))) } fn merge(base, versions) { deeper(1) }";
    assert_eq!(fails(&policy(endless)), ScriptFailure::Depth);
    let many: String = (0..VARIABLES_MAX).map(|i| format!("let x{i} = 1;")).collect();
    assert_eq!(fails(&body(&many)), ScriptFailure::Depth);
}

#[test]
fn a_result_that_no_field_can_hold_is_refused() {
    let result = |script: &str| match fails(&body(script)) {
        ScriptFailure::Result(what) => what.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(result("let l = 1; for i in 0..100 { l = [l]; } l"), "a value that is too deep");
    assert_eq!(result("1.0 / 0.0"), "a number that is not finite");
    assert!(result("[conflict()]").starts_with("what no field can hold"));
    assert!(result("0..3").starts_with("what no field can hold"));
    let large =
        "let s = \"a\"; while s.len() < 60000 { s += s; if s.len() > 30000 { break; } } #{a: s, b: s, c: s}";
    assert_eq!(fails(&body(large)), ScriptFailure::Size);
}

#[test]
fn failures_say_what_and_where() {
    assert_eq!(message("\nthrow \"not today\""), "2: Runtime error: not today");
    assert!(message("versions[2].value").starts_with("1: "), "{}", message("versions[2].value"));
    assert!(
        message("9223372036854775807 + 1").contains("overflow"),
        "{}",
        message("9223372036854775807 + 1")
    );
    let long = message("let s = \"é\"; while s.len() < 1000 { s += s; } throw s");
    assert!(long.len() <= MESSAGE_BYTES_MAX + 3, "{long}");
    let failure = ScriptFailure::Failed { line: 2, message: "x".into() };
    assert_eq!(Reason::Script(failure).to_string(), "the script failed: line 2: x");
}

#[test]
fn versions_that_are_too_large_are_not_given_to_a_script() {
    let input = Some(Reason::Script(ScriptFailure::Input));
    let long = "a".repeat(STRINGS_BYTES_MAX);
    assert_eq!(merged(&body("1"), &json!(0), &[json!(long), json!("b")]).reason(), input);
    let many: Vec<_> = (0..ELEMENTS_MAX).collect();
    assert_eq!(merged(&body("1"), &json!(0), &[json!(many), json!([1])]).reason(), input);
    let nested = (0..100).fold(Value::Null, |inner, _| [inner].into_iter().collect());
    let nested = merge(&body("1"), Base::Known(None), &[at(1, Some(nested)), at(2, None)]);
    assert_eq!(nested.reason(), input);
}

#[test]
fn big_integers_and_bytes_are_handed_on() {
    let versions =
        [at(1, Some(Value::BigInt(i64::MIN))), at(2, Some(Value::Bytes(b"\x00\xff".as_slice().into())))];
    for (script, expected) in [("versions[0].value", &versions[0]), ("versions[1].value", &versions[1])] {
        assert_eq!(merge(&body(script), Base::Known(None), &versions), Merged::Value(expected.value.clone()));
    }
    assert_eq!(
        merge(&body("versions[0].value == versions[0].value"), Base::Known(None), &versions),
        Merged::Value(Some(Value::Bool(true)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A text of pieces of the language: whatever it is, it is refused, or runs to an end, and to the same twice.
    #[test]
    fn any_script_comes_to_an_end(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..30)) {
        let source = format!("fn f(x) {{ x }} fn merge(base, versions) {{ let a = 1; let b = []; {} }}", pieces.join(" "));
        if let Ok(script) = Script::compile(&source) {
            let script = Policy::Custom(Arc::new(script));
            let versions = [at(1, Some(value(&json!([1, {"a": "b"}])))), at(2, None)];
            let first = merge(&script, Base::Known(None), &versions);
            prop_assert_eq!(merge(&script, Base::Known(None), &versions), first);
        }
    }
}

const PIECES: [&str; 36] = [
    "a",
    "b",
    "base",
    "versions",
    ";",
    ";",
    ";",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "=",
    "+=",
    "+",
    "-",
    "*",
    "<",
    "==",
    "1",
    "2.5",
    "\"s\"",
    "#{k: a}",
    "loop",
    "while",
    "if",
    "else",
    "for x in b",
    "f(a)",
    "merge(a, b)",
    "b.push(b)",
    "a.len()",
    "return",
    "break",
    "throw",
];
