//! Schemas that no finite text satisfies because they refer to themselves.

use crate::GrammarError;
use crate::schema::DEFINITIONS;
use serde_json::{Map, Value};

/// Passes over the definitions before a schema counts as too tangled.
const MAX_PASSES: usize = 64;

/// Refuses references that lead back to where they stand, and values that contain themselves without end. `names` are the
/// places of the definitions in the client's schema.
pub(crate) fn check<'a>(
    root: &Value,
    definitions: &Map<String, Value>,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), GrammarError> {
    let definitions: Vec<&Value> = definitions.values().collect();
    let names: Vec<&str> = names.collect();
    check_circles(&definitions, &names)?;
    let mut finite = vec![false; definitions.len()];
    for pass in 0.. {
        let mut changed = false;
        // Both ways in turn, so that a chain is known after two passes however it is ordered.
        for step in 0..definitions.len() {
            let index = if pass % 2 == 0 { step } else { definitions.len() - 1 - step };
            if !finite[index] && is_finite(definitions[index], &finite) {
                finite[index] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
        if pass == MAX_PASSES {
            return Err(GrammarError::TooComplex("its references are too tangled".to_owned()));
        }
    }
    if is_finite(root, &finite) {
        return Ok(());
    }
    let endless = finite.iter().position(|finite| !finite).and_then(|index| names.get(index));
    Err(GrammarError::Unsatisfiable(match endless {
        Some(name) => format!("what {} describes contains itself without end", crate::error::excerpt(name)),
        None => "the schema allows no value".to_owned(),
    }))
}

/// Refuses a definition that is defined by itself, with nothing of the value between.
fn check_circles(definitions: &[&Value], names: &[&str]) -> Result<(), GrammarError> {
    let edges: Vec<Vec<usize>> = definitions
        .iter()
        .map(|definition| {
            let mut edges = Vec::new();
            in_place(definition, &mut edges);
            edges
        })
        .collect();
    // 0 is unseen, 1 is on the way, 2 is done.
    let mut state = vec![0_u8; edges.len()];
    for start in 0..edges.len() {
        let mut way = vec![(start, 0)];
        while let Some((node, next)) = way.last_mut() {
            if *next == 0 && state[*node] == 2 {
                way.pop();
                continue;
            }
            state[*node] = 1;
            let Some(&to) = edges[*node].get(*next) else {
                state[*node] = 2;
                way.pop();
                continue;
            };
            *next += 1;
            match state[to] {
                1 => {
                    return Err(GrammarError::invalid(
                        "$ref",
                        names[to],
                        "leads back to itself; remove the circle",
                    ));
                }
                0 => way.push((to, 0)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The definitions that a value has to satisfy, or may, at its own place.
fn in_place(schema: &Value, edges: &mut Vec<usize>) {
    let Value::Object(entries) = schema else { return };
    edges.extend(entries.get("$ref").and_then(index));
    for list in ["anyOf", "oneOf", "allOf"] {
        for schema in entries.get(list).and_then(Value::as_array).into_iter().flatten() {
            in_place(schema, edges);
        }
    }
}

/// Index of the definition that a reference of the canonical schema names.
fn index(reference: &Value) -> Option<usize> {
    reference.as_str()?.strip_prefix("#/")?.strip_prefix(DEFINITIONS)?.strip_prefix('/')?.parse().ok()
}

/// Whether a finite value can satisfy the schema, as far as the references that it needs are concerned.
fn is_finite(schema: &Value, finite: &[bool]) -> bool {
    let entries = match schema {
        Value::Bool(allowed) => return *allowed,
        Value::Object(entries) => entries,
        _ => return true,
    };
    let list = |name: &str| entries.get(name).and_then(Value::as_array);
    let any = |name: &str| list(name).is_none_or(|all| all.iter().any(|one| is_finite(one, finite)));
    let refers = entries.get("$ref").and_then(index).is_none_or(|index| finite[index]);
    let all = list("allOf").is_none_or(|all| all.iter().all(|one| is_finite(one, finite)));
    refers
        && all
        && any("anyOf")
        && any("oneOf")
        && (allows_other(entries) || inside_is_finite(entries, finite))
}

/// Whether the value may be neither object nor array, so that what it contains does not matter.
fn allows_other(entries: &Map<String, Value>) -> bool {
    let is_other = |name: &Value| name != "object" && name != "array";
    match entries.get("type") {
        Some(Value::Array(types)) => types.iter().any(is_other),
        Some(one) => is_other(one),
        None => true,
    }
}

/// Whether what an object or array must contain can be finite.
fn inside_is_finite(entries: &Map<String, Value>, finite: &[bool]) -> bool {
    let allows = |name: &str| match entries.get("type") {
        Some(Value::Array(types)) => types.iter().any(|one| one == name),
        one => one.is_none_or(|one| one == name),
    };
    let property = |name: &Value| {
        let named = name.as_str().and_then(|name| entries.get("properties")?.get(name));
        named.is_none_or(|schema| is_finite(schema, finite))
    };
    let object = || entries.get("required").and_then(Value::as_array).into_iter().flatten().all(property);
    let array = || {
        let fewest = entries.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let tuple = |name: &str| entries.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let prefix = [tuple("prefixItems"), tuple("items")].concat();
        let needed = prefix.iter().take(usize::try_from(fewest).unwrap_or(usize::MAX));
        let items = entries.get("items").filter(|items| !items.is_array() && fewest > prefix.len() as u64);
        needed.chain(items).all(|item| is_finite(item, finite))
    };
    (allows("object") && object()) || (allows("array") && array())
}
