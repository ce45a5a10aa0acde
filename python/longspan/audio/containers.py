"""Media files opened by PyAV (FFmpeg), guarded: files that people have, no network, no playlists, no large pictures.

FFmpeg would follow addresses and file names that stand in some formats. Here it reads the one file it is given, through
Python, in formats and by codecs that are named below, and opens nothing else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,flac,mp3,aac,aiff,au,caf,amr,amrnb,amrwb"
)
PICTURE_CODECS: Final = frozenset(
    (
        *("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "theora"),
        *("mpeg4", "mpeg2video", "mpeg1video", "h263", "flv1", "mjpeg", "prores", "dnxhd", "ffv1", "rawvideo"),
        *("vc1", "wmv1", "wmv2", "wmv3", "msmpeg4v1", "msmpeg4v2", "msmpeg4"),
    )
)
SOUND_CODECS: Final = frozenset(
    (
        *("aac", "aac_latm", "mp3", "mp3float", "mp2", "mp2float", "mp1", "mp1float", "opus", "libopus", "vorbis"),
        *("flac", "alac", "ac3", "eac3", "wmav1", "wmav2", "wmapro", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8"),
        *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "adpcm_ms", "adpcm_ima_wav"),
        *(f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")),
    )
)
MAX_FRAME_PIXELS: Final = 36_000_000  # 8192 x 4320
MAX_STREAMS: Final = 100
MAX_NAME: Final = 300  # characters of what was no name of a file, in a message
NEEDS_AV: Final = "{what} needs PyAV ({error}); pip install 'longspan[video]'"


@contextmanager
def opened(source: Path | bytes | BinaryIO, name: str, what: str) -> Iterator[InputContainer]:
    """The file, open for reading; `what` needs PyAV, for the message if it is not installed.

    Raises: ValueError, naming it, it is none of FORMATS or damaged, also if that shows inside; FileNotFoundError;
        ImportError.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError(NEEDS_AV.format(what=what, error=error)) from error
    codecs = ",".join(sorted(PICTURE_CODECS | SOUND_CODECS))
    limits = {"format_whitelist": FORMATS, "codec_whitelist": codecs, "protocol_whitelist": "none"}
    limits |= {"max_pixels": str(MAX_FRAME_PIXELS), "max_streams": str(MAX_STREAMS)}
    with as_file(source, name) as file:
        try:
            # Without metadata's errors: titles in old encodings are no fault of the sound.
            with av.open(file, options=limits, metadata_errors="replace") as container:
                yield container
        except ImportError:
            raise
        except Exception as error:  # PyAV raises kinds of its own, of ValueError, OSError, LookupError and others
            if isinstance(error, ValueError) and str(error).startswith(name):
                raise
            raise ValueError(f"{name} cannot be decoded as a sound or video file: {said(error)}") from error


def stored(value: Mapping[Any, Any]) -> object | None:
    """The file in {"bytes": contents or None, "path": ...}, as data sets of Hugging Face give what they do not decode;
    None if it is no such dict."""
    if "array" in value or not {"bytes", "path"} & value.keys():
        return None
    contents = value.get("bytes")
    return value.get("path") if contents is None else contents


def codec_name(stream: Stream) -> str:
    """Of what reads a stream; "unknown" where nothing does."""
    return str(getattr(stream.codec_context, "name", "unknown"))


def stream_seconds(stream: Stream) -> float | None:
    """How long it says that it is; None if it does not."""
    duration, base = stream.duration, stream.time_base
    return None if duration is None or base is None or duration < 0 else float(duration * base)


@contextmanager
def as_file(source: Path | bytes | BinaryIO, name: str) -> Iterator[BinaryIO]:
    """It as a file to read, with no name that tells a format. Raises: FileNotFoundError; ValueError, an open file is
    closed or cannot be read from its start; TypeError, it gives no bytes."""
    if isinstance(source, Path):
        if not os.path.isfile(source):  # Path.is_file raises for names that are too long
            at = name if name.endswith(str(source)) else f"{name}: {source}"
            raise FileNotFoundError(f"{at[:MAX_NAME]} is missing, or is not a file")
        # By number: decoders would take formats from a name's ending, and names need not be UTF-8.
        with open(os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb") as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        try:
            source.seek(0, os.SEEK_SET)
            gives_bytes = isinstance(source.read(0), bytes)
        except (OSError, ValueError) as error:  # it is a pipe, or closed
            raise ValueError(f"{name} must be a file that can be read from its start: {said(error)}") from error
        if not gives_bytes:
            raise TypeError(f"{name} must be a file of bytes, opened with mode 'rb', got {type(source).__name__}")
        yield source


def said(error: BaseException) -> str:
    """A decoder's message, in a line: libsndfile's and FFmpeg's own words, without Python's around them."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    lines = str(text).splitlines()
    return lines[0][:200] if lines and lines[0] else type(error).__name__
