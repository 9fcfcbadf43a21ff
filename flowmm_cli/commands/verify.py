"""`flowmm verify`: is the file whole, and does a model fit it?"""

from typing import Any

from flowmm_cli import options as o
from flowmm_cli import output


def verify(
    file: o.ContextFile,
    model: o.ModelToCheck = None,
    revision: o.Revision = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    device_map: o.DeviceMap = None,
    offline: o.Offline = False,
    trust_remote_code: o.TrustRemoteCode = False,
    json: o.Json = False,
) -> None:
    """Check a context file: is it whole, does a model fit?

    Every checksum is checked; with --model also the model's identity, and a stored probe is replayed.
    """
    from flowmm import verify_file

    wanted = o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code)
    verdict = verify_file(file, model=None if model is None else wanted)
    found: dict[str, Any] = {
        "file": str(file),
        "tensors_checked": verdict.tensors_checked,
        "bytes_checked": verdict.bytes_checked,
        "model_matches": verdict.model_matches,
        "probe_matches": verdict.probe_matches,
        "probe_difference": verdict.probe_difference,
    }
    if json:
        output.put_json(found)
        return
    size = output.human_bytes(verdict.bytes_checked)
    output.put(f"{file}: {verdict.tensors_checked} tensors, {size}, every checksum right")
    if verdict.model_matches is not None:
        output.put(f"model: {'fits' if verdict.model_matches else 'does not fit'}")
    if verdict.probe_difference is not None:
        what = "same answer" if verdict.probe_matches else "another answer"
        output.put(f"probe: {what}, logits differ by {verdict.probe_difference:.2g} at most")
