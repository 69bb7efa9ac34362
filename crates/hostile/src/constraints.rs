//! Constraints, from what a client writes to the masks of a text.

use crate::served::TOKENIZER;
use crate::split_kind;
use pagoda_grammar::{Constraint, GrammarCompiler, GrammarLimits, Vocabulary};
use std::sync::LazyLock;

/// Tokens of a text that is drawn.
const LONGEST: usize = 40;

static COMPILER: LazyLock<GrammarCompiler> = LazyLock::new(|| {
    let tokenizer = &TOKENIZER;
    let bytes = |id| if tokenizer.is_special(id) { None } else { tokenizer.token_bytes(id) };
    let vocabulary = Vocabulary::new(tokenizer.vocab_size(), bytes, tokenizer.eos_ids());
    let vocabulary = vocabulary.expect("the vocabulary has an end");
    GrammarCompiler::new(vocabulary, GrammarLimits::default()).expect("the vocabulary can be arranged")
});

fn constraint(kind: usize, text: &str) -> Option<Constraint> {
    Some(match kind % 4 {
        0 => Constraint::JsonSchema(serde_json::from_str(text).ok()?),
        1 => Constraint::Regex(text.to_owned()),
        2 => Constraint::Grammar(text.to_owned()),
        _ => Constraint::Choice(text.lines().map(str::to_owned).collect()),
    })
}

/// A constraint is refused in words, or gives masks until its text ends or a limit is met.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, text)) = split_kind(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Some(constraint) = constraint(kind, text) else { return };
    let grammar = match COMPILER.compile(&constraint) {
        Ok(grammar) => grammar,
        Err(error) => {
            let message = error.to_string();
            assert!((1..2000).contains(&message.len()), "{message}");
            return;
        }
    };
    let (mut matcher, mut words) = (grammar.matcher(), grammar.start().to_vec());
    for step in 0..LONGEST {
        // Which token is drawn depends on the input alone.
        let turn = usize::from(data[step % data.len()]) + step;
        let allowed: Vec<u32> = (0..TOKENIZER.vocab_size())
            .filter(|id| words.get(*id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1))
            .filter(|id| !grammar.eos().contains(id))
            .collect();
        let Some(&token) = allowed.get(turn.checked_rem(allowed.len()).unwrap_or(0)) else { return };
        if matcher.consume(token).is_err() || matcher.mask(&mut words).is_err() {
            return;
        }
    }
}
