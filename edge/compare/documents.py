"""Long documents that are made, not stored: about a project, with one fact at a chosen depth. Always alike.

``project@0.35``: some 10,000 tokens, the fact behind 35 % of them. Each begins with a line of its own, so that no
server has the beginning of one in its cache from another.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

CHARACTERS = 40_000  # about four a token
FACT = """\
## Database connection

The service reads the connection from config/storage.ini, section [primary]. Its key dsn is
postgresql://heron-db.internal:6543/ledger, with a pool of 17 connections; the password is not in the file but in the
environment variable HERON_DB_SECRET.
"""
NAMES = ("project",)
FORM = re.compile(r"([a-z]+)@(0(?:\.\d{1,3})?|1(?:\.0{1,3})?)")

PARTS = (
    "intake", "ledger", "mail gateway", "report builder", "session keeper", "search index", "image scaler", "scheduler",
    "audit trail", "price feed", "label printer", "address book", "export job", "web client", "quota counter",
    "notification hub", "archive reader", "thumbnail cache", "translation desk", "feature switches",
)  # fmt: skip
TOPICS = (
    "Responsibilities", "Deployment", "Logging", "Failure modes", "Interfaces", "Testing", "Performance",
    "Access rights", "Open questions", "History",
)  # fmt: skip
SENTENCES = (
    "The {part} was split from the {other} in {month} {year}, after it had grown beyond {n} thousand lines.",
    "Every request to the {part} carries a trace number, which the {other} writes into its own log as well.",
    "A release of the {part} goes to {n} of the machines first and to all others after {m} hours without an alarm.",
    "When the {other} does not answer within {n} seconds, the {part} works on with what it knew last and says so.",
    "Its logs are kept for {n} days; lines older than {m} days are compressed, and nothing in them names a customer.",
    "The team measured {n} requests a second on a machine with {m} cores, of which serialization took a third.",
    "Nobody but the on-call engineer may restart the {part} by hand, and each restart is entered in the shift book.",
    "Tests of the {part} run against a recorded {other}; the recordings are renewed in {month} of each year.",
    "Memory stays below {n} hundred megabytes as long as batches have no more than {m} entries.",
    "It is not decided yet whether the {part} should take over the queue that the {other} keeps on disk today.",
    "An incident in {month} {year} showed that retries without a pause double the load; since then they wait {n} s.",
    "The interface has {n} calls, of which the {other} uses {m}; the others are there for the command line.",
    "Configuration of the {part} is reread every {n} minutes, so that a change needs no restart.",
    "Whoever changes the format of its messages asks the owners of the {other} first and waits for {m} releases.",
)
MONTHS = ("January", "March", "April", "June", "July", "September", "October", "November")


def document(name: str) -> str:
    """Raises ValueError for a name that is none."""
    found = FORM.fullmatch(name)
    if not found or found[1] not in NAMES:
        raise ValueError(name)
    sections, length = [], 0
    for section in filler(random.Random(20)):
        if length > CHARACTERS:
            break
        sections.append(section)
        length += len(section)
    depth, passed = float(found[2]) * length, 0
    place = len(sections)
    for number, section in enumerate(sections):
        if passed >= depth:
            place = number
            break
        passed += len(section)
    sections.insert(place, FACT)
    return f"# Heron handbook, edition {found[2]}\n\n" + "\n".join(sections)


def filler(rng: random.Random) -> Iterator[str]:
    """Sections without end, none twice."""
    chapters = [(part, topic) for part in PARTS for topic in TOPICS]
    rng.shuffle(chapters)
    for part, topic in chapters:
        others = [one for one in PARTS if one != part]
        said = [
            one.format(
                part=part,
                other=rng.choice(others),
                month=rng.choice(MONTHS),
                year=rng.randint(2016, 2025),
                n=rng.randint(2, 40),
                m=rng.randint(2, 12),
            )
            for one in rng.sample(SENTENCES, 5)
        ]
        yield f"## {part.capitalize()}: {topic.lower()}\n\n{' '.join(said)}\n"


def check_document(name: str, wrong: Callable[[str], Exception]) -> None:
    """Raises what ``wrong`` makes of a fault."""
    if not (found := FORM.fullmatch(name)) or found[1] not in NAMES:
        raise wrong(f"there is no document {name!r}: write project@0.5 for a fact in the middle")
