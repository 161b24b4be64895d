"""Command lines as tables of flags, in the styles of argparse and absl.

--lr 0.1   --lr=0.1   -b 32   -b=32   -b32      a value
--pretrained   --nesterov true                  a switch; absl also --noname
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from secateur.recipe.document import Document
from secateur.recipe.importers.reading import Fields, Reading

# More than this is no command line.
MOST_WORDS = 2_000


@dataclass(frozen=True)
class Command:
    """The words of a command line, sorted.

    script        file name of the Python or shell script; empty where there is none
    positional    words that belong to no flag
    """

    script: str
    flags: Fields
    positional: tuple[str, ...]

    def check_words(self, reading: Reading, known: int = 0) -> None:
        """raises    RecipeError  more words than the first `known` that belong to no flag"""
        if stray := self.positional[known:]:
            reading.fail((), f"the word '{stray[0]}' belongs to no flag; is a -- missing, or the name of a flag?")


def parse_command(
    words: Sequence[str],
    reading: Reading,
    *,
    switches: Collection[str] = (),
    several: Collection[str] = (),
    short: Mapping[str, str] | None = None,
    absl: bool = False,
) -> Command:
    """Sort the words of a command.

    switches    flags that need no value
    several     flags that take all words up to the next flag
    short       one-letter flags and other names -> the name of the flag
    absl        --noname is a switch turned off
    raises      RecipeError  a flag without its value, or given twice with two values
    """
    if len(words) > MOST_WORDS:
        reading.fail((), f"{len(words)} words are too many for a command line.")
    script, rest = _after_script(words)
    found: dict[str, object] = {}
    positional: list[str] = []
    at = 0
    while at < len(rest):
        word = rest[at]
        at += 1
        if not word.startswith("-") or _is_number(word) or word == "-":
            positional.append(word)
            continue
        name, given = _name_and_value(word, short or {})
        off = absl and given is None and name.startswith("no") and name[2:] in switches and name not in switches
        value: object
        if off:
            name, value = name[2:], False
        elif given is not None:
            value = [given] if name in several else given
        elif name in several:
            end = at
            while end < len(rest) and (not rest[end].startswith("-") or _is_number(rest[end])):
                end += 1
            value, at = list(rest[at:end]), end
        elif name in switches:
            value = True
            if at < len(rest) and rest[at].lower() in ("true", "false"):
                value, at = rest[at], at + 1
        elif at < len(rest) and (not rest[at].startswith("-") or _is_number(rest[at])):
            value, at = rest[at], at + 1
        else:
            value = True  # an unknown switch, which the reader of the flags will tell
        if name in found and found[name] != value:
            reading.fail((), f"the flag '{name}' is given twice, as {found[name]} and as {value}.")
        found[name] = value
    document = reading.document
    inner = reading.within(Document(document.source, document.text, dict(found), document.lines, document.folder))
    return Command(script, inner.fields((), "the command", "flag"), tuple(positional))


def _after_script(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The first script's name, and the words behind it; `time python3 -u` and settings before it are no flags.

    Of several scripts at the beginning (run_local.sh nets/x_run.py) the last one is the script.
    """
    scripts = [i for i, word in enumerate(words) if word.endswith((".py", ".sh")) and not word.startswith("-")]
    if not scripts:
        start = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        return "", words[start:]
    last = scripts[0]
    while last + 1 in scripts:
        last += 1
    return PurePath(words[last]).name, words[last + 1 :]


def _name_and_value(word: str, short: Mapping[str, str]) -> tuple[str, str | None]:
    body = word.lstrip("-")
    name, equals, value = body.partition("=")
    glued = not word.startswith("--") and not equals and name not in short
    if glued and name[:1] in short and _is_number(name[1:]):
        return short[name[0]], name[1:]
    return short.get(name, name), value if equals else None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
