//! Constraints made to exhaust: each is refused, and quickly enough to be tested here.

use crate::common::{COMPILER, Random, compile, draw, follow, refusal};
use crate::largest::{largest, nested};
use pagoda_grammar::{Constraint, GrammarError};
use serde_json::{Map, Value, json};

fn of_schema(schema: Value) -> String {
    refusal(&Constraint::JsonSchema(schema))
}

#[test]
fn nesting() {
    assert!(compile(&Constraint::JsonSchema(nested(63))).is_ok());
    assert_eq!(of_schema(nested(64)).split(" has ").nth(1), Some("65 levels; allowed: at most 64"));
    let all_of = (0..64).fold(json!({"type": "integer"}), |inner, _| json!({"allOf": [inner]}));
    assert!(of_schema(all_of).contains("levels"));
    let constant = (0..70).fold(json!(1), |inner, _| json!([inner]));
    assert!(of_schema(json!({"const": constant})).contains("levels"));
    for (open, close) in [("(", ")"), ("(?:", ")"), ("(a|", ")")] {
        let deep = format!("{}a{}", open.repeat(9_000), close.repeat(9_000));
        assert!(refusal(&Constraint::Regex(deep.clone())).contains("levels"));
        assert!(of_schema(json!({"type": "string", "pattern": deep[..3000]})).contains("pattern"));
    }
    let deep = format!("start: {}\"a\"{}", "(".repeat(9_000), ")".repeat(9_000));
    assert!(refusal(&Constraint::Grammar(deep)).contains("open brackets"));
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(9_000), ")".repeat(9_000));
    assert!(refusal(&Constraint::Grammar(deep)).contains("open brackets"));
}

#[test]
fn repetition() {
    for pattern in ["a{0,1000000000}", "(a{1000}){1000}", "((a{0,100}){0,100}){0,100}", "[ab]{10001}"] {
        assert!(refusal(&Constraint::Regex(pattern.into())).contains("repeats something up to"), "{pattern}");
        let message = of_schema(json!({"properties": {"a": {"type": "string", "pattern": pattern}}}));
        assert!(message.starts_with("keyword \"pattern\" at #/properties/a repeats something"), "{message}");
    }
    for keyword in ["minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"] {
        let message = of_schema(json!({"items": {keyword: 1_000_000_000}}));
        assert!(
            message.starts_with(&format!("keyword {keyword:?} at #/items is 1000000000; allowed: 0 to")),
            "{message}"
        );
    }
    assert!(refusal(&Constraint::Grammar("start: \"a\"{0,1000000000}".into())).contains("repetitions"));
    assert!(refusal(&Constraint::Grammar("root ::= \"a\"{0,1000000000}".into())).contains("repetitions"));
}

#[test]
fn size() {
    let limit = COMPILER.limits().bytes;
    let long = "a".repeat(limit + 1);
    for constraint in [
        Constraint::Regex(long.clone()),
        Constraint::Grammar(long.clone()),
        Constraint::Choice(vec![long.clone()]),
        Constraint::JsonSchema(json!({"description": long})),
    ] {
        let error = compile(&constraint).expect_err("it is too long");
        assert!(matches!(error, GrammarError::TooMany { unit: "bytes", .. }), "{error}");
    }
    let many: Vec<Value> = (0..1001).map(Value::from).collect();
    assert!(of_schema(json!({"enum": many})).contains("1001 values; allowed: at most 1000"));
    assert!(compile(&Constraint::JsonSchema(json!({"enum": many[..1000]}))).is_ok());
    let choices: Vec<String> = (0..1001).map(|index| format!("choice {index}")).collect();
    assert!(refusal(&Constraint::Choice(choices.clone())).contains("1001 choices; allowed: at most 1000"));
    assert!(compile(&Constraint::Choice(choices[..1000].to_vec())).is_ok());
    assert!(of_schema(json!({"const": "a".repeat(5000)})).contains("5000 bytes"));
    let any_of: Vec<Value> = (0..257).map(|index| json!({"const": index})).collect();
    assert!(of_schema(json!({"anyOf": any_of})).contains("257 schemas"));
    let rules: String = (0..1100).map(|rule| format!("r{rule}: r{}\n", rule + 1)).collect();
    assert!(refusal(&Constraint::Grammar(format!("start: r0\n{rules}"))).contains("rules"));
}

