"""Digests of code: the code of every number of a study counts, and nothing else does."""

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import preddiff
from preddiff import workflow
from preddiff.methods.prediction_difference import code_of_expectations
from preddiff.settings.base import validate
from preddiff.settings.study import Study
from preddiff.storage.code import NO_NUMBERS, Package
from preddiff.storage.provenance import (
    digest_code,
    digest_json,
)
from tests.unit.configurations import every_kind

PACKAGE = Path(preddiff.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


# The code of this package. What a study consists of, by what makes it:

# Modules whose functions make numbers.
NUMBERS = [
    "windows.py", "evidence.py", "targets.py", "kriging.py", "drawn.py", "refinement.py",
    "samplers/*.py", "engines/**/*.py", "methods/*.py",
    "evaluation/*.py",
    *(
        f"classifiers/{name}.py"
        for name in (
            "held_out", "linear", "linear_nodes", "linear_scores", "linear_training",
            "logistic", "nuisance", "regression", "ridge", "svm", "cross_validation",
            "convolutional", "efficientnet_lite", "monai", "module",
            "network", "network_nodes", "digits", "hooks", "layers", "precision",
            "readout", "standardisation",
            "activations", "excitation", "excitation_rules",
            "explanation_network", "parts", "srae", "srae_losses", "srae_training",
        )
    ),
    *(
        f"datasets/{name}.py"
        for name in (
            "items", "slab", "images", "pictures", "annotations", "image_store", "volumes",
            "nuisance", "digits", "phantom", "oasis", "imagenet", "photographs",
        )
    ),
]  # fmt: skip
# Functions there that make none, and why.
_PLANNED = "reaches the stage as a setting or an input, which Snakemake compares"
_TEXT = "text of messages"
_PROGRESS = "for the time that is left"
MAKE_NO_NUMBERS = {
    "windows._by": _TEXT,
    "windows._ranges": _TEXT,
    "engines.dense.too_little_memory": _TEXT,
    "engines.incremental.engine._failure": _TEXT,
    "methods.prediction_difference.no_exact_form": _TEXT,
    "refinement.passes_left": _PROGRESS,
    "evaluation.predictions._mismatch": _TEXT,
    "evaluation.predictions._few": _TEXT,
    "classifiers.linear._listed": _TEXT,
    "classifiers.nuisance._kind": _TEXT,
    "classifiers.layers.list_layers": "prints the layers that can be named",
    "methods.prediction_difference.PredictionDifference.sampler_name": _PLANNED,
    "methods.prediction_difference.PredictionDifference.window_side": _PLANNED,
    "methods.prediction_difference.PredictionDifference.passes_of": _PLANNED,
    "datasets.volumes.VolumeSettings.preparation": _PLANNED,
    "datasets.volumes.VolumeSettings.channels": _PLANNED,
    "datasets.volumes.VolumeSettings.class_names": _PLANNED,
    "datasets.volumes.VolumeSettings.group_column": _PLANNED,
    "datasets.volumes.VolumeSettings.value_name": _PLANNED,
    "datasets.volumes.VolumeSettings.nuisance_variables": _PLANNED,
    "datasets.volumes._of": _TEXT,
    "datasets.volumes.VolumeSettings.has_truth": _PLANNED,
    "datasets.volumes.Cohort.given_table": _PLANNED,
    "datasets.volumes.Cohort.input_files": _PLANNED,
    "datasets.volumes.Cohort.number_of_items": _PLANNED,
    "datasets.digits.Digits.channels": _PLANNED,
    "datasets.digits.Digits.preparation": _PLANNED,
    "datasets.digits.Digits.number_of_items": _PLANNED,
    "datasets.phantom.PhantomCohort.table_settings": _PLANNED,
    "datasets.phantom.PhantomCohort.number_of_items": _PLANNED,
    "datasets.oasis.OasisCohort.table_settings": _PLANNED,
    "datasets.oasis.OasisCohort.number_of_items": _PLANNED,
    "datasets.photographs.PhotographSet.channels": _PLANNED,
    "datasets.photographs.PhotographSet.table_settings": _PLANNED,
    "datasets.photographs.PhotographSet.preparation_with": _PLANNED,
    "datasets.photographs.PhotographSet.number_of_items": _PLANNED,
    "datasets.photographs.PhotographSet._installed": _TEXT,
}
FIGURES = "figure"

# Kinds that the studies which come with the project do not have.
MORE = {
    "datasets": {
        "images": {"images": "images"},
        "everyone": {"table": "people.tsv", "group": None, "value": "age", "nuisance": ["sex"]},
    },
    "classifiers": {
        "module": {
            "kind": "module", "module": "own.py:network", "crop": 8, "resize": 8,
            "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
        },
        "torchvision": {"kind": "torchvision", "name": "alexnet", "crop": 8, "resize": 8},
        "explained": {"kind": "explanation-network", "classifier": "network", "classes": ["3"]},
        "ridge": {"kind": "ridge", "dataset": "cohort"},
        "svm": {"kind": "svm", "dataset": "cohort"},
        "monai": {
            "kind": "monai", "dataset": "cohort", "network": "DenseNet121", "weights": "own.pth",
        },
        "regression": {
            "kind": "regression", "dataset": "everyone", "regress_out": ["sex"],
        },
    },
    "samplers": {"own": {"kind": "module", "module": "own.py:sampler"}},
    "explanations": {
        "own-images": {"classifier": "module", "dataset": "images", "sampler": "own", "k": 2},
        "torchvision": {
            "classifier": "torchvision", "dataset": "images", "sampler": "grey", "k": 2,
        },
        "own-volumes": {"classifier": "logistic", "sampler": "own", "k": 2},
        "own-method": {
            "classifier": "logistic", "method": "module", "module": "own.py:method",
        },
        "gradients": {"classifier": "logistic", "method": "sensitivity"},
        "decision": {"classifier": "svm", "sampler": "grey", "k": 2},
        "concepts": {"classifier": "network", "method": "concepts", "targets": ["layer:relu4"]},
        "explained": {"classifier": "explained", "sampler": "grey", "k": 2},
        "captum": {"classifier": "network", "method": "captum", "algorithm": "LRP"},
        "captum-volumes": {"classifier": "logistic", "method": "captum", "algorithm": "Saliency"},
        "rise": {"classifier": "network", "method": "rise"},
    },
}  # fmt: skip


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _study() -> Study:
    found = every_kind()
    for section, objects in MORE.items():
        found[section] |= objects
    return validate(Study, found, "config.yaml")


def _roots() -> dict[str, list[str]]:
    """Roots of the digests that the rules of a study have, and of those in its stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "digest_code", lambda *roots: list(roots))
        plan = workflow.Plan(_study())
        found: dict[str, Any] = {
            f"{OPEN} {name}": plan.code_of_expectations(name) for name in plan.redrawing
        }
        found |= {f"relevance {name}": plan.code_of_relevance(name) for name in plan.redrawing}
        found |= {f"map {name}": plan.code_of_maps(name) for name in plan.mapped}
        found |= {f"{FIGURES} {name}": plan.code_of_figure(name) for name in plan.study.figures}
        found |= {
            f"classifier {name}": plan.code_of_classifier(name) for name in plan.study.classifiers
        }
        found |= {f"predict {name}": plan.code_of_predictions(name) for name in plan.predicted}
        found |= {f"deletion {name}": plan.code_of_deletion(name) for name in plan.compared}
        found |= {f"concepts {name}": plan.code_of_concepts(name) for name in plan.explaining}
        for command in (
            "phantom", "fetch-oasis", "photographs", "prepare", "prepare-images", "prepare-digits",
            "gaussian", "relevance", "nifti", "localise", "localise-images", "foretold", "findings",
        ):  # fmt: skip
            found[command] = workflow.code_of(command)
        for name in plan.redrawing:
            one: Any = plan.study.explanations[name]
            classifier, sampler = plan.classifier_of(name), plan.sampler_of(name)
            found[f"{STORED} {name}"] = list(code_of_expectations(one, classifier, sampler))
    return found


# What a rule depends on, and what a store of expectations is made by.
OPEN, STORED = "open", "expectations"
ROOTS = _roots()
EXPECTATIONS = {name for name in ROOTS if name.startswith(f"{STORED} ")}


def _digests(package: Path) -> Iterator[tuple[str, dict[str, str]]]:
    code = Package(package)
    return ((name, code.definitions(roots)) for name, roots in ROOTS.items())


BEFORE = dict(_digests(PACKAGE))


def _changed(package: Path) -> set[str]:
    """Results whose code is another than that of the package as it is."""
    return {name for name, found in _digests(package) if found != BEFORE[name]}


def _is_noticed(package: Path) -> bool:
    return any(found != BEFORE[name] for name, found in _digests(package))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package."""
    return shutil.copytree(PACKAGE, tmp_path / "preddiff", ignore=lambda *_: ["__pycache__"])


def _rewrite(path: Path, change: Callable[[ast.Module], object]) -> None:
    tree = ast.parse(path.read_bytes())
    before = ast.dump(tree)
    change(tree)
    assert ast.dump(tree) != before
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """All functions and methods, those within others too, by their dotted names."""
    for node in ast.iter_child_nodes(tree):
        inner = f"{prefix}.{node.name}" if isinstance(node, Function | ast.ClassDef) else prefix
        if isinstance(node, Function):
            yield inner, node
        yield from _functions(node, inner)


def _mutate_function(function: Function) -> None:
    function.body += ast.parse("mutated = 1").body


def _mutate_all_functions(tree: ast.Module) -> None:
    for _, function in _functions(tree):
        _mutate_function(function)
    tree.body += ast.parse("def added(): return 1").body


# Every function counts.


def test_the_digest_is_that_of_the_reached_definitions() -> None:
    roots = ROOTS["relevance"]
    assert digest_code(*roots) == digest_json(BEFORE["relevance"])[:16]
    assert digest_code(*roots) != digest_code(*ROOTS["localise"])


def test_a_wrong_scale_of_items_is_noticed(copy: Path) -> None:
    path = copy / "datasets" / "items.py"
    text = path.read_text()
    wrong = text.replace("np.float32(self.scale)", "np.float32(2 * self.scale)")
    assert wrong != text
    path.write_text(wrong)
    others = {"predict digits-network", "gaussian", "classifier logistic", "map digits-sensitivity"}
    assert _changed(copy) >= EXPECTATIONS | others


def test_a_doubled_grey_value_is_noticed(copy: Path) -> None:
    path = copy / "samplers" / "grey.py"
    text = path.read_text()
    wrong = text.replace("return Grey(self.value)", "return Grey(2 * self.value)")
    assert wrong != text
    path.write_text(wrong)
    changed = _changed(copy)
    grey = {"grey", "digits-grey", "torchvision", "explained", "decision"}
    assert changed == {f"{kind} {name}" for kind in (OPEN, STORED) for name in grey}


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("refinement.py", "_GROWTH = 1.35", "_GROWTH = 1.5"),
        ("refinement.py", "passes > spread", "passes >= spread"),
        ("kriging.py", "np.maximum(fft.rfftn", "2 * np.maximum(fft.rfftn"),
    ],
)
def test_what_chooses_and_judges_levels_counts_for_stores_of_levels_only(
    copy: Path, file: str, before: str, after: str
) -> None:
    path = copy / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with_levels = {"torchvision", "own-images", "explained", "network-k5"}
    with_levels |= {"cat", "coffee", "coffee-k20", "coffee-marginal"}
    kinds = (OPEN, STORED, "relevance")
    assert _changed(copy) == {f"{kind} {name}" for kind in kinds for name in with_levels}


