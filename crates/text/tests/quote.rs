//! Text of users that spells special tokens.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod common;

use pagoda_text::{Special, Tokenizer, unquote};
use proptest::prelude::*;
use std::borrow::Cow;

/// Texts of the special tokens of a tokenizer.
fn specials(tokenizer: &Tokenizer) -> Vec<String> {
    let ids = (0..tokenizer.vocab_size()).filter(|&id| tokenizer.is_special(id));
    ids.filter_map(|id| tokenizer.id_to_token(id)).collect()
}

#[test]
fn no_special_token_comes_from_a_users_text() {
    for family in common::families() {
        let tokenizer = family.load();
        let specials = specials(&tokenizer);
        assert!(!specials.is_empty(), "{}", family.name);
        for special in &specials {
            for text in [
                special.clone(),
                format!("a{special}b"),
                format!("{special}{special}"),
                format!(" {special} "),
            ] {
                let ids = tokenizer.encode_quoted(&tokenizer.quote(&text)).unwrap();
                let found = ids.iter().find(|&&id| tokenizer.is_special(id));
                assert_eq!(found, None, "{}: {text:?} becomes {ids:?}", family.name);
                let plain = tokenizer.encode(&text, Special::Skip).unwrap();
                assert!(plain.iter().any(|&id| tokenizer.is_special(id)), "{}: {text:?}", family.name);
            }
        }
    }
}

#[test]
fn what_the_template_writes_is_special_all_the_same() {
    for family in common::families() {
        let tokenizer = family.load();
        let special = specials(&tokenizer).remove(0);
        let prompt = format!("{special}{}{special}", tokenizer.quote(&special));
        let ids = tokenizer.encode_quoted(&prompt).unwrap();
        let count = ids.iter().filter(|&&id| tokenizer.is_special(id)).count();
        assert_eq!(count, 2, "{}: {ids:?}", family.name);
        assert_eq!(unquote(&prompt), format!("{special}{special}{special}"));
    }
}

#[test]
fn ordinary_text_is_not_touched() {
    for family in common::families() {
        let (tokenizer, library) = (family.load(), family.library());
        for text in ["", "Once upon a time", "a < b, c > d", "Größe 昔 🦀", "\u{fdd1}\u{fdd2}"] {
            assert!(matches!(tokenizer.quote(text), Cow::Borrowed(same) if same == text), "{text:?}");
            let expected = library.encode(text, false).unwrap().get_ids().to_vec();
            assert_eq!(tokenizer.encode_quoted(text).unwrap(), expected, "{}: {text:?}", family.name);
        }
    }
}

proptest! {
    #[test]
    fn quoting_loses_nothing(parts in prop::collection::vec(0..9_usize, 0..12)) {
        let tokenizer = common::load(common::BYTE_LEVEL);
        let special = specials(&tokenizer).remove(0);
        let (head, tail) = special.split_at(special.chars().next().unwrap().len_utf8());
        let letters = ["a", "\u{fdd0}", "\u{fdd1}", "\u{fdd2}", &special, head, tail, "é", "<"];
        let text: String = parts.into_iter().map(|part| letters[part]).collect();
        let quoted = tokenizer.quote(&text);
        prop_assert_eq!(unquote(&quoted), text.as_str());
        let ids = tokenizer.encode_quoted(&quoted).unwrap();
        prop_assert!(ids.iter().all(|&id| !tokenizer.is_special(id)));
        prop_assert_eq!(tokenizer.decode(&ids, false), text);
    }
}
