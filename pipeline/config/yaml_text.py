"""YAML as profiles are written in: numbers of YAML 1.2, no key twice, and `!replace`."""

import re
from collections.abc import Hashable

import yaml

from pipeline.core.errors import ConfigError
from pipeline.core.strict import Replacing

REPLACE = "!replace"
"""The tag of a mapping that takes the place of the parent's, entries that it does not name included."""


class ProfileLoader(yaml.SafeLoader):
    """YAML 1.2's idea of a number (`1e-6` is one) and no key twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ConfigError(
                    f"{key_node.start_mark.name}, line {key_node.start_mark.line + 1}: the key {key!r} is a "
                    f"{type(key).__name__}. Put it in quotes."
                )
            if key in seen:
                raise ConfigError(
                    f"{key_node.start_mark.name}, line {key_node.start_mark.line + 1}: the key '{key}' stands twice "
                    "in one section. Keep one of them."
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


INTEGER, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
YAML_1_2 = {
    INTEGER: re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    FLOAT: re.compile(
        r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$"
        r"|^\.(?:nan|NaN|NAN)$"
    ),
}
"""Numbers of YAML 1.2's core schema: `010` is ten, `0o10` eight; `1:30` and `1_000` are texts."""


def _construct_integer(loader: ProfileLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


ProfileLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in YAML_1_2]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in YAML_1_2.items():
    ProfileLoader.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))
ProfileLoader.add_constructor(INTEGER, _construct_integer)


def _construct_replacing(loader: ProfileLoader, node: yaml.Node) -> Replacing:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{node.start_mark.name}, line {node.start_mark.line + 1}: {REPLACE} stands before a mapping alone, as in "
            f"`questions: {REPLACE} {{reasoning: 100}}`. Lists and single values replace the parent's without it."
        )
    return Replacing(loader.construct_mapping(node, deep=True))


ProfileLoader.add_constructor(REPLACE, _construct_replacing)
