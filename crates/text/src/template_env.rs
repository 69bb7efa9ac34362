//! The Jinja environment that `transformers` gives to chat templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use crate::template::TemplateLimits;
use crate::{generation_tag, python_json, python_str};

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
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    set_limits(&mut environment, limits);
    environment
}

pub(crate) fn set_limits(environment: &mut Environment<'static>, limits: &TemplateLimits) {
    environment.set_fuel(Some(limits.instructions));
    environment.set_recursion_limit(limits.recursion);
}

/// Compiles a template under `name`.
pub(crate) fn add(environment: &mut Environment<'static>, name: &str, source: &str) -> Result<(), Error> {
    environment.add_template_owned(name.to_owned(), generation_tag::as_scopes(source))
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// In Python everything with a length and an index is one: texts and dictionaries too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}
