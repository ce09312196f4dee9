# What is learnt from the training items: the classifier and the patch Gaussians.


rule train:
    """Cross-validate the L2 logistic regression and fit it on all training items."""
    input:
        lambda w: training_data_of(w.classifier),
    output:
        classifier=f"{RESULTS}/classifiers/{{classifier}}/classifier.json",
        weights=multiext(
            f"{RESULTS}/classifiers/{{classifier}}/weights", ".npy", ".nii.gz"
        ),
        scores=f"{RESULTS}/classifiers/{{classifier}}/cv.json",
        table=report(
            f"{RESULTS}/classifiers/{{classifier}}/cv.tsv",
            caption="../report/accuracy.rst",
            category="Tables",
            labels={"table": "cross-validation", "of": "{classifier}"},
        ),
    log:
        f"{RESULTS}/logs/train-{{classifier}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train-{{classifier}}.tsv"
    wildcard_constraints:
        classifier=pattern(of_kind("logistic")),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        settings=lambda w: write_options(study.classifiers[w.classifier].part(Logistic)),
        data=subpath(input[0], parent=True),
        folder=subpath(output.classifier, parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.train"),
    shell:
        "preddiff train --data {params.data:q} {params.settings} --seed {params.seed} "
        "--out {params.folder:q} 2>&1 | tee {log:q}"


rule train_digits:
    """Train a small network on the digits."""
    input:
        lambda w: training_data_of(w.classifier),
    output:
        classifier=f"{RESULTS}/classifiers/{{classifier}}/classifier.json",
        weights=f"{RESULTS}/classifiers/{{classifier}}/weights.safetensors",
        scores=f"{RESULTS}/classifiers/{{classifier}}/cv.json",
    log:
        f"{RESULTS}/logs/train-{{classifier}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train-{{classifier}}.tsv"
    wildcard_constraints:
        classifier=pattern(of_kind("digits")),
    conda:
        "../../envs/preddiff.yaml"
    # With one, the same seed gives the same weights on any machine of a kind.
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(30),
    params:
        settings=lambda w: write_options(
            study.classifiers[w.classifier].part(DigitTraining)
        ),
        data=subpath(input[0], parent=True),
        folder=subpath(output.classifier, parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.network"),
    shell:
        "preddiff train-digits --data {params.data:q} {params.settings} --seed {params.seed} "
        "--threads {threads} --out {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_weights:
    """Fetch torchvision's weights, which needs the internet."""
    output:
        f"{RESULTS}/weights/{{network}}-{{weights}}.safetensors",
    log:
        f"{RESULTS}/logs/fetch-{{network}}-{{weights}}.log",
    wildcard_constraints:
        network=r"\w+",
        weights=r"\w+",
    conda:
        "../../envs/preddiff.yaml"
    params:
        code=digest_code("preddiff.classifiers.torchvision"),
    shell:
        "preddiff fetch-weights {wildcards.network:q} --weights {wildcards.weights:q} "
        "--out {output:q} 2>&1 | tee {log:q}"


rule torchvision:
    """Store a network of torchvision as a classifier."""
    input:
        weights=weights_of,
        classes=lambda w: study.classifiers[w.classifier].classes or [],
    output:
        classifier=f"{RESULTS}/classifiers/{{classifier}}/classifier.json",
        weights=f"{RESULTS}/classifiers/{{classifier}}/weights.safetensors",
    log:
        f"{RESULTS}/logs/torchvision-{{classifier}}.log",
    wildcard_constraints:
        classifier=pattern(of_kind("torchvision")),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=more(4000),
        runtime=more(30),
    params:
        settings=lambda w: write_options(
            study.classifiers[w.classifier].part(TorchvisionSettings)
        ),
        folder=subpath(output.classifier, parent=True),
        code=digest_code("preddiff.stages.network"),
    shell:
        "preddiff torchvision {params.settings} --state-dict {input.weights:q} "
        "--out {params.folder:q} 2>&1 | tee {log:q}"


rule module:
    """Store a network of the user's own as a classifier."""
    input:
        file=lambda w: study.classifiers[w.classifier].module.rpartition(":")[0],
        weights=lambda w: study.classifiers[w.classifier].weights or [],
        classes=lambda w: study.classifiers[w.classifier].classes or [],
    output:
        classifier=f"{RESULTS}/classifiers/{{classifier}}/classifier.json",
        weights=f"{RESULTS}/classifiers/{{classifier}}/weights.safetensors",
    log:
        f"{RESULTS}/logs/module-{{classifier}}.log",
    wildcard_constraints:
        classifier=pattern(of_kind("module")),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=more(4000),
        runtime=more(30),
    params:
        settings=lambda w: write_options(
            study.classifiers[w.classifier].part(ModuleSettings)
        ),
        folder=subpath(output.classifier, parent=True),
        code=digest_code("preddiff.stages.network"),
    shell:
        "preddiff module {params.settings} --out {params.folder:q} 2>&1 | tee {log:q}"


rule predict:
    """Classify all items of a dataset with a network, and say how often it is right."""
    input:
        data=lambda w: store("data", data_name(w.dataset, w.classifier)),
        classifier=f"{RESULTS}/classifiers/{{classifier}}/classifier.json",
    output:
        table=f"{RESULTS}/tables/predictions-{{dataset}}-{{classifier}}.tsv",
        accuracy=report(
            f"{RESULTS}/tables/predictions-{{dataset}}-{{classifier}}.json",
            caption="../report/predictions.rst",
            category="Tables",
            labels={"table": "accuracy on {dataset}", "of": "{classifier}"},
        ),
    log:
        f"{RESULTS}/logs/predict-{{dataset}}-{{classifier}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict-{{dataset}}-{{classifier}}.tsv"
    wildcard_constraints:
        dataset=pattern(of_type(study.datasets, ImageSet, Digits)),
        classifier=pattern(c for c in study.classifiers if is_network(c)),
    conda:
        "../../envs/preddiff.yaml"
    threads: NETWORK_THREADS
    resources:
        gpu=1,
        mem_mb=more(4000),
        runtime=more(120),
    params:
        data=subpath(input.data, parent=True),
        classifier=subpath(input.classifier, parent=True),
        code=digest_code("preddiff.stages.predict"),
    shell:
        "preddiff predict --data {params.data:q} --classifier {params.classifier:q} "
        "--threads {threads} --out {output.table:q} 2>&1 | tee {log:q}"


rule gaussian:
    """Fit a patch Gaussian on the training items."""
    input:
        lambda w: learnt_data_of(GAUSSIANS[w.gaussian]),
    output:
        f"{RESULTS}/gaussians/{{gaussian}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/gaussian-{{gaussian}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/gaussian-{{gaussian}}.tsv"
    wildcard_constraints:
        gaussian=pattern(GAUSSIANS),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        settings=gaussian_settings,
        data=subpath(input[0], parent=True),
        store=subpath(output[0], parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.gaussian"),
    shell:
        "preddiff gaussian --data {params.data:q} {params.settings} --seed {params.seed} "
        "--threads {threads} --out {params.store:q} 2>&1 | tee {log:q}"


# Light: not worth a job of its own on a cluster.
localrules:
    fetch_weights,
    torchvision,
    module,
