//! What generation_config.json recommends.

/// Sampling defaults that the model's authors recommend; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// 0 is greedy, also when the file says `"do_sample": false`.
    pub temperature: Option<f32>,
    /// In (0, 1].
    pub top_p: Option<f32>,
    /// 0 keeps all tokens.
    pub top_k: Option<u32>,
    /// In [0, 1].
    pub min_p: Option<f32>,
    /// Above 0; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Ids that end generation.
    pub eos_ids: Vec<u32>,
}
