"""Start TensorBoard on a free port and print the address of the tab.

`make demo` calls this after the training; it stays until Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys


def serve(logdir: str, host: str) -> int:
    """Run TensorBoard, repeat what it says, and return its exit status."""
    # Port 0: TensorBoard takes a free one and says which.
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--host", host, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as tensorboard:
        try:
            for line in tensorboard.stdout or ():
                address = re.search(r"TensorBoard \S+ at (http://\S+)", line)
                if address:
                    print(f"\nBatch View: {address.group(1)}#batchview   (Ctrl-C ends it)\n", flush=True)
                else:
                    print(line, end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            tensorboard.terminate()
            return 0
        return tensorboard.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logdir", default="logs", help="what TensorBoard shows (default: logs)")
    parser.add_argument("--host", default="localhost", help="the address to listen on (default: localhost)")
    arguments = parser.parse_args()
    print(f"Starting TensorBoard on {arguments.logdir} …", flush=True)
    sys.exit(serve(arguments.logdir, arguments.host))


if __name__ == "__main__":
    main()