#[test]
fn expressions() {
    let classes = r"\p{L}\p{N}\w".repeat(40);
    assert!(refusal(&Constraint::Regex(classes.clone())).contains("120 classes of Unicode"));
    assert!(refusal(&Constraint::Grammar(format!("start: /{classes}/"))).contains("120 classes of Unicode"));
    let object: Map<String, Value> = (0..17).map(|index| (format!("^p{index}"), json!({}))).collect();
    assert!(of_schema(json!({"patternProperties": object})).contains("17 patternProperties"));
    let many: Map<String, Value> =
        (0..201).map(|index| (format!("p{index}"), json!({"type": "string", "pattern": "a"}))).collect();
    assert!(of_schema(json!({"properties": many})).contains("201 patterns"));
}

#[test]
fn references() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"type": "object"}]}}}),
    ] {
        assert!(of_schema(schema.clone()).contains("leads back to itself"), "{schema}");
    }
    for schema in [
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1}),
        json!({"$ref": "#/$defs/a", "$defs": {
            "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}, "required": ["b"]},
            "b": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 2}}}),
    ] {
        assert!(of_schema(schema.clone()).contains("contains itself without end"), "{schema}");
    }
    // As many as there may be, each of which is only reached through the one before.
    let chain = |length: usize| {
        let next = |index| json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", index + 1)}});
        let mut definitions: Map<String, Value> =
            (0..length).map(|index| (format!("d{index}"), next(index))).collect();
        definitions.insert(format!("d{length}"), json!({"type": "integer"}));
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    assert!(compile(&Constraint::JsonSchema(chain(499))).is_ok());
    assert!(of_schema(chain(500)).contains("501 places that are referred to"));
    // Each twice the one before: as a tree it has 2^40 leaves.
    let double = |index| {
        let next = json!({"$ref": format!("#/$defs/d{}", index + 1)});
        (format!("d{index}"), json!({"type": "array", "prefixItems": [next.clone(), next], "items": false}))
    };
    let mut definitions: Map<String, Value> = (0..40).map(double).collect();
    definitions.insert("d40".into(), json!({"type": "integer"}));
    let _ = compile(&Constraint::JsonSchema(json!({"$ref": "#/$defs/d0", "$defs": definitions})));
}

/// Products of alternatives, and expressions whose automata are large: whatever the answer is, it comes.
#[test]
fn products() {
    let options: Vec<Value> =
        (0..60).map(|index| json!({"properties": {format!("p{index}"): {"const": index}}})).collect();
    let product =
        json!({"allOf": [{"anyOf": options}, {"anyOf": options}, {"anyOf": options}, {"anyOf": options}]});
    assert!(of_schema(product).contains("too complex"));
    let long: Vec<Value> = (0..200).map(|_| json!({"const": "x".repeat(100)})).collect();
    let _ = compile(&Constraint::JsonSchema(json!({"allOf": [{"enum": vec!["a"; 1000]}, {"anyOf": long}]})));
    for pattern in [
        "(.*a.{500}){3}",
        "(a|aa)*(b|bb)*.{0,3000}c",
        "(x+x+)+y",
        r"(\w+\s?){0,2000}",
        r"[\p{L}\p{N}]{1,3000}\p{Sc}",
        "(?:.{0,99}(?:a|b)){50}",
    ] {
        for constraint in [
            Constraint::Regex(pattern.into()),
            Constraint::JsonSchema(json!({"type": "string", "pattern": pattern})),
        ] {
            let Ok(grammar) = compile(&constraint) else { continue };
            // The masks of the first bytes come as well, or a fault does.
            let mut matcher = grammar.matcher();
            let _ = follow(&mut matcher, "\"aaaa aaaa aaaa aaaa aaaa aaaa");
        }
    }
    let rules: String =
        (0..900).map(|rule| format!("r{rule}: \"a\" r{} | \"b\" r{}\n", rule + 1, rule + 1)).collect();
    let _ = compile(&Constraint::Grammar(format!("start: r0\n{rules}r900: \"c\"\n")));
}

