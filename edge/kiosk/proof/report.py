"""A proof as a page that an auditor can read, in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from edge.kiosk.proof import tries
from edge.kiosk.proof.faults import TUNNELS
from edge.kiosk.prove import Proof

UNPROVEN = (
    "It says how the service was while it was watched, on this machine. Another kernel, unit or box needs a new proof.",
    "Bugs of the kernel, of systemd, of the processor, and what a machine does below its system (firmware) are not "
    "looked for.",
    "Whoever asks the service gets its answers, and may have a network. So has whoever reads its log.",
    "Other programs on this machine are not bound by the service's sandbox.",
    "That the files of the box are as they were signed is shown by: edge kiosk verify. Here its manifest was checked.",
    "The report is not signed. Who doubts it runs the command again.",
)
NOT_SYSTEMD = (
    "The sandbox was not that of systemd. The unit's limits of memory, of files that can be written, and most of its "
    "filter of system calls were not in force; its walls against networks were built again as they are in the unit."
)


def report(proof: Proof) -> str:
    return "\n".join(lines(proof)) + "\n"


def lines(proof: Proof) -> Iterator[str]:
    yield "# The service reaches no network" if not proof.faults else "# Not proven: the service may reach a network"
    yield ""
    yield from summary(proof)
    yield from ["", "## What ran, where and when", ""]
    when = {"from": proof.began, "to": proof.ended}
    yield from table(("What", "Is"), [("time (UTC)", f"{when['from']} to {when['to']}"), *proof.facts.items()])
    if proof.changed:
        yield from [
            "",
            "The unit's text and the administrator's drop-ins were used as they are, and last this one, which",
        ]
        yield from [
            "puts the attempts beside the service; a second socket was passed, through which they were told:",
            "",
        ]
        yield from code(proof.changed)
    if proof.properties:
        yield from ["", "As systemd understood it:", ""]
        yield from code("\n".join(f"{name}={value}" for name, value in proof.properties.items()))
    yield from ["", "## The sandbox, as the kernel tells", ""]
    yield from kernel(proof)
    yield from ["", "## An answer meanwhile", ""]
    yield from answer(proof)
    yield from ["", "## What was tried", ""]
    yield from tried(proof)
    yield from ["", "## What this does not prove", ""]
    yield from (f"- {one}" for one in ((NOT_SYSTEMD,) if proof.way != "systemd" else ()) + UNPROVEN)


def summary(proof: Proof) -> Iterator[str]:
    """What a reader in a hurry needs."""
    count = {verdict: sum(row.verdict == verdict for row in proof.rows) for verdict in VERDICTS}
    told = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)
    yield f"{len(proof.rows)} attempts were made from inside the service's sandbox: {told}."
    if proof.answer:
        yield "The service answered a question meanwhile, through the socket that was passed to it."
    for fault in proof.faults:
        yield from ["", f"- **{cell(fault)}**"]


VERDICTS = (tries.REFUSED, tries.ABSENT, tries.ALLOWED, tries.UNCLEAR, tries.THROUGH)


def kernel(proof: Proof) -> Iterator[str]:
    service, outside = proof.service, proof.outside
    spaces = [
        (name, value, outside.spaces[name], "shared" if value == outside.spaces[name] else "its own")
        for name, value in service.spaces.items()
    ]
    yield from table(("Namespace", "Of the service", "Of the machine", ""), spaces)
    down = TUNNELS & {*service.interfaces}
    yield ""
    yield f"- network interfaces of the service: {', '.join(service.interfaces)}" + (
        f" ({', '.join(sorted(down))}: given to every network by the kernel, down)" if down else ""
    )
    yield f"- network interfaces of the machine: {', '.join(outside.interfaces)}"
    yield f"- routes of the service, but for its loopback: {'; '.join(service.routes) or 'none'}"
    yield f"- rights of the service: {', '.join(f'{name} {value}' for name, value in service.rights.items())}"
    yield f"- process of the service: {service.pid}, `{service.command}`"
    yield "- sockets that it holds:"
    yield from (f"    - {cell(one.words())}" for one in service.sockets)


def answer(proof: Proof) -> Iterator[str]:
    if proof.answer is None:
        yield "None came."
        return
    one = proof.answer
    yield from table(
        ("Question", "Answer", "Tokens", "Seconds"), [(one.question, one.text, str(one.tokens), f"{one.seconds:.2f}")]
    )


def tried(proof: Proof) -> Iterator[str]:
    yield "*Outside*: the same attempt where nothing hinders it, towards listeners that the proof opened itself on this"
    yield "machine; those to other machines were not made there. *Its network alone*: in the service's network, with"
    yield "all rights and without its other walls. *Inside*: beside the service, under all that binds it."
    for group, rows in groupby(proof.rows, lambda row: row.group):
        yield from ["", f"### {group}", ""]
        yield from table(
            ("Tried", "Outside", "Its network alone", "Inside", "Verdict"),
            [(row.what, row.outside, row.alone, row.inside, loud(row.verdict)) for row in rows],
        )


def loud(verdict: str) -> str:
    return verdict.upper() if verdict in (tries.THROUGH, tries.UNCLEAR) else verdict


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell(text) for text in row)} |"


def cell(text: str) -> str:
    """Whatever a path or an answer holds, it stays in its cell, as it is."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return "".join(f"\\{c}" if c in "|\\`*_<>[]#" else c for c in plain)


def code(text: str) -> Iterator[str]:
    yield from ["```", *text.replace("```", "'''").splitlines(), "```"]
