//! Chat templates against what Python's Jinja2 renders for them; `templates/make_cases.py` writes the answers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

use std::time::{Duration, SystemTime};

use pagoda_text::{ChatInput, ChatTemplate, TemplateLimits, TextError, Tokenizer, TokenizerFiles};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Table {
    inputs: Inputs,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Inputs {
    now: u64,
    tokens: Map<String, Value>,
    conversations: Map<String, Value>,
    tools: Value,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    file: Option<String>,
    #[serde(default)]
    template: String,
    messages: String,
    tools: bool,
    prompt: bool,
    #[serde(default)]
    goes_on: bool,
    extra: Map<String, Value>,
    text: Option<String>,
    raises: Option<String>,
    #[serde(default)]
    fails: bool,
}

fn table() -> Table {
    serde_json::from_str(include_str!("templates/cases.json")).unwrap()
}

fn template(source: &str, tokens: &Map<String, Value>) -> Result<ChatTemplate, TextError> {
    let config = serde_json::to_vec(tokens).unwrap();
    let json = br#"{"model": {"type": "WordLevel", "vocab": {"<s>": 0, "</s>": 1}, "unk_token": "<s>"}}"#;
    let files = TokenizerFiles {
        tokenizer_json: json,
        tokenizer_config: Some(&config),
        chat_template: Some(source),
        ..TokenizerFiles::default()
    };
    let tokenizer = Tokenizer::from_files(&files).unwrap();
    ChatTemplate::new(source, tokenizer.special_tokens().clone())
}

impl Case {
    fn source(&self) -> String {
        match &self.file {
            Some(file) => {
                let path = format!("{}/tests/templates/{file}", env!("CARGO_MANIFEST_DIR"));
                std::fs::read_to_string(path).unwrap()
            }
            None => self.template.clone(),
        }
    }

    fn render(&self, inputs: &Inputs) -> Result<String, TextError> {
        template(&self.source(), &inputs.tokens)?.render(&ChatInput {
            messages: &inputs.conversations[&self.messages],
            tools: self.tools.then_some(&inputs.tools),
            add_generation_prompt: self.prompt,
            continue_final: self.goes_on,
            extra: Some(&self.extra),
            now: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(inputs.now)),
        })
    }

    /// How the answer differs from Python's, if it does.
    fn difference(&self, inputs: &Inputs) -> Option<String> {
        let answer = self.render(inputs);
        let equal = match &answer {
            Ok(text) => self.text.as_ref() == Some(text),
            Err(TextError::TemplateRaised { message }) => self.raises.as_ref() == Some(message),
            Err(_) => self.fails,
        };
        let expected = (&self.text, &self.raises);
        (!equal).then(|| {
            format!("{}\n  {}\n  expected {expected:?}\n  got      {answer:?}", self.name, self.template)
        })
    }
}

