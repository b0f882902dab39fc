//! `GET /v1/models` and `GET /v1/models/{id}`.

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
    pub(crate) context_length: u32,
    pub(crate) max_model_len: u32,
    pub(crate) meta: ModelMeta,
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
}

/// The body of the list.
pub(crate) fn list_body<'a>(cards: impl Iterator<Item = &'a ModelCard>) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<&'a ModelCard>,
    }
    super::to_json(&List { object: "list", data: cards.collect() })
}

/// The body of one model.
pub(crate) fn model_body(card: &ModelCard) -> String {
    super::to_json(card)
}

impl ModelCard {
    /// What `info` says of the model served as `id`.
    pub(crate) fn new(
        id: String,
        created: u64,
        info: &engine::ModelInfo,
        template: Option<&text::ChatTemplate>,
    ) -> Self {
        Self {
            id,
            object: "model",
            created,
            owned_by: "freehold",
            context_length: info.n_ctx,
            max_model_len: info.n_ctx,
            meta: ModelMeta {
                architecture: info.architecture.clone(),
                n_vocab: info.n_vocab,
                n_ctx_train: info.n_ctx_train,
                size: info.weight_bytes,
                chat: template.is_some(),
            },
        }
    }
}
