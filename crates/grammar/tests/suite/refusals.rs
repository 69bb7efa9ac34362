//! What cannot be enforced or read: the message names keyword and place.

use crate::common::refusal;
use pagoda_grammar::Constraint;
use serde_json::{Value, json};

fn of_schema(schema: Value) -> String {
    refusal(&Constraint::JsonSchema(schema))
}

fn check(schema: Value, message: &str) {
    let got = of_schema(schema.clone());
    assert!(got.starts_with(message), "{schema}: {got:?} is not {message:?}");
}

#[test]
fn keywords_that_cannot_be_enforced_are_named_with_their_place() {
    for keyword in [
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "propertyNames",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$anchor",
        "$dynamicRef",
        "$recursiveRef",
    ] {
        let schema = json!({"type": "object", "properties": {"a/b": {"type": "object", keyword: {}}}});
        check(schema, &format!("keyword {keyword:?} at #/properties/a~1b is not supported"));
    }
    check(json!({"items": {"uniqueItems": true}}), "keyword \"uniqueItems\" at #/items is not supported");
    check(json!({"anyOf": [{}, {"typo": 1}]}), "keyword \"typo\" at #/anyOf/1 is not supported");
    check(json!({"x": 1}), "keyword \"x\" at # is not supported");
    check(json!({"properties": {"a": {"$id": "b"}}}), "keyword \"$id\" at #/properties/a is not supported");
    check(
        json!({"$defs": {"d": {"items": {"format": "regex"}}}, "$ref": "#/$defs/d"}),
        "keyword \"format\" at #/$defs/d/items is not supported",
    );
    check(json!({"$ref": "https://example.com/schema"}), "keyword \"$ref\" at # is not supported");
    check(
        json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}),
        "keyword \"oneOf\" at # is not supported",
    );
    check(
        json!({"properties": {"a": {"type": "object", "properties": {"x": {}}, "minProperties": 2}}}),
        "keyword \"minProperties\" at #/properties/a is not supported",
    );
}

#[test]
fn values_that_a_keyword_cannot_have_are_named() {
    for (schema, message) in [
        (json!({"type": "text"}), "keyword \"type\" at # must be one of null, boolean"),
        (json!({"type": []}), "keyword \"type\" at # must be one of"),
        (json!({"items": 3}), "#/items: a schema must be an object"),
        (json!({"properties": []}), "keyword \"properties\" at # must be an object"),
        (json!({"required": "a"}), "keyword \"required\" at # must be a list of names"),
        (json!({"required": [1]}), "keyword \"required\" at # must be a list of names"),
        (json!({"anyOf": []}), "keyword \"anyOf\" at # is empty"),
        (json!({"enum": []}), "keyword \"enum\" at # is empty"),
        (json!({"enum": 3}), "keyword \"enum\" at # must be a list"),
        (json!({"minItems": -1}), "keyword \"minItems\" at # must be a whole number from 0, got -1"),
        (json!({"maxLength": "3"}), "keyword \"maxLength\" at # must be a whole number"),
        (json!({"minimum": "3"}), "keyword \"minimum\" at # must be a number"),
        (json!({"multipleOf": 0}), "keyword \"multipleOf\" at # must be a number from 0.000001 to 1000"),
        (json!({"maximum": 1e300}), "keyword \"maximum\" at # is 1e+300; allowed: 0, and numbers"),
        (json!({"enum": [1, [1e-30]]}), "keyword \"enum\" at # is 1e-30; allowed"),
        (json!({"pattern": 3}), "keyword \"pattern\" at # must be a string"),
        (json!({"pattern": "(?=a)", "type": "string"}), "keyword \"pattern\" at # cannot be compiled"),
        (
            json!({"items": {"pattern": "(", "type": "string"}}),
            "keyword \"pattern\" at #/items cannot be compiled",
        ),
        (json!({"$ref": "#/$defs/none"}), "keyword \"$ref\" at # points to \"#/$defs/none\", which"),
        (json!({"$ref": 3}), "keyword \"$ref\" at # must be a string"),
        (json!(3), "a schema must be an object"),
        (json!({"allOf": {}}), "keyword \"allOf\" at # must be a list of schemas"),
    ] {
        check(schema, message);
    }
}

#[test]
fn what_nothing_satisfies_is_told() {
    for schema in [
        json!(false),
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
        json!({"type": "string", "minLength": 3, "maxLength": 2}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"type": "object", "properties": {"a": false}, "required": ["a"]}),
    ] {
        let message = of_schema(schema.clone());
        assert!(message.starts_with("no text satisfies the constraint"), "{schema}: {message}");
    }
}

#[test]
fn texts_that_cannot_be_read_are_told() {
    for (constraint, part) in [
        (Constraint::Regex(String::new()), "empty"),
        (Constraint::Regex("a(".into()), "regex"),
        (Constraint::Regex("a(?=b)".into()), "look"),
        (Constraint::Choice(Vec::new()), "no choices"),
        (Constraint::Choice(vec!["a".into(), String::new()]), "choice 1 is empty"),
        (Constraint::Grammar("start: other".into()), "other"),
        (Constraint::Grammar("begin: \"a\"".into()), "start"),
        (Constraint::Grammar(String::new()), "start"),
        (Constraint::Grammar("root ::= item".into()), "item"),
        (Constraint::Grammar("start: %json {}".into()), "%json is not supported"),
    ] {
        let message = refusal(&constraint);
        assert!(message.contains(part), "{constraint:?}: {message:?} lacks {part:?}");
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
    }
}
