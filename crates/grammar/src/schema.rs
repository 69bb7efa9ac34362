//! From a client's schema to one that holds supported keywords alone.
//!
//! Annotations are left out and references renamed, so that the library that compiles the result sees nothing that was not
//! looked at here.

use crate::error::{GrammarError, at_most, excerpt};
use crate::keyword::{FORMATS, Form, NUMBER_FORMATS, TYPES, form};
use crate::{GrammarLimits, reach, regex};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Write as _;

/// Where the definitions of the result are.
pub(crate) const DEFINITIONS: &str = "$defs";

/// The schema with supported keywords alone: every reference is `#/$defs/<number>`.
///
/// # Errors
/// Names the first keyword that is not supported or has a value that it cannot have, with its place; limits.
pub(crate) fn canonical(schema: &Value, limits: &GrammarLimits) -> Result<Value, GrammarError> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err(GrammarError::Syntax("a schema must be an object, or true or false".to_owned()));
    }
    let mut reader = Reader {
        root: schema,
        limits,
        path: "#".to_owned(),
        names: HashMap::new(),
        targets: Vec::new(),
        patterns: 0,
        divisors: 0,
        pattern_properties: 0,
        classes: 0,
    };
    let mut root = reader.schema(schema, 0)?;
    let mut definitions = Map::new();
    let mut read = 0;
    while let Some(&Target { ref path, schema }) = reader.targets.get(read) {
        reader.path = path.clone();
        let definition = reader.schema(schema, 0)?;
        definitions.insert(read.to_string(), definition);
        read += 1;
    }
    reach::check(&root, &definitions, reader.targets.iter().map(|target| target.path.as_str()))?;
    if let Value::Object(root) = &mut root
        && !definitions.is_empty()
    {
        root.insert(DEFINITIONS.to_owned(), Value::Object(definitions));
    }
    Ok(root)
}

/// A place of the schema that is referred to.
struct Target<'a> {
    path: String,
    schema: &'a Value,
}

struct Reader<'a> {
    root: &'a Value,
    limits: &'a GrammarLimits,
    /// JSON pointer of the schema that is being read.
    path: String,
    /// Index in `targets` by reference.
    names: HashMap<&'a str, usize>,
    targets: Vec<Target<'a>>,
    patterns: usize,
    divisors: usize,
    pattern_properties: usize,
    /// Classes of Unicode in all patterns.
    classes: usize,
}

