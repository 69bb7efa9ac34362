//! What is asked of the server.

use crate::bench::Random;
use crate::text::Tokenizer;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::sync::Arc;

/// Random prompts.
#[derive(Clone, Debug)]
pub struct PromptSettings {
    /// Mean tokens of a prompt, without the prefix.
    pub input_len: u32,
    /// Mean tokens of an answer.
    pub output_len: u32,
    /// Tokens that all prompts share.
    pub prefix_len: u32,
    /// Lengths are drawn from `len * (1 ± range_ratio)`.
    pub range_ratio: f64,
    /// Seed.
    pub seed: u64,
    /// How tokens are written.
    pub form: PromptForm,
}

/// How the tokens of a prompt are written.
#[derive(Clone, Debug)]
pub enum PromptForm {
    /// Token ids of this range, which the completions endpoint takes.
    Ids(Range<u32>),
    /// The text of random tokens of a tokenizer.
    Text(Arc<Tokenizer>),
    /// Short words, about a token each, for servers whose tokenizer is not known.
    Words,
}

/// One request of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The prompt: a string, or an array of ids.
    pub prompt: Value,
    /// Its tokens, as far as the client can tell.
    pub prompt_tokens: u32,
    /// Most tokens of the answer.
    pub max_tokens: u32,
}

/// First id of [`PromptForm::Text`] that is drawn; lower ones are often bytes and special tokens.
const FIRST_TEXT_ID: u32 = 300;

impl PromptSettings {
    /// Request number `index`; it does not depend on the others.
    pub fn ask(&self, index: u64) -> Ask {
        let mut random = Random::new(self.seed, index + 1);
        let input = self.draw(&mut random, self.input_len);
        let max_tokens = self.draw(&mut random, self.output_len);
        // Stream 0 belongs to the prefix, which is the same in all.
        let mut shared = Random::new(self.seed, 0);
        let range = self.range();
        let ids: Vec<u32> = (0..self.prefix_len)
            .map(|_| shared.within(range.clone()))
            .chain((0..input).map(|_| random.within(range.clone())))
            .collect();
        Ask { prompt_tokens: ids.len() as u32, prompt: self.write(ids), max_tokens }
    }

    fn draw(&self, random: &mut Random, mean: u32) -> u32 {
        let mean = f64::from(mean);
        let low = (mean * (1.0 - self.range_ratio)).round().max(1.0) as u32;
        let high = (mean * (1.0 + self.range_ratio)).round().max(1.0) as u32;
        random.within(low..high.max(low) + 1)
    }

    fn range(&self) -> Range<u32> {
        match &self.form {
            PromptForm::Ids(range) => range.clone(),
            PromptForm::Text(tokenizer) => {
                let vocab = tokenizer.vocab_size();
                FIRST_TEXT_ID.min(vocab / 2)..vocab
            }
            PromptForm::Words => 0..WORDS.len() as u32,
        }
    }

    fn write(&self, ids: Vec<u32>) -> Value {
        match &self.form {
            PromptForm::Ids(_) => json!(ids),
            PromptForm::Text(tokenizer) => json!(tokenizer.decode(&ids, true)),
            PromptForm::Words => {
                let words: Vec<&str> = ids.into_iter().map(|id| WORDS[id as usize]).collect();
                json!(words.join(" "))
            }
        }
    }
}

/// Words that most vocabularies have as one token with the space before it.
const WORDS: [&str; 32] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "number", "night", "point", "home",
];

/// What goes into every request beside its prompt.
#[derive(Clone, Debug)]
pub struct BodySettings {
    /// Name of the model.
    pub model: String,
    /// Whether the endpoint takes messages.
    pub chat: bool,
    /// 0 is greedy.
    pub temperature: f64,
    /// Go on after the end-of-sequence token.
    pub ignore_eos: bool,
    /// More fields, which win.
    pub extra: Map<String, Value>,
}

impl BodySettings {
    /// The JSON that is posted.
    pub fn body(&self, ask: &Ask) -> Value {
        let mut body = json!({
            "model": self.model,
            "temperature": self.temperature,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let fields = body.as_object_mut().expect("an object was written");
        if self.chat {
            fields.insert("messages".into(), json!([{ "role": "user", "content": ask.prompt }]));
            fields.insert("max_completion_tokens".into(), json!(ask.max_tokens));
        } else {
            fields.insert("prompt".into(), ask.prompt.clone());
            fields.insert("max_tokens".into(), json!(ask.max_tokens));
        }
        if self.ignore_eos {
            fields.insert("ignore_eos".into(), json!(true));
        }
        fields.extend(self.extra.clone());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PromptSettings {
        PromptSettings {
            input_len: 10,
            output_len: 5,
            prefix_len: 4,
            range_ratio: 0.5,
            seed: 1,
            form: PromptForm::Ids(7..99),
        }
    }

    #[test]
    fn prompts_share_their_prefix_and_differ_after_it() {
        let prompts: Vec<Vec<u64>> = (0..50)
            .map(|i| {
                settings().ask(i).prompt.as_array().expect("ids").iter().filter_map(Value::as_u64).collect()
            })
            .collect();
        assert!(prompts.iter().all(|p| p[..4] == prompts[0][..4]));
        assert!(prompts[1..].iter().all(|p| p[4..] != prompts[0][4..]));
        assert!(prompts.iter().flatten().all(|id| (7..99).contains(id)));
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        assert!(
            lengths.iter().all(|len| (9..=19).contains(len)) && lengths.iter().any(|len| *len != lengths[0])
        );
        assert_eq!(settings().ask(3), settings().ask(3));
    }

    #[test]
    fn bodies_have_the_fields_of_their_endpoint_and_extra_fields_win() {
        let extra = json!({ "temperature": 0.5, "top_k": 3 }).as_object().expect("object").clone();
        let completions =
            BodySettings { model: "m".into(), chat: false, temperature: 0.0, ignore_eos: true, extra };
        let ask = Ask { prompt: json!("hi"), prompt_tokens: 1, max_tokens: 9 };
        let body = completions.body(&ask);
        assert_eq!((&body["prompt"], &body["max_tokens"]), (&json!("hi"), &json!(9)));
        assert_eq!((&body["temperature"], &body["top_k"]), (&json!(0.5), &json!(3)));
        assert_eq!(
            (&body["ignore_eos"], &body["stream_options"]["include_usage"]),
            (&json!(true), &json!(true))
        );
        let chat = BodySettings { chat: true, ignore_eos: false, ..completions }.body(&ask);
        assert_eq!(chat["messages"][0]["content"], "hi");
        assert_eq!(chat["max_completion_tokens"], 9);
        assert!(chat.get("ignore_eos").is_none() && chat.get("prompt").is_none());
    }
}
