"""Video: evenly spaced frames as image parts; sound is left out."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from flowmm.inputs.file import File
from flowmm.inputs.options import ReadOptions
from flowmm.inputs.pixels import PAGE_PIXELS, check_pixels, shrink
from flowmm.records import Part

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".3gp"})

_MAGIC = (b"\x1a\x45\xdf\xa3", b"FLV\x01")  # Matroska and WebM, Flash; MPEG streams have no index to seek in
_OLD_QUICKTIME = frozenset({b"moov", b"mdat", b"wide"})  # first boxes of files from before ftyp


def recognises(file: File) -> bool:
    """By magic bytes. HEIC and AVIF images are ISO media files too; they are recognised before."""
    head = file.data[:12]
    avi = head[:4] == b"RIFF" and head[8:] == b"AVI "
    return bool(file.brands) or avi or head.startswith(_MAGIC) or (head[:1] == b"\0" and head[4:8] in _OLD_QUICKTIME)


def load(file: File, options: ReadOptions) -> list[Part]:
    """``options.video_frames`` image parts, fewer if the video is shorter; ``page`` counts them from 1.

    The frames are those shown at the middles of equal stretches of the video's duration.

    Raises:
        InputError: the video extra is missing, the file is damaged, or no pictures are in it.
    """
    try:
        import av
    except ImportError as error:
        raise file.error("is a video, which needs the video extra", "pip install 'flowmm[video]'") from error
    try:
        with av.open(BytesIO(file.data)) as container:
            if not container.streams.video:
                raise file.error("holds sound but no pictures", "Leave it out, or pass a transcript as text.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise file.error("is a video of a codec that is not known", "Convert it to MP4.")
            check_pixels(file, stream.codec_context.width, stream.codec_context.height)
            frames = [_to_image(frame) for frame in _evenly_spaced(container, stream, options.video_frames)]
    except (av.FFmpegError, EOFError, ValueError) as error:
        raise file.error(f"is a damaged video: {error}", "Open it in a player, and convert it to MP4.") from error
    if not frames:
        raise file.error("is a video without frames", "Open it in a player, and convert it to MP4.")
    budget = options.max_pixels or PAGE_PIXELS
    return [Part("image", shrink(frame, budget), file.source("video", page)) for page, frame in enumerate(frames, 1)]


def _evenly_spaced(container: Any, stream: Any, count: int) -> Iterator[Any]:
    """The last frame at or before each of ``count`` moments, each frame once."""
    import av

    start, seconds = (container.start_time or 0) / av.time_base, (container.duration or 0) / av.time_base
    last = None
    for moment in (start + seconds * (2 * index + 1) / (2 * count) for index in range(count)):
        container.seek(int(moment * av.time_base))  # to the key frame before
        found = None
        for frame in container.decode(stream):
            if found is not None and frame.time is not None and frame.time > moment:
                break
            found = frame
        if found is not None and found.pts != last:
            last = found.pts
            yield found


def _to_image(frame: Any) -> Image:
    image: Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
