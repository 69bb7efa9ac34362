//! What each kind of constraint lets through.

use crate::common::{EOS, Random, accepts, compile, draw, follow, has, schema};
use pagoda_grammar::{Constraint, Grammar};
use serde_json::{Value, json};

fn regex(pattern: &str) -> Grammar {
    compile(&Constraint::Regex(pattern.to_owned())).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn grammar(text: &str) -> Grammar {
    compile(&Constraint::Grammar(text.to_owned())).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn choice(choices: &[&str]) -> Grammar {
    let choices = choices.iter().map(|&text| text.to_owned()).collect();
    compile(&Constraint::Choice(choices)).expect("a choice")
}

fn check(grammar: &Grammar, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(accepts(grammar, text), "{text:?} is let through");
    }
    for text in bad {
        assert!(!accepts(grammar, text), "{text:?} is not let through");
    }
}

#[test]
fn one_of_the_choices_even_where_one_begins_another() {
    let choices = choice(&["a", "ab", "b\"\\\n", "naïve", "\u{7f}"]);
    check(&choices, &["a", "ab", "b\"\\\n", "naïve", "\u{7f}"], &["", "b", "abc", "aa", "na"]);
    let mut matcher = choices.matcher();
    let words = follow(&mut matcher, "ab").expect("a choice");
    assert!(has(&words, EOS) && matcher.is_complete());
    assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 1, "nothing but the end may follow");
}

#[test]
fn what_an_expression_matches_as_a_whole() {
    check(&regex(r"\d{3}-\d{4}"), &["555-1234"], &["555-123", "x555-1234", "555-12345"]);
    check(&regex("^(yes|no)$"), &["yes", "no"], &["yesno", ""]);
    check(&regex("a*"), &["", "a", "aaa"], &["b"]);
    check(&regex("[a-z/]+"), &["a/b"], &["A"]);
    check(&regex("(?i)ok"), &["OK", "ok", "oK"], &["okk"]);
    check(&regex("é{2}"), &["éé"], &["é"]);
    check(&regex("a\nb|\"c\""), &["a\nb", "\"c\""], &["a", "c"]);
}

#[test]
fn texts_of_a_lark_grammar() {
    let sums = grammar("start: term (\"+\" term)*\nterm: NUMBER | \"(\" start \")\"\nNUMBER: /[0-9]+/\n");
    check(&sums, &["1", "1+22", "(1+2)+3", "((7))"], &["", "1+", "(1", "1)", "a"]);
}

#[test]
fn texts_of_a_gbnf_grammar() {
    let list = grammar("root ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= [0-9]{1,3} | root # nested\n");
    check(&list, &["[]", "[1,22]", "[[],[3,[4]]]"], &["[", "[,]", "[1234]"]);
    // The second choice is not lost to the first, which it begins with.
    check(&grammar("root ::= (\"a\" | \"ab\") \"bc\""), &["abc", "abbc"], &["abcc", "bc"]);
    check(&grammar("root ::= [^a-z\\n-]+ \"\\\"\""), &["AB\"", "é\""], &["a\"", "-\"", "A"]);
}

#[test]
fn values_of_a_schema() {
    let person = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0}},
        "required": ["name"],
        "additionalProperties": false,
    });
    check(
        &schema(person),
        &[r#"{"name":"Ann"}"#, r#"{ "name": "Ann", "age": 30 }"#, "{\n  \"name\": \"\"\n}"],
        &[
            r"{}",
            r#"{"name":"Annabel"}"#,
            r#"{"name":"Ann","age":-1}"#,
            r#"{"name":"Ann","x":1}"#,
            r#""Ann""#,
        ],
    );
    check(&schema(json!({"enum": ["a", 1, null, [2]]})), &[r#""a""#, "1", "null", "[2]"], &["2", r#""b""#]);
    check(&schema(json!({"type": ["integer", "null"]})), &["3", "null"], &["true", "3.5"]);
    check(
        &schema(json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2})),
        &["[true]", "[true, false]"],
        &["[]", "[true,true,true]"],
    );
    check(&schema(json!(true)), &["1", "{}", r#"{"a":[1]}"#], &["", "x"]);
}

#[test]
fn references_lead_anywhere_in_the_schema() {
    let tree = json!({
        "$defs": {"a/b~c": {"type": "object", "properties": {"left": {"$ref": "#/$defs/a~1b~0c"}}, "additionalProperties": false}},
        "$ref": "#/$defs/a~1b~0c",
    });
    check(&schema(tree), &["{}", r#"{"left":{"left":{}}}"#], &[r#"{"right":{}}"#]);
    let itself = json!({"type": "array", "items": {"$ref": "#"}});
    check(&schema(itself), &["[]", "[[],[[]]]"], &["[1]"]);
    let by_property = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}},
        "required": ["a", "b"],
        "additionalProperties": false,
    });
    check(&schema(by_property), &[r#"{"a":1,"b":2}"#], &[r#"{"a":1,"b":"2"}"#]);
}

#[test]
fn annotations_say_nothing() {
    let annotated = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/x", "title": "t",
        "description": "d", "default": 3, "examples": [1], "x-order": 7, "deprecated": true, "type": "integer",
        "uniqueItems": false, "format": "int64",
    });
    check(&schema(annotated), &["3"], &["\"3\""]);
}

#[test]
fn an_object_is_json_of_any_content() {
    let object = compile(&Constraint::JsonObject).expect("an object");
    check(&object, &["{}", r#"{"a": [1, {"b": null}]}"#], &["[]", "3", " {}"]);
    let mut random = Random(1);
    for _ in 0..20 {
        if let Some(text) = draw(&object, &mut random, 400) {
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(value.is_object());
        }
    }
}

#[test]
fn white_space_has_an_end() {
    let object = compile(&Constraint::JsonObject).expect("an object");
    let passes = |space: &str| follow(&mut object.matcher(), &format!("{{{space}\"a\"")).is_some();
    for space in ["", " ", "  ", "\t", "\n", "\r\n    ", &format!("\n{}", " ".repeat(24))] {
        assert!(passes(space), "{space:?}");
    }
    for space in ["   ", "\n\n", " \n", &format!("\n{}", " ".repeat(25))] {
        assert!(!passes(space), "{space:?}");
    }
}

#[test]
fn texts_of_one_grammar_do_not_meet() {
    let grammar = regex("(a|b){4}");
    let (mut one, mut other) = (grammar.matcher(), grammar.matcher());
    let after_one = follow(&mut one, "aaaa").expect("a text");
    let after_other = follow(&mut other, "bb").expect("a text");
    assert!(one.is_complete() && one.may_end(&after_one));
    assert!(!other.is_complete() && !other.may_end(&after_other));
    assert!(accepts(&grammar, "abab"), "the grammar is as it was");
}

#[test]
fn a_token_that_is_not_allowed_is_a_fault_of_its_text_alone() {
    let grammar = choice(&["yes", "no"]);
    let mut matcher = grammar.matcher();
    assert!(matcher.consume(u32::from(b'x')).is_err());
    assert!(matcher.mask(&mut Vec::new()).is_err(), "it stays so");
    assert!(!matcher.is_complete());
    let mut beyond = grammar.matcher();
    assert!(beyond.consume(1_000_000).is_err());
    assert!(accepts(&grammar, "yes"));
}

#[test]
fn special_tokens_are_no_text() {
    let any = regex("(?s:.*)");
    assert!(has(any.start(), EOS), "the text may end");
    let start = compile(&Constraint::Choice(vec!["a".into()])).expect("a choice");
    assert_eq!(start.start().iter().map(|word| word.count_ones()).sum::<u32>(), 1);
}
