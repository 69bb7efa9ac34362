//! Tokenizers of every family against `transformers`; `families/make.py` wrote the files and the answers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

#[path = "families/family.rs"]
mod family;
#[path = "families/folders.rs"]
mod folders;
#[path = "families/page.rs"]
mod page;

use std::fmt::Write;
use std::sync::Arc;

use family::{Family, families, ids, texts, vocabularies};
use pagoda_text::{Detokenizer, Special, Tokenizer};

fn for_each(test: impl Fn(&Family, &Arc<Tokenizer>, &mut Differences)) {
    let vocabularies = vocabularies();
    let mut differences = Differences::default();
    let families = families();
    assert!(families.len() >= 30, "{} families", families.len());
    for (name, family) in families {
        let tokenizer = Arc::new(family.load(&name, &vocabularies));
        differences.family = name;
        test(&family, &tokenizer, &mut differences);
    }
    assert!(differences.count == 0, "{} differ:\n{}", differences.count, differences.shown);
}

/// What is not as it should be; the first of many are shown.
#[derive(Default)]
struct Differences {
    family: String,
    count: usize,
    shown: String,
}

impl Differences {
    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, expected: &T) {
        if got == expected {
            return;
        }
        self.count += 1;
        if self.count <= 12 {
            let _ =
                writeln!(self.shown, "{}: {what}\n  expected {expected:?}\n  got      {got:?}", self.family);
        }
    }
}

fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[u32], skip_special: bool) -> String {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), skip_special);
    let mut text = String::new();
    ids.iter().for_each(|&id| detokenizer.push(id, &mut text));
    detokenizer.finish(&mut text);
    text
}

#[test]
fn texts_become_the_tokens_that_transformers_makes() {
    let texts = texts();
    for_each(|family, tokenizer, differences| {
        assert_eq!(family.tokens.len(), texts.len());
        for (text, spelled) in texts.iter().zip(&family.tokens) {
            let bare = ids(spelled);
            differences.check(text, &tokenizer.encode(text, Special::Skip).unwrap(), &bare);
            let [before, after] = &family.around;
            let whole = [before.as_slice(), &bare, after].concat();
            differences.check(text, &tokenizer.encode(text, Special::Add).unwrap(), &whole);
            differences.check(
                text,
                &tokenizer.encode_up_to(text, Special::Add, whole.len()).unwrap(),
                &whole,
            );
        }
    });
}

#[test]
fn tokens_become_the_texts_that_transformers_makes() {
    let texts = texts();
    for_each(|family, tokenizer, differences| {
        let mut expected: Vec<[String; 2]> = texts.iter().map(|text| [text.clone(), text.clone()]).collect();
        for (number, shown, skipped) in &family.decoded {
            for (slot, text) in expected[*number].iter_mut().zip([shown, skipped]) {
                if let Some(text) = text {
                    slot.clone_from(text);
                }
            }
        }
        let of_texts = family.tokens.iter().map(|spelled| ids(spelled)).zip(expected);
        let of_models = family
            .sequences
            .iter()
            .map(|(spelled, shown, skipped)| (ids(spelled), [shown.clone(), skipped.clone()]));
        for (ids, expected) in of_texts.chain(of_models) {
            for (skip_special, expected) in [false, true].into_iter().zip(expected) {
                let what = format!("{ids:?}, special tokens left out: {skip_special}");
                differences.check(&what, &tokenizer.decode(&ids, skip_special), &expected);
                differences.check(&what, &streamed(tokenizer, &ids, skip_special), &expected);
            }
        }
    });
}

#[test]
fn special_tokens_are_those_of_transformers() {
    for_each(|family, tokenizer, differences| {
        let special: Vec<u32> = (0..tokenizer.vocab_size()).filter(|&id| tokenizer.is_special(id)).collect();
        differences.check("special", &special, &family.special);
        differences.check("end", &tokenizer.eos_ids().first().copied(), &family.eos);
    });
}
