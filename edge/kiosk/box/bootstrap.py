"""The first code of a box that runs: ``python3 box.edge ...``. It is the archive's ``__main__.py``.

Plain enough for any Python 3, so that one that is too old is told so.
"""

import sys

if sys.version_info < (3, 8):  # noqa: UP036
    sys.exit("error: this box needs a newer Python 3 than %d.%d" % sys.version_info[:2])  # noqa: UP031
if __name__ == "__main__":
    from box.__main__ import main  # pyright: ignore[reportMissingImports] - found in the archive

    main()
