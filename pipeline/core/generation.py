"""The generation settings that a model brings: kept where they can be saved again."""

import logging

from pipeline.core.console import LOGGER


def settle_generation(model) -> None:
    """Makes the generation configuration of a model one that transformers agrees to save.

    Settings of sampling without `do_sample` make it refuse, at the end of a training. They mean sampling; what is
    refused all the same is dropped with a warning, but for the tokens that begin, end and pad.
    """
    from transformers import GenerationConfig

    config = getattr(model, "generation_config", None)
    if config is None or _refusal(config) is None:
        return
    config.do_sample = True
    if (why := _refusal(config)) is None:
        return
    logging.getLogger(LOGGER).warning("The model's generation_config.json is not kept, but for its tokens: %s", why)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    model.generation_config = GenerationConfig(**{name: getattr(config, name, None) for name in names})


def _refusal(config) -> str | None:
    """Why transformers would not save the configuration; None where it would."""
    try:
        config.validate(strict=True)
    except ValueError as error:
        return str(error)
    return None
