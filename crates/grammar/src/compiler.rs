//! From constraints to grammars over a vocabulary.

use crate::error::{GrammarError, at_most, excerpt};
use crate::matcher::{Matcher, allows};
use crate::{Constraint, Grammar, GrammarLimits, Vocabulary, gbnf, lark, regex, schema};
use llguidance::ParserFactory;
use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::InferenceCapabilities;
use serde_json::{Value, json};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Stack of the thread that compiles: what is compiled goes as deep as a chain of references or properties is long.
const STACK_BYTES: usize = 128 << 20;

/// White space between the tokens of JSON: a few blanks, or a line break and an indentation. A weak model would fill a text
/// with it.
const WHITE_SPACE: &str = r"[\x20\x09]{1,2}|\x0D?\x0A[\x20\x09]{0,24}";

/// Compiles constraints for one model. Made once and shared.
pub struct GrammarCompiler {
    factory: ParserFactory,
    vocabulary: Vocabulary,
    limits: GrammarLimits,
}

impl GrammarCompiler {
    /// A compiler for texts of `vocabulary`. Takes some tenths of a second and tens of MB with a large one.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`] where the tokens cannot be arranged.
    pub fn new(vocabulary: Vocabulary, limits: GrammarLimits) -> Result<Self, GrammarError> {
        let made = catch_unwind(AssertUnwindSafe(|| {
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(vocabulary.env(), InferenceCapabilities::default(), &slices)
        }));
        let mut factory = made.map_err(|error| GrammarError::Vocabulary(first_line(&error.to_string())))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            initial_lexer_fuel: limits.compile_fuel,
            max_items_in_row: limits.row_items,
            step_lexer_fuel: limits.mask_fuel,
            step_max_items: limits.mask_items,
            max_lexer_states: limits.lexer_states,
            max_grammar_size: limits.symbols,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self { factory, vocabulary, limits })
    }

    /// The vocabulary that grammars are compiled for.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The limits that constraints have to keep.
    pub fn limits(&self) -> &GrammarLimits {
        &self.limits
    }

    /// Compiles `constraint` and computes the mask of an empty text. Runs for up to the fuel of the limits, so not on a
    /// thread that others wait for.
    ///
    /// # Errors
    /// Whatever is wrong with the constraint, or above a limit.
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar, GrammarError> {
        at_most("the constraint", "bytes", constraint.bytes(), self.limits.bytes)?;
        let thread = || {
            let worker =
                std::thread::Builder::new().name("pagoda-compile".to_owned()).stack_size(STACK_BYTES);
            std::thread::scope(|scope| {
                let running = worker.spawn_scoped(scope, || self.compile_here(constraint));
                running.ok().and_then(|running| running.join().ok())
            })
        };
        thread().unwrap_or_else(|| Err(GrammarError::TooComplex("it could not be compiled".to_owned())))
    }

    fn compile_here(&self, constraint: &Constraint) -> Result<Grammar, GrammarError> {
        let source = self.source(constraint)?;
        let parser = self.factory.create_parser(TopLevelGrammar::from_grammar(source));
        let parser = parser.map_err(|error| refusal(constraint, &format!("{error:#}")))?;
        let template = llguidance::Matcher::new(Ok(parser));
        let eos = Arc::clone(self.vocabulary.shared_eos());
        let Some(start) = probe(Matcher::new(template.deep_clone(), Arc::clone(&eos))) else {
            let problem = "its first tokens take too much work to find, or the model has none for them";
            return Err(GrammarError::TooComplex(problem.to_owned()));
        };
        Ok(Grammar::new(template, start, eos))
    }

    /// The constraint in the library's words.
    fn source(&self, constraint: &Constraint) -> Result<GrammarWithLexer, GrammarError> {
        let limits = &self.limits;
        Ok(match constraint {
            Constraint::JsonObject => {
                GrammarWithLexer::from_json_schema(with_options(json!({"type": "object"})))
            }
            Constraint::JsonSchema(given) => {
                GrammarWithLexer::from_json_schema(with_options(schema::canonical(given, limits)?))
            }
            Constraint::Regex(pattern) if pattern.is_empty() => {
                return Err(GrammarError::Syntax("the regular expression is empty".to_owned()));
            }
            Constraint::Regex(pattern) => {
                regex::check(pattern, limits)
                    .map_err(|problem| GrammarError::Syntax(format!("the regular expression {problem}")))?;
                GrammarWithLexer::from_regex(pattern)
            }
            Constraint::Choice(choices) => GrammarWithLexer::from_lark(lark::choices(choices, limits)?),
            Constraint::Grammar(text) => {
                let text = if gbnf::is_gbnf(text) { gbnf::to_lark(text)? } else { text.clone() };
                lark::check(&text, limits)?;
                GrammarWithLexer::from_lark(text)
            }
        })
    }
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").field("vocabulary", &self.vocabulary).finish_non_exhaustive()
    }
}

