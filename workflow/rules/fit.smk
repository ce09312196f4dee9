# Classifiers, their predictions, and patch Gaussians.


# One rule for each subcommand that makes classifiers: train, train_digits, torchvision, module, ...
for kind in plan.classifier_kinds:

    rule:
        name:
            kind.command.replace("-", "_")
        input:
            data=of(plan.training_data_of, "classifier"),
            base=of(plan.base_of, "classifier"),
            weights=of(plan.weights_of, "classifier"),
            files=of(plan.classifier_inputs, "classifier"),
        output:
            classifier=f"{RESULTS}/classifiers/{{classifier}}/classifier.json",
            files=[
                f"{RESULTS}/classifiers/{{classifier}}/{file}"
                for file in kind.files
                if not file.endswith(".tsv")
            ],
            tables=[
                report(
                    f"{RESULTS}/classifiers/{{classifier}}/{file}",
                    caption="../report/accuracy.rst",
                    category="Tables",
                    labels={"table": "cross-validation", "of": "{classifier}"},
                )
                for file in kind.files
                if file.endswith(".tsv")
            ],
        log:
            f"{RESULTS}/logs/{kind.command}-{{classifier}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{kind.command}-{{classifier}}.tsv"
        wildcard_constraints:
            classifier=pattern(plan.classifiers(kind)),
        localrule: kind.is_light
        conda:
            "../../envs/preddiff.yaml"
        # On one core, the same seed gives the same weights on machines of the same type.
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(60),
        params:
            command=kind.command,
            arguments=of(plan.classifier_arguments, "classifier"),
            folder=subpath(output.classifier, parent=True),
            code=of(plan.code_of_classifier, "classifier"),
        shell:
            "preddiff {params.command} {params.arguments:q} --out {params.folder:q} "
            "2>&1 | tee {log:q}"


rule fetch_weights:
    """Download torchvision's weights (needs internet access)."""
    output:
        f"{RESULTS}/weights/{{network}}-{{weights}}.safetensors",
    log:
        f"{RESULTS}/logs/fetch-{{network}}-{{weights}}.log",
    wildcard_constraints:
        network=r"\w+",
        weights=r"\w+",
    conda:
        "../../envs/preddiff.yaml"
    # Without a digest of code: torchvision checks the file, whose content does not depend on code.
    shell:
        "preddiff fetch-weights {wildcards.network:q} --weights {wildcards.weights:q} "
        "--out {output:q} 2>&1 | tee {log:q}"


rule predict:
    """Classify all items of a dataset with a network, and compute its accuracy."""
    input:
        data=lambda w: plan.data(*plan.predicted[w.predictions][:2]),
        classifier=lambda w: plan.classifier_file(plan.predicted[w.predictions][1]),
    output:
        table=f"{RESULTS}/tables/predictions-{{predictions}}.tsv",
        accuracy=report(
            f"{RESULTS}/tables/predictions-{{predictions}}.json",
            caption="../report/predictions.rst",
            category="Tables",
            labels={"table": "accuracy", "of": "{predictions}"},
        ),
    log:
        f"{RESULTS}/logs/predict-{{predictions}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict-{{predictions}}.tsv"
    wildcard_constraints:
        predictions=pattern(plan.predicted),
    conda:
        "../../envs/preddiff.yaml"
    threads: NETWORK_THREADS
    resources:
        gpu=1,
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        data=subpath(input.data, parent=True),
        classifier=subpath(input.classifier, parent=True),
        models=lambda w: plan.models_arguments(plan.predicted[w.predictions]),
        code=of(plan.code_of_predictions, "predictions"),
    shell:
        "preddiff predict --data {params.data:q} --classifier {params.classifier:q} "
        "{params.models:q} --threads {threads} --out {output.table:q} 2>&1 | tee {log:q}"


rule gaussian:
    """Fit a patch Gaussian on the training items."""
    input:
        lambda w: plan.sampled_data_of(plan.gaussians[w.gaussian]),
    output:
        f"{RESULTS}/gaussians/{{gaussian}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/gaussian-{{gaussian}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/gaussian-{{gaussian}}.tsv"
    wildcard_constraints:
        gaussian=pattern(plan.gaussians),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=of(plan.gaussian_settings, "gaussian"),
        data=subpath(input[0], parent=True),
        store=subpath(output[0], parent=True),
        seed=study.seed,
        code=code_of("gaussian"),
    shell:
        "preddiff gaussian --data {params.data:q} --settings {params.settings:q} "
        "--seed {params.seed} --threads {threads} --out {params.store:q} 2>&1 | tee {log:q}"


# Too short for separate jobs on a cluster.
localrules:
    fetch_weights,
