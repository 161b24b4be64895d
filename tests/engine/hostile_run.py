"""Compile and run one file with little memory; started by test_hostile.py as a process of its own.

Prints the shapes of the outputs, or the sentence of the error; nothing where the process ended otherwise.
"""

import json
import os
import resource
import sys
from pathlib import Path

MEGABYTES = 3000


def main() -> int:
    import numpy as np
    import onnxruntime  # noqa: F401  (so that its own memory is not counted)

    from secateur.engine.session import compile_onnx
    from secateur.errors import SecateurError

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = used + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        session = compile_onnx(sys.argv[1], threads=2)
        outputs = session.run(session.random_feeds())
        if not all(isinstance(array, np.ndarray) for array in outputs.values()):
            raise TypeError("outputs are no arrays")
        print(json.dumps({"shapes": {name: array.shape for name, array in outputs.items()}}))
    except SecateurError as error:
        print(json.dumps({"error": str(error)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
