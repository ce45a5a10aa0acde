"""Reads disassembled GPU code (nvdisasm -c): what asynchronous tensor-core products may meet on their way.

wgmma (HGMMA in the machine code) reads its first operand from registers while the threads go on. Nobody may write these
registers between WARPGROUP.ARRIVE, which fences them, and the WARPGROUP.DEPBAR that waits for the product's group (PTX
ISA 9.0, section 9.7.15). The compiler is to see to it; `hazards` walks every path of the code and looks.

The operands in shared memory are read by each warpgroup for itself, so that a wait says nothing of the other's reads.
Triton up to 3.7 forgets of such reads at the first barrier of the block, even where the wait comes behind it; what then
writes to shared memory behind the wait needs a barrier of its own (triton-lang/triton#11047).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LABEL = re.compile(r"^(?P<label>\.[\w.$]+):")
SECTION = re.compile(r"^\s*\.section\s+\.text\.(?P<name>[\w.$]+)")
INSTRUCTION = re.compile(
    r"^\s+/\*(?P<at>[0-9a-f]+)\*/\s+(?:\{\s*)?(?P<guard>@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)\s*(?P<rest>[^;]*)"
)
TARGET = re.compile(r"`\((?P<label>\.[\w.$]+)\)")
REGISTER = re.compile(r"^R(?P<number>\d+)(?:\.\w+)?$")
SHAPE = re.compile(r"HGMMA\.64x(?P<columns>\d+)x")
WAIT = re.compile(r"gsb0, 0x(?P<pending>[0-9a-f]+)")
# Their first operand is no register that they write.
WRITES_NONE = (
    *("BAR", "BMOV", "BRA", "BREAK", "BRX", "BSSY", "BSYNC", "CALL", "CCTL", "EXIT", "FSETP", "HSETP2", "ISETP", "JMX"),
    *("NANOSLEEP", "PLOP3", "R2P", "RED", "RET", "ST", "STG", "STL", "STS", "WARPSYNC"),
)
WRITES_SHARED = ("LDGSTS", "STS", "STSM", "ATOMS")
# Operands of a product's first matrix: 64 rows of 16 halves are four registers a thread.
OPERAND = 4


@dataclass(slots=True)
class Instruction:
    """One line: `text` as it stands there, the registers that it writes, and where control may go next."""

    text: str
    opcode: str
    writes: frozenset[int] = frozenset()
    reads: frozenset[int] = frozenset()  # an HGMMA's operand in registers
    pending: int | None = None  # a wait's: groups that may still be under way
    ends_group: bool = False
    after: list[int] = field(default_factory=list)


def functions(code: str) -> dict[str, list[Instruction]]:
    """Each kernel's instructions, by its mangled name."""
    found: dict[str, list[tuple[Instruction, list[str], bool]]] = {}
    labels: dict[str, dict[str, int]] = {}
    name = ""
    for line in code.splitlines():
        if section := SECTION.match(line):
            name = section["name"]
            found[name], labels[name] = [], {}
        elif not name:
            continue
        elif label := LABEL.match(line):
            labels[name][label["label"]] = len(found[name])
        elif parts := INSTRUCTION.match(line):
            found[name].append(_parsed(parts))
    return {name: _linked(lines, labels[name]) for name, lines in found.items()}


def _parsed(parts: re.Match[str]) -> tuple[Instruction, list[str], bool]:
    """An instruction, the labels that it names, and whether the next one may follow."""
    opcode, rest = parts["opcode"], parts["rest"].strip()
    one = Instruction(f"{parts['at']} {opcode} {rest}", opcode)
    operands = [operand.strip() for operand in rest.split(",")]
    base = opcode.partition(".")[0]
    if base == "HGMMA":
        one.ends_group = "gsb0" in rest
        if len(operands) > 1 and (operand := REGISTER.match(operands[1])):
            one.reads = _several(int(operand["number"]), OPERAND)
    if opcode.startswith("WARPGROUP.DEPBAR") and (wait := WAIT.search(rest)):
        one.pending = int(wait["pending"], 16)
    one.writes = _written(base, opcode, operands)
    goes_on = bool(parts["guard"]) or base not in {"BRA", "EXIT", "RET", "BRX", "JMX"} or opcode.startswith("BRA.DIV")
    return one, TARGET.findall(rest) if base != "BSSY" else [], goes_on


