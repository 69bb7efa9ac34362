//! Constraints of as much as may be: what the limits of counts amount to.

use pagoda_grammar::Constraint;
use serde_json::{Map, Value, json};

/// A schema inside `levels` others.
pub(crate) fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({"type": "integer"}), |inner, _| json!({"type": "array", "items": inner}))
}

/// All of them, by name.
pub(crate) fn largest() -> Vec<(&'static str, Constraint)> {
    [objects(), schemas(), texts()].concat()
}

/// Schemas of objects of as much as may be, by name.
fn objects() -> Vec<(&'static str, Constraint)> {
    let properties = |count: usize, schema: &dyn Fn(usize) -> Value| {
        let entries: Map<String, Value> =
            (0..count).map(|index| (format!("p{index}"), schema(index))).collect();
        Constraint::JsonSchema(json!({"type": "object", "properties": entries}))
    };
    vec![
        ("strings", properties(1000, &|_| json!({"type": "string"}))),
        ("half as many", properties(500, &|_| json!({"type": "string"}))),
        ("a quarter", properties(250, &|_| json!({"type": "string"}))),
        ("lengths", properties(1000, &|index| json!({"type": "string", "maxLength": 90_000 + index}))),
        (
            "ranges",
            properties(
                700,
                &|index| json!({"type": "integer", "minimum": index, "maximum": 123_456_789_012_345_678_u64 + index as u64}),
            ),
        ),
        (
            "fractions",
            properties(
                600,
                &|index| json!({"type": "number", "minimum": -0.000_123_456_789, "maximum": 9e18 - 1e6 * index as f64}),
            ),
        ),
        (
            "multiples",
            properties(16, &|index| json!({"type": "integer", "minimum": 0, "multipleOf": 983 + index})),
        ),
        (
            "formats",
            properties(
                200,
                &|index| json!({"type": "string", "format": (["email", "uri", "ipv6", "duration"][index % 4]), "minLength": index}),
            ),
        ),
        (
            "patterns",
            properties(
                200,
                &|index| json!({"type": "string", "pattern": format!("^(a|b{index})*[a-z]{{1,99}}.*c$"), "maxLength": 500}),
            ),
        ),
        (
            "classes",
            properties(
                30,
                &|index| json!({"type": "string", "pattern": format!(r"^[\p{{L}}]+[\p{{N}}]{{{index}}}\w$"), "maxLength": 50}),
            ),
        ),
    ]
}

/// Other schemas of as much as may be, by name.
fn schemas() -> Vec<(&'static str, Constraint)> {
    let list = |keyword: &str, schemas: Vec<Value>| Constraint::JsonSchema(json!({keyword: schemas}));
    let object = |index: usize| json!({"type": "object", "properties": {"kind": {"const": index}, "a": {"type": "string"}}, "required": ["kind"]});
    let patterned: Map<String, Value> =
        (0..16).map(|index| (format!("^p{index}[a-z]+x{{0,99}}"), json!({}))).collect();
    let options: Vec<Value> =
        (0..60).map(|index| json!({"properties": {format!("p{index}"): {"const": index}}})).collect();
    vec![
        ("named by patterns", Constraint::JsonSchema(json!({"patternProperties": patterned}))),
        ("enum", list("enum", (0..1000).map(|index| json!(format!("{index:050}"))).collect())),
        ("enum of objects", list("enum", (0..1000).map(|index| json!({"a": index, "b": [index]})).collect())),
        ("anyOf", list("anyOf", (0..256).map(object).collect())),
        ("oneOf", list("oneOf", (0..256).map(object).collect())),
        (
            "product",
            Constraint::JsonSchema(
                json!({"allOf": [{"anyOf": options}, {"anyOf": options}, {"anyOf": options}]}),
            ),
        ),
        ("nested", Constraint::JsonSchema(nested(63))),
    ]
}

/// Expressions, choices and grammars of as much as may be, by name.
fn texts() -> Vec<(&'static str, Constraint)> {
    vec![
        ("expression", Constraint::Regex("(a|b|[c-e]{2,9}|f*g+)".repeat(2900))),
        ("repetitions", Constraint::Regex("([a-z]{1,9} ){1000}".repeat(3))),
        ("unicode", Constraint::Regex(r"[\p{L}\p{N}]{1,9}\P{Sc}".repeat(33))),
        (
            "choices",
            Constraint::Choice(
                (0..1000)
                    .map(|index| format!("choice {index} of a thousand with a text of its own"))
                    .collect(),
            ),
        ),
        (
            "rules",
            Constraint::Grammar(
                (0..999)
                    .map(|rule| format!("r{rule}: \"a\" r{} | \"b\" (r{} \"c\")*\n", rule + 1, rule + 1))
                    .collect::<String>()
                    + "r999: \"c\"\nstart: r0\n",
            ),
        ),
        (
            "terminals",
            Constraint::Grammar(
                (0..900)
                    .map(|rule| format!("T{rule}: /[a-{}]+{rule}/\n", ["x", "y", "z"][rule % 3]))
                    .collect::<String>()
                    + &format!(
                        "start: ({})*\n",
                        (0..900).map(|rule| format!("T{rule}")).collect::<Vec<_>>().join(" | ")
                    ),
            ),
        ),
    ]
}
