//! Stop strings against a naive search of the whole text, for any cut of it:
//! `PAGODA_CASES=1000000 cargo test --release -p pagoda-text --test stop` looks at so many.

#[path = "common/cases.rs"]
mod cases;

use std::sync::Arc;

use pagoda_text::{StopMatch, StopMatcher};
use proptest::prelude::*;

fn stops(list: &[&str]) -> Arc<[String]> {
    list.iter().map(|stop| (*stop).to_owned()).collect()
}

/// The shortest beginning of `text` that ends with a stop string; of those the longest stop string.
fn naive(text: &str, stops: &[String]) -> Option<(usize, usize)> {
    (1..=text.len()).find_map(|end| {
        let ending = |stop: &&String| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes());
        let longest = stops.iter().filter(ending).map(String::len).max()?;
        Some((end - longest, end))
    })
}

fn whole(text: &str, stops: &Arc<[String]>, include_stop: bool) -> (String, Option<StopMatch>) {
    let mut out = String::new();
    let mut matcher = StopMatcher::new(Arc::clone(stops), include_stop);
    let found = matcher.push(text, &mut out);
    matcher.finish(&mut out);
    (out, found)
}

/// Few letters, so that overlaps are frequent; one of them has three bytes.
fn text(longest: usize) -> impl Strategy<Value = String> {
    let letter = prop::sample::select(vec!['a', 'b', 'c', 'é', '国', '圀']);
    prop::collection::vec(letter, 0..longest).prop_map(|letters| letters.into_iter().collect())
}

fn cuts(text: &str, places: &[prop::sample::Index]) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut ends: Vec<usize> = places.iter().map(|place| place.index(letters.len() + 1)).collect();
    ends.push(letters.len());
    ends.sort_unstable();
    let mut start = 0;
    let piece = |end: usize| letters[std::mem::replace(&mut start, end)..end].iter().collect();
    ends.into_iter().map(piece).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases::cases(60_000)))]
    #[test]
    fn any_cut_gives_the_naive_answer_and_never_shows_a_stop_string(
        text in text(40),
        list in prop::collection::vec(text(6), 0..5),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        include_stop in any::<bool>(),
    ) {
        let list: Arc<[String]> = list.into();
        let bound = list.iter().map(|stop| stop.len().saturating_sub(1)).max().unwrap_or(0);
        let expected = naive(&text, &list);
        let mut matcher = StopMatcher::new(Arc::clone(&list), include_stop);
        let (mut out, mut seen, mut found) = (String::new(), 0, None);
        for piece in cuts(&text, &places) {
            seen += piece.len();
            found = matcher.push(&piece, &mut out);
            prop_assert!(matcher.held() <= bound);
            if found.is_some() {
                break;
            }
            prop_assert_eq!(out.len() + matcher.held(), seen, "text is out or held, nothing else");
            let shown = list.iter().find(|stop| !stop.is_empty() && out.contains(stop.as_str()));
            prop_assert_eq!(shown, None, "a stop string was let out");
        }
        matcher.finish(&mut out);
        match (found, expected) {
            (Some(stop), Some((start, end))) => {
                prop_assert_eq!(list[stop.index].as_str(), &text[start..end]);
                prop_assert_eq!(out.as_str(), &text[..if include_stop { end } else { start }]);
            }
            (None, None) => prop_assert_eq!(out, text),
            (found, expected) => prop_assert!(false, "found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_is_held_is_never_more_than_could_still_match(text in text(30), list in prop::collection::vec(text(6), 1..4)) {
        let list: Arc<[String]> = list.into();
        let mut matcher = StopMatcher::new(Arc::clone(&list), false);
        let mut out = String::new();
        for letter in text.chars() {
            if matcher.push(letter.encode_utf8(&mut [0; 4]), &mut out).is_some() {
                break;
            }
            let held = &text[out.len()..out.len() + matcher.held()];
            prop_assert!(held.is_empty() || list.iter().any(|stop| stop.starts_with(held)));
        }
    }
}

#[test]
fn a_stop_string_may_span_any_number_of_pieces() {
    let mut matcher = StopMatcher::new(stops(&["</answer>"]), false);
    let mut out = String::new();
    for piece in ["42 ", "<", "/an", "", "swe", "r", "> and more", " and more"] {
        if let Some(found) = matcher.push(piece, &mut out) {
            assert_eq!(found, StopMatch { index: 0 });
        }
    }
    matcher.finish(&mut out);
    assert_eq!(out, "42 ");
}

#[test]
fn a_false_start_is_released_at_once_and_at_the_end() {
    let mut matcher = StopMatcher::new(stops(&["\n\nUser:"]), false);
    let mut out = String::new();
    assert_eq!(matcher.push("one\n\nUs", &mut out), None);
    assert_eq!((out.as_str(), matcher.held()), ("one", 4));
    assert_eq!(matcher.push("eful", &mut out), None);
    assert_eq!((out.as_str(), matcher.held()), ("one\n\nUseful", 0));
    assert_eq!(matcher.push("\n", &mut out), None);
    matcher.finish(&mut out);
    assert_eq!(out, "one\n\nUseful\n");
}

#[test]
fn the_stop_that_completes_first_wins_then_the_longest() {
    assert_eq!(
        whole("xabcd", &stops(&["abcd", "bc"]), false),
        ("xa".to_owned(), Some(StopMatch { index: 1 }))
    );
    assert_eq!(
        whole("xabc", &stops(&["c", "bc", "zzz"]), false),
        ("xa".to_owned(), Some(StopMatch { index: 1 }))
    );
    assert_eq!(whole("aab", &stops(&["ab", "ab"]), false), ("a".to_owned(), Some(StopMatch { index: 0 })));
}

#[test]
fn include_stop_keeps_the_stop_string_and_nothing_after_it() {
    assert_eq!(whole("a END b", &stops(&["END"]), true), ("a END".to_owned(), Some(StopMatch { index: 0 })));
    assert_eq!(whole("a EN", &stops(&["END"]), true), ("a EN".to_owned(), None));
}

#[test]
fn without_stop_strings_text_passes_through() {
    assert_eq!(whole("text", &stops(&[]), false), ("text".to_owned(), None));
    assert_eq!(whole("text", &stops(&["", ""]), false), ("text".to_owned(), None));
}

#[test]
fn nothing_comes_after_the_end() {
    let mut matcher = StopMatcher::new(stops(&["b"]), false);
    let mut out = String::new();
    assert_eq!(matcher.push("ab", &mut out), Some(StopMatch { index: 0 }));
    assert_eq!(matcher.push("ab", &mut out), None);
    matcher.finish(&mut out);
    assert_eq!(out, "a");
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut first = StopMatcher::new(stops(&["ab"]), false);
    let (mut one, mut two) = (String::new(), String::new());
    first.push("a", &mut one);
    let mut second = first.clone();
    assert!(first.push("b", &mut one).is_some());
    assert!(second.push("c", &mut two).is_none());
    assert_eq!((one.as_str(), two.as_str()), ("", "ac"));
}
