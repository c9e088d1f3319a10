"""With a tiny transformer made here: the stage's contract does not depend on which encoder it runs."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from curate.encoders.text_config import TextEncoderConfig
from curate.schema import Failure
from train.data.text_embed import TextEmbedded, TextEmbedItem, TextEmbedStage
from train.run.folder import RunRecord
from train.sampling.loaded import embed_prompts, load_text_encoder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TextEncoderConfig:
    from curate.encoders import torchvision_cpu

    torchvision_cpu.repair()
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder: Path = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "rabbit", "runs", "sleeps", "tree", "under"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
    return TextEncoderConfig(model=str(folder), device="cpu")


ITEMS = [
    TextEmbedItem(clip_id="one", captions={"short": "a rabbit", "dense": "a rabbit sleeps under a tree"}),
    TextEmbedItem(clip_id="none", captions={}),
    TextEmbedItem(clip_id="two", captions={"short": "a rabbit runs"}),
]


def test_outcomes_keep_their_order_and_hold_the_states_of_each_caption(config: TextEncoderConfig):
    stage = pickle.loads(pickle.dumps(TextEmbedStage(config)))
    stage.setup()
    one, none, two = stage.process(ITEMS)
    assert isinstance(none, Failure) and none.subject == "none"
    assert isinstance(one, TextEmbedded) and isinstance(two, TextEmbedded)
    assert set(one.states) == {"short", "dense"} and set(two.states) == {"short"}
    assert len(one.states["short"]) < len(one.states["dense"])
    for state in (*one.states.values(), *two.states.values()):
        assert state.dtype == np.float16 and state.shape[1] == stage.fingerprint_record()["dim"]
    alone = stage.process(ITEMS[2:])[0]
    np.testing.assert_allclose(alone.states["short"], two.states["short"], atol=2e-3)


def test_what_a_limit_cuts_off_is_counted(config: TextEncoderConfig, caplog: pytest.LogCaptureFixture):
    short = config.model_copy(update={"max_tokens": 5})  # [CLS] and [SEP] are two of them
    stage = TextEmbedStage(short)
    stage.setup()
    one, _, two = stage.process(ITEMS)
    assert {kind: len(states) for kind, states in one.states.items()} == {"short": 4, "dense": 5}
    assert one.num_uncut == {"short": 4, "dense": 8}
    assert len(two.states["short"]) == 5 and two.num_uncut == {"short": 5}  # as long as the limit, and not cut
    record = RunRecord(latents={}, text=stage.fingerprint_record(), fps=12.0, datasets=())
    embed_prompts(["a rabbit runs", "a rabbit sleeps under a tree"], load_text_encoder(record))
    [warning] = caplog.messages
    assert "'a rabbit sleeps under a tree': cut off at 5 of 8 tokens" in warning


def test_more_tokens_than_the_encoder_has_positions_for_are_refused(config: TextEncoderConfig):
    with pytest.raises(ValueError, match=r"text\.max_tokens: got 513; expected at most 512"):
        TextEmbedStage(config.model_copy(update={"max_tokens": 513})).setup()


def test_prompts_are_embedded_as_the_captions_were_and_another_encoder_is_refused(config: TextEncoderConfig):
    stage = TextEmbedStage(config)
    stage.setup()
    text = stage.fingerprint_record()
    assert text["libraries"].keys() >= {"transformers", "tokenizers", "torch"}
    record = RunRecord(latents={}, text=text, fps=12.0, datasets=())
    states = embed_prompts(["a rabbit runs"], load_text_encoder(record))
    np.testing.assert_allclose(states[0].numpy(), stage.process(ITEMS[2:])[0].states["short"], atol=2e-3)
    text["encoder_fingerprint"] = "another"
    with pytest.raises(ValueError, match="the run was trained with another"):
        load_text_encoder(record)
