"""Finding a reward by its name: a built-in, `path/file.py:name`, or `package.module:name`."""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rewards.contract import JudgesAnswers, Reward, RewardError


@functools.cache
def built_in() -> dict[str, type[Reward]]:
    """The built-in rewards by name: every class in a file of `rewards/builtin/` that is a `Reward`."""
    package = importlib.import_module("rewards.builtin")
    found = {}
    for file in sorted(pkgutil.iter_modules(package.__path__), key=lambda file: file.name):
        module = importlib.import_module(f"{package.__name__}.{file.name}")
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Reward) and value.__module__ == module.__name__:
                found[value.name] = value
    return found


def names() -> dict[str, str]:
    """Each built-in reward and the first line of its description."""
    return {name: (inspect.getdoc(reward) or "").splitlines()[0] for name, reward in built_in().items()}


def judges_answers(use: str) -> bool:
    """Whether `use` names a built-in reward that does not apply to a question without a gold answer."""
    return issubclass(built_in().get(use, Reward), JudgesAnswers)


def load(use: str, **args: Any) -> Callable[..., Any]:
    """The reward called `use`, ready to be called as TRL calls a reward function.

    A class is instantiated with `args`; a function gets them as keyword arguments of every call. Raises `RewardError`
    that names the file and what is missing or does not fit.
    """
    target = find(use)
    if not callable(target):
        raise RewardError(f"{use}: this is a {type(target).__name__}; a reward is a function or a class")
    check_arguments(use, target, args)
    if "environments" in required(target):
        raise RewardError(
            f"{use}: it asks for `environments`, which TRL gives to rewards of multi-turn runs; here a completion is "
            "one answer, and there are none"
        )
    if inspect.isclass(target) or is_factory(target):
        reward = made(use, target, args)
        if not callable(reward):
            raise RewardError(f"{use}: it gives a {type(reward).__name__}, which cannot be called to score completions")
    else:
        reward = functools.partial(target, **args) if args else target
    if not hasattr(reward, "__name__"):
        reward.__name__ = use.rpartition(":")[2]
    return reward


def made(use: str, target: Callable[..., Any], args: dict[str, Any]) -> Any:
    """The reward that a class or factory gives for `args`."""
    try:
        return target(**args)
    except RewardError:
        raise
    except Exception as error:
        raise RewardError(f"{use}: args {args} are not accepted: {type(error).__name__}: {error}") from error


def is_factory(function: Callable[..., Any]) -> bool:
    """Whether a function makes a reward (like TRL's `get_…_reward`) rather than being one."""
    parameters = inspect.signature(function).parameters.values()
    takes_columns = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return not takes_columns and not {"prompts", "completions", "completion_ids"} & {each.name for each in parameters}


def find(use: str) -> Any:
    """The object that `use` names, not yet instantiated."""
    if use in built_in():
        return built_in()[use]
    where, separator, name = use.rpartition(":")
    if not separator:
        known = ", ".join(built_in())
        raise RewardError(
            f"reward {use!r} is not built in ({known}), nor of the form file.py:name or package.module:name"
        )
    module = module_from_file(use, Path(where)) if where.endswith(".py") else module_from_package(use, where)
    if not hasattr(module, name):
        raise RewardError(
            f"{use}: {where} defines no {name!r}; it defines {', '.join(public_callables(module)) or 'nothing'}"
        )
    return getattr(module, name)


def located(use: str, folder: Path) -> str:
    """Make the path of a `file.py:name` absolute, relative to `folder`, so that any process can load it."""
    where, separator, name = use.rpartition(":")
    return f"{(folder / Path(where).expanduser()).resolve()}{separator}{name}" if where.endswith(".py") else use


def module_from_file(use: str, path: Path) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise RewardError(f"{use}: there is no file {path}")
    name = f"reward_file_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    module = sys.modules.get(name)
    if module is None:
        specification = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        try:
            specification.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            raise RewardError(f"{use}: {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def module_from_package(use: str, where: str) -> Any:
    try:
        return importlib.import_module(where)
    except ImportError as error:
        raise RewardError(f"{use}: module {where} cannot be imported: {error}") from error


def public_callables(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def check_arguments(use: str, target: Callable[..., Any], args: dict[str, Any]) -> None:
    """Refuse arguments that the target does not take, so that none is silently ignored."""
    parameters = inspect.signature(target).parameters
    unknown = [
        name for name in args if name not in parameters or parameters[name].kind is inspect.Parameter.VAR_KEYWORD
    ]
    made = inspect.isclass(target) or is_factory(target)
    missing = [name for name in required(target) if made and name not in args]
    if unknown or missing:
        takes = ", ".join(str(parameter) for parameter in parameters.values()) or "no arguments"
        fault = f"unknown argument {unknown[0]!r}" if unknown else f"missing argument {missing[0]!r}"
        raise RewardError(f"{use}: {fault} in args {args}; it takes {takes}")


def required(target: Callable[..., Any]) -> list[str]:
    """List the required parameters of the target."""
    return [name for name, each in inspect.signature(target).parameters.items() if is_required(each)]


def is_required(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
