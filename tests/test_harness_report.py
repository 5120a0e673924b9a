"""The page: it stands alone, says what the JSON says, bears foreign names, big models and missing parts."""

import copy
import html
import html.parser
import json
import re

import numpy as np
import pytest

from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.harness import charts, inside, wording
from fourbit_onnx.harness.report import page, summary, write
from fourbit_onnx.harness.wording import Units

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


def test_it_says_what_the_json_says():
    report = made(("fp16", "ibm2020", "minmax"))
    report["sensitivity"] = sensitivity(4)
    text = stands_alone(page(report)).text
    for row in report["recipes"]:
        assert f"{100 * row['mean']:.2f} %" in text
        assert f"{100 * row['std']:.2f}" in text
        if row["difference"]:
            low, high = (f"{100 * row['difference'][end]:+.2f}".replace("-", "−") for end in ("low", "high"))
            assert f"{low} to {high}" in text
            assert f"{row['name']}: within margin" in text
    for word in (
        "98.7 %", "1 min 15 s", "best in 4 bits", "< 0.001", "0.040", "different", "12.5 %", "0.1 %",
        "25.0 %", "layer3", "45.6 %", "−0.0123", "2 smaller sites left out", "fourbit check digits",
        "2026-01-02", "a processor", "avx2", "python 3.11.7", "1,437 samples to train", "a note",
    ):  # fmt: skip
        assert word in text


def test_every_part_has_a_chart():
    report = made()
    labels = [value for name, value in Reader(page(report)).attributes if name == "aria-label"]
    for words in (
        "interval",
        "Test accuracy",
        "Training loss",
        *inside.POINTS.values(),
        "levels of log4",
        "PACT",
    ):
        if words not in ("Weights w, for dx", "Activations x, for dw"):
            assert any(words in label for label in labels), words


@pytest.mark.parametrize("metric", ["bits_per_character", "loss"])
def test_other_metrics(metric):
    text = stands_alone(page(made(metric=metric))).text
    assert "0.9088" in text
    assert "−0.30 to +0.06" in text
    assert "2.00 %" in text
    assert wording.METRICS[metric] in text


def test_foreign_text_is_escaped():
    report = made(("fp16", HOSTILE))
    report["sensitivity"] = sensitivity(2)
    report["sensitivity"]["sites"][0]["site"] = HOSTILE
    for key in ("name", "model", "data"):
        report["task"][key] = HOSTILE
    report["command"] = report["date"] = report["commit"] = report["baseline"] = HOSTILE
    report["versions"][HOSTILE] = HOSTILE
    report["recipes"][1]["source"] = HOSTILE
    report["runs"][4]["error"] = HOSTILE
    for run in report["runs"]:
        run["observations"] = run["observations"] and [observation(e, 3, prefix=HOSTILE) for e in range(3)]
    found = stands_alone(page(report))
    assert "alert(1)" in found.text
    assert "{{ 7*7 }}" in found.text


def test_missing_parts():
    bare = made(seeds=1)
    for run in bare["runs"]:
        run["observations"], run["epochs"] = [], []
    for key in ("pairs", "pairs_note", "notes", "seeds", "commit"):
        del bare[key]
    bare["partial"] = True
    text = stands_alone(page(bare)).text
    assert "not decided" in text
    assert "so there is no interval" in text
    assert "No quantiser was looked at" in text
    assert "Not measured" in text
    assert "Not all runs" in text


def test_nothing_ran():
    report = made(seeds=1)
    report["runs"] = []
    for row in report["recipes"]:
        row |= {
            "mean": None,
            "std": None,
            "difference": None,
            "runs": 0,
            "seconds": None,
            "four_bit_share": None,
        }
    report["recipes"][1]["verdict"] = "not decided"
    report["pairs"] = [
        {
            "a": "fp16",
            "b": "ibm2020",
            "mean": None,
            "low": None,
            "high": None,
            "n": 0,
            "p": None,
            "p_holm": None,
        }
    ]
    assert "no run to compare" in stands_alone(page(report)).text


def test_failed_runs_and_numbers_that_are_none():
    report = made()
    report["runs"][3] |= {"error": "step 12: the loss is not finite", "metric": None}
    report["runs"][4]["epochs"][2] |= {"loss": None, "eval_loss": float("nan")}
    seen = next(run for run in report["runs"] if run["observations"])["observations"]
    for quantizer in seen[0]["quantizers"]:
        quantizer["snr_db"] = None
    text = stands_alone(page(report)).text
    assert "ibm2020, seed 0 : step 12: the loss is not finite" in text
    assert "1 run failed" in text


def test_differences_that_are_all_alike():
    report = made()
    report["recipes"][1]["difference"] |= {"low": -0.0012, "high": -0.0012}
    assert "All differences of ibm2020 are alike" in Reader(page(report)).text