def test_engines_and_samplers_are_told_apart(copy: Path) -> None:
    _rewrite(copy / "engines/linear.py", _mutate_all_functions)
    linear = {
        name
        for name, one in _study().explanations.items()
        if one.redraws_windows and one.classifier in ("logistic", "svm")
    }
    changed = {name.removeprefix(f"{STORED} ") for name in _changed(copy) & EXPECTATIONS}
    assert changed == linear


def _is_stub(function: Function) -> bool:
    """Whether there is nothing but a docstring, as in protocols."""
    return all(
        isinstance(one, ast.Pass)
        or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        for one in function.body
    )


def _files_with_numbers() -> list[Path]:
    found = [sorted(PACKAGE.glob(pattern)) for pattern in NUMBERS]
    assert all(found)
    return [path for paths in found for path in paths]


@pytest.mark.parametrize("file", _files_with_numbers(), ids=_module)
def test_a_change_of_any_function_is_noticed(file: Path, copy: Path) -> None:
    target = copy / file.relative_to(PACKAGE)
    unnoticed = []
    for number, (name, function) in enumerate(_functions(ast.parse(file.read_bytes()))):
        if _is_stub(function) or _module(file) + name in MAKE_NO_NUMBERS:
            continue
        shutil.copy(file, target)
        _rewrite(target, lambda tree, n=number: _mutate_function(list(_functions(tree))[n][1]))
        if not _is_noticed(copy):
            unnoticed.append(name)
    assert unnoticed == []


