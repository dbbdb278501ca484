"""Settings of adapters: what they may be put on."""

import pytest
from pydantic import ValidationError

from pipeline.config.lora import LoRASettings


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_adapters_of_head_and_embeddings_are_refused(name):
    with pytest.raises(ValidationError, match="every linear layer but the head"):
        LoRASettings(target_modules=["q_proj", name])


def test_adapters_of_named_layers_are_taken():
    assert LoRASettings(target_modules=["q_proj", "up_proj"]).target_modules == ["q_proj", "up_proj"]
