"""What a row of the report says of runs that failed, are equal, or have no unit."""

from harness_runs import tiny

from fourbit_onnx.harness import results


def test_equal_metrics_decide_nothing_unless_the_runs_are_identical(tmp_path):
    """The same recipe under another name has the losses of fp16, bit for bit."""
    values = {"fp16": {0: 0.9, 1: 0.8, 2: 0.9}, "mine": {0: 0.9, 1: 0.8, 2: 0.9}}
    runs = [
        {"recipe": name, "seed": seed, "error": None, "seconds": 1.0, "epochs": [{"loss": 1.0 + seed}]}
        for name in values
        for seed in range(3)
    ]
    row = results._row(tiny(), "mine", "", runs, values)
    assert (row["verdict"], row["difference"]["low"], row["difference"]["high"]) == ("within margin", 0, 0)
    runs[-1]["epochs"][0]["loss"] += 1e-7
    row = results._row(tiny(), "mine", "", runs, values)
    assert (row["verdict"], row["difference"]["low"]) == ("not decided", None)
    assert row["difference"]["not_known"] == "all differences are equal"
    (pair,) = results._pairs(runs, values, relative=False)
    assert (pair["low"], pair["p"], pair["p_holm"]) == (None, None, None)
    for run_ in runs:
        run_["epochs"] = []
    assert results._row(tiny(), "mine", "", runs, values)["verdict"] == "not decided"


def test_survivors_are_never_within_the_margin(tmp_path):
    """Of five seeds that are as good as fp16, two failed: no verdict, and not the best."""
    experiment = tiny()
    runs = [
        {"recipe": name, "seed": seed, "metric": 0.9, "error": None, "seconds": 1.0, "four_bit_share": share}
        for name, share in (("fp16", 0.0), ("ibm2020", 0.9))
        for seed in range(5)
    ]
    for run_ in runs:
        run_["epochs"] = [{"loss": run_["four_bit_share"] + run_["seed"]}]
    values = {
        "fp16": dict.fromkeys(range(5), 0.9),
        "ibm2020": {seed: 0.9 + seed / 1e6 for seed in range(5)},
    }
    assert results._row(experiment, "ibm2020", "", runs, values)["verdict"] == "within margin"
    for run_ in runs[8:]:
        run_["metric"], run_["error"] = None, "step 2: the loss is nan"
    values["ibm2020"] = {seed: values["ibm2020"][seed] for seed in (0, 1, 2)}
    row = results._row(experiment, "ibm2020", "", runs, values)
    assert (row["verdict"], row["failed"], row["runs"]) == ("not decided", 2, 3)
    results._mark_best([row], higher_is_better=True)
    assert not row["best"]


def test_nothing_is_within_the_margin_of_a_baseline_that_failed(tmp_path):
    values = {"fp16": {0: 0.9, 1: 0.8, 2: 0.7}, "ibm2020": {0: 0.9, 1: 0.8001, 2: 0.7, 3: 0.1}}
    runs = [
        {"recipe": name, "seed": seed, "error": None, "seconds": 10.0, "epochs": [{"loss": len(name) + seed}]}
        for name in values
        for seed in range(4)
    ]
    row = results._row(tiny(), "ibm2020", "", runs, values)
    assert row["verdict"] == "within margin"
    runs[3] |= {"error": "step 2: the loss is nan", "seconds": 1.0}
    row = results._row(tiny(), "ibm2020", "", runs, values)
    assert (row["verdict"], row["failed"], row["difference"]["n"]) == ("not decided", 0, 3)
    base = results._row(tiny(), "fp16", "", runs, values)
    assert (base["failed"], base["seconds"]) == (1, 10.0)  # a failed run ended early
    assert results._seconds(runs[3:4]) == 1.0


def test_a_loss_of_0_or_less_is_no_unit(tmp_path):
    """Differences of losses are shares of the baseline's."""
    experiment = tiny(metric="loss")
    values = {"fp16": {0: 0.5, 1: -0.5, 2: 0.5}, "ibm2020": {0: 0.5, 1: 0.4, 2: 0.5}, "minmax": {3: 0.5}}
    runs = [
        {"recipe": name, "seed": seed, "error": None, "seconds": 1.0, "epochs": []}
        for name, seeds in values.items()
        for seed in seeds
    ]
    why = "the baseline's metric is not above 0 in every run, so no share of it can be taken"
    row = results._row(experiment, "ibm2020", "", runs, values)
    assert (row["difference"], row["verdict"], row["not_compared"]) == (None, "not decided", why)
    assert results._row(experiment, "minmax", "", runs, values)["not_compared"] == "no run to compare"
    assert results._row(experiment, "fp16", "", runs, values)["not_compared"] is None
    assert results._row(tiny(), "ibm2020", "", runs, values)["not_compared"] is None
    turned = {name: values[name] for name in ("ibm2020", "minmax", "fp16")}  # a share of the second one
    found = [pair["not_known"] for pair in results._pairs(runs, turned, relative=True)]
    assert found == ["no run to compare", why, "no run to compare"]
