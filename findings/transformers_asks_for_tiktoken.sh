#!/bin/sh
# Guess: a T5 tokenizer that has `spiece.model` alone (google/t5-v1_1-xxl, the pipelines of CogVideoX and LTX-Video) needs
# sentencepiece, and transformers says so where it is missing.
# Behaviour: transformers 5 says "`tiktoken` is required to read a `tiktoken` file. Install it with `pip install tiktoken`";
# with tiktoken installed it fails to parse the file. What is missing is sentencepiece, which transformers does not require.
# So: reelpack's extras `train` and `sample` have sentencepiece and protobuf.
# Seen with transformers 5.23.0, sentencepiece 0.2.3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.23.0 sentencepiece==0.2.3 protobuf
mkdir "$folder/t5"
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import json

import sentencepiece

with open("t5/spiece.model", "wb") as file:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a big gray rabbit in the sky"] * 9), model_writer=file, vocab_size=16,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )
with open("t5/tokenizer_config.json", "w") as file:
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    json.dump({"tokenizer_class": "T5Tokenizer", "extra_ids": 0, **names}, file)
END
load='from transformers import AutoTokenizer; print(AutoTokenizer.from_pretrained("t5")("a big rabbit").input_ids)'
echo "with sentencepiece: $("$folder/venv/bin/python" -c "$load" 2>/dev/null)"
"$folder/venv/bin/pip" uninstall -q -y sentencepiece
if "$folder/venv/bin/python" -c "$load" >out 2>&1; then
  echo "the behaviour has changed"
  exit 1
fi
echo "without it: $(tail -n 1 out)"
grep -q tiktoken out
"$folder/venv/bin/pip" install -q tiktoken
if "$folder/venv/bin/python" -c "$load" >out 2>&1; then
  echo "the behaviour has changed"
  exit 1
fi
echo "with tiktoken: $(tail -n 1 out)"
