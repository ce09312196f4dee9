# Expectations: the expensive stage, in shards that fill one store and can be resumed.


# Every explanation that expectations are computed for.
EXPLAINED = of_type(study.explanations, Explanation)


rule open_expectations:
    """Make the expectation store of an explanation, or keep it if nothing changed."""
    input:
        data=lambda w: data_of(w.explanation),
        donors=lambda w: learnt_data_of(w.explanation),
        classifier=lambda w: (
            f"{RESULTS}/classifiers/{study.explanations[w.explanation].classifier}/classifier.json"
        ),
        gaussian=lambda w: (
            store("gaussians", gaussian_of(w.explanation))
            if gaussian_of(w.explanation)
            else []
        ),
        predictions=lambda w: predictions_of(w.explanation),
    output:
        f"{RESULTS}/expectations/{{explanation}}.opened",
    log:
        f"{RESULTS}/logs/open-{{explanation}}.log",
    wildcard_constraints:
        explanation=pattern(EXPLAINED),
    conda:
        "../../envs/preddiff.yaml"
    params:
        sampler=lambda w: write_options(
            study.samplers[study.explanations[w.explanation].sampler].part(
                SamplerSettings
            )
        ),
        windows=lambda w: write_options(
            study.explanations[w.explanation].part(WindowSettings)
        ),
        data=subpath(input.data, parent=True),
        donors=subpath(input.donors, parent=True),
        classifier=subpath(input.classifier, parent=True),
        gaussian=lambda w, input: folder_option("gaussian", input.gaussian),
        predictions=lambda w, input: (
            f"--predictions {input.predictions}" if input.predictions else ""
        ),
        store=f"{RESULTS}/expectations/{{explanation}}.zarr",
        seed=study.seed,
        code=lambda w: digest_code(engine_of(w.explanation)),
    shell:
        "preddiff open --data {params.data:q} --donors {params.donors:q} "
        "--classifier {params.classifier:q} {params.gaussian} {params.predictions} "
        "{params.sampler} {params.windows} --seed {params.seed} "
        "--out {params.store:q} --marker {output:q} 2>&1 | tee {log:q}"


rule explain:
    """Compute the missing expectations of a shard's items."""
    input:
        f"{RESULTS}/expectations/{{explanation}}.opened",
    output:
        f"{RESULTS}/expectations/{{explanation}}.done/items-{{first}}-{{last}}.json",
    log:
        f"{RESULTS}/logs/explain-{{explanation}}-{{first}}-{{last}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/explain-{{explanation}}-{{first}}-{{last}}.tsv"
    wildcard_constraints:
        explanation=pattern(EXPLAINED),
        first=r"\d+",
        last=r"\d+",
    conda:
        "../../envs/preddiff.yaml"
    threads: lambda w: threads_of(w.explanation)
    resources:
        mem_mb=more(4000),
        runtime=more(120),
        gpu=lambda w: gpus_of(w.explanation),
        # As resources, since they do not change results: another number runs nothing again.
        batch_size=lambda w: study.explanations[w.explanation].batch_size or 0,
    params:
        store=f"{RESULTS}/expectations/{{explanation}}.zarr",
        first=lambda w: int(w.first),
        last=lambda w: int(w.last),
    shell:
        "preddiff explain {params.store:q} --first {params.first} --last {params.last} "
        "--threads {threads} --batch-size {resources.batch_size} --marker {output:q} 2>&1 | tee {log:q}"


rule sensitivity:
    """Compute sensitivity maps, a baseline in the layout of relevance."""
    input:
        data=lambda w: data_of(w.explanation),
        classifier=lambda w: (
            f"{RESULTS}/classifiers/{study.explanations[w.explanation].classifier}/classifier.json"
        ),
        predictions=lambda w: predictions_of(w.explanation),
    output:
        f"{RESULTS}/relevance/{{explanation}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/sensitivity-{{explanation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sensitivity-{{explanation}}.tsv"
    wildcard_constraints:
        explanation=pattern(of_type(study.explanations, Sensitivity)),
    conda:
        "../../envs/preddiff.yaml"
    threads: NETWORK_THREADS
    resources:
        gpu=1,
        mem_mb=more(4000),
        runtime=more(60),
    params:
        settings=lambda w: write_options(
            study.explanations[w.explanation].part(TargetSettings)
        ),
        data=subpath(input.data, parent=True),
        classifier=subpath(input.classifier, parent=True),
        store=subpath(output[0], parent=True),
        code=digest_code("preddiff.stages.sensitivity"),
    shell:
        "preddiff sensitivity --data {params.data:q} --classifier {params.classifier:q} "
        "--predictions {input.predictions:q} {params.settings} --threads {threads} "
        "--out {params.store:q} 2>&1 | tee {log:q}"


# Light: not worth a job of its own on a cluster.
localrules:
    open_expectations,
