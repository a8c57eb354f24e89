"""What travels to a machine that is sent a checkout and a folder beside it: every part's size, and whether it fits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MIB = 64


def main() -> int:
    """Print the sizes; 1 if they are too much."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [path for name in names if name and (path := ROOT / name).is_file()]
    sizes = {"the checkout": sum(path.stat().st_size for path in files)}
    sizes |= {str(path.relative_to(ROOT)): path.stat().st_size for path in sorted((ROOT / ".carry").glob("*"))}
    total = sum(sizes.values())
    for name, size in [*sizes.items(), (f"all, of {LIMIT_MIB}", total)]:
        print(f"{size / 2**20:8.2f} MiB  {name}")
    return int(total > LIMIT_MIB * 2**20)


if __name__ == "__main__":
    sys.exit(main())
