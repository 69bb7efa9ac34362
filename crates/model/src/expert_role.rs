//! What the tensors of one expert are for.

/// What a tensor of an expert is for. Matrices are `[outputs, inputs]`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpertRole {
    /// Gate, `[intermediate, hidden]`.
    Gate,
    /// Up, `[intermediate, hidden]`.
    Up,
    /// Down, `[hidden, intermediate]`.
    Down,
    /// Bias of the gate, `[intermediate]`.
    GateBias,
    /// Bias of up, `[intermediate]`.
    UpBias,
    /// Bias of down, `[hidden]`.
    DownBias,
}

impl ExpertRole {
    pub(crate) const ALL: [Self; 6] =
        [Self::Gate, Self::Up, Self::Down, Self::GateBias, Self::UpBias, Self::DownBias];

    /// What it is the bias of; itself, if it is no bias.
    pub(crate) fn module(self) -> Self {
        match self {
            Self::GateBias => Self::Gate,
            Self::UpBias => Self::Up,
            Self::DownBias => Self::Down,
            other => other,
        }
    }

    /// The usual name, in the expert, of [`module`](Self::module).
    pub(crate) fn module_name(self) -> &'static str {
        match self.module() {
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            _ => "down_proj",
        }
    }
}
