"""Sections that come in kinds, such as rollout engines: each kind has keys of its own, and takes no other's."""

from typing import Annotated, Any, ClassVar, Union

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.strict import Strict

OTHER_KIND = "other_kind"
"""Type of the error for a key that belongs to another kind; its context holds the `key`."""


class OneOfKinds(Strict):
    """A family of sections, distinguished by their key `kind`.

    The family's class holds the keys of all kinds; a subclass with `kind: Literal["x"] = "x"` is one of them, and the
    first one is meant where a profile names none. `Family(kind="x", …)` makes the section of that kind, and
    `Family.any_kind()` is the type of a field that takes each. `x` alone is short for `{kind: x}`.
    """

    kinds: ClassVar[dict[str, type["OneOfKinds"]]]
    once_of_all: ClassVar[dict[str, Any]] = {}
    """Keys that every kind had before each had its own, with their defaults. They are still written down, so that the
    identity of a stage is what it was, and read at these values."""

    passed_over: ClassVar[frozenset[str]] = frozenset()
    """Keys that change no result and that every kind took before each had its own: another kind passes them over, so
    that a section needs no other change than its `kind`."""

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        super().__pydantic_init_subclass__(**keywords)
        if "kind" in cls.model_fields:
            cls.kinds[cls.model_fields["kind"].default] = cls
        else:
            cls.kinds = {}

    def __new__(cls, **keys: Any) -> "OneOfKinds":
        if "kind" in cls.model_fields:
            return super().__new__(cls)
        return super().__new__(cls.kinds.get(keys.get("kind"), cls._first()))

    @classmethod
    def _first(cls) -> type["OneOfKinds"]:
        return next(iter(cls.kinds.values()))

    @classmethod
    def any_kind(cls) -> Any:
        return Annotated[Union[tuple(cls.kinds.values())], Field(discriminator="kind"), BeforeValidator(cls._named)]  # noqa: UP007

    @classmethod
    def _named(cls, section: Any) -> Any:
        section = cls.respelled(section)
        return {"kind": next(iter(cls.kinds)), **section} if isinstance(section, dict) else section

    @classmethod
    def respelled(cls, section: Any) -> Any:
        return {"kind": section} if isinstance(section, str) else section

    @classmethod
    def replaced(cls, below: dict, above: dict) -> dict[str, str]:
        """Another kind takes no keys of the kind that was set less specifically."""
        kind = above.get("kind")
        if not isinstance(kind, str) or kind not in cls.kinds:
            return {}
        own = cls.kinds[kind].model_fields
        return {key: f"kind: {kind} has no such key" for key in below if key not in own and cls._owners(key)}

    @classmethod
    def _owners(cls, key: str) -> list[str]:
        return [kind for kind, section in cls.kinds.items() if key in section.model_fields]

    @model_validator(mode="before")
    @classmethod
    def _takes_no_other_kinds_keys(cls, data: Any) -> Any:
        """Refuses them by name. Without a value (null, an empty list), or at what they once were for all kinds, they
        say nothing, and are passed over."""
        if not isinstance(data, dict):
            return data
        others = {key: cls._owners(key) for key in data if key not in cls.model_fields}
        for key, owners in others.items():
            if owners and key not in cls.passed_over and data[key] not in (None, [], cls.once_of_all.get(key)):
                known, value = " or ".join(map(repr, owners)), f"{data[key]!r:.80}"
                raise PydanticCustomError(
                    OTHER_KIND,
                    "kind='{kind}' but {key}={value} belongs to kind {known}: take {key} out, or set that kind",
                    {
                        "kind": cls.model_fields["kind"].default,
                        "key": key,
                        "value": value,
                        "known": known,
                    },
                )
        return {key: value for key, value in data.items() if not others.get(key)}

    def keys_set(self) -> dict[str, Any]:
        said = {key: value for key, value in super().keys_set().items() if key in type(self).model_fields}
        return {"kind": self.kind, **said}

    def as_before(self, written: dict[str, Any]) -> dict[str, Any]:
        return {**self.once_of_all, **written}
