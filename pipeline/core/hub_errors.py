"""What the Hugging Face Hub refuses, and how to mend it."""

from collections.abc import Iterator

from pipeline.core.errors import ConfigError


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def refusal(name: str, error: BaseException) -> ConfigError | None:
    """The error to raise where the Hub does not give the repository `OWNER/NAME`; None where it is something else."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    found = list(causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in found):  # which is a kind of the other
        return ConfigError(
            f"hub:{name} is gated. Ask for access on its page, then log in with `hf auth login` or set HF_TOKEN."
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in found):
        return ConfigError(
            f"hub:{name} does not exist, or is private. Check the spelling; for a private one set HF_TOKEN."
        )
    return None
