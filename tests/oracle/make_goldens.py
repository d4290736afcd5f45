"""Rewrites the goldens from the oracle's files: python -m tests.oracle.make_goldens [CASE ...]

CASE is a name of tests/goldens/cases.py, or "real" for the real checkpoint (REAL_MODEL: the folder it lies in).
"""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path

from tests.goldens.cases import CASES
from tests.goldens.files import golden_path, write_golden
from tests.goldens.listing import listing
from tests.oracle.two_steps import oracle
from tests.real.fetch import real_checkpoint
from tests.real.test_real import GOLDEN as REAL_GOLDEN
from tests.real.test_real import LEVELS as REAL_LEVELS


def main(names: list[str]) -> None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise SystemExit("goldens hold the quantized bytes of x86_64; make them on such a machine")
    for name in names or [*CASES, "real"]:
        with tempfile.TemporaryDirectory() as scratch:
            if name == "real":
                make(real_checkpoint(), REAL_LEVELS, "bf16", Path(scratch), REAL_GOLDEN)
            else:
                case = CASES[name]
                checkpoint = case.build(Path(scratch) / name)
                make(checkpoint, case.levels, case.dtype, Path(scratch), golden_path(name), case.arguments)


def make(
    checkpoint: Path, levels: tuple[str, ...], dtype: str, scratch: Path, golden: Path, arguments: tuple[str, ...] = ()
) -> None:
    files = oracle(checkpoint, levels, scratch, dtype, arguments=arguments)
    write_golden(golden, {level: listing(file) for level, file in files.items()})
    print(golden)


if __name__ == "__main__":
    main(sys.argv[1:])
