# Expectations: the expensive stage, in shards that fill one store and can be resumed.


rule open_expectations:
    """Make the expectation store of an explanation, or keep it if nothing changed."""
    input:
        data=lambda w: data_of(study.explanations[w.explanation].classifier),
        classifier=lambda w: (
            f"{RESULTS}/classifiers/{study.explanations[w.explanation].classifier}/classifier.json"
        ),
        gaussian=lambda w: (
            store("gaussians", gaussian_of(w.explanation))
            if gaussian_of(w.explanation)
            else []
        ),
    output:
        f"{RESULTS}/expectations/{{explanation}}.opened",
    log:
        f"{RESULTS}/logs/open-{{explanation}}.log",
    conda:
        "../../envs/preddiff.yaml"
    params:
        sampler=lambda w: write_options(
            study.samplers[study.explanations[w.explanation].sampler]
        ),
        windows=lambda w: write_options(
            study.explanations[w.explanation].part(WindowSettings)
        ),
        data=subpath(input.data, parent=True),
        classifier=subpath(input.classifier, parent=True),
        gaussian=lambda w, input: (
            f"--gaussian {Path(input.gaussian).parent}" if input.gaussian else ""
        ),
        store=f"{RESULTS}/expectations/{{explanation}}.zarr",
        seed=study.seed,
        code=digest_code("preddiff.engines.linear"),
    shell:
        "preddiff open --data {params.data:q} --classifier {params.classifier:q} "
        "{params.gaussian} {params.sampler} {params.windows} --seed {params.seed} "
        "--out {params.store:q} --marker {output:q} 2>&1 | tee {log:q}"


localrules:
    open_expectations,


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
        first=r"\d+",
        last=r"\d+",
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        store=f"{RESULTS}/expectations/{{explanation}}.zarr",
        first=lambda w: int(w.first),
        last=lambda w: int(w.last),
    shell:
        "preddiff explain {params.store:q} --first {params.first} --last {params.last} "
        "--marker {output:q} 2>&1 | tee {log:q}"
