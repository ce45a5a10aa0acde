"""Media files opened by PyAV (FFmpeg), guarded: files that people have, no network, no playlists, no large pictures.

FFmpeg would follow addresses and file names that stand in some formats. Here it reads the one file it is given, through
Python, in formats and by codecs that are named below, and opens nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from longspan.given_files import as_file, said

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


def codec_name(stream: Stream) -> str:
    """Of what reads a stream; "unknown" where nothing does."""
    return str(getattr(stream.codec_context, "name", "unknown"))


def stream_seconds(stream: Stream) -> float | None:
    """How long it says that it is; None if it does not."""
    duration, base = stream.duration, stream.time_base
    return None if duration is None or base is None or duration < 0 else float(duration * base)
