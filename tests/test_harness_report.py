"""The page: it stands alone, says what the JSON says, bears foreign names, big models and missing parts."""

import copy
import json
import re

import pytest
from report_page import HOSTILE, Reader, made, observation, sensitivity, stands_alone

from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.harness import inside, wording
from fourbit_onnx.harness.observe import merged
from fourbit_onnx.harness.report import page, summary, write
from fourbit_onnx.harness.wording import Units


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
    assert "with 1 seed, so the 95 % interval is not known" in text
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
            "not_compared": "no run to compare",
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


def test_differences_that_are_all_equal():
    report = made()
    unknown = {"low": None, "high": None, "not_known": "all differences are equal"}
    report["recipes"][1] |= {"verdict": "not decided"}
    report["recipes"][1]["difference"] |= unknown
    report["pairs"][0] |= unknown | {"p": None, "p_holm": None}
    text = stands_alone(page(report)).text
    assert "All differences of ibm2020 are equal, as few test samples make them" in text
    assert (
        "? ibm2020: not decided; −0.12 points, the same with 3 seeds, so the 95 % interval is not known."
        in text
    )
    assert "? not decided −0.12 not known" in text  # the table
    assert "−0.12 [not known]" in text  # the chart


def test_what_a_telephone_shows_comes_first():
    """Recipe, verdict, difference and interval; the rest is a swipe away."""
    found = page(made(("fp16", "ibm2020~sawb", "minmax")))
    assert "ibm2020~<wbr>sawb" in found
    text = stands_alone(found).text
    assert "Result recipe verdict difference, points 95 % interval test accuracy, mean std" in text
    assert "ibm2020~sawb best in 4 bits a paper ✓ within margin −0.12 −0.30 to +0.06 90.88 %" in text
    assert "recipes difference, points 95 % interval seeds p p, Holm in words" in text
    assert "fp16 against ibm2020~sawb −0.12 −0.30 to +0.06 3 < 0.001 0.040 different" in text


def test_two_seeds_are_no_verdict():
    units = Units("accuracy", relative=False, margin=0.005)
    ((_, _, sentence),) = summary(made(seeds=3), units)
    assert sentence.endswith("95 % interval −0.30 to +0.06.")
    report = made(seeds=2)
    report["recipes"][1] |= {"verdict": "not decided"}
    ((_, _, sentence),) = summary(report, units)
    assert sentence == (
        "ibm2020: not decided; −0.12 points, 95 % interval −0.30 to +0.06 of 2 seeds; a verdict takes 3 or "
        "more."
    )


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


def test_steps_that_were_merged_before_are_the_same_page():
    """What a folder holds may be either."""
    report = made(layers=3)
    entries = next(run for run in report["runs"] if run["observations"])["observations"]
    for entry in entries:
        entry["quantizers"] = [
            {
                **quantizer,
                "site": f"lstm.{step}.{quantizer['site']}",
                "group": "" if quantizer["site"] == "layer2" else quantizer["site"],
                "snr_db": None if step == 5 else quantizer["snr_db"] + step / 7,
                "zeros": step / 9,
            }
            for quantizer in entry["quantizers"] for step in range(7)
        ]  # fmt: skip
    text = page(report)
    assert "layer1 <small>7 sites" in text
    for entry in entries:
        entry["quantizers"] = merged(entry["quantizers"])
        assert len(entry["quantizers"]) == 4 * (2 + 7)
    assert page(report) == text
    assert sum(len(merged(entry["quantizers"])) for entry in entries) == 36 * len(entries)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["avx512vnni"], "kernels native library, avx512vnni data"),
        (["none"], "kernels function bodies on ONNX Runtime, without the native library (the same bits,"),
        (["none", "scalar"], "slower); native library, scalar data"),
        ([], "kernels native library, avx2 data"),
    ],
)
def test_kernels_of_the_runs(found, words):
    """Of a report without runs, or of an earlier version, it is what the check itself would use."""
    assert words in stands_alone(page(made() | {"kernels": found})).text


def test_write_replaces_and_refuses(tmp_path):
    report = made()
    path = tmp_path / "report.html"
    path.write_text("old")
    write(json.loads(json.dumps(report)), path)
    assert path.read_text(encoding="utf-8") == page(report)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ArtifactError, match="cannot write"):
        write(report, path / "report.html")


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


def test_two_seeds_with_the_same_difference():
    report = made(seeds=2)
    report["recipes"][1]["difference"] |= {
        "low": None,
        "high": None,
        "not_known": "all differences are equal",
    }
    ((_, _, sentence),) = summary(report, Units("accuracy", relative=False, margin=0.005))
    assert sentence.endswith("the same with 2 seeds, so the 95 % interval is not known.")
