"""A job on an ONNX file in its folder: whose the folder is, and what is finished there already.

request.json    what was asked for; another request does not go on here
result.json     what came of it; the report is made of it
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError
from secateur.files import read_json, remove_leftovers, write_json
from secateur.measure import machine
from secateur.pipeline.record import LOCK_FILE
from secateur.pipeline.run import ARTIFACT_OF, locked
from secateur.progress import say

REQUEST_FILE, RESULT_FILE = "request.json", "result.json"


def carry_out(
    out: Path,
    verb: str,
    job: Mapping[str, Any],
    request: Mapping[str, Any],
    work: Callable[[], dict[str, Any]],
    *,
    leaves: Sequence[str],
    written: Sequence[str],
    overwrite: bool,
) -> dict[str, Any]:
    """What `work` gives, kept as result.json; a folder with the result of the same request gives that.

    job        what the result says of the job itself: its model, the command
    leaves     files without which the result is not whole
    written    names of all that the verb writes, which is removed where the folder holds another request's
    raises     ArtifactError  the folder holds something else, or is in use;  and what `work` raises
    """
    with locked(out):
        claim(out, request, (RESULT_FILE, *written, *ARTIFACT_OF["report"]), verb, overwrite)
        if all((out / file).is_file() for file in (RESULT_FILE, *leaves)):
            say(f"{out}: finished before, kept")
            return read_json(out / RESULT_FILE)
        remove_leftovers(out)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        result = {"verb": verb, **job, "started": started, "machine": machine().to_dict(), "request": request, **work()}
        write_json(out / RESULT_FILE, result)
        return result


def claim(out: Path, request: Mapping[str, Any], written: Sequence[str], verb: str, overwrite: bool) -> None:
    """Make sure that writing into `out` destroys nothing that the user has not given up.

    written    names of what the verb writes, which is removed where the folder holds another request's
    raises     ArtifactError
    """
    file = out / REQUEST_FILE
    if file.is_file() and _is_same(file, request):
        return
    if file.is_file() and not overwrite:
        raise ArtifactError(
            f"{out}: holds the result of another model, other images or other options; choose another folder, or "
            "allow overwriting (--overwrite)."
        )
    if not overwrite:
        strangers = sorted(p.name for p in out.iterdir() if p.name != LOCK_FILE and not p.name.endswith(".part"))
        if strangers:
            raise ArtifactError(
                f"{out}: holds other files ({', '.join(strangers[:3])}) and no result of `secateur {verb}`; choose "
                "an empty or new folder, or allow overwriting (--overwrite)."
            )
    for path in (out / name for name in (REQUEST_FILE, *written)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_json(file, request)


def _is_same(file: Path, request: Mapping[str, Any]) -> bool:
    try:
        return read_json(file) == json.loads(json.dumps(request))
    except ArtifactError as error:
        say(f"starting anew: {error}")
        return False
