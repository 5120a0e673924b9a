"""``fourbit inspect --project``: every heading and key says that it is projected."""

import json
import shutil

import graphs
import numpy as np
import onnx
import pytest
from cli import fourbit, mlp, model, refusal

from fourbit_onnx.recipes.hardware import FIGURES, Figure
from fourbit_onnx.recipes.plan import read
from fourbit_onnx.recipes.projection import project

TABLE = """\
The products of a training step on 4-bit hardware, projected from published
figures, not measured; all in FP16 = 1:

projected          MACs    time  energy  faster  less energy
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("projection") / "out"
    assert fourbit("convert", model(), "-o", path, "--recipe", "ibm2020-onephase").exit_code == 0
    return path


def test_text(folder):
    plain, result = fourbit("inspect", folder).stdout, fourbit("inspect", folder, "--project")
    assert result.exit_code == 0
    assert TABLE in result.stdout
    lines = result.stdout.splitlines()
    assert set(plain.splitlines()) <= set(lines)
    start = lines.index(TABLE.splitlines()[-1])
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 6]] == [
        "forward, 4-bit",
        "dgrad, 4-bit",
        "wgrad, 4-bit",
        "high precision",
        "total",
    ]
    assert lines[start + 5].split() == [
        "total",
        "100.0",
        "%",
        f"{(found := project(read(folder / 'plan.json'))).time:.4f}",
        f"{found.energy:.4f}",
        f"{1 / found.time:.1f}x",
        f"{1 / found.energy:.1f}x",
    ]
    headings = "Projected bound: ", "projected with these figures", "not projected:"
    for heading in headings:
        assert sum(line.startswith(heading) for line in lines) == 1


@pytest.mark.parametrize(
    ("recipe", "phases"),
    {"ibm2020-onephase": "", "ibm2020": "dgrad and wgrad", "luq-smp2": "wgrad"}.items(),
)
def test_products_that_are_two_are_named(recipe, phases):
    found = fourbit("inspect", model(), "--recipe", recipe, "--project")
    said = " ".join(found.stdout.split())
    if not phases:
        assert "Counted twice" not in said
        return
    assert (
        f"Counted twice: products of {phases} that read a gradient in both phases, or in two draws, are two "
        "on 4-bit hardware."
    ) in said


def test_json(folder):
    found = json.loads(fourbit("inspect", folder, "--project", "--json").stdout)["projected"]
    expected = project(read(folder / "plan.json"))
    assert found["note"].startswith("projected from published figures, not measured")
    assert found["projected_time"] == expected.time
    assert found["projected_energy"] == expected.energy
    assert found["projected_speedup"] == 1 / expected.time
    assert found["projected_speedup_bound"] == 1 / expected.kept.time
    assert [phase["projected_time"] for phase in found["phases"]] == [p.time for p in expected.phases]
    assert set(found["figures"]) == {"fp32", "int4", "log4"}
    assert found["figures"]["log4"]["source"] == FIGURES["log4"].source
    for name, value in [*found.items(), *found["phases"][0].items()]:
        assert not isinstance(value, float) or name == "share" or name.startswith("projected_")


def test_a_model_and_its_folder_have_one_projection(folder):
    of_model, of_folder = (
        json.loads(fourbit("inspect", *path, "--project", "--json").stdout)["projected"]
        for path in ((model(), "--recipe", "ibm2020-onephase"), (folder,))
    )
    assert of_model == of_folder


@pytest.mark.parametrize("frozen", [(), ("conv1*", "bn1*"), ("layer1*",)], ids=["", "beginning", "middle"])
@pytest.mark.parametrize("recipe", ["ibm2020-onephase", "luq"])
def test_the_graph_has_the_products_that_are_projected(tmp_path, recipe, frozen):
    """Counted: with one multiply-accumulate a product, of cost 1, the projection is their number."""
    options = [word for pattern in frozen for word in ("--freeze", pattern)]
    fourbit("convert", model(), "-o", tmp_path / "out", "--recipe", recipe, *options)
    operators = json.loads(fourbit("inspect", tmp_path / "out", "--json").stdout)["operators"]
    plan = read(tmp_path / "out" / "plan.json")
    for site in plan.sites:
        site.macs = 1
    unit = dict.fromkeys(FIGURES, Figure(1, 1, "", ""))
    found = project(plan, unit)
    total = sum(phase.macs for phase in found.phases)
    assert [round(phase.time * total) for phase in found.phases[:3]] == [
        operators["QConv"],
        operators["QConvInputGrad"],
        operators["QConvWeightGrad"],
    ]


def test_only_when_asked(folder):
    assert "rojected" not in fourbit("inspect", folder).stdout
    assert "projected" not in json.loads(fourbit("inspect", folder, "--json").stdout)


def test_other_figures(folder, tmp_path):
    """As dear as FP16, nothing is gained; the first convolution and the last product are as before."""
    file = tmp_path / "mine.toml"
    file.write_text("int4 = {time = 1, energy = 1}\nlog4 = {time = 1, energy = 1}\n")
    result = fourbit("inspect", folder, "--project", "--figures", file)
    assert "total           100.0 %  1.0000  1.0000    1.0x         1.0x" in result.stdout
    assert result.stdout.count("    time and energy as given\n") == 2


def test_a_model_without_high_precision_has_no_bound(tmp_path):
    recipe = tmp_path / "all.toml"
    printed = fourbit("inspect", "--toml").stdout
    recipe.write_text(printed.replace("keep_ends = true", "keep_ends = false"))
    options = ("--recipe", recipe, "--project")
    assert "Projected bound" not in fourbit("inspect", mlp(), *options).stdout
    found = json.loads(fourbit("inspect", mlp(), *options, "--json").stdout)["projected"]
    assert found["projected_speedup_bound"] is None
    assert found["phases"][-1]["macs"] == 0


def test_wrong_use(folder, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[int4]\ntime = 0.5")
    assert refusal("inspect", folder, "--figures", file, code=2) == "--figures is for --project."
    assert "--toml prints a recipe" in refusal("inspect", "--toml", "--project", code=2)
    file.write_text("[int4]\ntime = -1")
    said = refusal("inspect", folder, "--project", "--figures", file)
    assert said == f"{file}: int4.time is a number above 0, FP16 = 1, not -1"


def test_nothing_to_project(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(
        graphs.model("(float[N,4] x) => (float[N,4] y)", "y = Mul (x, w)", {"w": np.ones(4, "f")}), path
    )
    said = refusal("inspect", path, "--project")
    assert said.startswith("there is nothing to project: no site (Conv, Gemm, MatMul ")


def test_sites_of_unknown_size_are_counted(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    plan = json.loads((copy / "plan.json").read_text())
    plan["sites"][1]["macs"] = 0
    (copy / "plan.json").write_text(json.dumps(plan))
    assert "because their sizes are unknown: 1 sites" in fourbit("inspect", copy, "--project").stdout.replace(
        "\n", " "
    )
