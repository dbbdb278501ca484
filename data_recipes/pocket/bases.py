"""Where the committed pocket base models lie."""

from pathlib import Path

from pipeline.core.errors import ConfigError

BASES = Path(__file__).parent / "bases"


def base_folder(name: str) -> Path:
    """The checkpoint of a pocket base. Raises ConfigError where there is none of that name."""
    folder = BASES / name
    if not (folder / "config.json").is_file():
        known = sorted(p.name for p in BASES.iterdir() if (p / "config.json").is_file()) if BASES.is_dir() else []
        raise ConfigError(
            f"No pocket base '{name}'. There are: {', '.join(known) or 'none'}. "
            "`make pocket-bases` builds those that data_recipes/pocket/bases/recipe.yaml lists."
        )
    return folder
