"""Checkpoints for use elsewhere: a GGUF file with a Modelfile, a folder ready for the Hub, or adapters alone; and the
upload of it.

make export STUDENT=qwen FORMAT=gguf        runs/<run>/export/distill-qwen-gguf/
make export STUDENT=general-rl FORMAT=hf    runs/<run>/export/general-rl-hf/
make export STUDENT=qwen FORMAT=adapter     the LoRA adapters that a stage with `lora` trained, not merged
make upload STUDENT=qwen REPO=me/my-model   the only command that sends anything
"""

import json
import logging
import shutil
from pathlib import Path

from data_recipes.templates import R1_ZERO
from pipeline.config.profile import Profile
from pipeline.core.console import LOGGER
from pipeline.core.errors import ConfigError, RunError, first_line
from pipeline.engines.engine import end_token_ids
from pipeline.export.gguf import write_gguf
from pipeline.export.model_card import ADAPTER_CONFIG, model_card
from pipeline.export.modelfile import modelfile
from pipeline.export.older_transformers import lacks, write_old_names
from pipeline.export.reasoning import with_reasoning
from pipeline.runs.checkpoints import checkpoint_of, full_name, is_chat_model, load_tokenizer, origin_of
from pipeline.runs.folder import RunFolder

FORMATS = ("gguf", "hf", "adapter")


def export(profile: Profile, run: RunFolder, student: str, form: str, transformers4: bool = True) -> Path:
    """Writes the checkpoint in one of `FORMATS` and returns its folder, which replaces an earlier one.

    With `transformers4` a folder for the Hub also holds what that version reads, where it can be said there.

    `student` is a student's name (its distilled checkpoint), a stage, `stage/student`, or a path. Raises ConfigError
    for an unknown form or model, and for what a form cannot hold.
    """
    if form not in FORMATS:
        raise ConfigError(f"FORMAT={form}: expected one of {', '.join(FORMATS)}.")
    name = full_name(profile, student)
    checkpoint = checkpoint_of(run, name, "STUDENT")
    title = name.replace("/", "-") if not Path(name).is_dir() else Path(name).resolve().name
    folder = run.path / "export" / f"{title}-{form}"
    written = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    try:
        if form == "gguf":
            _write_for_ollama(profile, name, checkpoint, written, f"{run.name}-{title}.gguf")
        elif form == "adapter":
            _write_adapter(profile, run, name, checkpoint, written)
        else:
            _write_for_hub(name, checkpoint, written, transformers4)
        (written / "README.md").write_text(model_card(profile, run, name, checkpoint, written), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        written.rename(folder)
    finally:
        shutil.rmtree(written, ignore_errors=True)  # still there only where the export failed
    return folder


def _write_for_hub(name: str, checkpoint: Path, folder: Path, transformers4: bool) -> None:
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    tokenizer = load_tokenizer(checkpoint, is_chat_model(name))
    template = with_reasoning(tokenizer)
    if template != tokenizer.chat_template:
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    if not transformers4:
        return
    if why := lacks(folder):
        logging.getLogger(LOGGER).warning("%s is for transformers 5 alone: %s.", checkpoint, why)
    else:
        write_old_names(folder)


def _write_for_ollama(profile: Profile, name: str, checkpoint: Path, folder: Path, file: str) -> None:
    from transformers import AutoConfig

    tokenizer = load_tokenizer(checkpoint, is_chat_model(name))
    write_gguf(checkpoint, folder / file, file.removesuffix(".gguf"), with_reasoning(tokenizer))
    sampling = profile.stages.evaluate.sampling
    plain = None if is_chat_model(name) else profile.templates.r1_zero or R1_ZERO
    context = min(AutoConfig.from_pretrained(checkpoint).max_position_embeddings, profile.engine.max_model_len)
    ends = tokenizer.convert_ids_to_tokens(sorted(end_token_ids(tokenizer, str(checkpoint))))
    text = modelfile(file, tokenizer, plain, sampling.temperature, sampling.top_p, context, ends)
    (folder / "Modelfile").write_text(text, encoding="utf-8")


def _write_adapter(profile: Profile, run: RunFolder, name: str, checkpoint: Path, folder: Path) -> None:
    adapter = checkpoint.with_name("adapter")
    if not (adapter / ADAPTER_CONFIG).is_file():
        raise ConfigError(
            f"FORMAT=adapter: {checkpoint} was trained with all its weights, so there are no adapters beside it. Give "
            "its stage a `lora` section, or export it with FORMAT=hf."
        )
    shutil.copytree(adapter, folder, dirs_exist_ok=True)
    load_tokenizer(checkpoint, is_chat_model(name)).save_pretrained(folder)
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = _adapted(profile, run, name) or config["base_model_name_or_path"]
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _adapted(profile: Profile, run: RunFolder, name: str) -> str | None:
    """What the adapters of a stage or student belong to: a name on the Hub, else a folder of the run. None where
    `name` is a path outside the run."""
    origin = origin_of(profile, run, name)
    if origin is None:
        return None
    if origin.from_base and origin.base.startswith("hub:"):
        return origin.base.removeprefix("hub:")
    return str((run.path / origin.start).resolve())


def uses_of(folder: Path, run: RunFolder) -> list[str]:
    """What to type next with an exported folder, where a program here or beside it takes it."""
    files = sorted(folder.glob("*.gguf"))
    if not files:
        return []
    return [
        f"Talk to it:  make chat MODEL={files[0]}{run.as_variables()}",
        f"In Ollama:   ollama create {files[0].stem} -f {folder / 'Modelfile'}",
    ]


def check_repository(repository: str) -> None:
    """Raises ConfigError for what cannot be a repository's name."""
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ConfigError(f"REPO={repository!r}: expected OWNER/NAME, such as REPO=me/my-model.")


def upload(folder: Path, repository: str, private: bool) -> str:
    """Sends an exported folder to a repository on the Hub, which is made where there is none; returns its address.

    Raises ConfigError for a name that is none, RunError where the Hub refuses or cannot be reached.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    check_repository(repository)
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload from R1 Ladder"))
    except HFValidationError as error:
        raise ConfigError(f"REPO={repository}: {error}") from None
    except LocalTokenNotFoundError:
        raise ConfigError("No token for the Hugging Face Hub. Log in with `hf auth login`, or set HF_TOKEN.") from None
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise RunError(
            f"{repository} could not be written: {first_line(error)}. Check the name, the token's right to "
            f"write (`hf auth whoami`) and the network. The folder {folder} stays as it is."
        ) from None
