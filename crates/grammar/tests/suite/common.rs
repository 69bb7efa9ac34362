//! A vocabulary of bytes, and texts drawn at random under a grammar.

use pagoda_grammar::{
    Constraint, Grammar, GrammarCompiler, GrammarError, GrammarLimits, Matcher, Vocabulary,
};
use serde_json::Value;
use std::sync::LazyLock;

/// Ends a text.
pub(crate) const EOS: u32 = 256;

pub(crate) static COMPILER: LazyLock<GrammarCompiler> = LazyLock::new(|| {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let vocabulary = Vocabulary::new(257, |id| bytes.get(id as usize).map(<[u8; 1]>::as_slice), &[EOS]);
    GrammarCompiler::new(vocabulary.expect("a vocabulary"), GrammarLimits::default()).expect("a compiler")
});

pub(crate) fn compile(constraint: &Constraint) -> Result<Grammar, GrammarError> {
    COMPILER.compile(constraint)
}

pub(crate) fn schema(schema: Value) -> Grammar {
    let shown = schema.to_string();
    compile(&Constraint::JsonSchema(schema)).unwrap_or_else(|error| panic!("{shown}: {error}"))
}

/// The message with which a constraint is refused.
pub(crate) fn refusal(constraint: &Constraint) -> String {
    compile(constraint).expect_err("the constraint is refused").to_string()
}

pub(crate) fn has(words: &[u32], id: u32) -> bool {
    words[id as usize / 32] >> (id % 32) & 1 == 1
}

/// Whether the whole text satisfies the grammar.
pub(crate) fn accepts(grammar: &Grammar, text: &str) -> bool {
    follow(&mut grammar.matcher(), text).is_some_and(|words| has(&words, EOS))
}

/// The mask after `text`; `None` if it is not let through.
pub(crate) fn follow(matcher: &mut Matcher, text: &str) -> Option<Vec<u32>> {
    let mut words = Vec::new();
    matcher.mask(&mut words).ok()?;
    for byte in text.bytes() {
        if !has(&words, byte.into()) {
            return None;
        }
        matcher.consume(byte.into()).expect("an allowed token is taken in");
        matcher.mask(&mut words).ok()?;
    }
    Some(words)
}

/// A small generator of random numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A text drawn under the grammar, with a liking for what closes; `None` if it has no end within `longest` bytes.
pub(crate) fn draw(grammar: &Grammar, random: &mut Random, longest: usize) -> Option<String> {
    let mut matcher = grammar.matcher();
    let mut words = grammar.start().to_vec();
    let mut text = Vec::new();
    while text.len() <= longest {
        let allowed: Vec<u32> = (0..=EOS).filter(|&id| has(&words, id)).collect();
        let hurry = text.len() > longest / 4;
        let token = choose(&allowed, random, hurry);
        if token == EOS {
            return Some(String::from_utf8(text).expect("every text is UTF-8"));
        }
        text.push(u8::try_from(token).expect("a byte"));
        matcher.consume(token).expect("an allowed token is taken in");
        matcher
            .mask(&mut words)
            .unwrap_or_else(|_| panic!("stuck after {:?}", String::from_utf8_lossy(&text)));
    }
    None
}

fn choose(allowed: &[u32], random: &mut Random, hurry: bool) -> u32 {
    let among = |set: &[u8]| -> Vec<u32> {
        let is_in = |&id: &u32| id == EOS || u8::try_from(id).is_ok_and(|byte| set.contains(&byte));
        allowed.iter().copied().filter(is_in).collect()
    };
    let closing = among(b"\"]}");
    if !closing.is_empty() && random.chance(if hurry { 90 } else { 25 }) {
        return *random.pick(&closing);
    }
    // White space, exponents and escapes without end would make long texts that say nothing.
    let plain: Vec<u32> =
        allowed.iter().copied().filter(|&id| !(id < 33 || id == 0x7f || id == u32::from(b'\\'))).collect();
    let plain: Vec<u32> = if plain.len() < 40 {
        plain
            .into_iter()
            .filter(|&id| id != u32::from(b'e') && id != u32::from(b'E') || allowed.len() < 4)
            .collect()
    } else {
        plain
    };
    if plain.is_empty() || random.chance(3) { *random.pick(allowed) } else { *random.pick(&plain) }
}
