//! Bounds on what one constraint may be and may cost.

/// Bounds on one constraint. All but the last six are looked at before anything is compiled.
///
/// The costs are counts, not times: the same constraint gets the same answer on a busy machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Bytes of the constraint as it is written.
    pub bytes: usize,
    /// Nesting of a schema, and of groups in a regular expression or a grammar.
    pub depth: usize,
    /// Values of one `enum`, or choices.
    pub choices: usize,
    /// Bytes of one text in a schema: a name, a constant, a pattern.
    pub text_bytes: usize,
    /// Properties of one object.
    pub properties: usize,
    /// Schemas in one `anyOf`, `oneOf`, `allOf` or list of items.
    pub alternatives: usize,
    /// Places that `$ref` points to.
    pub definitions: usize,
    /// Regular expressions and formats in a schema.
    pub patterns: usize,
    /// Uses of `multipleOf` in a schema.
    pub divisors: usize,
    /// Regular expressions that name properties, in all of a schema: each is compared with the others of its object.
    pub pattern_properties: usize,
    /// Classes of Unicode (`\p`, and `\w` where it is one) in all regular expressions of a constraint.
    pub classes: usize,
    /// Rules of a grammar.
    pub rules: usize,
    /// Repetitions in a regular expression or a grammar, nested ones multiplied; items of an array; properties of an object.
    pub repetitions: u64,
    /// `minLength` and `maxLength`.
    pub length: u64,
    /// Work of compiling the regular expressions of a grammar, about 20 ns each.
    pub compile_fuel: u64,
    /// Symbols of a compiled grammar.
    pub symbols: usize,
    /// Items of the parser at one place of a text; an object has about four for each optional property that may come next.
    pub row_items: usize,
    /// Work on regular expressions for one mask, about 70 ns each.
    pub mask_fuel: u64,
    /// Items of the parser for one mask, about 50 ns each.
    pub mask_items: usize,
    /// States of one matcher's lexer, 1 to 2 kB each.
    pub lexer_states: usize,
}

impl Default for GrammarLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 10,
            depth: 64,
            choices: 1000,
            text_bytes: 4096,
            properties: 1000,
            alternatives: 256,
            definitions: 500,
            patterns: 200,
            divisors: 16,
            pattern_properties: 16,
            classes: 100,
            rules: 1000,
            repetitions: 10_000,
            length: 100_000,
            compile_fuel: 500_000,
            symbols: 100_000,
            row_items: 8_000,
            mask_fuel: 50_000,
            mask_items: 30_000,
            lexer_states: 20_000,
        }
    }
}