def test_a_big_model_stays_small_and_folded(tmp_path):
    recipes = ("fp16", "a", "b", "c", "d")
    report = made(recipes, layers=60, epochs=30)
    for run in report["runs"]:
        if run["recipe"] != "fp16" and run["seed"] == 0:
            run["observations"] = [
                observation(e, 60, "model.layers.attention.projection") for e in range(0, 30, 4)
            ]
    write(report, tmp_path / "report.html")
    size = (tmp_path / "report.html").stat().st_size
    assert size < 2_000_000
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<details>\s*<summary>Gradients dy, for dx, layer by layer \(60\)", text)


def test_steps_of_a_group_are_one_row():
    report = made(layers=1)
    for entry in next(run for run in report["runs"] if run["observations"])["observations"]:
        entry["quantizers"] = [
            {**quantizer, "site": f"lstm.{step}", "group": "lstm.recurrent"}
            for quantizer in entry["quantizers"] for step in range(7)
        ]  # fmt: skip
    text = Reader(page(report)).text
    assert "lstm.recurrent 7 sites" in text
    assert "lstm.3" not in text


def test_write_replaces_and_refuses(tmp_path):
    report = made()
    path = tmp_path / "report.html"
    path.write_text("old")
    write(json.loads(json.dumps(report)), path)
    assert path.read_text(encoding="utf-8") == page(report)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ArtifactError, match="cannot write"):
        write(report, tmp_path / "nothing" / "report.html")


def test_the_report_is_not_changed():
    report = made()
    before = copy.deepcopy(report)
    page(report)
    assert report == before


def test_verdicts_in_words():
    report = made()
    units = Units("accuracy", relative=False, margin=0.005)
    for verdict in ("within margin", "worse than margin", "not decided"):
        report["recipes"][1]["verdict"] = verdict
        ((kind, sign, sentence),) = summary(report, units)
        assert sentence.startswith(f"ibm2020: {verdict}; −0.12 points, 95 % interval −0.30 to +0.06")
        assert (sign, kind) == wording.VERDICTS[verdict]


def test_numbers():
    assert [wording.signed(x) for x in (0.126, -0.126, -0.001)] == ["+0.13", "−0.13", "0.00"]
    assert [wording.percent(x) for x in (0, 0.0001, 0.5, None)] == ["0.0 %", "< 0.1 %", "50.0 %", "–"]
    assert [wording.duration(x) for x in (1.26, 59, 61, 3700)] == ["1.3 s", "59 s", "1 min 1 s", "1 h 1 min"]
    assert [wording.p_value(x) for x in (None, 0.0009, 0.05)] == ["–", "< 0.001", "0.050"]
    assert Units("accuracy", False, 0.005).bound == -0.005
    assert Units("loss", True, 0.02).bound == 0.02
    assert wording.count(1, "seed") == "1 seed"


def test_levels_in_order_of_their_value():
    """Code 8 of log4, minus zero, is no level of its own; the sums are of all layers."""
    one = {"format": "log4", "codes": list(range(16))}
    found = inside.levels([one, one])
    assert [value for value, _ in found] == [
        -4096,
        -1024,
        -256,
        -64,
        -16,
        -4,
        -1,
        0,
        1,
        4,
        16,
        64,
        256,
        1024,
        4096,
    ]
    shares = [code / 120 for code in (15, 14, 13, 12, 11, 10, 9, 8, 1, 2, 3, 4, 5, 6, 7)]
    assert [share for _, share in found] == pytest.approx(shares)
    assert [inside.level_name(v, "log4") for v in (-4096, 0, 1, 16)] == ["−4⁶", "0", "4⁰", "4²"]
    assert [inside.level_name(v, "log2") for v in (-64, 2)] == ["−2⁶", "2¹"]
    assert [inside.level_name(v, "int4") for v in (-7, 3)] == ["−7", "3"]
    assert [inside.level_name(v, "e2m1") for v in (-12, 3, 0)] == ["−6", "1.5", "0"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12), (97.3, 97.4), (1e-9, 3e-9), (5, 5)])
def test_ticks_lie_inside(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 <= x <= high + 1e-9 for x in found)
    powers = charts.log_ticks(1e-3, 20)
    assert len(powers) >= 3
    assert all(1e-3 * 0.99 <= x <= 20.1 for x in powers)


def test_labels_do_not_touch():
    lines = [charts.Line([(0, 1), (1, 1 + n / 1000)], label=f"recipe{n}") for n in range(6)]
    text = str(charts.lines(lines, title="t", x_title="x", y_title="y", y_text=str))
    places = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="label', text))
    assert len(places) == 6
    assert min(np.diff(places)) >= 11.9
    assert html.unescape(text).count("recipe0") == 1
