"""Writes cases.json: templates, inputs and what `transformers` renders.

Needs the Python packages transformers 5 and jinja2 3.1: python make_cases.py
"""

import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = 1741507507  # 2025-03-09 08:05:07 UTC, a Sunday


class Clock(datetime.datetime):
    """Stands still."""

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = Clock


def render(template, messages, **context):
    # Fields that are null are left out before a template sees them.
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        rendered, _ = chat_template_utils.render_jinja_template([messages], chat_template=template, **context)
        return {"text": rendered[0]}
    except jinja2.exceptions.TemplateError as error:
        # Those of the engine are of kinds of their own.
        return {"raises": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"fails": True}
    except Exception:
        return {"fails": True}


HI = [{"role": "user", "content": "Hi <b>'there'</b> & \"you\""}]
TURNS = [
    {"role": "system", "content": "  Be brief.  "},
    {"role": "user", "content": " Größe? 国🦀\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\n Yes. "},
    {"role": "user", "content": "Why"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather <now> & 'then' für 国",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "a \"city\"\twith\nlines", "enum": ["Köln", "Oslo"]},
                    "days": {"type": "integer", "default": 3, "minimum": 0.5, "maximum": 1e16},
                    "items": {"type": "array", "items": {"type": "string"}},
                    "keys": {"type": ["string", "null"]},
                    "nested": {
                        "type": "object",
                        "properties": {"a": {"type": "number"}, "b": {"oneOf": [{"type": "string"}, {"type": "object"}]}},
                        "required": ["a"],
                    },
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "noop", "description": "Nothing", "parameters": {"type": "object", "properties": {}}}},
]
CALLS = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "abc123def", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2.0, "ok": True, "no": None}}}
        ],
    },
    {"role": "tool", "tool_call_id": "abc123def", "content": "{\"t\": 3}"},
    {"role": "assistant", "content": "Cold.", "reasoning_content": "It is cold.\n"},
    {"role": "user", "content": "Thanks"},
]
PARTS = [
    {"role": "system", "content": [{"type": "text", "text": "Look."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " what? "}, {"type": "text", "text": "x"}]},
]
ODD = [{"role": "assistant", "content": "I speak first"}]
TWO_CALLS = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": "ok", "tool_calls": [
        {"id": "1", "function": {"name": "a", "arguments": {}}}, {"id": "2", "function": {"name": "b", "arguments": "{}"}}]},
    {"role": "tool", "content": "1"},
    {"role": "tool", "content": "2"},
]
NULLS = [
    {"role": "user", "content": "", "name": None},
    {"role": "assistant", "content": None, "reasoning": "Let me see.", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"deep": {"list": [1, None, {"x": 1e-5}], "text": "a\"b\n"}}}}]},
    {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "1"},
    {"role": "assistant", "content": "مرحبا <b>&</b> \u2028 '\"\\", "thinking": "said\n", "tool_calls": None},
    {"role": "user", "content": "e\u0301 \U0001f1e9\U0001f1ea \ufeff\0"},
]
GOES_ON = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "One, two, "}]
DOCUMENTS = [{"title": "A", "text": "First.", "id": 7}, {"title": "B", "text": "Second."}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

cases = []


CONVERSATIONS = {"hi": HI, "turns": TURNS, "calls": CALLS, "parts": PARTS, "odd": ODD, "two calls": TWO_CALLS, "nulls": NULLS, "goes on": GOES_ON, "empty": []}


def case(name, template, messages="hi", with_tools=False, prompt=True, file=None, goes_on=False, **extra):
    context = {
        "tools": TOOLS if with_tools else None,
        "documents": None,
        "add_generation_prompt": prompt,
        "continue_final_message": goes_on,
        **TOKENS,
        **extra,
    }
    source = {"file": file} if file else {"template": template}
    inputs = {"messages": messages, "tools": with_tools, "prompt": prompt, "extra": extra}
    if goes_on:
        inputs["goes_on"] = True
    cases.append({"name": name, **source, **inputs, **render(template, CONVERSATIONS[messages], **context)})


def snippets(group, *templates, **kwargs):
    for index, template in enumerate(templates):
        case(f"{group} {index}", template, **kwargs)


def models():
    for path in sorted(HERE.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        file = path.name
        for name in (name for name in CONVERSATIONS if name != "empty"):
            case(f"{path.stem}: {name}", source, name, file=file)
            if name in ("turns", "calls"):
                case(f"{path.stem}: {name}, no prompt", source, name, prompt=False, file=file)
            if name in ("hi", "turns", "calls", "nulls"):
                case(f"{path.stem}: {name}, tools", source, name, True, file=file)
        for name in ("goes on", "calls", "parts"):
            case(f"{path.stem}: {name}, gone on with", source, name, prompt=False, file=file, goes_on=True)
        case(f"{path.stem}: documents", source, "turns", file=file, documents=DOCUMENTS, controls={"citations": True, "length": "short"})
        case(f"{path.stem}: no thinking", source, "turns", True, file=file, enable_thinking=False, reasoning_effort="low")
        case(f"{path.stem}: date", source, file=file, date_string="26 Jul 2024", tools_in_user_message=True)


models()
snippets(
    "tojson",
    "{{ tools | tojson }}",
    "{{ tools | tojson(indent=2) }}",
    "{{ tools | tojson(indent=0) }}",
    "{{ tools | tojson(indent=-3) }}",
    "{{ tools | tojson(indent='\t') }}",
    "{{ tools | tojson(ensure_ascii=True) }}",
    "{{ tools | tojson(True) }}",
    "{{ tools | tojson(False, 1) }}",
    "{{ tools | tojson(ensure_ascii=False, separators=(',', ':')) }}",
    "{{ tools | tojson(separators=(' , ', ' = '), indent=3, sort_keys=True) }}",
    "{{ tools | tojson(sort_keys=true) }}",
    "{{ tools | map('tojson') | join('\n') }}",
    "{{ [] | tojson }}{{ {} | tojson }}{{ [[], {}] | tojson(indent=2) }}",
    "{{ 'a/b\\\\ \"q\" \u007f \u2028 \U0001f980 \u0001 \b\f\n\r\t é' | tojson }}",
    "{{ '\u007f \u2028 \U0001f980 \u0001 é' | tojson(ensure_ascii=true) }}",
    "{{ [1, -2, 1.0, 0.1, 1e16, 1e15, 1e-4, 1e-5, 12345678901234567890, true, false, none] | tojson }}",
    "{{ {'a': 1, 2: 'b', none: 3, true: 4, 1.5: 5} | tojson }}",
    "{{ (1, 'two') | tojson }}",
    "{{ nothing | tojson }}",
    "{{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=True) }}",
    "{{ {'ä': 1, 'z': 2, 'Z': 3} | tojson(sort_keys=True) }}",
    "{{ 'x' | tojson(bogus=1) }}",
    "{{ [1, 2] | tojson(separators=',') }}",
    "{{ messages[0].content | tojson | upper }}",
    with_tools=True,
)
snippets(
    "numbers",
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 1 + 1.0 }}",
    "{{ 3 | float }} {{ '3' | int + 1 }} {{ 3.7 | int }} {{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ 10 | abs }}",
    "{{ [1, 2, 3] | sum }} {{ [3, 1, 2] | max }} {{ [3, 1, 2] | min }} {{ [3, 1, 2] | sort }}",
    "{{ 1 is number }} {{ 1.5 is float }} {{ 1 is integer }} {{ true is number }} {{ true is integer }} {{ true is boolean }}",
    "{{ range(5) | list }} {{ range(1, 10, 3) | list }} {{ range(3, 0, -1) | list }}",
    "{{ 1 < 2 <= 2 }} {{ 1 == 1.0 }} {{ not 1 > 2 }} {{ 1 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 'el' in 'hello' }}",
    "{{ 5 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ none is none }} {{ 1 is sameas 1 }}",
)
snippets(
    "printing",
    "{{ none }} {{ true }} {{ false }} {{ 1.0 }} {{ 1e-7 }} {{ 0.1 + 0.2 }} {{ 100000.0 }}",
    "{{ [1, 'a', \"it's\", none, true, 1.5] }} {{ {'a': 'b', 'c': [1]} }} {{ (1, 'x') }} {{ (1,) }} {{ () }}",
    "{{ messages[0] }}",
    "{{ tools[1].function.parameters }}",
    "{{ [] }}{{ {} }}{{ '' }}|{{ undefined_name }}|",
    "{{ ['\\n\\t\\\\', 'é', \"'\\\"\"] }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1] }}",
    "{{ messages | length }}{{ messages[0] | count }}",
    with_tools=True,
)
snippets(
    "text methods",
    "{{ ' a '.strip() }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcba'.strip('ab') }}",
    "{{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ 'a  b'.split(' ') }} {{ ''.split() }} {{ ''.split(',') }}",
    "{{ 'a,b,c'.rsplit(',', 1) }} {{ 'a,b,c'.rsplit(',') }} {{ ' a  b c '.rsplit() }} {{ ' a  b c '.rsplit(none, 1) }} {{ 'abc'.rsplit('x') }}",
    "{{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('-') }} {{ 'abc'.rpartition('-') }}",
    "{{ 'prefix_x'.removeprefix('prefix_') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'abc'.removeprefix('z') }} {{ 'abc'.removesuffix('') }}",
    "{{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ '+4'.zfill(4) }} {{ ''.zfill(2) }} {{ 'abc'.zfill(2) }}",
    "{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'ab'.center(5, '*') }}|{{ 'abc'.center(6, '*') }}|{{ 'é'.center(4) }}|{{ 'abc'.center(2) }}",
    "{{ 'abc'.startswith('a') }} {{ 'abc'.startswith(('x', 'ab')) }} {{ 'abc'.endswith('bc') }} {{ 'abc'.endswith(('x',)) }}",
    "{{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'abc'.find('z') }} {{ 'éa'.find('a') }} {{ 'abcabc'.count('bc') }}",
    "{{ 'abcabc'.find('c', -1) }} {{ 'abcabc'.rfind('b', 0, 3) }} {{ 'abc'.find('', 9) }} {{ 'éaé'.rfind('é', 1) }} {{ 'abc'.find('c', 0, -1) }}",
    "{{ ' a  b c '.split(none, 1) }} {{ ' a  b c '.rsplit(none, 9) }} {{ 'a'.rsplit(none, 0) }} {{ ' '.rsplit() }} {{ 'a,b'.rsplit(',', 0) }} {{ 'a,b'.rsplit(',', -1) }}",
    "{{ 'abcabc'.find('c', 3) }} {{ 'abcabc'.index('b') }} {{ 'abcabc'.rindex('b') }}",
    "{{ 'abc'.index('z') }}",
    "{{ 'aXbX'.replace('X', '-') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'Hello World'.lower() }} {{ 'Hello'.upper() }} {{ 'hello world'.title() }} {{ 'hELLO'.capitalize() }} {{ 'aBc'.swapcase() }}",
    "{{ 'abc'.isalpha() }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'ab'.islower() }} {{ 'AB'.isupper() }} {{ ''.isalpha() }} {{ '12'.isdecimal() }}",
    "{{ 'a\nb\r\nc\n'.splitlines() }} {{ ', '.join(['a', 'b']) }} {{ 'a'.join('xyz') }}",
    "{{ '{} and {}'.format(1, 'b') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{x}'.format(x=3) }}",
    "{{ 'ß'.upper() }} {{ 'İ'.lower() }}",
    "{{ 'abc'[0] }}{{ 'abc'[-1] }} {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ 'héllo'[1:3] }} {{ 'abc'[:-1] }} {{ 'abc'[5:] }}|",
    "{{ 'a' * 3 }} {{ 'a' + 'b' }} {{ 'abc' | length }} {{ 'x' < 'y' }}",
    "{{ 'a%sb' | format('x') }} {{ '%s-%s' | format(1, 2) }}",
    "{{ 'a'.nosuch() }}",
    "{{ 'a'.removeprefix() }}",
    "{{ 'a'.partition('') }}",
)
snippets(
    "filters",
    "{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ 'abc' | upper }}|{{ 'ABC' | lower }}|{{ 'a b' | title }}|{{ 'aB' | capitalize }}",
    "{{ [1, 2, 3] | first }} {{ [1, 2, 3] | last }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [1, 2] | reverse | list }} {{ 'abc' | reverse }}",
    "{{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A', 'c'] | sort(case_sensitive=true) }} {{ ['a', 'b', 'a'] | unique | list }}",
    "{{ messages | map(attribute='role') | list }} {{ messages | map(attribute='role') | join(', ') }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | selectattr('role', '==', 'user') | map(attribute='content') | first }}",
    "{{ messages | rejectattr('role', 'equalto', 'system') | list | length }} {{ messages | selectattr('nothing') | list }}",
    "{{ messages | selectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list }}",
    "{{ [1, none, 0, 2] | select | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ ['a', 'b'] | map('upper') | list }}",
    "{{ nothing | default('d') }} {{ '' | default('d') }} {{ '' | default('d', true) }} {{ none | default('d') }} {{ nothing | d('e') }}",
    "{{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1, 'a': 2} | dictsort(by='value') }} {{ {'b': 1} | items | list }}",
    "{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent }}|{{ 'a\nb' | indent(width=1, first=True) }}",
    "{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }}",
    "{{ 'abc' | list }} {{ 'a' | string + 'b' }} {{ 1 | string }} {{ '<b>' | escape }} {{ '<b>' | e }} {{ '<b>' | safe }}",
    "{{ [{'n': 'a', 'v': 1}, {'n': 'b', 'v': 2}, {'n': 'a', 'v': 3}] | groupby('n') | map('first') | list }}",
    "{{ 'a b c' | wordcount }} {{ 'ab' | center(6) }}|",
    "{{ 'a-b' | replace('-', '+') }} {{ ['a', ['b']] | join }} {{ [[1, 2], [3]] | sum(start=[]) }} {{ {'a': 1} | length }}",
    "{{ messages | map(attribute='content', default='x') | list | length }}",
    "{{ 'abc' | nosuchfilter }}",
    "{{ [1, 2] | map('nosuch') | list }}",
    messages="turns",
)
snippets(
    "tests",
    "{{ 'abc' is sequence }} {{ {} is sequence }} {{ [] is sequence }} {{ () is sequence }} {{ 1 is sequence }} {{ none is sequence }} {{ range(2) is sequence }} {{ nothing is sequence }}",
    "{{ 'abc' is iterable }} {{ {} is iterable }} {{ [] is iterable }} {{ 1 is iterable }} {{ none is iterable }} {{ range(2) is iterable }} {{ nothing is iterable }}",
    "{{ 'abc' is string }} {{ 'abc' is mapping }} {{ {} is mapping }} {{ [] is mapping }} {{ 1 is string }} {{ nothing is string }}",
    "{{ nothing is defined }} {{ messages is defined }} {{ messages[0].nothing is defined }} {{ tools is defined }} {{ tools is none }} {{ nothing is none }} {{ nothing is undefined }}",
    "{{ true is true }} {{ 1 is true }} {{ false is false }} {{ none is false }} {{ 0 is false }} {{ 'x' is true }}",
    "{{ 1 is eq 1 }} {{ 1 is equalto 1 }} {{ 2 is gt 1 }} {{ 1 is lt 2 }} {{ 1 is ne 2 }} {{ 'a' is in 'abc' }} {{ 'a' is lower }} {{ 'A' is upper }}",
    "{{ raise_exception is callable }} {{ 1 is callable }} {{ 'a' is not string }} {{ not 'a' is string }}",
    "{{ messages is nosuchtest }}",
    "{{ (messages | map(attribute='role')) is iterable }} ",
)
snippets(
    "control",
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }}\n{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}>{{ loop.nextitem.role if loop.nextitem is defined else 'end' }} {% endfor %}",
    "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.role }} {% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}empty{% endfor %}{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for m in messages %}{{ loop.cycle('a', 'b') }}{% if loop.changed(m.role) %}!{% endif %}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, y='a') %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z is defined }}",
    "{% set a, b = 1, 2 %}{{ a + b }}{% set c %}block {{ a }}{% endset %}{{ c | upper }}{% set d | trim %}  x  {% endset %}{{ d }}|",
    "{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(1, c='y') }} {{ f(a=5) }} {{ f() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in{% endcall %}{% macro g() %}{{ caller(3) }}{% endmacro %}{% call(x) g() %}{{ x }}{% endcall %}",
    "{% with a=1, b=2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% if false %}a{% elif none %}b{% elif [] %}c{% elif '' %}d{% elif 0 %}e{% else %}f{% endif %}",
    "{{ 'a' if true else 'b' }} {{ 'a' if false }}| {{ (1 if none else 2) + 1 }} {{ 'x' if messages and not tools else 'y' }}",
    "{% filter upper %}abc {{ 1 }}{% endfilter %}{% raw %}{{ x }}{% endraw %}{# gone #}",
    "{% for g in [[1, [2, [3]]]] recursive %}{% if g is iterable %}({{ loop(g) }}){% else %}{{ g }}{% endif %}{% endfor %}",
    "{% set messages = messages[1:] %}{{ messages | length }}{% set m = messages[-1] %}{{ m['content'] }}{{ m.content }}{{ m.get('content') }}{{ m.get('zz', 'd') }}{{ m.get('zz') }}",
    "{{ messages[0].keys() | list }} {{ messages[0].values() | list }} {{ messages[0].items() | list }} {{ messages[0] | list }}",
    "{{ messages[0]['nothing'] }}|{{ messages[0].nothing }}|{{ messages[9] }}|{{ messages[0].nothing.more }}",
    "{{ nothing.more }}",
    "{{ nothing + 'a' }}",
    "{{ 'a' + 1 }}",
    "{{ none + 'a' }}",
    "{{ 1 + none }}",
    "{% for x in nothing %}{{ x }}{% else %}no{% endfor %}{{ nothing | length }}",
    "{% for x in 5 %}{{ x }}{% endfor %}",
    "{{ dict(a=1, b='x') }} {{ dict(a=1).a }} {{ {'a': 1}['a'] }} {{ [1, 2] + [3] }} {{ [1, 2][-1] }} {{ [[1, 2], [3]][0][1] }}",
    "{{ [1, 2, 3][1:] }} {{ [1, 2, 3][::2] }} {{ [1, 2, 3][:-1] }} {{ (1, 2, 3)[1:] }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1} }}",
    "{{ ['a', 'b'].index('b') }} {{ ['a', 'b', 'a'].count('a') }}",
    "{% set l = [] %}{{ l.append(1) }}",
    "{% do messages %}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}{% for m in messages | reverse %}{{ m.role }}{% endfor %}",
    "{{ messages | length > 2 and messages[0].role == 'system' or false }} {{ 1 and 2 }} {{ 0 or 'x' }} {{ not '' }}",
    "{% set t = joiner(', ') %}{% for i in [1, 2] %}{{ t() }}{{ i }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}",
    "{% if messages[0].role is defined and messages[0].role in ('user', 'system') %}yes{% endif %}{{ 'a' not in 'bc' }}",
    "{{ messages.__class__ }}|{{ ''.__class__ }}",
    "{% for m in messages %}{% set role = m.role %}{% if role == 'user' %}{% set role = 'USER' %}{% endif %}{{ role }} {% endfor %}",
    "{% macro f(x) %}{% set x = x + 1 %}{{ x }}{% endmacro %}{% set y = f(1) %}{{ y | int + 1 }}{{ f(2) | trim }}",
    "{% set outer = 1 %}{% macro f() %}{{ outer }}{{ messages | length }}{% endmacro %}{{ f() }}",
    messages="turns",
)
snippets(
    "whitespace",
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}  \n  b\n  {% endif %}\n c",
    "a\n  {{- 'x' -}}  \n b",
    "  {%- if true -%}  x  {%- endif -%}  y",
    "a {# c #}\n b {#- d -#}\n e",
    "{% if true +%}\n x\n{%- endif %}\n",
    "  {%+ if true %} x{% endif %}\n\n",
    "\n\n{% set x = 1 %}\n\n{{ x }}\n\n",
    "{% for i in [1, 2] -%}\n  {{ i }},\n{%- endfor %}",
    "{{ 'a' }}\n{{ 'b' }}\n",
    "\t{% if true %}\t\n\tx{% endif %}",
    "{% if true %}\r\nx\r\n{% endif %}\r\n",
    "x\n\n",
    "{{- bos_token -}}\n\n{%- set a = '\\n' -%}{{ a }}{{ \"\\t\\u00e9\\x41\" }}",
    "{% generation %}a{% endgeneration %}\nb",
    "a {%- generation -%} b {%- endgeneration -%} c",
    "{% for m in messages %}{% generation %}{% set q = m.role %}{{ q }}{% endgeneration %}{{ q is defined }}{% endfor %}",
    "{% generation %}{{ messages[0].role }}{{ loop is defined }}{% endgeneration %}",
)
snippets(
    "dates",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%B %d, %Y, %A') }}",
    "{{ strftime_now('%H:%M:%S %I %p %y %j %a %w %u %%') }} {{ strftime_now('%-d/%-m') }}",
    "{{ strftime_now('%F %T %D %R %e|%h|%c|%x|%X|%Z%z|%f') }}",
)
snippets(
    "errors",
    "{{ raise_exception('no ' + messages[0].role) }}",
    "{% macro f() %}{{ raise_exception('inside') }}{% endmacro %}a{{ f() }}",
    "{% if true %}",
    "{{ 'a' | }}",
    "{% nosuchtag %}",
    "{% include 'x' %}",
    "{% import 'x' as x %}",
    "{{ 1 // 0 }}",
    "{{ nosuchfunction() }}",
    "{{ messages[0].role() }}",
)
snippets(
    "messages",
    "{{ messages }}",
    "{% for m in messages %}{{ m.keys() | list }}{{ m | tojson }}{% endfor %}",
    "{% for m in messages %}{{ m.content is defined }}{{ m.reasoning_content }}{{ m.thinking }}{{ m.reasoning }}|{% endfor %}",
    "{% for m in messages %}{{ 'tool_calls' in m }}{{ m.tool_calls is defined }}{{ m.get('content') is none }}{% endfor %}",
    "{{ messages | selectattr('tool_calls', 'defined') | list | length }}{{ messages | rejectattr('content', 'defined') | map(attribute='role') | join }}",
    messages="nulls",
)
snippets(
    "often",
    "{% set ns = namespace(last=-1, multi=true) %}{% for m in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}{% if ns.multi and m.role == 'user' and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}{% set ns.multi = false %}{% set ns.last = index %}{% endif %}{% endfor %}{{ ns.last }}",
    "{% for m in messages %}{% set content = m.content if m.content is string else '' %}{% if '</think>' in content %}{{ content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}|{{ content.split('</think>')[-1].lstrip('\\n') }}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if (loop.first or messages[loop.index0 - 1].role != 'tool') and m.role == 'tool' %}<{% endif %}{{ m.role[0] }}{% if loop.last or messages[loop.index0 + 1].role != m.role %}>{% endif %}{% endfor %}",
    "{% for t in tools %}{% for name, field in t.function.parameters.properties | items %}{{ name }}:{{ field.type | string }}{% for k in field | reject('in', ['type', 'description']) %} {{ k }}={{ field[k] | tojson | safe }}{% endfor %};{% endfor %}{% endfor %}",
    "{% for t in tools %}{{ t.function.parameters.properties | dictsort }}{% endfor %}",
    "{% for t in tools %}{{ t.function.parameters.get('required', []) | join(', ') }}{{ t.function.parameters.required is defined }}{{ 'city' in (t.function.parameters.required or []) }}{% endfor %}",
    "{% set names = [] %}{% for t in tools %}{% set names = names + [t.function.name] %}{% endfor %}{{ names }}{% set ns = namespace(n=[]) %}{% for t in tools %}{% set ns.n = ns.n + [t.function.name] %}{% endfor %}{{ ns.n }}",
    "{% macro render(v, depth=0) %}{% if v is mapping %}{% for k, x in v.items() %}{{ '  ' * depth }}{{ k }}:\n{{ render(x, depth + 1) }}{% endfor %}{% elif v is sequence and v is not string %}{% for x in v %}{{ '  ' * depth }}- {{ x }}\n{% endfor %}{% else %}{{ '  ' * depth }}{{ v }}\n{% endif %}{% endmacro %}{{ render(tools[0]) }}",
    "{{ tools | map(attribute='function') | map(attribute='name') | list }}{{ tools | map(attribute='function.name') | sort | join('|') }}",
    "{{ tools[0].function.parameters.properties.keys() | list | tojson }}{{ tools[0].function.parameters.properties.values() | map(attribute='type') | list }}",
    "{{ tools[0] | string | length }} {{ tools[1] ~ '' }} {{ tools[-1]['function']['name'] }} {{ tools[-1:] | length }}",
    "{{ (messages | last).role }} {{ (messages | first)['role'] }} {{ messages[-1].role == 'user' and messages[-2:][0].role }}",
    "{%- set date = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' -%}{{ date }} {{ date | upper | replace(' ', '-') }}",
    "{{ {'a': {'b': [1, {'c': none}]}} | tojson(indent=4) | indent(2) }}|{{ {'a': 1} | tojson(indent=2, separators=(',', ': ')) }}",
    "{{ 'a' ~ ('b' if false) ~ 'c' }}{{ '' if nothing is undefined else nothing }}{{ nothing | default(none) is none }}{{ (nothing or {}).x }}",
    "{{ [1, 2, 3] | join(', ') }}{{ ['a', 1, none, 1.0, true] | join('-') }}{{ [] | join(',') }}{{ 'abc' | join('.') }}",
    "{{ '%.2f' | format(1.005) }} {{ '%d items' | format(3) }} {{ '{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c') }} {{ '{:.1f} {:03d}'.format(2.25, 7) }}",
    "{{ 10 // 3 }} {{ 10 % 4 }} {{ 2 * 3.0 }} {{ 7 / 7 }} {{ 1e3 }} {{ 0.1 * 3 }} {{ 1000000000000000000000 }} {{ -5 // 2 }} {{ 5 | float }} {{ '5' | int }} {{ 'x' | int(9) }} {{ 3.99 | int }} {{ 1 | string + '1' }}",
    "{{ messages | map('length') | list }} {{ 'A' | lower ~ 'b' | upper }} {{ '  x ' | trim | length }} {{ ('a', 'b') | list }} {{ 'b' in ('a', 'b') }}",
    "{% set x = none %}{{ x }}{{ x is none }}{{ x or 'y' }}{{ x | default('d') }}{{ x | default('d', true) }}{{ [x, true, 1.5, 'q\\'s', \"d\"] }}{{ {'k': x} }}",
    "{{ 'a\\n' | indent }}|{{ '\\n' | indent(2, true) }}|{{ 'a\\n\\nb\\n' | indent(1, blank=true) }}|{{ 'a\\nb' | indent('> ', first=true) }}|{{ '' | indent(3, true) }}|{{ 'a\\r\\nb' | indent(2) }}",
    "{% if tools is iterable and tools | length > 0 %}yes{% endif %}{% if documents %}d{% else %}no{% endif %}{% if tools is not none and tools is not string %}x{% endif %}",
    "{%- for i in range(0, 5, 2) -%}{{ i }}{{ ',' if not loop.last }}{%- endfor -%}{% for i in range(3) | reverse %}{{ i }}{% endfor %}{% for a in 'xyz' %}{{ a }}{% endfor %}",
    "{{ 'a\\nb'.split('\\n') }}{{ 'a b  c'.split() }}{{ 'k=v=w'.split('=', 1)[1] }}{{ 'abc'.split('b')[0] }}{{ '<a>'.strip('<>') }}{{ 'xaxbx'.strip('x') }}",
    messages="calls", with_tools=True,
)
snippets(
    "variables",
    "{{ enable_thinking }} {{ budget }} {{ words }} {{ options.a }} {{ documents is none }} {{ bos_token }}{{ eos_token }}{{ pad_token is defined }}",
    enable_thinking=False,
    budget=5,
    words=["a", "b"],
    options={"a": None},
)

path = HERE / "cases.json"
lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in cases)
inputs = json.dumps({"now": NOW, "tokens": TOKENS, "conversations": CONVERSATIONS, "tools": TOOLS}, ensure_ascii=False)
path.write_text(f'{{"inputs": {inputs},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
kinds = {kind: sum(kind in entry for entry in cases) for kind in ("text", "raises", "fails")}
print(len(cases), "cases", kinds, path.stat().st_size, "bytes")
