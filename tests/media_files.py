"""Small sound and video files, made where tests need them, and what becomes of files that are damaged."""

from __future__ import annotations

import io

import numpy as np


def tone(seconds: float, rate: int, *, hertz: float = 440.0, level: float = 0.4) -> np.ndarray:
    """(samples,) f32: a sine."""
    times = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def sound_file(samples: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    """By soundfile; `samples` are (samples,) or (samples, channels)."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def pictures(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(count, height, width, 3) uint8: colours above, and below the frame's number in bars of bits."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, : height // 2, : width // 2] = (200, 120, 40)
    frames[:, : height // 2, width // 2 :] = (40, 60, 180)
    bits = np.arange(count)[:, None] >> np.arange(8)[::-1] & 1
    frames[:, height // 2 :] = np.repeat(bits * 255, width // 8, axis=1)[:, None, :, None]
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """Which of `pictures` they are, of (count, height, width, 3), however much was lost."""
    count, height, width, _ = frames.shape
    bars = frames[:, height // 2 + 2 :].reshape(count, -1, 8, width // 8, 3)[:, :, :, 2:-2].mean(axis=(1, 3, 4)) > 128
    return [int(number) for number in bars @ (1 << np.arange(8)[::-1])]


def video_file(
    frames: np.ndarray | None, kind: str, codec: str, track: tuple[str, np.ndarray] | None = None, rate: int = 48000
) -> bytes:
    """By PyAV: frames (count, height, width, 3) uint8, and the sound of a codec, (samples,) f32."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        if frames is not None:
            stream = container.add_stream(codec, rate=24, options={"g": "4"})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        if track is not None:
            sound = container.add_stream(track[0], rate=rate, layout="mono")
        if frames is not None:
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        if track is not None:
            container.mux(encoded_sound(sound, track[1], rate))
    return file.getvalue()


def encoded_sound(stream: object, samples: np.ndarray, rate: int) -> list:
    import av

    context = stream.codec_context
    kind = av.AudioResampler(context.format, context.layout, rate, frame_size=context.frame_size or None)
    whole = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    whole.sample_rate, whole.pts = rate, 0
    packets = []
    for frame in (*kind.resample(whole), *kind.resample(None), None):
        packets += stream.encode(frame)
    return packets


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed and, in half of the files, pieces cut out, repeated, or the end cut off."""
    changed, only_bytes = bytearray(data), rng.random() < 0.5
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(min(len(changed), 300) if rng.random() < 0.33 else len(changed)))
        kind = 0 if only_bytes else int(rng.integers(5))
        if kind <= 2:
            changed[at] = int(rng.choice([0, 255, 127, 128, int(rng.integers(256))]))
        elif kind == 3 and len(changed) > 100:
            del changed[at : at + int(rng.integers(1, 20))]
        else:
            changed[at:at] = changed[at : at + int(rng.integers(1, 20))]
    cut = not only_bytes and rng.random() < 0.1
    return bytes(changed[: int(rng.integers(len(changed)))] if cut else changed)
