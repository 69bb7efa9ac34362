//! The texts by which a model shows what it says to itself, or is asked to fill a gap.

use crate::Tokenizer;

/// What stands around the reasoning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasoningMarks {
    /// Stands before it, in the answer or at the end of the prompt.
    pub open: &'static str,
    /// Stands after it.
    pub close: &'static str,
}

const fn pair(open: &'static str, close: &'static str) -> ReasoningMarks {
    ReasoningMarks { open, close }
}

/// Those that models were trained with.
const KNOWN: [ReasoningMarks; 7] = [
    pair("<think>", "</think>"),
    pair("[THINK]", "[/THINK]"),
    pair("<seed:think>", "</seed:think>"),
    pair("<|START_THINKING|>", "<|END_THINKING|>"),
    pair("<|begin_of_thought|>", "<|end_of_thought|>"),
    pair("<thinking>", "</thinking>"),
    pair("\u{25c1}think\u{25b7}", "\u{25c1}/think\u{25b7}"),
];

impl ReasoningMarks {
    /// The marks of a model: those that its chat template writes or takes out, else those that its vocabulary has.
    /// `None` if it has none.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let in_template =
            |marks: &&Self| tokenizer.chat_template().is_some_and(|template| template.mentions(marks.close));
        let in_vocabulary = |marks: &&Self| {
            [marks.open, marks.close].iter().all(|mark| tokenizer.token_to_id(mark).is_some())
        };
        KNOWN.iter().find(in_template).or_else(|| KNOWN.iter().find(in_vocabulary)).copied()
    }
}

/// Texts of the special tokens around a gap that the model is to fill: `prefix` before … `suffix` after … `middle`, and then the
/// model's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FimMarks {
    /// Stands before what is before the gap.
    pub prefix: &'static str,
    /// Stands before what is after it.
    pub suffix: &'static str,
    /// Stands before what belongs into it.
    pub middle: &'static str,
}

const fn gap(prefix: &'static str, suffix: &'static str, middle: &'static str) -> FimMarks {
    FimMarks { prefix, suffix, middle }
}

/// Those that models were trained with.
const GAPS: [FimMarks; 6] = [
    gap("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    gap("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    gap("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    gap("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    gap(
        "<\u{ff5c}fim\u{2581}begin\u{ff5c}>",
        "<\u{ff5c}fim\u{2581}hole\u{ff5c}>",
        "<\u{ff5c}fim\u{2581}end\u{ff5c}>",
    ),
    gap("\u{2581}<PRE>", "\u{2581}<SUF>", "\u{2581}<MID>"),
];

impl FimMarks {
    /// The marks that the vocabulary has; `None` if it has none.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let has = |marks: &&Self| {
            [marks.prefix, marks.suffix, marks.middle]
                .iter()
                .all(|mark| tokenizer.token_to_id(mark).is_some())
        };
        GAPS.iter().find(has).copied()
    }
}

/// Whether `text` is a mark of any model.
pub(crate) fn is_reasoning_mark(text: &str) -> bool {
    KNOWN.iter().any(|marks| text == marks.open || text == marks.close)
}