impl<'a> Reader<'a> {
    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Value, GrammarError> {
        if depth >= self.limits.depth {
            let place = format!("the schema at {}", excerpt(&self.path));
            let (got, limit) = (depth as u64 + 1, self.limits.depth as u64);
            return Err(GrammarError::too_many(place, "levels", got, limit));
        }
        let entries = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(entries) => entries,
            other => {
                let problem = format!(
                    "{}: a schema must be an object, or true or false, got {}",
                    self.path,
                    short(other)
                );
                return Err(GrammarError::Syntax(problem));
            }
        };
        let mut read = Map::new();
        for (keyword, value) in entries {
            if let Some(value) = self.keyword(keyword, value, depth)? {
                read.insert(keyword.clone(), value);
            }
        }
        Ok(Value::Object(read))
    }

    /// The value of a keyword as the result has it; `None` leaves the keyword out.
    fn keyword(
        &mut self,
        keyword: &str,
        value: &'a Value,
        depth: usize,
    ) -> Result<Option<Value>, GrammarError> {
        let Some(form) = form(keyword) else { return self.unknown(keyword, value) };
        Ok(Some(match form {
            Form::Annotation | Form::Definitions => return Ok(None),
            Form::OnlyFalse if value == &Value::Bool(false) => return Ok(None),
            Form::OnlyFalse => return Err(self.unsupported(keyword, "leave it out")),
            Form::Unsupported(advice) => return Err(self.unsupported(keyword, advice)),
            Form::Reference => self.reference(value)?,
            Form::Inside => self.at(keyword, |reader| reader.schema(value, depth + 1))?,
            Form::Items if !value.is_array() => self.at(keyword, |reader| reader.schema(value, depth + 1))?,
            Form::Items | Form::InsideList | Form::InPlaceList => self.list(keyword, value, depth)?,
            Form::Named | Form::NamedByPattern => self.named(keyword, value, depth, form)?,
            Form::Values => self.values(keyword, value)?,
            Form::Value => {
                self.check_value(keyword, value, depth)?;
                value.clone()
            }
            Form::Type => self.types(value)?,
            Form::Names => self.required(keyword, value)?,
            Form::Count => self.count(keyword, value, self.limits.repetitions)?,
            Form::Length => self.count(keyword, value, self.limits.length)?,
            Form::Bound if value.is_number() || value.is_boolean() => {
                self.check_number(keyword, value)?;
                value.clone()
            }
            Form::Bound => {
                return Err(self.invalid(keyword, format!("must be a number, got {}", short(value))));
            }
            Form::Divisor => self.divisor(keyword, value)?,
            Form::Pattern => {
                let pattern = self.text(keyword, value)?;
                self.check_pattern(keyword, pattern)?;
                value.clone()
            }
            Form::Format if value.as_str().is_some_and(|name| NUMBER_FORMATS.contains(&name)) => {
                return Ok(None);
            }
            Form::Format => self.format(keyword, value)?,
        }))
    }

    /// Names that an extension may have say nothing about the text; any other might.
    fn unknown(&self, keyword: &str, value: &Value) -> Result<Option<Value>, GrammarError> {
        let names_itself = matches!(keyword, "$id" | "id") && self.path == "#" && value.is_string();
        if keyword.starts_with("x-") || names_itself {
            return Ok(None);
        }
        let advice = if keyword == "$id" {
            "leave it out, and refer to places of the schema with a JSON pointer"
        } else {
            "it is no keyword of JSON Schema; leave it out"
        };
        Err(self.unsupported(keyword, advice))
    }

    fn reference(&mut self, value: &'a Value) -> Result<Value, GrammarError> {
        let reference = self.text("$ref", value)?;
        let Some(pointer) =
            reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'))
        else {
            let advice =
                format!("a reference must be a place of the schema (#/...), got {:?}", excerpt(reference));
            return Err(self.unsupported("$ref", &advice));
        };
        let index = match self.names.get(reference) {
            Some(&index) => index,
            None => {
                let Some(schema) = self.root.pointer(pointer) else {
                    let problem =
                        format!("points to {:?}, which the schema does not have", excerpt(reference));
                    return Err(self.invalid("$ref", problem));
                };
                let index = self.targets.len();
                self.targets.push(Target { path: reference.to_owned(), schema });
                at_most("the schema", "places that are referred to", index + 1, self.limits.definitions)?;
                self.names.insert(reference, index);
                index
            }
        };
        Ok(format!("#/{DEFINITIONS}/{index}").into())
    }

    fn list(&mut self, keyword: &str, value: &'a Value, depth: usize) -> Result<Value, GrammarError> {
        let Value::Array(schemas) = value else {
            return Err(self.invalid(keyword, format!("must be a list of schemas, got {}", short(value))));
        };
        if schemas.is_empty() && keyword != "prefixItems" && keyword != "items" {
            return Err(self.invalid(keyword, "is empty; give at least one schema"));
        }
        let place = format!("{keyword} at {}", self.path);
        at_most(place, "schemas", schemas.len(), self.limits.alternatives)?;
        self.at(keyword, |reader| {
            let each = |(index, schema): (usize, &'a Value)| {
                reader.at(&index.to_string(), |reader| reader.schema(schema, depth + 1))
            };
            schemas.iter().enumerate().map(each).collect::<Result<Vec<_>, _>>().map(Value::Array)
        })
    }

    fn named(
        &mut self,
        keyword: &str,
        value: &'a Value,
        depth: usize,
        form: Form,
    ) -> Result<Value, GrammarError> {
        let Value::Object(schemas) = value else {
            return Err(self.invalid(keyword, format!("must be an object of schemas, got {}", short(value))));
        };
        let place = format!("{keyword} at {}", self.path);
        at_most(place, "entries", schemas.len(), self.limits.properties)?;
        let mut read = Map::new();
        for (name, schema) in schemas {
            self.check_text(keyword, name)?;
            if form == Form::NamedByPattern {
                self.check_pattern(keyword, name)?;
                self.pattern_properties += 1;
                let limit = self.limits.pattern_properties;
                at_most("the schema", "patternProperties", self.pattern_properties, limit)?;
            }
            let inner =
                self.at(keyword, |reader| reader.at(name, |reader| reader.schema(schema, depth + 1)))?;
            read.insert(name.clone(), inner);
        }
        Ok(Value::Object(read))
    }

    fn values(&self, keyword: &str, value: &Value) -> Result<Value, GrammarError> {
        let Value::Array(values) = value else {
            return Err(self.invalid(keyword, format!("must be a list of values, got {}", short(value))));
        };
        if values.is_empty() {
            return Err(self.invalid(keyword, "is empty; give at least one value"));
        }
        at_most(format!("{keyword} at {}", self.path), "values", values.len(), self.limits.choices)?;
        for value in values {
            self.check_value(keyword, value, 0)?;
        }
        Ok(value.clone())
    }

    /// A value that the text has to have, which is as deep and as long as a schema may be.
    fn check_value(&self, keyword: &str, value: &Value, depth: usize) -> Result<(), GrammarError> {
        if depth >= self.limits.depth {
            let place = format!("{keyword} at {}", self.path);
            return Err(GrammarError::too_many(place, "levels", depth as u64 + 1, self.limits.depth as u64));
        }
        match value {
            Value::String(text) => self.check_text(keyword, text),
            Value::Number(_) => self.check_number(keyword, value),
            Value::Array(items) => {
                items.iter().try_for_each(|item| self.check_value(keyword, item, depth + 1))
            }
            Value::Object(entries) => entries.iter().try_for_each(|(name, value)| {
                self.check_text(keyword, name)?;
                self.check_value(keyword, value, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    fn types(&self, value: &Value) -> Result<Value, GrammarError> {
        let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
        let holds = match value {
            Value::Array(types) => {
                !types.is_empty() && types.len() <= TYPES.len() && types.iter().all(is_type)
            }
            one => is_type(one),
        };
        if holds {
            return Ok(value.clone());
        }
        let problem = format!("must be one of {}, or a list of them, got {}", TYPES.join(", "), short(value));
        Err(self.invalid("type", problem))
    }

    fn required(&self, keyword: &str, value: &Value) -> Result<Value, GrammarError> {
        let Some(names) = value.as_array().filter(|names| names.iter().all(Value::is_string)) else {
            return Err(self.invalid(keyword, format!("must be a list of names, got {}", short(value))));
        };
        at_most(format!("{keyword} at {}", self.path), "names", names.len(), self.limits.properties)?;
        for name in names.iter().filter_map(Value::as_str) {
            self.check_text(keyword, name)?;
        }
        Ok(value.clone())
    }

    fn count(&self, keyword: &str, value: &Value, limit: u64) -> Result<Value, GrammarError> {
        // 3.0 is a count as good as 3.
        let whole = value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0);
        let count = value.as_u64().or_else(|| whole.map(|number| number as u64));
        match count {
            Some(count) if count <= limit => Ok(count.into()),
            Some(count) => Err(self.invalid(keyword, format!("is {count}; allowed: 0 to {limit}"))),
            None => {
                Err(self.invalid(keyword, format!("must be a whole number from 0, got {}", short(value))))
            }
        }
    }

    /// An automaton that divides has as many states as the divisor is large.
    fn divisor(&mut self, keyword: &str, value: &Value) -> Result<Value, GrammarError> {
        self.divisors += 1;
        at_most("the schema", "multipleOf", self.divisors, self.limits.divisors)?;
        if value.as_f64().is_some_and(|divisor| (1e-6..=1e3).contains(&divisor)) {
            return Ok(value.clone());
        }
        Err(self.invalid(keyword, format!("must be a number from 0.000001 to 1000, got {}", short(value))))
    }

    fn format(&mut self, keyword: &str, value: &Value) -> Result<Value, GrammarError> {
        let name = self.text(keyword, value)?;
        if FORMATS.contains(&name) {
            self.patterns += 1;
            at_most("the schema", "patterns and formats", self.patterns, self.limits.patterns)?;
            return Ok(value.clone());
        }
        let advice = format!("the format {:?} is not one of {}", excerpt(name), FORMATS.join(", "));
        Err(self.unsupported(keyword, &advice))
    }

    fn text<'v>(&self, keyword: &str, value: &'v Value) -> Result<&'v str, GrammarError> {
        let text = value
            .as_str()
            .ok_or_else(|| self.invalid(keyword, format!("must be a string, got {}", short(value))))?;
        self.check_text(keyword, text)?;
        Ok(text)
    }

    fn check_text(&self, keyword: &str, text: &str) -> Result<(), GrammarError> {
        at_most(format!("a text in {keyword} at {}", self.path), "bytes", text.len(), self.limits.text_bytes)
    }

    fn check_pattern(&mut self, keyword: &str, pattern: &str) -> Result<(), GrammarError> {
        let classes = regex::check(pattern, self.limits).map_err(|problem| self.invalid(keyword, problem))?;
        self.classes += classes;
        self.patterns += 1;
        at_most("the schema", "classes of Unicode in its patterns", self.classes, self.limits.classes)?;
        at_most("the schema", "patterns and formats", self.patterns, self.limits.patterns)
    }

    /// A number is compared digit by digit, of which it must not have hundreds.
    fn check_number(&self, keyword: &str, value: &Value) -> Result<(), GrammarError> {
        let size = value.as_f64().unwrap_or(0.0).abs();
        if size == 0.0 || (1e-12..=9e18).contains(&size) {
            return Ok(());
        }
        let problem =
            format!("is {}; allowed: 0, and numbers of 1e-12 to 9e18, of either sign", short(value));
        Err(self.invalid(keyword, problem))
    }

    /// Reads something one step further down.
    fn at<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        let escaped = step.replace('~', "~0").replace('/', "~1");
        write!(self.path, "/{escaped}").expect("a string takes any text");
        let value = read(self);
        self.path.truncate(before);
        value
    }

    fn invalid(&self, keyword: &str, problem: impl std::fmt::Display) -> GrammarError {
        GrammarError::invalid(keyword, &self.path, problem)
    }

    fn unsupported(&self, keyword: &str, advice: &str) -> GrammarError {
        GrammarError::unsupported(keyword, &self.path, advice)
    }
}

/// JSON pointer of the first schema that has one of `keywords`, and which it is.
pub(crate) fn find<'k>(schema: &Value, keywords: &[&'k str]) -> Option<(&'k str, String)> {
    fn search<'k>(value: &Value, keywords: &[&'k str], path: &mut String) -> Option<&'k str> {
        let entries: Vec<(String, &Value)> = match value {
            Value::Object(entries) => {
                if let Some(found) = keywords.iter().find(|keyword| entries.contains_key(**keyword)) {
                    return Some(found);
                }
                entries
                    .iter()
                    .map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value))
                    .collect()
            }
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
            }
            _ => return None,
        };
        for (step, value) in entries {
            let before = path.len();
            path.push('/');
            path.push_str(&step);
            let found = search(value, keywords, path);
            if found.is_some() {
                return found;
            }
            path.truncate(before);
        }
        None
    }
    let mut path = "#".to_owned();
    let found = search(schema, keywords, &mut path)?;
    Some((found, path))
}

fn short(value: &Value) -> String {
    excerpt(&value.to_string())
}
