"""What is not as it must be, a line each; none, and it is proven. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convert.errors import EdgeError
from edge.kiosk.proof import look, tries
from edge.kiosk.proof.question import Answer
from edge.kiosk.proof.sandbox import Sandbox, Served
from edge.kiosk.proof.tries import Try

LOOPBACK = "lo"
# A kernel that has tunnels gives each network the end of one, which is down and leads nowhere.
TUNNELS = {"sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"}
Outcome = Mapping[str, Any]


def of_controls(wanted: Sequence[Try], outside: Mapping[int, Outcome]) -> Iterator[str]:
    for i, outcome in outside.items():
        if wanted[i].needed and not outcome["reached"]:
            what, text = f"{wanted[i].group}: {wanted[i].what}", tries.outcome_text(outcome)
            yield f"{what}: fails outside of the sandbox too ({text}), and so proves nothing"
    if not any(one.needed and one.arguments["kind"] == "unix" and one.arguments["path"][0] == "/" for one in wanted):
        yield "no Unix socket could be made in a folder that the sandbox hides, so nothing shows that it does"


def of_its_network(wanted: Sequence[Try], alone: Mapping[int, Outcome]) -> Iterator[str]:
    for i, outcome in alone.items():
        if (found := tries.verdict(wanted[i], outcome)) in (tries.THROUGH, tries.UNCLEAR):
            yield f"{wanted[i].group}: {wanted[i].what}: {found} in the network of the service alone"


def of_the_sandbox(service: look.Process, attempts: look.Process, host: look.Process) -> Iterator[str]:
    for name in ("net", "mnt"):
        if service.spaces[name] == host.spaces[name]:
            yield f"the service is in the {name} namespace of the machine"
    if (service.spaces, service.rights) != (attempts.spaces, attempts.rights):
        yield "the attempts were not made under what binds the service"
    if extra := set(service.interfaces) - {LOOPBACK} - TUNNELS:
        yield f"the service has network interfaces: {' '.join(sorted(extra))}"
    if service.routes:
        yield f"the service's network has routes: {'; '.join(service.routes)}"
    wanted = {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16}
    if wrong := [name for name, value in wanted.items() if service.rights[name] != value]:
        yield f"the service's rights are not as they must be: {' '.join(wrong)}"


def of_sockets(service: look.Process, box: Sandbox) -> Iterator[str]:
    """Of the sockets that could leave a machine, it may hold the passed one and the connections that came by it."""
    passed = f"{box.address[0]}:{box.address[1]}" if isinstance(box.address, tuple) else ""
    for one in service.sockets:
        if one.kind.startswith(look.INTERNET) and not (one.outside and one.name == passed):
            yield f"the service holds a socket: {one.words()}"
    if service.unknown:
        yield f"the service holds {service.unknown} sockets of which the kernel tells nothing"


def of_the_answer(answer: Answer | EdgeError, served: Served) -> Iterator[str]:
    if isinstance(answer, EdgeError):
        yield str(answer)
    elif not answer.tokens:
        yield "the service's answer is empty"
    elif served.manifest and not answer.text.startswith(served.manifest.golden.prefix):
        yield "the service's answer to the golden question is not the one that was packed"
