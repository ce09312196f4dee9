# What is learnt from the training items: the classifier and the patch Gaussians.


rule train:
    """Cross-validate the L2 logistic regression and fit it on all training items."""
    input:
        lambda w: data_of(w.classifier),
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
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=lambda w: write_options(study.classifiers[w.classifier].part(Logistic)),
        data=subpath(input[0], parent=True),
        folder=subpath(output.classifier, parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.train"),
    shell:
        "preddiff train --data {params.data:q} {params.settings} --seed {params.seed} "
        "--out {params.folder:q} 2>&1 | tee {log:q}"


rule gaussian:
    """Fit a patch Gaussian on the training items."""
    input:
        lambda w: data_of(study.explanations[GAUSSIANS[w.gaussian]].classifier),
    output:
        f"{RESULTS}/gaussians/{{gaussian}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/gaussian-{{gaussian}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/gaussian-{{gaussian}}.tsv"
    wildcard_constraints:
        gaussian="|".join(GAUSSIANS) or "(?!)",
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=gaussian_settings,
        data=subpath(input[0], parent=True),
        store=subpath(output[0], parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.gaussian"),
    shell:
        "preddiff gaussian --data {params.data:q} {params.settings} --seed {params.seed} "
        "--threads {threads} --out {params.store:q} 2>&1 | tee {log:q}"
