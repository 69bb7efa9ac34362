"""The texts on which the tokenizers of the families are trained, and those with which they are compared."""

# Trained on: prose of several scripts, code, numbers and marks, short enough that every merge is of use.
TRAINING = [
    "The miller had three sons, and the youngest of them was called Hans; he didn't say much, but he'd listen.",
    "The king said to the miller: bring me the golden bird, or you shall never see your home again!",
    "She gave him a little bell and said: ring it three times when you are in need, but not more than three times.",
    "I'll go, they've gone, we're here, it's late, you'd better, I'm sure; WE'LL SEE, DON'T, IT'S.",
    "Der Müller hatte drei Söhne, und der jüngste hieß Hans. Größe, Übermut, Äpfel, Straße, Fluss.",
    "Il était une fois un meunier; ça dépend de l'été à Orléans, où naît la forêt.",
    "El niño comió piñas; ¿cuántas? ¡Muchísimas! Ação, coração, não, São Paulo.",
    "Жил-был старик со своею старухой у самого синего моря; они жили в ветхой землянке.",
    "Μια φορά κι έναν καιρό ήταν ένας μυλωνάς που είχε τρεις γιους.",
    "昔々あるところに、おじいさんとおばあさんがいました。おじいさんは山へ行きました。",
    "从前有一个国王,他有三个儿子。国王说:你们去找金鸟吧。",
    "옛날 옛적에 할머니와 할아버지가 살았습니다. 서울에서 만나요.",
    "كان يا ما كان في قديم الزمان ملك له ثلاثة أبناء.",
    "היה היה פעם מלך ולו שלושה בנים.",
    "एक समय की बात है, एक राजा के तीन बेटे थे।",
    "กาลครั้งหนึ่งนานมาแล้ว มีพระราชาองค์หนึ่ง",
    "def find(self, key: str) -> int:\n    for index, item in enumerate(self.items):\n        if item.key == key:\n            return index\n    return -1\n\n\nif __name__ == \"__main__\":\n    print(find(\"x\"))\n",
    "fn main() {\n    let mut total = 0u64;\n    for value in values.iter().filter(|v| **v >= 10) {\n        total += value * 2;\n    }\n    println!(\"{total:?}\");\n}\n",
    "for (int i = 0; i < n; ++i) {\n\t\tif (a[i] != b[i] && c->next == NULL) return i;\n\t}\r\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name HAVING COUNT(*) > 1 ORDER BY 2 DESC;",
    "{\"name\": \"x\", \"values\": [1, 2, 3.5, null, true], \"nested\": {\"a\": \"b\"}}",
    "https://example.org/path/to/page.html?query=1&lang=de#top user@example.org http://localhost:8080/",
    "2024-03-09 12:30:45 1,000,000.00 3.14159 0x1F 100% 1e-10 1234567890 2023 1999 007 42",
    "HTTPServer parseXMLDocument camelCase snake_case kebab-case CONSTANT_NAME iPhone McDonald",
    "😀 😃 😄 👩‍👩‍👧 🦀🦀 🇩🇪 ❤️ 👍🏽 … – — “quotes” ‘single’ «guillemets» € £ ¥ © ® ™ ½ ² ³",
    "   three spaces,    four spaces,\ttab,\t\ttwo tabs\n\n\n\nfour lines\r\n\r\nwindows\n  \n  ",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n# Title\n\n- item\n- item\n\n**bold** _italic_ `code`\n```\nblock\n```\n",
    "==== !!! ??? ... --- *** /// \\\\\\ <<< >>> && || :: -> => != == <= >= += -= */ /* // #! ();",
] * 3

