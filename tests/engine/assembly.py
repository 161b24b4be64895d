"""Reads compiler output: what the innermost loops of a kernel are made of (ENGINE.md 6.5).

    for loop in innermost_loops(assembly([kernel], target)):
        assert loop.fmas == 24 and loop.stack == 0 and loop.calls == 0

x86-64 in AT&T syntax and AArch64, as LLVM writes them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LABEL = re.compile(r"^([.\w$]+):")
# FMA of vectors and, apart, of single floats (which a kernel should have only in its scalar rests).
_FMA = re.compile(r"vfn?m(add|sub)\d*p[sd]$|vdpbf16ps|vpdp\w+")
_SCALAR_FMA = re.compile(r"vfn?m(add|sub)\d*s[sd]$")
# rbp and x29 count in functions that make them frame pointers (as over-aligned frames do); elsewhere they are registers
# like others.
_FRAME = re.compile(r"movq?\s+%rsp, %rbp$|(mov|add)\s+x29, sp\b")
_STACK = re.compile(r"\(%rsp\b|\[sp\b")
_STACK_OR_FRAME = re.compile(r"\(%r(sp|bp)\b|\[(sp|x29)\b")
_STORE_X86 = re.compile(r"%[xyz]mm\d+,\s*[-\w.]*\([^)]*\)(\s*\{%k\d\})?$")
_BRANCH_X86 = re.compile(r"^j\w+$|^loop\w*$")
_BRANCH_AARCH64 = re.compile(r"^(b(\.\w+)?|cbn?z|tbn?z)$")


@dataclass(frozen=True)
class Loop:
    """One innermost loop.

    function   the kernel it is part of
    lines      its instructions
    fmas       fused multiply-adds of vectors; `scalar_fmas` those of single floats
    loads      vector loads, broadcasts from memory and memory operands of vector instructions
    stores     vector stores
    stack      instructions that touch the stack
    calls      calls of functions
    """

    function: str
    lines: tuple[str, ...]
    fmas: int
    scalar_fmas: int
    loads: int
    stores: int
    stack: int
    calls: int


def functions(text: str) -> dict[str, list[str]]:
    """The instructions and labels of every function, without directives and comments."""
    found: dict[str, list[str]] = {}
    declared = set(re.findall(r"^\s*\.type\s+([\w.$]+),\s*[@%]function", text, re.MULTILINE))
    current: list[str] | None = None
    for raw in text.splitlines():
        line = re.split(r"\s#\s|\s*//", raw, maxsplit=1)[0].rstrip()
        label = _LABEL.match(line)
        if label and label[1] in declared:
            current = found[label[1]] = []
        elif current is not None and label:
            current.append(line)
        elif current is not None and line.strip() and not line.strip().startswith((".", "#")):
            current.append(line.strip())
        elif line.strip().startswith(".size") and current is not None:
            current = None
    return found


def innermost_loops(text: str, function: str | None = None) -> list[Loop]:
    """Innermost loops of all functions, or of one: natural loops with no other loop inside, in order of appearance."""
    return [
        _describe(name, body, _stack(lines))
        for name, lines in functions(text).items()
        if function in (None, name)
        for body in _innermost(lines)
    ]


def stack_references(text: str, function: str) -> int:
    """Instructions of a whole function that touch the stack; saving registers at its ends counts too."""
    lines = functions(text)[function]
    return sum(_on_stack(line, _stack(lines)) for line in lines)


def _stack(lines: list[str]) -> re.Pattern[str]:
    """What memory operands on the stack of a function look like."""
    return _STACK_OR_FRAME if any(_FRAME.match(line) for line in lines) else _STACK


def _innermost(lines: list[str]) -> Iterator[list[str]]:
    blocks, successors = _flow(lines)
    dominators = _dominators(successors)
    loops: dict[int, set[int]] = {}
    for block, targets in enumerate(successors):
        for head in targets & dominators[block]:  # a branch back to a block that is always passed before
            loops.setdefault(head, {head}).update(_blocks_before(block, head, successors))
    for head, body in sorted(loops.items()):
        if not any(other in body for other in loops if other != head):
            yield [line for block in sorted(body) for line in blocks[block]]


def _flow(lines: list[str]) -> tuple[list[list[str]], list[set[int]]]:
    """Basic blocks, and for each the blocks that may follow it."""
    blocks: list[list[str]] = [[]]
    labels: dict[str, int] = {}
    for line in lines:
        label = _LABEL.match(line)
        if label:
            if blocks[-1]:
                blocks.append([])
            labels[label[1]] = len(blocks) - 1
            continue
        if blocks[-1] and _branch_target(blocks[-1][-1]) is not None:
            blocks.append([])
        blocks[-1].append(line)
    successors: list[set[int]] = []
    for i, block in enumerate(blocks):
        last = block[-1] if block else "ret"
        target = _branch_target(last)
        follows = {labels[target]} if target in labels else set()
        if _parts(last)[0] not in ("jmp", "b", "ret", "retq") and i + 1 < len(blocks):
            follows.add(i + 1)
        successors.append(follows)
    return blocks, successors


def _dominators(successors: list[set[int]]) -> list[set[int]]:
    """For each block the blocks that every way from the entry to it passes, itself included."""
    everything = set(range(len(successors)))
    found = [{0}] + [set(everything) for _ in successors[1:]]
    changed = True
    while changed:
        changed = False
        for block in range(1, len(successors)):
            before = [found[other] for other in everything if block in successors[other]]
            new = {block} | (set.intersection(*before) if before else set())
            changed |= new != found[block]
            found[block] = new
    return found


def _blocks_before(block: int, head: int, successors: list[set[int]]) -> set[int]:
    """Blocks from which `block` is reached without passing `head`."""
    found, waiting = set(), [block]
    while waiting:
        current = waiting.pop()
        if current != head and current not in found:
            found.add(current)
            waiting += [other for other, targets in enumerate(successors) if current in targets]
    return found


def _branch_target(line: str) -> str | None:
    operation, operands = _parts(line)
    if _BRANCH_X86.match(operation) or _BRANCH_AARCH64.match(operation):
        return operands.split(",")[-1].strip()
    return None


def _describe(function: str, lines: list[str], stack: re.Pattern[str]) -> Loop:
    return Loop(
        function,
        tuple(lines),
        fmas=sum(_is_fma(line) for line in lines),
        scalar_fmas=sum(_is_scalar_fma(line) for line in lines),
        loads=sum(_vector_loads(line) for line in lines),
        stores=sum(_vector_stores(line) for line in lines),
        stack=sum(_on_stack(line, stack) for line in lines),
        calls=sum(line.split()[0] in ("call", "callq", "bl", "blr") for line in lines),
    )


def _parts(line: str) -> tuple[str, str]:
    operation, *rest = line.split(None, 1)
    return operation, rest[0] if rest else ""


def _is_fma(line: str) -> bool:
    operation, operands = _parts(line)
    return bool(_FMA.match(operation)) or (operation in ("fmla", "fmls", "sdot", "udot") and operands.startswith("v"))


def _is_scalar_fma(line: str) -> bool:
    operation, _ = _parts(line)
    return bool(_SCALAR_FMA.match(operation)) or operation in ("fmadd", "fmsub", "fnmadd", "fnmsub")


def _vector_loads(line: str) -> int:
    operation, operands = _parts(line)
    if "%" in operands:
        scalar = operation.endswith(("ss", "sd")) and not operation.startswith("vbroadcast")
        vector = "(" in operands and re.search(r"%[xyz]mm", operands) and not _STORE_X86.search(operands)
        return int(bool(vector) and not scalar)
    if re.match(r"ld(r|ur|p|np)$", operation):
        return len(re.findall(r"\bq\d+", operands))
    return int(bool(re.match(r"ld\d", operation)))


def _vector_stores(line: str) -> int:
    operation, operands = _parts(line)
    if "%" in operands:
        return int(bool(_STORE_X86.search(operands)) and not operation.endswith(("ss", "sd")))
    if re.match(r"st(r|ur|p|np)$", operation):
        return len(re.findall(r"\bq\d+", operands))
    return int(bool(re.match(r"st\d", operation)))


def _on_stack(line: str, stack: re.Pattern[str]) -> bool:
    saves = _parts(line)[0] in ("push", "pushq", "pop", "popq")
    return saves or bool(stack.search(line))
