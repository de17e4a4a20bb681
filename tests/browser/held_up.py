"""TensorBoard with a plugin that reads 90 records, and on when a file `go` is there.

Takes the arguments of `tensorboard`; the file is in the current directory.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tensorboard import main as tensorboard

if __package__ in (None, ""):  # called as a script
    sys.path.insert(0, str(Path(__file__).parent.parent))

from gate import hold_up

FREE = 90  # records


def main() -> None:
    """Run TensorBoard."""
    go = Path("go").absolute()
    with hold_up() as gate:
        gate.open(FREE)

        def wait() -> None:
            while not go.exists():
                threading.Event().wait(0.05)
            gate.open()

        threading.Thread(target=wait, daemon=True).start()
        sys.exit(tensorboard.run_main())


if __name__ == "__main__":
    main()
