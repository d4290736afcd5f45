"""Whether the hubs answer. Asked only when the user wants it: nothing else in ``edge doctor`` uses the network."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from edge.doctor.check import Check
from edge.hub import http

SECONDS = 10.0
REPO = "Qwen/Qwen2.5-0.5B-Instruct"  # both hubs have it; a few kB are asked for
MOST = 1 << 20  # bytes of an answer
A_HUB_ANSWERS = (200, 401, 404)  # the last two for a repository that it no longer has: it was reached all the same
MIRROR = "HF_ENDPOINT=https://hf-mirror.com"


@dataclass(frozen=True)
class Probe:
    """A hub, the address that is asked, and what else to try when it does not answer."""

    hub: str
    url: str
    instead: str

    @property
    def host(self) -> str:
        """Without a user and a password that the address may hold."""
        return urlsplit(self.url).hostname or "an address without a host"


@dataclass(frozen=True)
class Outcome:
    """``why`` it failed is empty for an answer, which took ``seconds``."""

    why: str = ""
    hint: str = ""
    seconds: float = 0.0


def hub_checks(forbidden_by: str, seconds: float = SECONDS) -> list[Check]:
    """A line for each hub. ``forbidden_by`` says what forbids the network: then nothing is asked of anybody."""
    if forbidden_by:
        return [Check("hubs", "warn", f"not tried: {forbidden_by} forbids the network")]
    chosen = probes()
    outcomes = ask_all(chosen, seconds)
    reached = any(not outcome.why for outcome in outcomes)
    return [check(probe, outcome, reached) for probe, outcome in zip(chosen, outcomes, strict=True)]


def probes() -> list[Probe]:
    """What to ask of each hub, or of the mirrors that the environment names."""
    # Imported here: huggingface-hub takes a quarter of a second.
    from edge.hub.huggingface import HuggingFace
    from edge.hub.modelscope import ModelScope

    face, scope = HuggingFace(REPO).endpoint, ModelScope(REPO).endpoint
    other = "another mirror in HF_ENDPOINT" if os.environ.get("HF_ENDPOINT") else f"a mirror ({MIRROR})"
    return [
        Probe("Hugging Face", f"{face}/api/models/{REPO}", f"{other}, or --source modelscope"),
        Probe("ModelScope", f"{scope}/api/v1/models/{REPO}/repo/files?Revision=master", "--source huggingface"),
    ]


def check(probe: Probe, outcome: Outcome, reached: bool) -> Check:
    """``reached``: whether some hub answers, which is enough for most models."""
    if not outcome.why:
        return Check(probe.hub, "ok", f"{probe.host} answers in {outcome.seconds * 1000:.0f} ms")
    todo = f"{outcome.hint}; or try {probe.instead}"
    if reached:
        return Check(probe.hub, "warn", f"{probe.host} {outcome.why}", todo)
    return Check(probe.hub, "bad", f"{probe.host} {outcome.why}", f"{todo}; --offline works with what is here")


def ask_all(chosen: Sequence[Probe], seconds: float) -> list[Outcome]:
    """Ask all at once, for ``seconds`` at most: the time that requests takes is for each address of a name, and
    where packets are dropped there are eight of them."""
    outcomes: dict[Probe, Outcome] = {}

    def work(probe: Probe) -> None:
        outcomes[probe] = ask(probe.url, seconds)

    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(probe,), daemon=True) for probe in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Outcome(f"gave no answer in {seconds:g} s", http.network_hint())
    return [outcomes.get(probe, late) for probe in chosen]


def ask(url: str, seconds: float) -> Outcome:
    """One request. No token is sent."""
    started = time.perf_counter()
    try:
        with http.Session() as session, session.get(url, stream=True, timeout=seconds) as answer:
            body = b"".join(itertools.islice(answer.iter_content(http.BLOCK), MOST // http.BLOCK))
    except requests.exceptions.ProxyError:
        return Outcome("is not reached through the proxy", http.network_hint())
    except requests.exceptions.SSLError:
        hint = "check the clock; for a proxy that opens TLS, name its certificate in REQUESTS_CA_BUNDLE"
        return Outcome("has no certificate that is trusted here", hint)
    except requests.Timeout:
        return Outcome(f"gave no answer in {seconds:g} s", http.network_hint())
    except ValueError:  # no scheme, no host, or a redirect to such
        return Outcome("is no sound address", "write it as https://HOST")
    except requests.RequestException as error:
        return Outcome(f"cannot be reached ({type(error).__name__})", http.network_hint())
    took = time.perf_counter() - started
    if answer.status_code not in A_HUB_ANSWERS:
        busy = answer.status_code in http.TRANSIENT
        return Outcome(f"answers {answer.status_code}", "try again later" if busy else http.network_hint())
    if not is_object(body):
        return Outcome("answers with a page that is not the hub's", "a proxy or a log-in page is between: open it once")
    return Outcome(seconds=took)


def is_object(body: bytes) -> bool:
    """Whether it is a JSON object, as all answers of the hubs are."""
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