#[test]
fn every_case_renders_as_in_python() {
    let table = table();
    let differences: Vec<String> =
        table.cases.iter().filter_map(|case| case.difference(&table.inputs)).collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn plain(source: &str) -> Result<ChatTemplate, TextError> {
    template(source, &Map::new())
}

fn hi() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

fn error_of(source: &str) -> TextError {
    let messages = hi();
    plain(source).and_then(|template| template.render(&ChatInput::new(&messages))).unwrap_err()
}

/// What Jinja2 has and this does not is refused in words, never rendered differently.
#[test]
fn what_is_not_supported_says_so() {
    for (source, words) in [
        ("{{ '%s' % messages[0].role }}", "tried to use % operator"),
        ("{{ 'a' | truncate(1) }}", "truncate"),
        ("{{ 'a'.expandtabs() }}", "expandtabs"),
        ("{{ 'a'.casefold() }}", "casefold"),
        ("{{ lipsum() }}", "lipsum"),
        ("{% macro f() %}{% endmacro %}{{ f(1) }}", "too many arguments"),
        ("{% set l = [] %}{{ l.append(1) }}", "append"),
    ] {
        let message = error_of(source).to_string();
        assert!(message.contains(words), "{source}: {message}");
        assert!(message.starts_with("chat template `default`, line 1: "), "{message}");
    }
}

#[test]
fn errors_name_the_line() {
    let syntax = error_of("{{ 1 }}\n{{ 2 }}\n{% if %}");
    assert!(
        matches!(&syntax, TextError::TemplateSyntax { line: 3, template, .. } if template == "default"),
        "{syntax}"
    );
    let unclosed = error_of("\n{% for m in messages %}");
    assert!(matches!(&unclosed, TextError::TemplateSyntax { .. }), "{unclosed}");
    let run = error_of("{{ 1 }}\n\n\n{{ messages[0].content.more.less }}");
    assert!(matches!(&run, TextError::TemplateRender { line: 4, .. }), "{run}");
    let inside = error_of("{% macro f(x) %}\n{{ x + none }}\n{% endmacro %}\n\n{{ f(1) }}");
    assert!(matches!(&inside, TextError::TemplateRender { line: 2, .. }), "{inside}");
}

#[test]
fn an_exception_of_the_template_is_told_from_a_fault() {
    let error = error_of(
        "{% macro f() %}{% for x in [1] %}{{ raise_exception('no system role') }}{% endfor %}{% endmacro %}{{ f() }}",
    );
    assert_eq!(error, TextError::TemplateRaised { message: "no system role".to_owned() });
    assert_eq!(error.to_string(), "the chat template refuses this conversation: no system role");
    let lookalike = error_of("{{ nosuch('no system role') }}");
    assert!(matches!(lookalike, TextError::TemplateRender { .. }), "{lookalike}");
}

#[test]
fn limits_end_a_template_that_does_not_end() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    assert!(matches!(
        error_of(endless),
        TextError::TemplateLimit { limit: 1_000_000, unit: "instructions", .. }
    ));
    let long = "{% for a in range(999) %}{{ 'x' * 9999 }}{% endfor %}";
    assert!(matches!(
        error_of(long),
        TextError::TemplateLimit { limit: 4_194_304, unit: "bytes of output", .. }
    ));
    let in_macro =
        "{% macro f() %}{% for a in range(999) %}{{ 'x' * 9999 }}{% endfor %}{% endmacro %}{{ f() }}";
    assert!(matches!(error_of(in_macro), TextError::TemplateLimit { unit: "bytes of output", .. }));
    let endless_macro = "{% macro f() %}{% for a in range(99999) %}{{ loop.index }}{% endfor %}{% endmacro %}{% for b in range(99999) %}{% set x = f() %}{% endfor %}";
    assert!(matches!(error_of(endless_macro), TextError::TemplateLimit { unit: "instructions", .. }));
    for bomb in ["{{ 'x' * 999999999999 }}", "{{ [1] * 999999999999 }}", "{{ range(999999999999) | list }}"] {
        let error = error_of(bomb);
        assert!(matches!(error, TextError::TemplateRender { .. }), "{bomb}: {error}");
    }
    for width in ["'x'.ljust(999999999)", "'x'.zfill(999999999)", "'x' | center(999999999)"] {
        assert!(error_of(&format!("{{{{ {width} }}}}")).to_string().contains("exceeds 65536"), "{width}");
    }
}

#[test]
fn limits_are_exact_and_can_be_set() {
    let messages = hi();
    let limits = TemplateLimits { output_bytes: 5, ..TemplateLimits::default() };
    let render = |source: &str| plain(source).unwrap().with_limits(limits).render(&ChatInput::new(&messages));
    assert_eq!(render("{{ 'x' * 5 }}").unwrap(), "xxxxx");
    assert!(matches!(render("{{ 'x' * 6 }}"), Err(TextError::TemplateLimit { limit: 5, .. })));
    let limits = TemplateLimits { instructions: 50, ..TemplateLimits::default() };
    let loops = plain("{% for a in range(100) %}{{ a }}{% endfor %}").unwrap().with_limits(limits);
    assert!(matches!(
        loops.render(&ChatInput::new(&messages)),
        Err(TextError::TemplateLimit { limit: 50, .. })
    ));
}

#[test]
fn the_longest_conversation_that_is_accepted_renders() {
    let table = table();
    let roles = ["user", "assistant"].into_iter().cycle().take(2047);
    let messages: Value =
        roles.map(|role| json!({"role": role, "content": format!("I am the {role}.")})).collect();
    for file in
        table.cases.iter().filter_map(|case| case.file.as_ref()).collect::<std::collections::BTreeSet<_>>()
    {
        let path = format!("{}/tests/templates/{file}", env!("CARGO_MANIFEST_DIR"));
        let template = template(&std::fs::read_to_string(path).unwrap(), &table.inputs.tokens).unwrap();
        let input = ChatInput { now: Some(SystemTime::UNIX_EPOCH), ..ChatInput::new(&messages) };
        let text = template.render(&input).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(text.matches("I am the user.").count(), 1024, "{file}");
    }
}

