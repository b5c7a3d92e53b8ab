"""The configuration file: YAML, read strictly.

PyYAML follows YAML 1.1, which has surprises in store for a file like this one: the
last of two equal keys wins, `1:30` is the number 90, and `2026-01-02` is a date.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from dsqlproxy.config.refusal import given
from dsqlproxy.config.values import DecimalInt
from dsqlproxy.errors import ConfigError

_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_UNQUOTED_IPV6: Final = re.compile(r":\s+\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]")


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that notes duplicate keys and leaves text alone."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the shape that PyYAML gives it
        first: [pair for pair in pairs if pair[0] != _TIMESTAMP]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[str] = []

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, Any]:
        """Build a mapping, and note the keys that it has twice."""
        first_line: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            first = first_line.setdefault((key.tag, key.value), line)
            if first != line:
                where = _where(key.start_mark)
                self.problems.append(
                    f"{where}: the key {given(key.value)} is given twice, first in "
                    f"line {first}; accepted: one of the two"
                )
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> object:
        """Build a number, but keep text that YAML 1.1 alone would call one."""
        text = str(self.construct_scalar(node))
        if ":" in text:
            return text
        if node.tag.endswith(":float"):
            return self.construct_yaml_float(node)
        number = self.construct_yaml_int(node)
        return DecimalInt(number) if re.fullmatch("[1-9][0-9_]*", text) else number

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build anything; a tag that its value does not fit is a problem, no crash."""
        try:
            return super().construct_object(node, deep)
        except (AttributeError, LookupError, ValueError) as error:
            wrong = f"the value does not fit the tag {node.tag}"
            raise yaml.constructor.ConstructorError(
                None, None, wrong, node.start_mark
            ) from error


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_number)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_number)


def read_file(path: Path) -> tuple[dict[Any, Any], list[str]]:
    """Read a file into a tree, with the problems that do not prevent reading on.

    Raises ConfigError where there is no tree to speak of.
    """
    text = _read_text(path)
    try:
        tree, problems = _load(text)
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error, text)], source=str(path)) from error
    except RecursionError as error:
        raise ConfigError(
            ["the file is nested too deeply"], source=str(path)
        ) from error
    if tree is None:
        wrong = "the file is empty; accepted: at least listeners, with one cluster"
        raise ConfigError([wrong], source=str(path))
    if not isinstance(tree, dict):
        wrong = f"the file holds {given(tree)}; accepted: keys such as listeners"
        raise ConfigError([wrong], source=str(path))
    return tree, problems


def _load(text: str) -> tuple[object, list[str]]:
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data(), loader.problems
    finally:
        loader.dispose()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"the file is not UTF-8 (byte {error.start})"
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        problem = f"the file cannot be read ({reason})"
    raise ConfigError([problem], source=str(path))


def _syntax_problem(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        reason = error.problem or error.context or "the syntax is wrong"
        problem = f"{_where(error.problem_mark)}: not valid YAML: {reason}"
    else:
        problem = f"not valid YAML: {' '.join(str(error).split())}"
    if _UNQUOTED_IPV6.search(text):
        problem += "; an address that begins with [ needs quotes"
    return problem


def _where(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
