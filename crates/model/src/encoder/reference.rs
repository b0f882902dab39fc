//! The naive twin of the encoder's pass: what it must compute, in f64, with nothing clever.

use super::{EncoderConfig, Pooling};
use crate::ModelError;
use crate::reference::{File, Rows, dot, heads, missing, product};
use gguf::Gguf;

/// The vector of `text`, `[n_embd]`, of length 1.
///
/// # Errors
/// As [`crate::Encoder::load`]; a missing tensor is found when it is needed.
pub fn embedding(gguf: &Gguf, text: &[u32]) -> Result<Vec<f64>, ModelError> {
    let config = EncoderConfig::from_gguf(gguf)?;
    let pass = Pass { file: File::new(gguf), config };
    let (tokens, places) =
        (pass.matrix("token_embd.weight")?, pass.matrix("position_embd.weight")?);
    let types = pass.matrix("token_types.weight")?;
    let embed = |(&token, place): (&u32, &Vec<f64>)| {
        let token = &tokens[token as usize];
        (0..token.len()).map(|i| token[i] + types[0][i] + place[i]).collect()
    };
    let mut hidden: Rows = text.iter().zip(&places).map(embed).collect();
    pass.norm(&mut hidden, "token_embd_norm")?;
    for layer_idx in 0..pass.config.n_layers {
        let name = |part: &str| format!("blk.{layer_idx}.{part}");
        let mixed = pass.attention(&hidden, name)?;
        add(&mut hidden, pass.linear(&name("attn_output"), &mixed)?);
        pass.norm(&mut hidden, &name("attn_output_norm"))?;
        let mut up = pass.linear(&name("ffn_up"), &hidden)?;
        for x in up.iter_mut().flatten() {
            *x = *x * (1.0 + erf(*x / std::f64::consts::SQRT_2)) / 2.0;
        }
        add(&mut hidden, pass.linear(&name("ffn_down"), &up)?);
        pass.norm(&mut hidden, &name("layer_output_norm"))?;
    }
    let vector = match pass.config.pooling {
        Pooling::Cls => hidden.remove(0),
        Pooling::Mean => {
            let mean = |i: usize| hidden.iter().map(|row| row[i]).sum::<f64>() / text.len() as f64;
            (0..pass.config.n_embd).map(mean).collect()
        }
    };
    let length = dot(&vector, &vector).sqrt();
    Ok(vector.into_iter().map(|x| x / length).collect())
}

struct Pass<'a> {
    file: File<'a>,
    config: EncoderConfig,
}

impl Pass<'_> {
    fn matrix(&self, name: &str) -> Result<Rows, ModelError> {
        self.file.matrix(name)?.ok_or_else(|| missing(name.to_owned()))
    }

    fn linear(&self, name: &str, x: &Rows) -> Result<Rows, ModelError> {
        let mut out = product(&self.matrix(&format!("{name}.weight"))?, x);
        let bias = self.file.vector(&format!("{name}.bias"))?;
        for row in &mut out {
            row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
        }
        Ok(out)
    }

    fn norm(&self, rows: &mut Rows, name: &str) -> Result<(), ModelError> {
        let weight = self.file.vector(&format!("{name}.weight"))?;
        let bias = self.file.vector(&format!("{name}.bias"))?;
        for row in rows {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            let squares: f64 = row.iter().map(|x| (x - mean).powi(2)).sum();
            let eps = f64::from(self.config.norm_eps);
            let factor = 1.0 / (squares / row.len() as f64 + eps).sqrt();
            for ((x, weight), bias) in row.iter_mut().zip(&weight).zip(&bias) {
                *x = (*x - mean) * factor * weight + bias;
            }
        }
        Ok(())
    }

    /// Every token looks at all: `[n_tokens, n_embd]`.
    fn attention(&self, x: &Rows, name: impl Fn(&str) -> String) -> Result<Rows, ModelError> {
        let head_dim = self.config.head_dim;
        let q = heads(&self.linear(&name("attn_q"), x)?, head_dim);
        let k = heads(&self.linear(&name("attn_k"), x)?, head_dim);
        let v = heads(&self.linear(&name("attn_v"), x)?, head_dim);
        let mix = |q: &Vec<f64>, head_idx: usize| {
            let score = |k: &Rows| dot(q, &k[head_idx]) / (head_dim as f64).sqrt();
            let weights: Vec<f64> = k.iter().map(|k| score(k).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut mixed = vec![0.0; head_dim];
            for (weight, v) in weights.iter().zip(&v) {
                mixed.iter_mut().zip(&v[head_idx]).for_each(|(x, v)| *x += weight / sum * v);
            }
            mixed
        };
        let row = |q: &Rows| (0..).zip(q).flat_map(|(head_idx, q)| mix(q, head_idx)).collect();
        Ok(q.iter().map(row).collect())
    }
}

fn add(hidden: &mut Rows, block: Rows) {
    for (hidden, x) in hidden.iter_mut().flatten().zip(block.iter().flatten()) {
        *hidden += x;
    }
}

/// By its series of positive terms, `2/√π · exp(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!`.
fn erf(x: f64) -> f64 {
    // Nearer to 1 than f64 can say, and the series would overflow.
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, 0.0);
    for n in 0..200 {
        sum += term;
        term *= 2.0 * x * x / f64::from(2 * n + 3);
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}
