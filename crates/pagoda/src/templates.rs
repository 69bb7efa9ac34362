//! Chat templates of well-known forms, for models that come without one.

/// Names that [`builtin`] knows.
pub const NAMES: [&str; 4] = ["chatml", "llama3", "mistral", "zephyr"];

/// The Jinja source of a form by its name.
pub fn builtin(name: &str) -> Option<&'static str> {
    match name {
        "chatml" => Some(CHATML),
        "llama3" => Some(LLAMA3),
        "mistral" => Some(MISTRAL),
        "zephyr" => Some(ZEPHYR),
        _ => None,
    }
}

const CHATML: &str = "{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

const LLAMA3: &str = "{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + (message.content | trim) + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}";

/// What the system says stands before the first thing that the user does.
const MISTRAL: &str = "{{- bos_token -}}
{%- set told = namespace(text='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- set told.text = message.content + '\\n\\n' -%}
{%- elif message.role == 'user' -%}{{ '[INST] ' + told.text + message.content + ' [/INST]' }}{%- set told.text = '' -%}
{%- else -%}{{ ' ' + message.content }}{{ eos_token }}{%- endif -%}
{%- endfor -%}";

const ZEPHYR: &str = "{%- for message in messages -%}
{{ '<|' + message.role + '|>\\n' + message.content }}{{ eos_token }}{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use pagoda_text::ChatInput;

    #[test]
    fn every_form_renders_a_conversation() {
        let messages = serde_json::json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ]);
        let expected = [
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n\
             <|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
            "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi\
             <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            "[INST] Be brief.\n\nHi [/INST] Hello[INST] Bye [/INST]",
            "<|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\nHello\n<|user|>\nBye\n<|assistant|>\n",
        ];
        for (name, expected) in NAMES.iter().zip(expected) {
            let template = builtin(name).expect("it is listed");
            let shape = "qwen2.5-0.5b".parse().expect("a shape");
            let prepared = Engine::builder().random(shape, 0).chat_template(template).prepare();
            let prepared = prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
            let template = prepared.model.tokenizer.chat_template().expect("it was given");
            let text =
                template.render(&ChatInput { add_generation_prompt: true, ..ChatInput::new(&messages) });
            let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
            let special = &["<s>", "</s>", "<|endoftext|>", "<|begin_of_text|>"];
            let text = special.iter().fold(text, |text, token| text.replace(token, ""));
            assert_eq!(text, expected, "{name}");
        }
        assert_eq!(builtin("alpaca"), None);
    }
}
