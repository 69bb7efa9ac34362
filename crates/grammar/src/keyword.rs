//! The keywords of JSON Schema, by the form of their values.

/// The form of a keyword's value, or that it is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Says nothing about the text; left out.
    Annotation,
    /// Schemas that only references reach.
    Definitions,
    /// A reference into the schema.
    Reference,
    /// A schema, of what lies inside the value.
    Inside,
    /// A schema, or a list of them.
    Items,
    /// A list of schemas, of what lies inside the value.
    InsideList,
    /// A list of schemas of the value itself.
    InPlaceList,
    /// Schemas by name.
    Named,
    /// Schemas by regular expression.
    NamedByPattern,
    /// A list of values.
    Values,
    /// Any value.
    Value,
    /// One of the types, or a list of them.
    Type,
    /// A list of names.
    Names,
    /// A count of items or properties.
    Count,
    /// A count of characters.
    Length,
    /// A number; in old drafts also a truth value.
    Bound,
    /// A number above 0 of moderate size.
    Divisor,
    /// A regular expression.
    Pattern,
    /// A name of [`FORMATS`].
    Format,
    /// Not supported unless the value is `false`.
    OnlyFalse,
    /// Not supported; the advice.
    Unsupported(&'static str),
}

/// The types of JSON Schema.
pub(crate) const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// The formats that are enforced.
pub(crate) const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// What OpenAPI says of numbers; it tells how they are stored.
pub(crate) const NUMBER_FORMATS: [&str; 6] = ["int32", "int64", "uint32", "uint64", "float", "double"];

/// How a keyword is read; `None` for one that JSON Schema does not have.
pub(crate) fn form(keyword: &str) -> Option<Form> {
    Some(match keyword {
        "$schema" | "$comment" | "title" | "description" | "default" | "examples" | "example"
        | "deprecated" | "readOnly" | "writeOnly" | "contentEncoding" | "contentMediaType" => {
            Form::Annotation
        }
        "$defs" | "definitions" => Form::Definitions,
        "$ref" => Form::Reference,
        "additionalProperties" | "additionalItems" => Form::Inside,
        "items" => Form::Items,
        "prefixItems" => Form::InsideList,
        "anyOf" | "oneOf" | "allOf" => Form::InPlaceList,
        "properties" => Form::Named,
        "patternProperties" => Form::NamedByPattern,
        "enum" => Form::Values,
        "const" => Form::Value,
        "type" => Form::Type,
        "required" => Form::Names,
        "minItems" | "maxItems" | "minProperties" | "maxProperties" => Form::Count,
        "minLength" | "maxLength" => Form::Length,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Form::Bound,
        "multipleOf" => Form::Divisor,
        "pattern" => Form::Pattern,
        "format" => Form::Format,
        "uniqueItems" | "nullable" => Form::OnlyFalse,
        "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveAnchor" | "$recursiveRef" => {
            Form::Unsupported("refer to places of the schema with $ref and a JSON pointer")
        }
        "not"
        | "if"
        | "then"
        | "else"
        | "contains"
        | "minContains"
        | "maxContains"
        | "propertyNames"
        | "dependencies"
        | "dependentRequired"
        | "dependentSchemas"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => Form::Unsupported("leave it out, or say the same with anyOf"),
        _ => return None,
    })
}
