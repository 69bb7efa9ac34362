//! The Jinja environment that `transformers` gives to chat templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::globals;

use crate::template::TemplateLimits;
use crate::{python_json, python_repr, python_str};

/// Marks an error that the template raised itself, with its message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Raised(pub(crate) String);

/// An environment without templates, loader or any access to the outside.
pub(crate) fn environment(limits: &TemplateLimits) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters do not conflict"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_str::method);
    environment.add_filter("tojson", python_json::filter);
    environment.add_filter("string", python_repr::str_of);
    environment.add_filter("indent", python_str::indent);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("wordcount", |text: String| text.split_whitespace().count());
    environment.add_filter("center", |text: String, width: Option<i64>| {
        python_str::padded(&text, "center", width.unwrap_or(80), " ")
    });
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("joiner", globals::joiner);
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.set_formatter(write_value);
    set_limits(&mut environment, limits);
    environment
}

pub(crate) fn set_limits(environment: &mut Environment<'static>, limits: &TemplateLimits) {
    environment.set_fuel(Some(limits.instructions));
    environment.set_recursion_limit(limits.recursion);
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// In Python everything with a length and an index is one: texts, dictionaries and what is undefined, too.
fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined => true,
        ValueKind::Iterable => value.len().is_some(),
        _ => false,
    }
}

fn is_iterable(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), Seq | String | Map | Undefined | Iterable)
}

/// What is undefined has no items.
fn length(value: &Value) -> Result<usize, Error> {
    match value.len() {
        _ if value.is_undefined() => Ok(0),
        Some(length) => Ok(length),
        None => {
            let problem = format!("a value of type {} has no length", value.kind());
            Err(Error::new(ErrorKind::InvalidOperation, problem))
        }
    }
}

/// Prints values as Python does.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            out.write_str(&python_repr::str_of(value)?).map_err(Error::from)
        }
        _ => escape_formatter(out, state, value),
    }
}
