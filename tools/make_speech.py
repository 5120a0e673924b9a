"""Make fourbit_onnx/data/speech.npz: spoken words, synthesised by espeak-ng, as log-mel energies.

Run ``python tools/make_speech.py`` where NumPy and the command ``espeak-ng`` are (Debian: ``apt-get install
espeak-ng``); it takes about three minutes. The file in the repository was made with espeak-ng
1.51+dfsg-10+deb12u2 and NumPy 2.4.6. The speech is synthetic: no person has said these words.

A speaker is a voice variant of espeak-ng, or a family of variants (edward, edward2). Each speaker says
every word three times: in an accent of English, at a speed (110 to 200 words a minute) and a pitch drawn at
random. The sound, 22,050 Hz, is cut to the word, placed at random in a window of 0.8 s, gets the echo of a
room (noise that decays by 60 dB in 0.1 to 0.5 s, 5 to 30 % of the energy of the sound) and noise (white,
pink or with the long-term spectrum of the speech), 8 to 25 dB below it.

Frames of 25 ms, every 20 ms, with a Hann window; energies in 40 triangular bands, equally wide from 60 to
8,000 Hz on the mel scale, mel(f) = 2595 log10(1 + f / 700); in decibels below the loudest of the sample, in
steps of 3 dB: codes 19 (the loudest) to 0 (57 dB less, or still less).
"""

import argparse
import io
import re
import subprocess
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
VARIANTS = Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data/voices/!v")
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
    *("bed", "bird", "cat", "dog", "tree"),
)
ACCENTS = (  # not "en-gb": it leaves a variant that is put behind it unheard
    *("en", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd"),
    *("en-029", "en-us-nyc"),
)
TIMES = 3
RATE, FRAME, HOP, FFT = 22050, 551, 441, 1024
FRAMES, BANDS = 40, 40
LENGTH = FRAMES * HOP + FRAME - HOP
LOW, HIGH = 60.0, 8000.0
STEP, LEVELS = 3.0, 20


def speakers() -> dict[str, list[str]]:
    """Name to variants; f1 to f5 and m1 to m8 are persons of their own, other numbers are takes of one."""
    found: dict[str, list[str]] = {}
    for path in sorted(VARIANTS.iterdir()):
        name = path.name
        family = name if re.fullmatch(r"[fm]\d", name) else re.sub(r"(Robot)?\d*$", "", name)
        family = {"caleb": "klatt"}.get(family, family)  # the same sounds
        found.setdefault(family, []).append(name)
    return found


def say(word: str, voice: str, speed: int, pitch: int) -> np.ndarray:
    """The sound of a word, float64 within -1..1, silence at both ends cut."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(raw)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{command}: {file.getparams()}")
        sound = np.frombuffer(file.readframes(1 << 20), "<i2") / 32768
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    return sound[loud[0] : loud[-1] + 1]


def in_a_room(sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sound with the echo of a room, as long as before."""
    decay = random.uniform(0.1, 0.5)  # seconds to -60 dB
    time = np.arange(int(decay * RATE)) / RATE
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    tail *= np.sqrt(random.uniform(0.05, 0.3) / np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    size = 1 << (len(sound) + len(response)).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]


def noise(spectrum: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Noise of the given amplitudes, LENGTH // 2 + 1 of them, with mean square 1."""
    phases = random.standard_normal((2, len(spectrum)))
    found = np.fft.irfft(spectrum * (phases[0] + 1j * phases[1]), LENGTH)
    return found / np.sqrt(np.mean(found**2))


def record(sound: np.ndarray, spectra: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """A word as it reaches the microphone, LENGTH long."""
    sound = sound[:LENGTH]
    place = random.integers(0, LENGTH - len(sound) + 1)
    window = np.zeros(LENGTH)
    window[place : place + len(sound)] = sound / np.sqrt(np.mean(sound**2))
    level = 10 ** (-random.uniform(8, 25) / 20)
    return in_a_room(window, random) + level * noise(spectra[random.integers(len(spectra))], random)


def mel_filters() -> np.ndarray:
    """Triangles over the bins of the spectrum, (BANDS, FFT // 2 + 1)."""

    def mel(f: float | np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(f) / 700)

    corners = np.linspace(mel(LOW), mel(HIGH), BANDS + 2)
    bins = mel(np.arange(FFT // 2 + 1) * RATE / FFT)
    rise = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))


def codes(sound: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """(FRAMES, BANDS) uint8, as the head of this file says."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP] * np.hanning(FRAME)
    energy = np.abs(np.fft.rfft(frames, FFT)) ** 2 @ filters.T
    decibels = 10 * np.log10(energy / energy.max() + 1e-12)
    return np.clip(np.rint(decibels / STEP) + LEVELS - 1, 0, LEVELS - 1).astype(np.uint8)


def main() -> None:
    """Let every speaker say every word, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "fourbit_onnx/data/speech.npz")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    families = speakers()
    sounds, labels, who = [], [], []
    owners: dict[bytes, int] = {}
    for speaker, variants in enumerate(families.values()):
        for label, word in enumerate(WORDS):
            for _ in range(TIMES):
                voice = f"{random.choice(ACCENTS)}+{random.choice(variants)}"
                speed, pitch = random.integers(110, 201), random.integers(20, 81)
                sound = say(word, voice, int(speed), int(pitch))
                if owners.setdefault(sound.tobytes(), speaker) != speaker:
                    raise SystemExit(
                        f"two speakers sound the same: {voice} and number {owners[sound.tobytes()]}"
                    )
                sounds.append(sound)
                labels.append(label)
                who.append(speaker)
    spectrum = np.sqrt(np.mean([np.abs(np.fft.rfft(sound, LENGTH)) ** 2 for sound in sounds], 0))
    pink = 1 / np.sqrt(np.maximum(np.arange(LENGTH // 2 + 1), 3))
    spectra = [np.ones(LENGTH // 2 + 1), pink, spectrum]
    filters = mel_filters()
    features = np.stack([codes(record(sound, spectra, random), filters) for sound in sounds])
    np.savez_compressed(
        options.output,
        features=features,
        labels=np.array(labels, np.uint8),
        speakers=np.array(who, np.uint8),
        words=np.array(WORDS),
        names=np.array(list(families)),
    )
    length = np.array([len(sound) for sound in sounds]) / RATE
    print(
        f"{len(families)} speakers, {len(labels)} words of {length.mean():.2f} s on average, "
        f"{100 * np.mean(length > LENGTH / RATE):.1f} % cut off; {options.output.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
