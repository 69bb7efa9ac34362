//! A tiny GGUF model whose file a test can spoil.

use crate::tiny::Folder;

/// A value of metadata.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    U32(u32),
    U64(u64),
    I32(i32),
    F32(f32),
    Bool(u8),
    Text(&'static str),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// Type and bytes as they are written.
    Raw(u32, Vec<u8>),
}

impl Field {
    fn write(&self, to: &mut Vec<u8>) {
        let mut list = |kind: u32, len: usize, elements: Vec<u8>| {
            to.extend(9u32.to_le_bytes());
            to.extend(kind.to_le_bytes());
            to.extend((len as u64).to_le_bytes());
            to.extend(elements);
        };
        match self {
            Field::Texts(texts) => {
                let elements = texts.iter().flat_map(|text| counted(text.as_bytes())).collect();
                list(8, texts.len(), elements);
            }
            Field::F32s(x) => list(6, x.len(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Field::I32s(x) => list(5, x.len(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            _ => {
                let (kind, bytes) = match self {
                    Field::U32(x) => (4, x.to_le_bytes().to_vec()),
                    Field::I32(x) => (5, x.to_le_bytes().to_vec()),
                    Field::F32(x) => (6, x.to_le_bytes().to_vec()),
                    Field::Bool(x) => (7, vec![*x]),
                    Field::Text(x) => (8, counted(x.as_bytes())),
                    Field::U64(x) => (10, x.to_le_bytes().to_vec()),
                    Field::Raw(kind, bytes) => (*kind, bytes.clone()),
                    Field::Texts(_) | Field::F32s(_) | Field::I32s(_) => unreachable!("lists are above"),
                };
                to.extend(kind.to_le_bytes());
                to.extend(bytes);
            }
        }
    }
}

/// Bytes with their number in front.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// A tensor's entry; the offset is where it really is, unless it is given.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The fastest dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) format: u32,
    pub(crate) offset: Option<u64>,
    pub(crate) bytes: Vec<u8>,
}

/// A GGUF file before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) fields: Vec<(String, Field)>,
    pub(crate) tensors: Vec<Entry>,
    /// What the head says instead of the numbers of tensors and fields.
    pub(crate) counts: [Option<u64>; 2],
}

pub(crate) const FILE: &str = "tiny.gguf";

impl Gguf {
    /// A Llama of two layers in F32 and Q8_0, with a tokenizer of merges.
    pub(crate) fn llama() -> Self {
        let mut file = Self { version: 3, fields: Vec::new(), tensors: Vec::new(), counts: [None; 2] };
        let fields = [
            ("general.architecture", Field::Text("llama")),
            ("llama.embedding_length", Field::U32(32)),
            ("llama.block_count", Field::U32(2)),
            ("llama.feed_forward_length", Field::U32(64)),
            ("llama.attention.head_count", Field::U32(2)),
            ("llama.attention.head_count_kv", Field::U32(1)),
            ("llama.attention.key_length", Field::U32(16)),
            ("llama.context_length", Field::U32(64)),
            ("llama.rope.freq_base", Field::F32(1e4)),
            ("llama.rope.dimension_count", Field::U32(16)),
            ("llama.attention.layer_norm_rms_epsilon", Field::F32(1e-5)),
            ("tokenizer.ggml.model", Field::Text("gpt2")),
            ("tokenizer.ggml.pre", Field::Text("llama-bpe")),
            ("tokenizer.ggml.tokens", Field::Texts(tokens())),
            (
                "tokenizer.ggml.token_type",
                Field::I32s((0..259).map(|i| if i < 257 { 1 } else { 3 }).collect()),
            ),
            ("tokenizer.ggml.merges", Field::Texts(vec!["a b".to_owned()])),
            ("tokenizer.ggml.bos_token_id", Field::U32(257)),
            ("tokenizer.ggml.eos_token_id", Field::U32(258)),
            ("tokenizer.ggml.add_bos_token", Field::Bool(1)),
            ("tokenizer.chat_template", Field::Text("{{ messages[0].content }}")),
        ];
        file.fields.extend(fields.map(|(key, value)| (key.to_owned(), value)));
        file.add("token_embd.weight", &[32, 260], 8);
        file.add("output_norm.weight", &[32], 0);
        for layer in 0..2 {
            for (name, shape, format) in LAYER {
                file.add(&format!("blk.{layer}.{name}.weight"), shape, format);
            }
        }
        file
    }

    pub(crate) fn add(&mut self, name: &str, shape: &[u64], format: u32) {
        let elements = shape.iter().product::<u64>() as usize;
        let bytes = if format == 8 { elements / 32 * 34 } else { elements * 4 };
        // Halves near 1 and small floats, whatever the format.
        let bytes = (0..bytes).map(|i| if i % 2 == 0 { i as u8 } else { 0x3c }).collect();
        self.tensors.push(Entry { name: name.into(), shape: shape.to_vec(), format, offset: None, bytes });
    }

    pub(crate) fn set(mut self, key: &str, value: Field) -> Self {
        self.fields.retain(|(known, _)| known != key);
        self.fields.push((key.to_owned(), value));
        self
    }

    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.fields.retain(|(known, _)| known != key);
        self
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Entry {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the tiny model has it")
    }

    fn alignment(&self) -> usize {
        let field = self.fields.iter().find(|(key, _)| key == "general.alignment");
        match field {
            Some((_, Field::U32(alignment @ 1..))) => *alignment as usize,
            _ => 32,
        }
    }

    /// Head and data.
    pub(crate) fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let mut head = b"GGUF".to_vec();
        head.extend(self.version.to_le_bytes());
        head.extend(self.counts[0].unwrap_or(self.tensors.len() as u64).to_le_bytes());
        head.extend(self.counts[1].unwrap_or(self.fields.len() as u64).to_le_bytes());
        for (key, value) in &self.fields {
            head.extend(counted(key.as_bytes()));
            value.write(&mut head);
        }
        let (alignment, mut data) = (self.alignment(), Vec::new());
        for Entry { name, shape, format, offset, bytes } in &self.tensors {
            head.extend(counted(name.as_bytes()));
            head.extend((shape.len() as u32).to_le_bytes());
            head.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
            head.extend(format.to_le_bytes());
            head.extend(offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(alignment), 0);
        }
        head.resize(head.len().next_multiple_of(alignment), 0);
        (head, data)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (head, data) = self.parts();
        [head, data].concat()
    }

    pub(crate) fn write(&self) -> Folder {
        let folder = Folder::new();
        folder.write(FILE, self.bytes());
        folder
    }
}

const LAYER: [(&str, &[u64], u32); 9] = [
    ("attn_norm", &[32], 0),
    ("attn_q", &[32, 32], 8),
    ("attn_k", &[32, 16], 8),
    ("attn_v", &[32, 16], 0),
    ("attn_output", &[32, 32], 8),
    ("ffn_norm", &[32], 0),
    ("ffn_gate", &[32, 64], 8),
    ("ffn_up", &[32, 64], 8),
    ("ffn_down", &[64, 32], 8),
];

/// Tokens of all bytes in the alphabet of byte-level merges, one merge, and two control tokens.
fn tokens() -> Vec<String> {
    let plain = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut other = 256;
    let mut letter = |byte: u8| {
        let code = if plain(byte) {
            u32::from(byte)
        } else {
            other += 1;
            other - 1
        };
        char::from_u32(code).expect("a letter").to_string()
    };
    let bytes = (0..=255).map(&mut letter);
    bytes.chain(["ab", "<|begin|>", "<|end|>"].map(str::to_owned)).collect()
}
