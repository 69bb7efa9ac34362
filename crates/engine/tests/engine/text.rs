//! From tokens to text: stop strings, stop tokens, characters, deltas.

use crate::common::{EOS, Running, Setup, VOCAB, bytes, decode, prompt_for};
use pagoda_engine::{GenerateParams, RequestError, RequestResult, SessionEvent, TokenInfo};
use pagoda_sched::{CompletionReason, TokenId};

/// Takes all events of a request and checks them against its result.
fn streamed(engine: &Running, params: GenerateParams) -> (Vec<String>, Vec<TokenInfo>, RequestResult) {
    let mut session = engine.session(params);
    let (mut deltas, mut tokens) = (Vec::new(), Vec::new());
    loop {
        match session.next_blocking().expect("an end comes") {
            SessionEvent::Prompt(_) => panic!("nothing was asked of the prompt"),
            SessionEvent::Delta { text, tokens: more } => {
                deltas.push(text);
                tokens.extend(more);
            }
            SessionEvent::Finished(result) => {
                assert_eq!(session.next_blocking(), None);
                assert_eq!(deltas.concat(), result.text);
                let ids: Vec<_> = tokens.iter().map(|info| info.token).collect();
                assert_eq!(ids, result.token_ids);
                assert_eq!(result.tokens_generated as usize, ids.len());
                return (deltas, tokens, *result);
            }
            SessionEvent::Failed(error) => panic!("{error}"),
        }
    }
}

fn answer(script: &str, params: impl Fn() -> GenerateParams) -> RequestResult {
    let engine = Setup::saying(script).start();
    let (_, _, result) = streamed(&engine, params());
    engine.finish();
    result
}

fn stopping(stops: &[&str]) -> GenerateParams {
    let stop = stops.iter().map(|stop| (*stop).to_owned()).collect();
    GenerateParams { stop, ..prompt_for("x", 40) }
}

#[test]
fn a_stop_string_across_tokens_ends_the_text_before_it() {
    let result = answer("one two. STOP three", || stopping(&["STOP"]));
    assert_eq!(result.text, "one two. ");
    assert_eq!(result.reason, CompletionReason::StopString("STOP".to_owned()));
    assert_eq!(result.tokens_generated as usize, "one two. STOP".len(), "up to the token that completed it");
}

#[test]
fn a_stop_string_can_be_left_in_the_text() {
    let result = answer("one STOP two", || GenerateParams { include_stop: true, ..stopping(&["STOP"]) });
    assert_eq!(result.text, "one STOP");
}

#[test]
fn text_held_back_for_a_stop_string_comes_at_the_end() {
    let result = answer("one STO", || GenerateParams { max_tokens: Some(7), ..stopping(&["STOP"]) });
    assert_eq!(result.text, "one STO");
    assert_eq!(result.reason, CompletionReason::MaxTokens);
}

#[test]
fn a_stop_string_wins_over_the_limit_met_by_the_same_token() {
    let result = answer("one STOP", || GenerateParams { max_tokens: Some(8), ..stopping(&["STOP"]) });
    assert_eq!(result.reason, CompletionReason::StopString("STOP".to_owned()));
    assert_eq!(result.text, "one ");
}

#[test]
fn stop_strings_are_not_looked_for_before_min_tokens() {
    let result = answer("STOP one STOP", || GenerateParams { min_tokens: Some(5), ..stopping(&["STOP"]) });
    assert_eq!(result.text, "STOP one ");
}

#[test]
fn the_stop_token_is_counted_and_not_printed() {
    let mut script = bytes("the end");
    script.push(EOS);
    for include_stop in [false, true] {
        let engine = Setup::default().script(script.clone()).start();
        let params = GenerateParams { ignore_eos: false, include_stop, ..prompt_for("x", 40) };
        let (_, _, result) = streamed(&engine, params);
        assert_eq!((result.text.as_str(), result.tokens_generated), ("the end", 8));
        assert_eq!(result.reason, CompletionReason::Eos);
        engine.finish();
    }
}

#[test]
fn a_stop_token_of_the_request_is_printed_only_on_demand() {
    let engine = Setup::saying("a.b.c").start();
    let ask = |include_stop| GenerateParams {
        stop_token_ids: vec![u32::from(b'.')],
        include_stop,
        ..prompt_for("x", 40)
    };
    assert_eq!(streamed(&engine, ask(false)).2.text, "a");
    assert_eq!(streamed(&engine, ask(true)).2.text, "a.");
    engine.finish();
}

#[test]
fn a_stop_token_ignored_for_min_tokens_is_text() {
    // The scripted model cannot avoid the stop token as a real one does, so its neighbour comes.
    let engine = Setup::saying("ab").start();
    let params = GenerateParams { stop_token_ids: bytes("b"), min_tokens: Some(3), ..prompt_for("x", 40) };
    let result = streamed(&engine, params).2;
    assert_eq!((result.text.as_str(), result.reason), ("acc", CompletionReason::Eos));
    engine.finish();
}

#[test]
fn special_tokens_are_printed_only_on_demand() {
    let engine = Setup::default().script(vec![u32::from(b'a'), EOS, u32::from(b'b')]).start();
    let ask = |skip| GenerateParams { skip_special_tokens: skip, ..prompt_for("x", 3) };
    assert_eq!(streamed(&engine, ask(None)).2.text, "ab");
    assert_eq!(streamed(&engine, ask(Some(true))).2.text, "ab");
    assert_eq!(streamed(&engine, ask(Some(false))).2.text, "a<|end|>b");
    engine.finish();
}