def _written(base: str, opcode: str, operands: list[str]) -> frozenset[int]:
    if base in WRITES_NONE:
        return frozenset()
    for operand in operands:  # predicates come before a register that is written, as SHFL's and LOP3's do
        if re.match(r"^!?U?P(T|\d+)$", operand):
            continue
        first = REGISTER.match(operand)
        return frozenset() if first is None else _several(int(first["number"]), _width(opcode))
    return frozenset()


def _width(opcode: str) -> int:
    """Registers of a result."""
    if shape := SHAPE.match(opcode):
        return int(shape["columns"]) // 2
    if ".128" in opcode or ".M88.4" in opcode or opcode.startswith(("HMMA", "IMMA", "QGMMA")):
        return 4
    return 2 if re.search(r"\.64\b|\.WIDE|\.M88\.2|^D(ADD|MUL|FMA)|^CS2R(?!\.32)", opcode) else 1


def _several(first: int, count: int) -> frozenset[int]:
    return frozenset(range(first, first + count))


def _linked(lines: list[tuple[Instruction, list[str], bool]], labels: dict[str, int]) -> list[Instruction]:
    for place, (one, targets, goes_on) in enumerate(lines):
        one.after = [labels[target] for target in targets if target in labels]
        if goes_on and place + 1 < len(lines):
            one.after.append(place + 1)
    return [one for one, _, _ in lines]


def hazards(code: str, warpgroups: int = 2) -> list[str]:
    """Writes to the registers that a product reads: after it, before its group has been waited for; or before it, after
    the fence. And, of blocks with several warpgroups, writes to shared memory that another one's product may still
    read. A line each."""
    return [line for name, lines in functions(code).items() for line in _hazards_of(name, lines, warpgroups)]


def products(code: str) -> int:
    """Products whose first operand is in registers: what `hazards` has looked at."""
    return sum(bool(one.reads) for lines in functions(code).values() for one in lines)


def _hazards_of(name: str, lines: list[Instruction], warpgroups: int) -> Iterator[str]:
    before: list[list[int]] = [[] for _ in lines]
    for place, one in enumerate(lines):
        for after in one.after:
            before[after].append(place)
    for place, product in enumerate(lines):
        if warpgroups > 1 and product.opcode.startswith("HGMMA"):
            for other in _reused(lines, place):
                yield f"{name}: {other.text} writes where another warpgroup's {product.text} may still read"
        if not product.reads:
            continue
        for other in _early(lines, place):
            yield f"{name}: {other.text} writes what {product.text} may still read"
        for other in _late(lines, before, place):
            yield f"{name}: {other.text} writes what {product.text} reads, behind the fence"


def _reused(lines: list[Instruction], place: int) -> Iterator[Instruction]:
    """Writes to shared memory behind the wait for a product's group, where all barriers of the block came before it."""
    product = lines[place]
    seen: set[tuple[int, int, bool, bool]] = set()
    ahead = [(after, int(product.ends_group), False, False) for after in product.after]
    while ahead:
        state = ahead.pop()
        if state in seen:
            continue
        seen.add(state)
        at, groups, crossed, waited = state
        one = lines[at]
        if one.pending is not None and groups > one.pending:
            waited = True
        if waited and not crossed:  # the reads are the compiler's to remember
            continue
        if one.opcode.startswith("BAR."):
            if waited:
                continue
            crossed = True
        elif waited and one.opcode.startswith(WRITES_SHARED):
            yield one
            continue
        groups = min(groups + one.ends_group, 3)
        ahead += [(after, groups, crossed, waited) for after in one.after]


def _early(lines: list[Instruction], place: int) -> Iterator[Instruction]:
    """Writes to a product's operand on any path from it to the wait for its group."""
    product = lines[place]
    seen: set[tuple[int, int]] = set()
    ahead = [(after, int(product.ends_group)) for after in product.after]
    while ahead:
        state = ahead.pop()
        if state in seen:
            continue
        seen.add(state)
        at, groups = state  # groups: that have ended since the product, its own the first
        one = lines[at]
        if one.pending is not None and groups > one.pending:
            continue
        if one.writes & product.reads:
            yield one
            continue
        groups = min(groups + one.ends_group, 3)
        ahead += [(after, groups) for after in one.after]


def _late(lines: list[Instruction], before: list[list[int]], place: int) -> Iterator[Instruction]:
    """Writes to a product's operand on any path to it from the fence."""
    product = lines[place]
    seen: set[int] = set()
    behind = [*before[place]]
    while behind:
        at = behind.pop()
        if at in seen or lines[at].opcode.startswith("WARPGROUP.ARRIVE"):
            continue
        seen.add(at)
        if lines[at].writes & product.reads:
            yield lines[at]
            continue
        behind += before[at]