/// As many properties as there may be, all of them optional: which come next depends on which have been.
#[test]
fn properties() {
    let names = |count: usize| -> Map<String, Value> {
        (0..count).map(|index| (format!("p{index}"), json!({"type": "string"}))).collect()
    };
    let limit = COMPILER.limits().properties;
    let wide = crate::common::schema(json!({"type": "object", "properties": names(limit)}));
    for (text, allowed) in [
        ("{}", true),
        (r#"{"p0":"x","p1":"y"}"#, true),
        (r#"{"p3":"x","p999":"y"}"#, true),
        (r#"{"p999":"y","other":1}"#, true),
        (r#"{"p3":1}"#, false),
        (r#"{"p3":"x","p3":"x"}"#, false),
    ] {
        assert_eq!(crate::common::accepts(&wide, text), allowed, "{text}");
    }
    assert!(of_schema(json!({"properties": names(limit + 1)})).contains("1001 entries"));
}

/// A grammar that can be read in ever more ways ends its text by a fault, if at all, and never by a panic.
#[test]
fn ambiguity() {
    let grammar = "start: a\na: a a | \"x\" | \"xx\" | \"\"\n";
    let Ok(grammar) = compile(&Constraint::Grammar(grammar.into())) else { return };
    let mut matcher = grammar.matcher();
    let mut words = Vec::new();
    for _ in 0..300 {
        if matcher.mask(&mut words).is_err() || matcher.consume(u32::from(b'x')).is_err() {
            break;
        }
    }
}

/// Any text as any constraint: an answer, and if it is a grammar, texts.
#[test]
fn noise() {
    let mut random = Random(11);
    let pieces = [
        "start: ",
        "root ::= ",
        "\"a\"",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        "*",
        "+",
        "?",
        "\\",
        "/",
        "a",
        "1",
        ",",
        "\n",
        "é",
        "::=",
        ":",
        "%ignore ",
        "\"",
        "^",
        "$",
        ".",
        "-",
        "~",
        "<",
        ">",
        "@",
        "\u{0}",
        "x: ",
        "&",
        "_",
        "!",
        "->",
    ];
    for _ in 0..400 {
        let length = random.below(30);
        let text: String = (0..length).map(|_| *random.pick(&pieces)).collect();
        for constraint in [
            Constraint::Regex(text.clone()),
            Constraint::Grammar(text.clone()),
            Constraint::Grammar(format!("start: {text}")),
        ] {
            if let Ok(grammar) = compile(&constraint) {
                draw_if_possible(&grammar, &mut random);
            }
        }
    }
}

fn draw_if_possible(grammar: &pagoda_grammar::Grammar, random: &mut Random) {
    let mut matcher = grammar.matcher();
    let mut words = grammar.start().to_vec();
    for _ in 0..20 {
        let allowed: Vec<u32> = (0..256).filter(|&id| crate::common::has(&words, id)).collect();
        if allowed.is_empty()
            || matcher.consume(*random.pick(&allowed)).is_err()
            || matcher.mask(&mut words).is_err()
        {
            return;
        }
    }
}

#[test]
fn drawing_is_seen_to_work() {
    let grammar = compile(&Constraint::Regex("[a-c]{3}".into())).expect("an expression");
    let text = draw(&grammar, &mut Random(1), 10).expect("a text");
    assert_eq!(text.len(), 3);
}

/// How long the largest constraints take, those that are refused too; then some masks of each:
///
/// ```sh
/// cargo test --release -p pagoda-grammar --test suite -- --nocapture the_largest
/// ```
#[test]
fn the_largest() {
    for (name, constraint) in largest() {
        let start = std::time::Instant::now();
        let compiled = compile(&constraint);
        let took = start.elapsed();
        let outcome = match compiled {
            Err(error) => error.to_string(),
            Ok(grammar) => {
                let (mut random, mut matcher, mut words) =
                    (Random(1), grammar.matcher(), grammar.start().to_vec());
                let mut slowest = std::time::Duration::ZERO;
                let mut masks = 0;
                for _ in 0..200 {
                    let allowed: Vec<u32> = (0..256).filter(|&id| crate::common::has(&words, id)).collect();
                    let start = std::time::Instant::now();
                    if allowed.is_empty()
                        || matcher.consume(*random.pick(&allowed)).is_err()
                        || matcher.mask(&mut words).is_err()
                    {
                        break;
                    }
                    masks += 1;
                    slowest = slowest.max(start.elapsed());
                }
                assert!(masks > 0, "{name} was compiled and has no way on");
                format!("{masks} masks, the slowest in {slowest:?}")
            }
        };
        println!("{name:18} {:6} bytes {took:10.1?}  {outcome}", constraint.bytes());
    }
}