def test_functions_that_make_no_numbers_exist() -> None:
    names = {
        _module(path) + name
        for path in _files_with_numbers()
        for name, _ in _functions(ast.parse(path.read_bytes()))
    }
    assert names >= MAKE_NO_NUMBERS.keys()


def _sites(tree: ast.AST) -> Iterator[ast.AST]:
    """Operators and numbers, but for those of messages and types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.arg | ast.AnnAssign):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "log.info"):
            continue
        if isinstance(node, Function):
            node.returns = None
        number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        if number or isinstance(node, ast.BinOp | ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield node
        yield from _sites(node)


def _mutate_site(node: ast.AST) -> None:
    if isinstance(node, ast.Constant):
        node.value = node.value + 1
    elif isinstance(node, ast.BinOp):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.Compare):
        node.ops = [ast.Lt() if isinstance(op, ast.Eq) else ast.Eq() for op in node.ops]
    elif isinstance(node, ast.BoolOp):
        node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.Invert() if isinstance(node.op, ast.USub) else ast.USub()


SITES = [
    (path, number)
    for path in _files_with_numbers()
    for number, _ in enumerate(_sites(ast.parse(path.read_bytes())))
]


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package for many mutants."""
    folder = tmp_path_factory.mktemp("mutants") / "preddiff"
    return shutil.copytree(PACKAGE, folder, ignore=lambda *_: ["__pycache__"])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SITES))
