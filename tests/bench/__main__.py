"""`python -m tests.bench [name ...]`: run all benchmarks, or those named."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

import tests.bench


def main(names: list[str]) -> int:
    """Run each benchmark module's `main()` in order of name; 3 when a name is unknown."""
    known = sorted(
        module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name != "__main__"
    )
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark called {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 3
    for name in names or known:
        print(f"== {name}")
        import_module(f"tests.bench.{name}").main()
        print()
    return 0


sys.exit(main(sys.argv[1:]))
