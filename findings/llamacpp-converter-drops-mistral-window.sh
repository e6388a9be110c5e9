#!/usr/bin/env bash
# llama.cpp's converter, as llama-cpp-python 0.3.36 carries it, on a Mistral whose tokens see the 8 before them.
# Expected: the GGUF file says so (llama.attention.sliding_window), or the converter refuses or warns, as the numbers of
#   every text longer than the window depend on it.
# Seen: the file has the context length and no window; nothing is said. What reads it attends to all tokens. The same
#   folder in transformers gives other logits with the window than without, from the ninth token on.
# Output seen:
#   context_length 64, keys with window: none, warnings that name it: 0
#   transformers: largest difference of logits without the window: token 8 0.000, token 9 on above 0.001: True
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
pip() { python3 -m pip "$@" --quiet --disable-pip-version-check 2> pip.log || { cat pip.log; exit 3; }; }
pip install --target site torch==2.13.0 transformers==5.23.0 sentencepiece==0.2.1 numpy pyyaml
pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
tar xzf llama_cpp_python-0.3.36.tar.gz --strip-components=3 --wildcards '*/llama.cpp/convert_hf_to_gguf.py' \
  '*/llama.cpp/conversion/*' '*/llama.cpp/gguf-py/gguf/*'
export HF_HUB_OFFLINE=1 PYTHONPATH=site:gguf-py
cat > make.py <<'P'
import sentencepiece
import torch
from transformers import MistralConfig, MistralForCausalLM

with open("text.txt", "w") as file:
    file.write("the cat sat on the mat\na dog ran to the cat\n" * 50)
sentencepiece.SentencePieceTrainer.train(
    input="text.txt", model_prefix="model/tokenizer", vocab_size=290, model_type="bpe", byte_fallback=True,
    hard_vocab_limit=False, minloglevel=2,
)  # fmt: skip
torch.manual_seed(0)
size = sentencepiece.SentencePieceProcessor(model_file="model/tokenizer.model").vocab_size()
config = MistralConfig(
    vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, sliding_window=8, initializer_range=0.5,
)  # fmt: skip
MistralForCausalLM(config).save_pretrained("model")
P
cat > see.py <<'P'
import torch
from gguf import GGUFReader
from transformers import MistralForCausalLM

fields = GGUFReader("model.gguf").fields
windows = [name for name in fields if "window" in name]
said = sum("window" in line.lower() for line in open("convert.log"))
length = fields["llama.context_length"].contents()
print(f"context_length {length}, keys with window: {', '.join(windows) or 'none'}, warnings that name it: {said}")
tokens = torch.arange(3, 27)[None]
with torch.no_grad():
    model = MistralForCausalLM.from_pretrained("model")
    narrow = model(tokens).logits[0]
    wide = MistralForCausalLM.from_pretrained("model", sliding_window=None)(tokens).logits[0]
apart = (narrow - wide).abs().amax(dim=1)
later = bool((apart[8:] > 1e-3).all())
print(
    f"transformers: largest difference of logits without the window: token 8 {apart[:8].max():.3f}, "
    f"token 9 on above 0.001: {later}"
)
P
mkdir model
python3 make.py 2> error.log || { tail -5 error.log; exit 3; }
python3 convert_hf_to_gguf.py model --outfile model.gguf --outtype f32 > convert.log 2>&1 || { tail -5 convert.log; exit 3; }
python3 see.py 2> error.log | tee seen || { tail -5 error.log; exit 3; }
diff seen - <<'S'
context_length 64, keys with window: none, warnings that name it: 0
transformers: largest difference of logits without the window: token 8 0.000, token 9 on above 0.001: True
S