#[test]
fn characters_are_never_split_and_broken_ones_are_replaced() {
    let text = "héllo → 🎉 日本";
    let (engine, gate) = Setup::saying(text).start_gated();
    let length = text.len() as u32;
    let mut session = engine.session(prompt_for("x", length));
    let mut deltas = Vec::new();
    for _ in 0..length {
        gate.steps(1);
    }
    drop(gate);
    while let Some(event) = session.next_blocking() {
        if let SessionEvent::Delta { text, .. } = event {
            assert!(!text.contains('\u{fffd}'), "{text:?}");
            deltas.push(text);
        }
    }
    assert_eq!(deltas.concat(), text);
    engine.finish();
    let cut = answer("ab🎉", || prompt_for("x", 4));
    assert_eq!(cut.text, "ab\u{fffd}", "the end cut the character");
}

#[test]
fn log_probabilities_come_with_their_tokens() {
    let engine = Setup::saying("abc").start();
    let (_, tokens, _) = streamed(&engine, GenerateParams { logprobs: Some(2), ..prompt_for("x", 3) });
    for info in &tokens {
        assert_eq!(info.logprob, -0.25);
        let top: Vec<_> = info.top.iter().map(|top| top.token).collect();
        assert_eq!(top, [info.token, (info.token + 1) % VOCAB]);
    }
    assert_eq!(tokens.len(), 3);
    engine.finish();
}

#[test]
fn tokens_alone_come_at_once_and_without_text() {
    let (engine, gate) = Setup::saying("a🎉b").start_gated();
    let mut session = engine.session(GenerateParams { tokens_only: true, ..prompt_for("x", 6) });
    let mut tokens = Vec::new();
    while tokens.len() < 6 {
        gate.steps(1);
        match session.next_blocking() {
            Some(SessionEvent::Delta { text, tokens: more }) if text.is_empty() => tokens.extend(more),
            other => panic!("{other:?}"),
        }
    }
    drop(gate);
    let Some(SessionEvent::Finished(result)) = session.next_blocking() else { panic!("no end") };
    let ids: Vec<_> = tokens.iter().map(|info| info.token).collect();
    assert_eq!((result.text.as_str(), result.token_ids), ("", ids));
    engine.finish();
}

/// The text as defined: cut where the first stop string is complete, the longest of several.
fn naive(whole: &str, stops: &[String]) -> (String, Option<String>) {
    for end in 1..=whole.len() {
        let ending = stops.iter().filter(|stop| whole.as_bytes()[..end].ends_with(stop.as_bytes()));
        if let Some(stop) = ending.max_by_key(|stop| stop.len()) {
            return (whole[..end - stop.len()].to_owned(), Some(stop.clone()));
        }
    }
    (whole.to_owned(), None)
}

#[test]
fn streamed_text_is_the_result_is_the_whole_decoded_and_cut() {
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let pieces = ["a", "b", "ab", "é", "🎉", "日", " "];
    let mut stopped = 0;
    for round in 0..150 {
        let mut text = |most: usize| -> String {
            let count = 1 + random(most);
            (0..count).map(|_| pieces[random(pieces.len())]).collect()
        };
        let script = text(20);
        let stops: Vec<String> = (0..round % 3).map(|_| text(3)).collect();
        let tokens = script.len() as u32;
        let engine = Setup::saying(&script).start();
        let params = GenerateParams { stop: stops.clone(), ..prompt_for("x", tokens) };
        let (_, _, result) = streamed(&engine, params);
        let (expected, stop) = naive(&decode(&bytes(&script)), &stops);
        assert_eq!(result.text, expected, "script {script:?}, stops {stops:?}");
        stopped += u32::from(stop.is_some());
        let reason = stop.map_or(CompletionReason::MaxTokens, CompletionReason::StopString);
        assert_eq!(result.reason, reason, "script {script:?}, stops {stops:?}");
        engine.finish();
    }
    assert!(stopped > 20, "{stopped} of the scripts met a stop string");
}

#[test]
fn random_tokens_stream_as_they_decode() {
    let engine = Setup::default().start();
    for length in [1, 2, 7, 60, 200] {
        let (_, _, result) = streamed(&engine, prompt_for("bytes of no text", length));
        let tokens: &[TokenId] = &result.token_ids;
        assert_eq!(result.text, decode(tokens));
    }
    engine.finish();
}

#[test]
fn what_may_wait_to_be_read_is_bounded() {
    let engine = Setup::default().start();
    let asked = |max_unread| GenerateParams { max_unread, logprobs: Some(3), ..prompt_for("unread", 200) };
    let (unread, unbounded) = (engine.session(asked(Some(4_000))), engine.session(asked(None)));
    let read = streamed(&engine, asked(Some(1 << 20))).2;
    assert_eq!(read.tokens_generated, 200);
    while !unread.progress().completed {
        std::thread::yield_now();
    }
    let generated = unread.progress().generated;
    assert!(generated < 200, "{generated}");
    let (mut tokens, mut session) = (0, unread);
    let end = loop {
        match session.next_blocking().expect("an end comes") {
            SessionEvent::Delta { tokens: more, .. } => tokens += more.len() as u32,
            other => break other,
        }
    };
    assert_eq!(end, SessionEvent::Failed(RequestError::TooSlow));
    assert!(tokens > 10 && tokens < generated, "{tokens} of {generated} tokens were kept");
    assert_eq!(unbounded.result_blocking().unwrap().tokens_generated, 200);
    engine.finish();
}