# Sequences of letters of many scripts.
SCRIPTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Der schnelle braune Fuchs überspringt 2 faule Hündchen; Straßenbahnüberführung.",
    "Zażółć gęślą jaźń, pchnąć w tę łódź jeża.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Árvíztűrő tükörfúrógép; İstanbul'da ılık ışık.",
    "Tôi yêu tiếng nước tôi từ khi mới ra đời.",
    "Быстрая лиса прыгает через ленивую собаку, ёж.",
    "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία· ΣΊΣΥΦΟΣ ς.",
    "Ճանաչել զիմաստութիւն եւ զխրատ",
    "ვეპხის ტყაოსანი შოთა რუსთაველი",
    "זה כיף סתם לשמוע איך תנצח קרפד עץ טוב בגן; שָׁלוֹם",
    "نص حكيم له سر قاطع وذو شأن عظيم، مُحَمَّد ١٢٣٤٥ ـــ",
    "متن فارسی با نیم‌فاصله: می‌خواهم ۱۲۳",
    "ܫܠܡܐ ܥܠܡܐ ߒߞߏ",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण १२३४; क्ष्म्य",
    "বাংলা ভাষা আমার মাতৃভাষা ১২৩",
    "ਪੰਜਾਬੀ ਗੁਰਮੁਖੀ ગુજરાતી ଓଡ଼ିଆ",
    "தமிழ் மொழி யாமறிந்த மொழிகளிலே தெலుగు తెలుగు ಕನ್ನಡ മലയാളം සිංහල",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "ភាសាខ្មែរ ជាភាសាមួយ ១២៣ ພາສາລາວ မြန်မာဘာသာ",
    "བོད་སྐད་ཡིག་ ᠮᠣᠩᠭᠣᠯ",
    "素早い茶色の狐が怠け者の犬を飛び越える。ｶﾀｶﾅ カタカナ がガ",
    "敏捷的棕色狐狸跳过了懒狗。繁體字測試：龜鬱。",
    "다람쥐 헌 쳇바퀴에 타고파. 키스의 고유조건은 입술끼리 만나야 하고",
    "\u1112\u1161\u11ab\u1100\u1173\u11af \u314e\u314f\u3134\u3131\u3161\u3139 \ud55c\uae00",
    "አማርኛ የኢትዮጵያ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ⴰⵎⴰⵣⵉⵖ",
    "𐎠𐎡 𓀀𓁐 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 𠜎𠜱𠝹 𪚥",
    "mixed: Россия-Россия2024年東京tokyo서울ﺍﻟﻌﺮﺑﻴﺔ",
]
EMOJI = [
    "😀😃😄", "👩‍👩‍👧‍👦 👨🏿‍🚀 🏳️‍🌈 👁️‍🗨️", "👍🏻👍🏼👍🏽👍🏾👍🏿", "🇩🇪🇯🇵🇺🇸 🇩 🇪", "❤️ ❤ ☎︎ ☎️ ✔️", "1️⃣2️⃣#️⃣*️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "I ❤️ NY 😀!", "🦀rust🦀", "\u200d\ufe0f\u20e3", "🫠🪿🫨", "ʕ•ᴥ•ʔ (╯°□°)╯︵ ┻━┻ ¯\\_(ツ)_/¯",
]
CODE = [
    "def f(x):\n    return {k: v ** 2 for k, v in x.items() if v >= 10}\n",
    "    four\n        eight\n            twelve\n",
    "\tone tab\n\t\ttwo tabs\n\t    mixed\n",
    "if (a && b || !c) {\r\n\treturn a<b?a:b;\r\n}\r\n",
    "x=1;y+=22;z<=333;a!==b;c===d;e??=f;g?.h;i**=j;k>>>=1;l<<2",
    "#include <stdio.h>\n#define MAX(a,b) ((a)>(b)?(a):(b))\nint main(void){return 0;}",
    "let s = format!(\"{:>width$}\", x, width = 10); // comment\n/* block */",
    "SELECT * FROM t WHERE a='it''s' AND b IN (1,2,3) -- comment",
    "<div class=\"a b\">&nbsp;&lt;text&gt;</div><br/><!-- c -->",
    "\\begin{align} \\alpha &= \\frac{1}{2} \\\\ \\sum_{i=0}^{n} x_i^2 \\end{align}",
    "#!/usr/bin/env bash\nset -euo pipefail\necho \"${HOME}/.config\" | sed 's/a/b/g' > /dev/null 2>&1",
    "HTTPServer2 parseXMLDocument getHTTPResponseCode XMLHttpRequest snake_case_name SCREAMING_SNAKE kebab-case-name iOS",
    "a.b.c->d::e[f](g){h}<i>;", "====================", "--------------------\n", "////////// \\\\\\\\\\\\", "!!!!!!!??????......,,,,,;;;;",
    "```python\nprint('hi')\n```", "| a | b |\n|---|:-:|\n| 1 | 2 |", "@decorator\nclass A(B, metaclass=C): ...",
    "日本語_変数 = 'Ünïcödé' # コメント", "\n\n\n\n", "\r\n\r\n", "\n \n  \n   \n", " \n", "\n ", "\t\n", "a\nb\r\nc\rd", "}\n\n}\n", ");\n\n\n", ".\n\nNext",
]
NUMBERS = [
    "0 1 12 123 1234 12345 123456 1234567 12345678901234567890", "3.14159 -1.5e-10 1,000,000.00 1_000_000 0xDEADBEEF 0b1010 0o755",
    "2024-03-09T12:30:45Z 12:30 9/11/2001 +49 (0)30 123456", "1st 2nd 3rd 4th 10% $5.99 €1.000,00 ¥100", "v1.2.3-rc.4+build.5 192.168.0.1:8080 ::1 2001:db8::1",
    "½ ⅓ ² ³ ₁ ① Ⅷ ⅷ ㊿ ٣ ३ 三 ௧ 𝟛", "a1b2c3 x86_64 utf8 mp3 H2O CO2 4K 5G", "1\u00a0234\u2009567", "007 000 0000000",
]
ADDRESSES = [
    "https://example.org/a/b.html?c=d&e=%20#f", "http://localhost:8080/", "user.name+tag@sub.example.org", "ftp://[::1]/x y", "C:\\Users\\x\\y.txt", "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "www.example.com/ü?q=日本", "s3://bucket/key=1/part-00000.parquet", "@user #tag $VAR ${x} %d %(name)s {{ x }} {% y %}",
]
SPACES = [
    "", " ", "  ", "   ", "    ", "     ", " " * 15, " " * 16, " " * 17, " " * 33, "a ", " a", "  a", "   a", "a  b", "a   b", "a    b", "  leading and trailing  ",
    "\t", "\t\t", "\t\t\t\t\t", "\n", "\n\n", "\n\n\n\n\n\n", "a\n", "\na", "a \n b", "a\t b", " \t \n \r ", "\u00a0", "a\u00a0b", "\u3000全角\u3000", "\u2003em\u2002en\u2009thin\u200ahair\u202fnarrow",
    "\u200bzero\u200bwidth\u200b", "\u2028line\u2029paragraph", "\x0b\x0c vertical", "\u0085next", "\u180e\u2060\ufeff", "word\n\n  indented\n\n\n    more", "a \u00a0 b", "▁", "▁▁", "a▁b", " ▁ ", "▁a ▁b", "Ġ Ċ ĉ", "aĠb",
]
CONTRACTIONS = [
    "I'm you're he's we've they'll I'd don't can't", "I'M YOU'RE HE'S WE'VE THEY'LL I'D DON'T", "'s 't 're 've 'm 'll 'd 'S 'T", "it's it’s its' 'tis o'clock rock'n'roll", "'''quotes''' ''empty'' '",
    "l'été d'où qu'il aujourd'hui", "O'Neill's d'Artagnan'll", "a's1 1's 's's", "x'ſ y'ſt", "He said, \"It's 'fine'.\"", "Don'T iT'S", "can't've shouldn't've y'all'd've",
]
# `\ud800` cannot be written: texts are valid Unicode.
STRANGE = [
    "\0", "a\0b", "\x01\x02\x03\x04\x05\x06\x07\x08", "\x0e\x1b[31mred\x1b[0m\x7f", "\x80\x81\x9f", "\ufffd", "\ufffd\ufffd a", "\ufeffBOM", "a\ufeffb", "\u0378\u0379\U000e0080 unassigned",
    "\ufdd0\ufdd1\ufdd2\ufffe\uffff\U0001ffff", "\ue000\uf8ff\U000f0000\U0010fffd", "\U0010ffff", "\u202e reversed \u202c", "\u2066isolate\u2069", "\u00ad soft\u00adhyphen", "\u034f\u115f\u3164",
    "e\u0301 \u00e9 E\u0301 \u00c9", "a\u0323\u0307 a\u0307\u0323 \u1ea1\u0307", "\u212b \u00c5 A\u030a \u2126 \u03a9", "\ufb01 \ufb03 ﬅ ĳ ǆ ㎏ ㍿ ﷺ", "ｆｕｌｌｗｉｄｔｈ １２３ ！", "①②③ ⅷ ℡ ™ ℀",
    "Z̸̢̛͔͚̳a̵̙͖̽l̶̼̃g̴͓̈́o̷̙͌ ́̂", "\u0301combining first", "\uac01 \u1100\u1161\u11a8", "ﬀ\u0308", "İi̇ ıI ẞß ΐΐ", "\u0344 \u0958 \u2adc", "nai\u0308ve coo\u0308perate", "کــتــاب ـ", "a\u200cb\u200dc",
]
LOOKALIKES = [
    "<|im_start|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start", "im_start|>", "<|im_start|", "<|im_ start|>", "<|IM_START|>", "<|im_start|><|im_start|>", "<| im_start |>", "<|im_end|>a", "a<|im_end|>",
    "<s>", "</s>", "<unk>", "<s>a</s>", " <s> a </s> ", "a<s>b</s>c", "<s", "s>", "</ s>", "<s><s>", "<S>", "[INST] hi [/INST]", "[INST]", "[/INST", "[TOOL_CALLS] []", "[control_8]",
    "<bos>", "<eos>", "<pad>", "<start_of_turn>user\nhi<end_of_turn>\n", "<unused5>", "<unused", "<mask>", "<h1>title</h1>", "<0x0A>", "<0xE2><0x96><0x81>", "<0x>", "<0xZZ>",
    "<|endoftext|>", " <|endoftext|> ", "a<|endoftext|>b", "<|endoftext", "<|endoftext|><|endoftext|>", "<|padding|>", "<|begin_of_text|>hi<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\n", "<|reserved_special_token_7|>", "<|reserved_special_token_", "<|python_tag|>",
    "<|user|>\nhi<|end|>\n<|assistant|>", "<|user|>   spaces after", "   <|assistant|>   ", "<|end|>\n\n\nx", "<|system|>", "<|placeholder3|>", "a <|end|> b <|end|>", "<|dummy_5|>  x", "  <|im_sep|>  ",
    "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "<think>\nhm\n</think>\n\n", "</think", "<tool_response>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<fim_prefix>a<fim_suffix>b<fim_middle>", "<fim_pad><filename>x<gh_stars>1-10", "<issue_start><jupyter_code>",
    "[gMASK]<sop>", "[gMASK] <sop><|user|>\nhi", "<|observation|>", "[MASK]", "[|system|]a[|endofturn|]\n[|user|]b\n[|assistant|]", "[BOS][EOS][PAD]", "[|endofturn|]", "|[|", "[|user|",
    "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>hi<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<PAD><UNK><CLS>", "<|start_of_role|>user<|end_of_role|>hi<|end_of_text|>", "<|tool_call|>[]", "<|start|>user<|message|>hi<|end|><|channel|>final<|return|>", "<|call|>", "<|constrain|>json",
    "<｜begin▁of▁sentence｜>x<｜User｜>y<｜Assistant｜>z<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>", "<｜", "|||IP_ADDRESS|||", "|||EMAIL_ADDRESS||| x", ">>TITLE<<", ">>ANSWER<<>>SUFFIX<<", "<|reg_extra|><|reg0|>", "<|action_start|><|plugin|>{}<|action_end|>", "<repo_name>a<file_sep>b", "<|file_sep|>", "<empty_output>",
]
RUNS = [
    "a" * 200, " " * 200, "\n" * 120, "ab" * 150, "!" * 120, "1" * 120, "你" * 80, "😀" * 40, "=" * 160, "\t" * 70, "-=" * 60, "\u0301" * 60, "A" * 65, "ア" * 70, "<" * 90, "'s" * 40, "\0" * 40, "👩‍👩‍👧" * 12, "ﬁ" * 30, "x " * 80, "ก" * 90,
]

TEXTS = SCRIPTS + EMOJI + CODE + NUMBERS + ADDRESSES + SPACES + CONTRACTIONS + STRANGE + LOOKALIKES + RUNS
TEXTS += [line for line in dict.fromkeys(TRAINING)]
assert len(TEXTS) == len(set(TEXTS)), [text for text in TEXTS if TEXTS.count(text) > 1]
