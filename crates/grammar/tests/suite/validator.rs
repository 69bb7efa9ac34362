//! A checker of JSON against the keywords that the corpus uses, written from the specification.

use serde_json::{Map, Value};

/// Whether `value` satisfies `schema`, whose references lead into `root`.
pub(crate) fn is_valid(schema: &Value, root: &Value, value: &Value) -> bool {
    let entries = match schema {
        Value::Bool(allowed) => return *allowed,
        Value::Object(entries) => entries,
        other => panic!("{other} is no schema"),
    };
    entries.iter().all(|(keyword, given)| holds(keyword, given, (entries, root), value))
}

fn holds(
    keyword: &str,
    given: &Value,
    (entries, root): (&Map<String, Value>, &Value),
    value: &Value,
) -> bool {
    let valid = |schema: &Value| is_valid(schema, root, value);
    let list = || given.as_array().expect("a list").iter();
    let number = || given.as_f64().expect("a number");
    match keyword {
        "$defs" | "title" | "description" => true,
        "$ref" => {
            let pointer = given.as_str().and_then(|text| text.strip_prefix('#')).expect("a reference");
            valid(root.pointer(pointer).expect("a place"))
        }
        "anyOf" => list().any(valid),
        "oneOf" => list().filter(|schema| valid(schema)).count() == 1,
        "allOf" => list().all(valid),
        "enum" => list().any(|one| equals(one, value)),
        "const" => equals(given, value),
        "type" => match given {
            Value::Array(types) => types.iter().any(|name| has_type(name, value)),
            name => has_type(name, value),
        },
        "minimum" => value.as_f64().is_none_or(|it| it >= number()),
        "maximum" => value.as_f64().is_none_or(|it| it <= number()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|it| it > number()),
        "exclusiveMaximum" => value.as_f64().is_none_or(|it| it < number()),
        "multipleOf" => value.as_f64().is_none_or(|it| (it / number()).fract() == 0.0),
        "minLength" => value.as_str().is_none_or(|it| it.chars().count() as f64 >= number()),
        "maxLength" => value.as_str().is_none_or(|it| it.chars().count() as f64 <= number()),
        "pattern" => value.as_str().is_none_or(|it| matches(given, it)),
        "format" => value.as_str().is_none_or(|it| is_format(given, it)),
        "minItems" => value.as_array().is_none_or(|it| it.len() as f64 >= number()),
        "maxItems" => value.as_array().is_none_or(|it| it.len() as f64 <= number()),
        "prefixItems" => value
            .as_array()
            .is_none_or(|it| list().zip(it).all(|(schema, item)| is_valid(schema, root, item))),
        "items" => {
            let before = entries.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            value.as_array().is_none_or(|it| it.iter().skip(before).all(|item| is_valid(given, root, item)))
        }
        "minProperties" => value.as_object().is_none_or(|it| it.len() as f64 >= number()),
        "maxProperties" => value.as_object().is_none_or(|it| it.len() as f64 <= number()),
        "required" => value
            .as_object()
            .is_none_or(|it| list().all(|name| it.contains_key(name.as_str().expect("a name")))),
        "properties" => value.as_object().is_none_or(|it| {
            let named = given.as_object().expect("schemas").iter();
            named
                .filter_map(|(name, schema)| Some((schema, it.get(name)?)))
                .all(|(schema, inner)| is_valid(schema, root, inner))
        }),
        "additionalProperties" => value.as_object().is_none_or(|it| {
            let named = entries.get("properties").and_then(Value::as_object);
            let others = it.iter().filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)));
            others.into_iter().all(|(_, inner)| is_valid(given, root, inner))
        }),
        other => panic!("the checker does not know {other}"),
    }
}

/// Numbers are equal by value: 3 and 3.0 are one.
fn equals(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equals(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| equals(one, other)))
        }
        _ => one == other,
    }
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// The expressions of the corpus, by hand.
pub(crate) const PATTERNS: [&str; 4] = ["^[a-z]{2,4}$", "^[A-Z][0-9]{3}-[0-9]$", "^(red|green|blue)$", "ab"];

fn matches(pattern: &Value, text: &str) -> bool {
    let bytes = text.as_bytes();
    let index = PATTERNS.iter().position(|known| pattern == known).expect("a known expression");
    match index {
        0 => (2..=4).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_lowercase),
        1 => {
            bytes.len() == 6
                && bytes[0].is_ascii_uppercase()
                && bytes[1..4].iter().all(u8::is_ascii_digit)
                && bytes[4] == b'-'
                && bytes[5].is_ascii_digit()
        }
        2 => ["red", "green", "blue"].contains(&text),
        _ => text.contains("ab"),
    }
}

/// The formats of the corpus.
pub(crate) const FORMATS: [&str; 4] = ["date", "time", "ipv4", "uuid"];

fn is_format(format: &Value, text: &str) -> bool {
    let numbers = |separator: char| -> Vec<Option<u32>> {
        text.split(separator)
            .map(|part| part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit())))
            .collect()
    };
    let within =
        |number: Option<u32>, low: u32, high: u32| number.is_some_and(|it| (low..=high).contains(&it));
    match format.as_str().expect("a format") {
        "date" => {
            let parts = numbers('-');
            text.len() == 10
                && parts.len() == 3
                && within(parts[1], 1, 12)
                && within(parts[2], 1, 31)
                && parts[0].is_some()
        }
        "time" => {
            let hour = text.get(..2).and_then(|hour| hour.parse().ok());
            text.len() >= 9 && within(hour, 0, 23) && text.as_bytes()[2] == b':'
        }
        "ipv4" => {
            let parts = numbers('.');
            parts.len() == 4 && parts.iter().all(|&part| within(part, 0, 255))
        }
        "uuid" => {
            let lengths: Vec<usize> = text.split('-').map(str::len).collect();
            lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        }
        other => panic!("{other} is not in the corpus"),
    }
}
