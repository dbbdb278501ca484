"""The base class of everything that is read from a profile, and how a section that is set in part is completed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class Strict(BaseModel):
    """A profile section: unknown keys and wrong types are errors, and nothing is changed after loading.

    A section inside it that is set in part keeps the rest of that field's default: with
    `sampling: Sampling = Sampling(temperature=0.6, max_tokens=32768)`, `{sampling: {max_tokens: 512}}` keeps 0.6.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after runs had been made. At its default such a key is not written down, so that the identity of
    a stage, a hash of its section, is what it was and the stage stays done."""

    def as_before(self, written: dict[str, Any]) -> dict[str, Any]:
        """What is written down of the section: as long ago, so that a hash of it is what it was."""
        return written

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        for key in self.LATER & written.keys():
            if getattr(self, key) == type(self).model_fields[key].default:
                del written[key]
        return self.as_before(written)

    def own_files(self) -> dict[str, Path]:
        """The user's own files that the section names, by how it names them; what they hold is part of a result.

        Sources of questions and models say their files themselves (`pipeline.runs.identity`).
        """
        return {
            reference: path
            for name in type(self).model_fields
            for reference, path in _own_files(getattr(self, name)).items()
        }

    def keys_set(self) -> dict[str, Any]:
        """The keys that were given explicitly, without defaults."""
        return self.model_dump(exclude_unset=True)

    @classmethod
    def replaced(cls, below: dict, above: dict) -> dict[str, str]:
        """Keys of `below`, set less specifically, that `above` replaces without naming them: key -> the reason."""
        return {}

    @classmethod
    def respelled(cls, section: Any) -> Any:
        """The section as it is written today, where a profile writes it in an older or shorter way."""
        return section

    @model_validator(mode="before")
    @classmethod
    def _keep_the_rest_of_defaults(cls, data: Any) -> Any:
        data = cls.respelled(data)
        if not isinstance(data, dict):
            return data
        completed = dict(data)
        for name, field in cls.model_fields.items():
            if isinstance(data.get(name), dict):
                completed[name] = _complete(data[name], field.get_default(call_default_factory=True))
        return completed


def _complete(given: dict, default: Any) -> dict:
    """`given` with what it leaves out of `default`: a section, or sections by name, whose names `given` decides."""
    if isinstance(default, Strict):
        return merge(default.keys_set(), given, type(default))
    if isinstance(default, dict):
        return {
            name: _complete(value, default.get(name)) if isinstance(value, dict) else value
            for name, value in given.items()
        }
    return given


def _own_files(value: Any) -> dict[str, Path]:
    if isinstance(value, Strict):
        return value.own_files()
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {reference: path for item in items for reference, path in _own_files(item).items()}


Say = Callable[[str, str], None]
"""Is called with the dotted key of a value that is replaced, and why."""


class Replacing(dict):
    """A mapping that takes the place of the one below it, where others are laid over it key by key."""


def merge(below: Any, above: Any, annotation: Any, say: Say = lambda key, why: None) -> Any:
    """`above` over `below`, both to be read as the type `annotation`: mappings key by key; anything else is replaced,
    lists too, and by a `Replacing` mapping. A named entry that `above` sets to null is taken away (`take_away`)."""
    kept = give_way(below, above, annotation, say)
    return take_away(lay_over(kept, above), kept, above, annotation)


def take_away(merged: Any, below: Any, above: Any, annotation: Any) -> Any:
    """`merged` without the entries of `below` that `above` sets to null, in mappings whose keys are names that a
    profile chooses (students, question groups, evaluation sets).

    A null stays where it is a valid value of such an entry, and where `below` has no entry of that name: validation
    then refuses it, so that a misspelt name is found. What `merged` has lost already, to a later override of the whole
    mapping, is passed over.
    """
    if not all(isinstance(each, dict) for each in (merged, below, above)):
        return merged
    mappings = [kind for kind in _alternatives(annotation) if get_origin(kind) is dict]
    removable = any(not _takes_null(get_args(kind)[1]) for kind in mappings)
    kept = dict(merged)
    for key in below.keys() & above.keys() & merged.keys():
        if above[key] is None and removable:
            del kept[key]
        else:
            kept[key] = take_away(merged[key], below[key], above[key], inside(annotation, key))
    return kept


def _takes_null(annotation: Any) -> bool:
    return any(kind in (Any, type(None)) for kind in _alternatives(annotation))


def respelled(value: Any, annotation: Any) -> Any:
    """The value, to be read as the type `annotation`, with all its sections as they are written today."""
    replacing = isinstance(value, Replacing)
    for section in sections_in(annotation):
        value = section.respelled(value)
    if isinstance(value, dict):
        today = {key: respelled(item, inside(annotation, key)) for key, item in value.items()}
        return Replacing(today) if replacing else today
    if isinstance(value, list):
        return [respelled(item, inside(annotation, "")) for item in value]
    return value


def lay_over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict) or isinstance(above, Replacing):
        return above
    return {**below, **{key: lay_over(below.get(key), value) for key, value in above.items()}}


def give_way(below: Any, above: Any, annotation: Any, say: Say, prefix: str = "") -> Any:
    """`below` without what the sections of `above` replace though they do not name it."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return below
    if isinstance(above, Replacing):
        return {}
    kept = dict(below)
    for section in sections_in(annotation):
        for key, why in section.replaced(kept, above).items():
            del kept[key]
            say(f"{prefix}{key}", why)
    for key in kept.keys() & above.keys():
        kept[key] = give_way(kept[key], above[key], inside(annotation, key), say, f"{prefix}{key}.")
    return kept


def emptied(merged: Any, above: Any, annotation: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """(dotted key, names that stay) of each `{}` in `above` for a mapping whose keys are names that a profile chooses:
    it reads as if `merged` had none there, and takes nothing away."""
    if not isinstance(merged, dict) or not isinstance(above, dict):
        return
    if merged and not above and any(get_origin(kind) is dict for kind in _alternatives(annotation)):
        yield prefix.removesuffix("."), list(merged)
    for key in merged.keys() & above.keys():
        yield from emptied(merged[key], above[key], inside(annotation, key), f"{prefix}{key}.")


def sections_in(annotation: Any) -> list[type[Strict]]:
    """The sections that a value of this type can be."""
    return [kind for kind in _alternatives(annotation) if isinstance(kind, type) and issubclass(kind, Strict)]


def inside(annotation: Any, key: str) -> Any:
    """The type of what stands at `key` in a value of this type: a field's, or an item's; None where nothing can."""
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, Strict) and key in kind.model_fields:
            return kind.model_fields[key].annotation
        if get_origin(kind) in (dict, list):
            return get_args(kind)[-1]
    return None


def _alternatives(annotation: Any) -> list[Any]:
    """The types that a union names, or the one type that it is."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for argument in get_args(annotation) for kind in _alternatives(argument)]
    return [annotation]