/// Small threads, as a server's workers are: deep nesting must be an error, not the end of the process.
#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(6000), close.repeat(6000));
    let sources = [
        nested("{% if true %}", "{% endif %}"),
        nested("{% for x in [1] %}", "{% endfor %}"),
        format!("{{{{ {} }}}}", nested("(", ")")),
        format!("{{{{ {} }}}}", nested("[", "]")),
        format!("{{{{ {}1 }}}}", "not ".repeat(6000)),
        format!("{{{{ {}1 }}}}", "-".repeat(6000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(6000)),
        format!("{{{{ messages{} }}}}", "[0]".repeat(6000)),
        format!("{{{{ messages{} }}}}", ".a".repeat(900)),
        format!("{{{{ {}1 }}}}", "not ".repeat(990)),
        format!("{{{{ {}1{} }}}}", "-[".repeat(140), "]".repeat(140)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(250)),
        format!("{{{{ 'a'{} }}}}", " | upper".repeat(6000)),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f(n) %}{% for x in [n] %}{{ f(x) }}{% endfor %}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% macro f(n) %}{% call f(n) %}{% endcall %}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}".to_owned(),
    ];
    let run = move || {
        for source in &sources {
            let messages = hi();
            let shown = &source[..source.len().min(60)];
            match plain(source).and_then(|template| template.render(&ChatInput::new(&messages))) {
                Ok(text) => assert!(text.len() <= 8, "{shown}: {text}"),
                Err(error) => assert!(!matches!(error, TextError::TemplateRaised { .. }), "{shown}: {error}"),
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_template_reaches_nothing_outside() {
    for source in [
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ raise_exception.__globals__ }}",
        "{{ open('/etc/passwd').read() }}",
        "{{ env('HOME') }}",
    ] {
        let messages = hi();
        match plain(source).and_then(|template| template.render(&ChatInput::new(&messages))) {
            Ok(text) => assert!(text.is_empty(), "{source}: {text}"),
            Err(error) => assert!(!matches!(error, TextError::TemplateRaised { .. }), "{source}"),
        }
    }
}

#[test]
fn a_caller_cannot_shadow_what_the_server_sets() {
    let messages = hi();
    let template = plain("{{ messages | length }}{{ x }}").unwrap();
    for name in [
        "messages",
        "tools",
        "add_generation_prompt",
        "bos_token",
        "eos_token",
        "my_token",
        "additional_special_tokens",
        "raise_exception",
        "strftime_now",
        "range",
        "namespace",
        "dict",
    ] {
        let extra = json!({ name: [] });
        let input = ChatInput { extra: extra.as_object(), ..ChatInput::new(&messages) };
        let error = template.render(&input).unwrap_err();
        assert_eq!(error, TextError::ReservedVariable { name: name.to_owned() });
    }
    let extra = json!({"x": 7, "documents": [1]});
    let input = ChatInput { extra: extra.as_object(), ..ChatInput::new(&messages) };
    assert_eq!(template.render(&input).unwrap(), "17");
    assert_eq!(plain("{{ documents }}").unwrap().render(&input).unwrap(), "[1]");
}

#[test]
fn without_a_clock_the_template_falls_back() {
    let messages = hi();
    let template = plain("{{ strftime_now('%Y') if strftime_now is defined else 'some year' }}").unwrap();
    let input = ChatInput::new(&messages);
    assert_eq!(template.render(&input).unwrap(), "some year");
    let now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_400));
    assert_eq!(template.render(&ChatInput { now, ..input }).unwrap(), "2000");
}

fn tokenizer(config: &Value, chat_template: Option<&str>) -> Tokenizer {
    let config = config.to_string();
    Tokenizer::from_files(&TokenizerFiles {
        tokenizer_json: br#"{"model": {"type": "WordLevel", "vocab": {"<s>": 0}, "unk_token": "<s>"}}"#,
        tokenizer_config: Some(config.as_bytes()),
        chat_template,
        ..TokenizerFiles::default()
    })
    .unwrap()
}

fn rendered(tokenizer: &Tokenizer, tools: Option<&Value>) -> Result<String, TextError> {
    let messages = hi();
    tokenizer.require_chat_template()?.render(&ChatInput { tools, ..ChatInput::new(&messages) })
}

