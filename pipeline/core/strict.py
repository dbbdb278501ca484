"""The one base class of everything that is read from a profile."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A profile section: unknown keys and wrong types are errors, and nothing is changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)