/// The mask of an empty text, if that and the one after some first token can be computed: what is too wide shows there.
fn probe(mut matcher: Matcher) -> Option<Vec<u32>> {
    let mut start = Vec::new();
    matcher.mask(&mut start).ok()?;
    let is_text = |id: &u32| allows(&start, *id) && !matcher.eos().contains(id);
    if let Some(token) = (0..start.len() as u32 * u32::BITS).find(is_text) {
        matcher.consume(token).and_then(|()| matcher.mask(&mut Vec::new())).ok()?;
    }
    Some(start)
}

/// The schema with what the library is to know besides.
fn with_options(schema: Value) -> Value {
    let mut entries = match schema {
        Value::Object(entries) => entries,
        Value::Bool(true) => serde_json::Map::new(),
        other => return other,
    };
    entries.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITE_SPACE}));
    Value::Object(entries)
}

/// What the library's refusal of a constraint means, with the place where the words let it be found.
fn refusal(constraint: &Constraint, words: &str) -> GrammarError {
    const LIMITS: [&str; 7] = ["fuel", "too big", "too large", "too many", "limit", "exceeded", "panic"];
    let line = first_line(words);
    if let Some(rest) = line.split("Unsatisfiable schema: ").nth(1) {
        return GrammarError::Unsatisfiable(rest.to_owned());
    }
    if let Constraint::JsonSchema(schema) = constraint
        && let Some(error) = in_schema(schema, &line)
    {
        return error;
    }
    if LIMITS.iter().any(|word| line.contains(word)) {
        // A panic may tell what of the library's inside, and of the client's text.
        let shown = if line.contains("panic") { "it could not be compiled".to_owned() } else { line };
        return GrammarError::TooComplex(shown);
    }
    GrammarError::Syntax(line)
}

/// The refusal with the first place in the schema that the words can mean.
fn in_schema(schema: &Value, line: &str) -> Option<GrammarError> {
    let unsupported = |keywords: &[&str], advice: &str| {
        let (keyword, path) = schema::find(schema, keywords)?;
        Some(GrammarError::unsupported(keyword, &path, advice))
    };
    if line.contains("oneOf") {
        return unsupported(&["oneOf"], "its schemas may overlap; use anyOf");
    }
    if line.contains("min/maxProperties") {
        let advice = "it needs every property of \"properties\" to be required";
        return unsupported(&["minProperties", "maxProperties"], advice);
    }
    if line.contains("circular references") {
        return unsupported(
            &["$ref"],
            "a reference that leads back to itself has no other keywords beside it",
        );
    }
    if line.contains("disjoint") || line.contains("patternProperties") {
        return unsupported(&["patternProperties"], &format!("the patterns must not overlap ({line})"));
    }
    let is_pattern = line.contains("regex") || line.contains("Regex");
    let (keyword, path) =
        schema::find(schema, &["pattern", "patternProperties", "format"]).filter(|_| is_pattern)?;
    Some(GrammarError::invalid(keyword, &path, format!("cannot be compiled: {line}")))
}

/// What the library has to say in one line: the reason that a regular expression cannot be read, or its first line.
fn first_line(words: &str) -> String {
    let reason = words.lines().find_map(|line| line.trim_start().strip_prefix("error: "));
    match reason {
        Some(reason) => excerpt(&format!("regex parse error: {reason}")),
        None => excerpt(words.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given")),
    }
}