def test_a_change_of_any_operator_or_number_is_noticed(
    mutants: Path, site: tuple[Path, int]
) -> None:
    file, number = site
    target = mutants / file.relative_to(PACKAGE)
    roots = [f"preddiff.{_module(file)}"]
    before = Package(mutants).definitions(roots)
    try:
        _rewrite(target, lambda tree: _mutate_site(list(_sites(tree))[number]))
        assert Package(mutants).definitions(roots) != before
    finally:
        shutil.copy(file, target)


# Nothing else does.

# Results, and code that they must not depend on.
INDEPENDENT = {
    "prepare": ["engines", "samplers", "methods", "evidence", "evaluation", "classifiers"],
    "prepare-images": ["engines", "samplers", "methods", "evidence", "evaluation", "classifiers"],
    "classifier logistic": ["engines", "samplers", "methods", "evidence", "evaluation"],
    "classifier network": ["engines", "samplers", "methods", "evidence", "evaluation"],
    "predict digits-network": ["engines", "samplers", "methods", "evidence"],
    "gaussian": ["engines", "methods", "evidence", "evaluation", "classifiers"],
    "expectations digits-k1": ["engines.linear", "evaluation", "datasets.phantom", "figures"],
    "expectations conditional": ["engines.incremental", "evaluation", "datasets.phantom"],
    "relevance": ["samplers", "methods", "evaluation", "classifiers", "datasets", "engines"],
    "deletion digits-network": ["engines", "evidence"],
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_results_do_not_depend_on_what_they_do_not_use(name: str) -> None:
    modules = {key.partition(":")[0].removeprefix("preddiff.") for key in BEFORE[name]}
    unused = INDEPENDENT[name]
    assert [one for one in modules if any(f"{one}.".startswith(f"{u}.") for u in unused)] == []


class _Reword(ast.NodeTransformer):
    """Gives all that people read other words."""

    def visit(self, node: ast.AST) -> Any:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Module():
                node.body.insert(0, ast.Expr(ast.Constant("Other words.")))
            case ast.Raise(exc=ast.Call()):
                node.exc.args.insert(0, ast.Constant("other words"))
            case ast.Call(func=function, keywords=keywords):
                name = ast.unparse(function)
                if name in ("print", "log.info", "warnings.warn"):
                    node.args.insert(0, ast.Constant("other words"))
                for keyword in keywords:
                    if keyword.arg in self._texts(name):
                        keyword.value = ast.Constant("other words")
        return self.generic_visit(node)

    @staticmethod
    def _texts(function: str) -> set[str]:
        if function in ("progress", "show", "TqdmCallback"):
            return {"desc", "unit"}
        return {"description", "title"} if function == "Field" else {"help", "metavar"}


def test_other_words_everywhere_are_not_noticed(copy: Path) -> None:
    for path in copy.rglob("*.py"):
        _rewrite(path, _Reword().visit)
    assert _changed(copy) == set()


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_modules_without_numbers_are_not_noticed(name: str, copy: Path) -> None:
    path = copy / f"{name.replace('.', '/')}.py"
    _rewrite(path, _mutate_all_functions)
    assert _changed(copy) == set()


def test_drawing_is_noticed_by_figures_only(copy: Path) -> None:
    for path in (copy / "figures").glob("*.py"):
        _rewrite(path, _mutate_all_functions)
    assert _changed(copy) == {name for name in ROOTS if name.startswith(FIGURES)}


def _other_arguments(tree: ast.Module) -> None:
    found = [function for name, function in _functions(tree) if name.endswith(".add_arguments")]
    for function in found:
        _mutate_function(function)
    if not found:
        tree.body += ast.parse("def add_arguments(parser): parser.add_argument('--other')").body


def test_other_arguments_of_commands_are_not_noticed(copy: Path) -> None:
    for path in (copy / "stages").glob("*.py"):
        _rewrite(path, _other_arguments)
    assert _changed(copy) == set()


def test_comments_and_white_space_are_not_noticed(copy: Path) -> None:
    for path in copy.rglob("*.py"):
        # The tree written anew has none of the old ones.
        text = ast.unparse(ast.parse(path.read_bytes()))
        path.write_text(f"# First.\n\n{text}\n\n\n# Last.\n")
    assert _changed(copy) == set()


def test_unrelated_functions_are_not_noticed(copy: Path) -> None:
    for path in copy.rglob("*.py"):
        # All definitions of the stages are roots.
        if path.parent.name != "stages":
            text = "\n\nADDED = 1\n\n\ndef added(x):\n    return x + ADDED\n"
            path.write_text(path.read_text() + text)
    assert _changed(copy) == set()
