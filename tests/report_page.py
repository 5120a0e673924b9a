"""Reports of checks for tests of the page, and a reader of the page that complains."""

import html.parser
import re

import numpy as np

RNG = np.random.default_rng(11)
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}</title></svg>"
VOID = {"meta", "br", "wbr"}
POINTS = {"fwd.x": "uint4", "fwd.w": "int4", "dgrad.dy": "log4", "wgrad.dy": "log4"}


class Reader(html.parser.HTMLParser):
    """Text, tags and attributes; complains about what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            glued = self.words and self.tags[-1] == "wbr"
            self.words[-1:] = [self.words[-1] + data] if glued else [*self.words[-1:], data]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def observation(epoch, layers, prefix="layer"):
    quantizers = [
        {
            "site": f"{prefix}{number}",
            "point": point,
            "format": format,
            "scale_rule": "pact",
            "snr_db": float(8 + number % 5 + epoch / 3),
            "zeros": 0.25,
            "saturated": 0.001,
            "underflow": 0.125,
            "scale": 0.5,
            "codes": [int(c) for c in RNG.integers(0, 100, 16)],
        }
        for number in range(layers)
        for point, format in POINTS.items()
    ]
    return {
        "epoch": epoch,
        "quantizers": quantizers,
        "clips": {f"{prefix}{n}.clip": 3.0 - n / 99 for n in range(layers)},
    }


def made(recipes=("fp16", "ibm2020"), seeds=3, layers=4, metric="accuracy", epochs=5):
    """A report as `fourbit check` makes it."""
    relative = metric != "accuracy"
    runs = [
        {
            "recipe": recipe,
            "seed": seed,
            "metric": 0.9 + 0.01 * seed,
            "epochs": [
                {
                    "epoch": float(e),
                    "loss": 2.0 / (e + 1),
                    "eval_loss": 2.1 / (e + 1),
                    "eval_accuracy": 0.6 + e / 20,
                }
                for e in range(epochs)
            ],
            "seconds": 75.0,
            "four_bit_share": 0.0 if recipe == "fp16" else 0.987,
            "observations": []
            if recipe == "fp16" or seed
            else [observation(e, layers) for e in range(epochs)],
            "error": None,
        }
        for recipe in recipes
        for seed in range(seeds)
    ]
    several = seeds > 1

    def difference(number):
        return {
            "mean": -0.0012 * number,
            "low": -0.003 * number if several else None,
            "high": 0.0006 if several else None,
            "n": seeds,
            "confidence": 0.95,
        }

    rows = [
        {
            "name": recipe,
            "source": "a paper",
            "runs": seeds,
            "failed": 0,
            "mean": 0.91 - 0.0012 * number,
            "std": 0.0123 if several else None,
            "difference": difference(number) if number else None,
            "relative": relative,
            "verdict": ("within margin" if several else "not decided") if number else "baseline",
            "four_bit_share": 0.987 if number else 0.0,
            "seconds": 75.0,
            "best": number == 1,
        }
        for number, recipe in enumerate(recipes)
    ]
    return {
        "version": 1,
        "task": {
            "name": "digits", "field": "vision", "data": "digits", "model": "resnet8",
            "model_options": {"width": 16}, "metric": metric, "margin": 0.02 if relative else 0.005,
            "optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup": 20,
            "weight_decay": 1e-4, "batch_size": 64, "epochs": epochs,
        },
        "baseline": "fp16",
        "command": "fourbit check digits",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "a processor", "processors": 2, "isa": "avx2"},
        "versions": {"python": "3.11.7", "fourbit_onnx": "0.1.0"},
        "commit": "abc",
        "data": {"samples": {"train": 1437, "test": 360}, "sha256": "0123"},
        "seeds": {"asked": seeds, "complete": seeds},
        "recipes": rows,
        "pairs": [
            {"a": a, "b": b, **difference(1), "p": 0.0004, "p_holm": 0.04 if several else None}
            for number, a in enumerate(recipes) for b in recipes[number + 1 :]
        ],
        "pairs_note": "p and p_holm",
        "notes": ["a note"],
        "runs": runs,
        "sensitivity": None,
        "partial": False,
    }  # fmt: skip


def sensitivity(layers):
    figures = {"loss_change": -0.0123, "gradient_error": 0.456}
    return {
        "recipe": "ibm2020",
        "loss": 0.25,
        "all_four_bit": figures,
        "sites": [
            {"site": f"layer{n}", "macs": 1000 + n, "four_bit": n > 0, "only_four_bit": figures,
             "only_high": figures if n else None}
            for n in range(layers)
        ],
        "left_out": 2,
    }  # fmt: skip


def stands_alone(text):
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    found = Reader(text)
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name in ("src", "action") or name.startswith("on")]
    assert [value for name, value in found.attributes if name == "href" and not value.startswith("#")] == []
    return found