#[test]
fn named_templates_are_chosen_by_use() {
    let tools = json!([]);
    let named = json!({"chat_template": [
        {"name": "tool_use", "template": "with {{ tools | length }} tools"},
        {"name": "default", "template": "plain"},
    ]});
    assert_eq!(rendered(&tokenizer(&named, None), None).unwrap(), "plain");
    assert_eq!(rendered(&tokenizer(&named, None), Some(&tools)).unwrap(), "with 0 tools");
    assert_eq!(tokenizer(&named, None).chat_template().unwrap().source(), "plain");
    let only = json!({"chat_template": [{"name": "rag", "template": "rag"}]});
    assert_eq!(rendered(&tokenizer(&only, None), Some(&tools)).unwrap(), "rag");
    assert_eq!(rendered(&tokenizer(&named, Some("from the file")), Some(&tools)).unwrap(), "from the file");
}

#[test]
fn templates_in_files_take_the_place_of_those_in_the_configuration() {
    let config = json!({"chat_template": "from the configuration"}).to_string();
    let further = [("tool_use".to_owned(), "tools".to_owned()), ("rag".to_owned(), "rag".to_owned())];
    let tokenizer = |chat_template, further_templates| {
        Tokenizer::from_files(&TokenizerFiles {
            tokenizer_json: br#"{"model": {"type": "WordLevel", "vocab": {"<s>": 0}, "unk_token": "<s>"}}"#,
            tokenizer_config: Some(config.as_bytes()),
            chat_template,
            further_templates,
            ..TokenizerFiles::default()
        })
        .unwrap()
    };
    let tools = json!([]);
    let both = tokenizer(Some("plain"), &further);
    assert_eq!(rendered(&both, None).unwrap(), "plain");
    assert_eq!(rendered(&both, Some(&tools)).unwrap(), "tools");
    assert_eq!(rendered(&tokenizer(None, &further), Some(&tools)).unwrap(), "tools");
    assert_eq!(rendered(&tokenizer(None, &[]), Some(&tools)).unwrap(), "from the configuration");
}

#[test]
fn what_has_no_text_cannot_be_gone_on_with() {
    let template = plain("{% for m in messages %}{{ m.content | trim }};{% endfor %}").unwrap();
    let goes_on =
        |messages: Value| template.render(&ChatInput { continue_final: true, ..ChatInput::new(&messages) });
    let message =
        |content: Value| json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]);
    assert_eq!(goes_on(message(json!("an end "))).unwrap(), "x;an end");
    assert_eq!(goes_on(message(json!(""))).unwrap(), "x;");
    for content in [json!([]), json!(null), json!(5), json!([{"type": "image"}]), json!([{"text": 1}])] {
        assert_eq!(goes_on(message(content)), Err(TextError::NotContinued));
    }
    assert_eq!(goes_on(json!([])), Err(TextError::NotContinued));
    let silent = plain("{{ messages | length }}").unwrap();
    let messages = message(json!("x"));
    let input = ChatInput { continue_final: true, ..ChatInput::new(&messages) };
    assert_eq!(silent.render(&input), Err(TextError::NotContinued));
}

#[test]
fn a_broken_template_fails_when_used_and_not_before() {
    let config = json!({"chat_template": [
        {"name": "default", "template": "fine"},
        {"name": "tool_use", "template": "{% if %}"},
    ]});
    let tokenizer = tokenizer(&config, None);
    assert_eq!(rendered(&tokenizer, None).unwrap(), "fine");
    let error = rendered(&tokenizer, Some(&json!([]))).unwrap_err();
    assert!(
        matches!(&error, TextError::TemplateSyntax { template, line: 1, .. } if template == "tool_use"),
        "{error}"
    );
    assert_eq!(tokenizer.chat_template().unwrap().check(), Err(error));
}

#[test]
fn special_tokens_are_in_the_context_when_the_model_has_them() {
    let config = json!({
        "bos_token": "<s>",
        "pad_token": {"content": "<pad>"},
        "additional_special_tokens": ["<a>", "<b>"],
        "chat_template": "{{ bos_token }}{{ pad_token }}{{ eos_token is defined }}{{ additional_special_tokens[1] }}",
    });
    assert_eq!(rendered(&tokenizer(&config, None), None).unwrap(), "<s><pad>False<b>");
}

#[test]
fn a_caller_can_ask_what_the_template_knows() {
    let template = plain("{% if m.role == 'developer' %}{% endif %}").unwrap();
    assert!(template.mentions("'developer'") && !template.mentions("tools"));
}

#[test]
fn the_order_of_keys_is_kept() {
    let messages = serde_json::from_str(r#"[{"z": 1, "role": "user", "a": {"y": 1, "b": 2}}]"#).unwrap();
    let text = plain("{{ messages[0] | tojson }}").unwrap().render(&ChatInput::new(&messages)).unwrap();
    assert_eq!(text, r#"{"z": 1, "role": "user", "a": {"y": 1, "b": 2}}"#);
}
