"""Pretrains the pocket base models from their recipe.

make pocket-bases          # all of them again, into data_recipes/pocket/bases/
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from data_recipes.pocket.bases import BASES
from data_recipes.pocket.corpus import CorpusSettings, documents
from data_recipes.pocket.tokenizer import build_tokenizer
from pipeline.core.console import Progress, set_up_logging
from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict
from pipeline.models.pocket.pretrain import ArchitectureSettings, PretrainSettings, build_model, pretrain

RECIPE = BASES / "recipe.yaml"


class BaseRecipe(Strict):
    """One base model: its seed, architecture, corpus and training."""

    seed: int
    architecture: ArchitectureSettings
    corpus: CorpusSettings = CorpusSettings()
    training: PretrainSettings


def read_recipes(path: Path = RECIPE) -> dict[str, BaseRecipe]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: BaseRecipe.model_validate_json(json.dumps(recipe)) for name, recipe in found.items()}


def build_base(recipe: BaseRecipe, target: Path, log: Callable[[dict], None]) -> None:
    """Pretrains one base; the folder `target` appears, or is replaced, once it is whole."""
    tokenizer = build_tokenizer()
    model = build_model(recipe.architecture, tokenizer, recipe.seed)
    unfinished = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    pretrain(model, tokenizer, documents(recipe.corpus, recipe.seed), recipe.training, unfinished, log)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def build_bases(names: Sequence[str] = ()) -> None:
    """Pretrains the committed bases of these names again, all without names, with a progress bar each. Raises
    ConfigError for a name that has no recipe."""
    recipes = read_recipes()
    for name in names or recipes:
        if name not in recipes:
            raise ConfigError(f"No recipe for a pocket base '{name}'. There are: {', '.join(recipes)}.")
        with Progress(f"pretraining {name}", recipes[name].training.steps, set_up_logging()) as bar:
            build_base(recipes[name], BASES / name, lambda f, bar=bar: bar.update(f["step"], loss=f["loss"]))
