//! `GET /v1/models` and `GET /v1/models/{id}`.

use engine::Recommended;
use serde::Serialize;

/// One served model. The fields after `owned_by` are those of vLLM and llama-server, which
/// clients read to size their context.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelCard {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    /// Unix seconds at which this server took the model up.
    pub(crate) created: u64,
    pub(crate) owned_by: &'static str,
    pub(crate) status: ModelStatus,
    /// This and what follows only of a model that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_model_len: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<ModelMeta>,
}

/// llama-server's `status`: "loaded", "loading" or "unloaded"; and "refused".
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelStatus {
    pub(crate) value: &'static str,
    /// In what it is not what the owner's lock says; only of one that is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl ModelStatus {
    /// The status of a model that is not what the lock says.
    pub(crate) fn refused(reason: String) -> Self {
        Self { value: "refused", reason: Some(reason) }
    }
}

/// llama-server's `meta`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ModelMeta {
    pub(crate) architecture: String,
    pub(crate) n_vocab: usize,
    pub(crate) n_ctx_train: u32,
    /// Bytes of the weights.
    pub(crate) size: u64,
    /// Whether `/v1/chat/completions` works: the model has a chat template.
    pub(crate) chat: bool,
    /// Elements of the vectors, of a model that answers on `/v1/embeddings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n_embd: Option<usize>,
    /// What requests get that do not say, of a model whose file recommends something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recommended_sampling: Option<RecommendedSampling>,
}

/// What a model's file recommends, under the names of the parameters that ask for something else.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RecommendedSampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xtc_probability: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xtc_threshold: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f32>,
}

impl RecommendedSampling {
    /// `None` where nothing is recommended.
    pub(crate) fn of(recommended: &Recommended) -> Option<Self> {
        let Recommended {
            temperature,
            top_k,
            top_p,
            min_p,
            xtc_probability,
            xtc_threshold,
            repetition_penalty,
            unused: _,
        } = *recommended;
        (!recommended.is_empty()).then_some(Self {
            temperature,
            top_k,
            top_p,
            min_p,
            xtc_probability,
            xtc_threshold,
            repetition_penalty,
        })
    }
}

/// The body of the list.
pub(crate) fn list_body(cards: &[ModelCard]) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: &'a [ModelCard],
    }
    super::to_json(&List { object: "list", data: cards })
}

/// The body of one model.
pub(crate) fn model_body(card: &ModelCard) -> String {
    super::to_json(card)
}
