//! What clients expect of answers, by hand and without mercy: fields that their types need, with the types that they have.
#![expect(dead_code, reason = "that a field can be read is all that is tested")]

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;

#[derive(Deserialize)]
pub(crate) struct ChatCompletion {
    id: String,
    choices: Vec<Choice>,
    created: i64,
    model: String,
    object: ChatObject,
    system_fingerprint: Option<String>,
    usage: Usage,
}

#[derive(Deserialize)]
pub(crate) enum ChatObject {
    #[serde(rename = "chat.completion")]
    Chat,
}

#[derive(Deserialize)]
pub(crate) struct Choice {
    finish_reason: FinishReason,
    index: i64,
    logprobs: Option<ChoiceLogprobs>,
    message: Message,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    FunctionCall,
}

#[derive(Deserialize)]
pub(crate) struct ChoiceLogprobs {
    content: Option<Vec<TokenLogprob>>,
    refusal: Option<Vec<TokenLogprob>>,
}

#[derive(Deserialize)]
pub(crate) struct TokenLogprob {
    token: String,
    bytes: Option<Vec<u8>>,
    logprob: f64,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Deserialize)]
pub(crate) struct TopLogprob {
    token: String,
    bytes: Option<Vec<u8>>,
    logprob: f64,
}

#[derive(Deserialize)]
pub(crate) struct Message {
    content: Option<String>,
    role: Assistant,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Assistant {
    Assistant,
}

#[derive(Deserialize)]
pub(crate) struct ToolCall {
    id: String,
    function: Function,
    r#type: FunctionKind,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FunctionKind {
    Function,
}

#[derive(Deserialize)]
pub(crate) struct Function {
    arguments: String,
    name: String,
}

#[derive(Deserialize)]
pub(crate) struct Usage {
    completion_tokens: i64,
    prompt_tokens: i64,
    total_tokens: i64,
    completion_tokens_details: CompletionDetails,
    prompt_tokens_details: PromptDetails,
}

#[derive(Deserialize)]
pub(crate) struct CompletionDetails {
    reasoning_tokens: i64,
}

#[derive(Deserialize)]
pub(crate) struct PromptDetails {
    cached_tokens: i64,
}

#[derive(Deserialize)]
pub(crate) struct ChatChunk {
    id: String,
    choices: Vec<ChunkChoice>,
    created: i64,
    model: String,
    object: ChunkObject,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(crate) enum ChunkObject {
    #[serde(rename = "chat.completion.chunk")]
    Chunk,
}

#[derive(Deserialize)]
pub(crate) struct ChunkChoice {
    delta: Delta,
    finish_reason: Option<FinishReason>,
    index: i64,
    logprobs: Option<ChoiceLogprobs>,
}

#[derive(Deserialize)]
pub(crate) struct Delta {
    content: Option<String>,
    role: Option<Role>,
    tool_calls: Option<Vec<DeltaCall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    User,
    Assistant,
    System,
    Tool,
}

#[derive(Deserialize)]
pub(crate) struct DeltaCall {
    index: i64,
    id: Option<String>,
    function: Option<DeltaFunction>,
    r#type: Option<FunctionKind>,
}

#[derive(Deserialize)]
pub(crate) struct DeltaFunction {
    arguments: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Completion {
    id: String,
    choices: Vec<CompletionChoice>,
    created: i64,
    model: String,
    object: CompletionObject,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(crate) enum CompletionObject {
    #[serde(rename = "text_completion")]
    Text,
}

#[derive(Deserialize)]
pub(crate) struct CompletionChoice {
    finish_reason: Option<FinishReason>,
    index: i64,
    logprobs: Option<CompletionLogprobs>,
    text: String,
}

#[derive(Deserialize)]
pub(crate) struct CompletionLogprobs {
    text_offset: Vec<i64>,
    token_logprobs: Vec<Option<f64>>,
    tokens: Vec<String>,
    top_logprobs: Vec<Option<HashMap<String, f64>>>,
}

#[derive(Deserialize)]
pub(crate) struct Models {
    object: String,
    data: Vec<Model>,
}

#[derive(Deserialize)]
pub(crate) struct Model {
    id: String,
    created: i64,
    object: String,
    owned_by: String,
    max_model_len: i64,
}

#[derive(Deserialize)]
pub(crate) struct Embeddings {
    data: Vec<Embedding>,
    model: String,
    object: String,
    usage: EmbeddingUsage,
}

#[derive(Deserialize)]
pub(crate) struct Embedding {
    embedding: Vec<f64>,
    index: i64,
    object: String,
}

#[derive(Deserialize)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: i64,
    total_tokens: i64,
}

#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
pub(crate) struct ErrorDetail {
    message: String,
    r#type: String,
    #[serde(deserialize_with = "present")]
    param: Option<String>,
    code: String,
}

/// A field that may be null but has to be there.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// What Zed reads: an event or an error, told apart by their fields.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum ZedResult {
    Ok(ZedEvent),
    Err { error: ZedError },
}

#[derive(Deserialize)]
pub(crate) struct ZedError {
    message: String,
}

#[derive(Deserialize)]
pub(crate) struct ZedEvent {
    choices: Vec<ZedChoice>,
    usage: Option<ZedUsage>,
}

#[derive(Deserialize)]
pub(crate) struct ZedUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

#[derive(Deserialize)]
pub(crate) struct ZedChoice {
    index: u32,
    /// Only completions have none.
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct AnthropicMessage {
    id: String,
    content: Vec<Block>,
    model: String,
    role: Assistant,
    #[serde(deserialize_with = "present")]
    stop_reason: Option<StopReason>,
    #[serde(deserialize_with = "present")]
    stop_sequence: Option<String>,
    r#type: MessageKind,
    usage: AnthropicUsage,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MessageKind {
    Message,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Block {
    Text { text: String },
    Thinking { thinking: String, signature: String },
    ToolUse { id: String, name: String, input: Map<String, Value> },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopReason {
    EndTurn,
    MaxTokens,
    StopSequence,
    ToolUse,
}

#[derive(Deserialize)]
pub(crate) struct AnthropicUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum AnthropicEvent {
    Ping,
    MessageStart { message: AnthropicMessage },
    ContentBlockStart { index: u64, content_block: Block },
    ContentBlockDelta { index: u64, delta: BlockDelta },
    ContentBlockStop { index: u64 },
    MessageDelta { delta: MessageEnd, usage: AnthropicUsage },
    MessageStop,
    Error { error: AnthropicError },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(crate) enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
}

#[derive(Deserialize)]
pub(crate) struct MessageEnd {
    stop_reason: StopReason,
    #[serde(deserialize_with = "present")]
    stop_sequence: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct AnthropicError {
    r#type: String,
    message: String,
}

#[derive(Deserialize)]
pub(crate) struct Response {
    id: String,
    created_at: f64,
    #[serde(deserialize_with = "present")]
    error: Option<ResponseError>,
    #[serde(deserialize_with = "present")]
    incomplete_details: Option<Value>,
    #[serde(deserialize_with = "present")]
    instructions: Option<String>,
    metadata: HashMap<String, String>,
    model: String,
    object: ResponseObject,
    output: Vec<Item>,
    parallel_tool_calls: bool,
    #[serde(deserialize_with = "present")]
    temperature: Option<f64>,
    tool_choice: Value,
    tools: Vec<Value>,
    #[serde(deserialize_with = "present")]
    top_p: Option<f64>,
    status: String,
    usage: Option<ResponseUsage>,
}

#[derive(Deserialize)]
pub(crate) enum ResponseObject {
    #[serde(rename = "response")]
    Response,
}

#[derive(Deserialize)]
pub(crate) struct ResponseError {
    code: String,
    message: String,
}

#[derive(Deserialize)]
pub(crate) struct ResponseUsage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Deserialize)]
pub(crate) struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Deserialize)]
pub(crate) struct OutputDetails {
    reasoning_tokens: u64,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    Message { id: String, content: Vec<Part>, role: Assistant, status: ItemStatus },
    Reasoning { id: String, summary: Vec<Value>, content: Option<Vec<Part>>, status: Option<ItemStatus> },
    FunctionCall { arguments: String, call_id: String, name: String, id: String, status: ItemStatus },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Part {
    OutputText { annotations: Vec<Value>, text: String, logprobs: Vec<Value> },
    ReasoningText { text: String },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(crate) enum ResponseEvent {
    #[serde(rename = "response.created")]
    Created { response: Response, sequence_number: u64 },
    #[serde(rename = "response.in_progress")]
    InProgress { response: Response, sequence_number: u64 },
    #[serde(rename = "response.output_item.added")]
    ItemAdded { item: Item, output_index: u64, sequence_number: u64 },
    #[serde(rename = "response.output_item.done")]
    ItemDone { item: Item, output_index: u64, sequence_number: u64 },
    #[serde(rename = "response.content_part.added")]
    PartAdded { item_id: String, output_index: u64, content_index: u64, part: Part, sequence_number: u64 },
    #[serde(rename = "response.content_part.done")]
    PartDone { item_id: String, output_index: u64, content_index: u64, part: Part, sequence_number: u64 },
    #[serde(rename = "response.output_text.delta")]
    Text {
        item_id: String,
        output_index: u64,
        content_index: u64,
        delta: String,
        logprobs: Vec<Value>,
        sequence_number: u64,
    },
    #[serde(rename = "response.output_text.done")]
    TextDone {
        item_id: String,
        output_index: u64,
        content_index: u64,
        text: String,
        logprobs: Vec<Value>,
        sequence_number: u64,
    },
    #[serde(rename = "response.reasoning_text.delta")]
    Reasoning { item_id: String, output_index: u64, content_index: u64, delta: String, sequence_number: u64 },
    #[serde(rename = "response.reasoning_text.done")]
    ReasoningDone {
        item_id: String,
        output_index: u64,
        content_index: u64,
        text: String,
        sequence_number: u64,
    },
    #[serde(rename = "response.function_call_arguments.delta")]
    Arguments { item_id: String, output_index: u64, delta: String, sequence_number: u64 },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        item_id: String,
        output_index: u64,
        arguments: String,
        name: String,
        sequence_number: u64,
    },
    #[serde(rename = "response.completed")]
    Completed { response: Response, sequence_number: u64 },
    #[serde(rename = "response.incomplete")]
    Incomplete { response: Response, sequence_number: u64 },
    #[serde(rename = "response.failed")]
    Failed { response: Response, sequence_number: u64 },
    #[serde(rename = "error")]
    Error { code: String, message: String, param: Option<String>, sequence_number: u64 },
}
