"""Spoken words by ``espeak-ng``, as log-mel pictures."""

import shutil
import subprocess
from collections.abc import Sequence

import numpy as np
from scipy import signal

from pock_tvm.errors import PockError
from pock_tvm.search.samples import Samples

WORDS = ("bird", "boat", "bath", "hour", "nurse", "near", "north", "goat", "price", "start")
"""Words whose vowels tell accents apart."""
RATE = 22_050
FRAMES, MELS = 48, 32
WINDOW, HOP = 512, 256
DEVIATION_OF_NOISE = 0.02


def spoken(voices: Sequence[str], each: int, seed: int) -> Samples:
    """Return every word said ``each`` times by every voice, no two alike.

    Raises:
        PockError: ``espeak-ng`` is not installed, or lacks a voice.
    """
    if shutil.which("espeak-ng") is None:
        raise PockError("espeak-ng is not installed; on Debian or Ubuntu: apt install espeak-ng")
    generator = np.random.default_rng(seed)
    filters = mel_filters()
    pictures, labels = [], []
    for voice in voices:
        for label, word in enumerate(WORDS):
            for _ in range(each):
                speed, pitch = generator.integers(120, 220), generator.integers(25, 75)
                wave = say(word, voice, int(speed), int(pitch))
                wave = wave * generator.uniform(0.4, 1.0)
                wave = wave + generator.normal(0, DEVIATION_OF_NOISE, len(wave))
                pictures.append(log_mel(wave, filters))
                labels.append(label)
    return Samples(np.stack(pictures)[:, None], np.array(labels, np.int64))


def say(word: str, voice: str, speed: int, pitch: int) -> np.ndarray:
    """Return the samples of a word at ``RATE``, between -1 and 1."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise PockError(f"espeak-ng -v {voice} failed: {done.stderr.decode().strip()[:100]}")
    # espeak-ng does not know the length when it writes the header of a pipe: read what follows it.
    header = 44
    assert done.stdout[:4] == b"RIFF"
    return np.frombuffer(done.stdout[header:][: len(done.stdout[header:]) // 2 * 2], "<i2") / 32768


def log_mel(wave: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return (FRAMES, MELS), mean 0 and deviation 1."""
    length = HOP * (FRAMES - 1) + WINDOW
    wave = np.pad(wave, (0, max(0, length - len(wave))))[:length]
    _, _, power = signal.spectrogram(
        wave, RATE, "hann", nperseg=WINDOW, noverlap=WINDOW - HOP, mode="psd"
    )
    mel = np.log(filters @ power + 1e-9).T
    return ((mel - mel.mean()) / (mel.std() + 1e-6)).astype(np.float32)


def mel_filters() -> np.ndarray:
    """Return (MELS, WINDOW / 2 + 1): triangles, evenly spaced in mel = 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + 7600 / 700)
    corners = 700 * (10 ** (np.linspace(20.0, highest, MELS + 2) / 2595) - 1)
    f = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    low, middle, high = (corners[i : i + MELS, None] for i in range(3))
    return np.clip(np.minimum((f - low) / (middle - low), (high - f) / (high - middle)), 0, None)
