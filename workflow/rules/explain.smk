# Expectations, the expensive stage, in shards that fill one store and can be resumed; and maps of
# methods without expectations.


rule open_expectations:
    """Create the expectation store of an explanation, or keep it if nothing changed."""
    input:
        data=of(plan.data_of, "explanation"),
        donors=of(plan.sampled_data_of, "explanation"),
        classifier=of(plan.classifier_file_of, "explanation"),
        gaussian=of(plan.gaussian_store, "explanation"),
        predictions=of(plan.predictions_of, "explanation"),
        files=of(plan.sampler_files, "explanation"),
    output:
        f"{RESULTS}/expectations/{{explanation}}.opened",
    log:
        f"{RESULTS}/logs/open-{{explanation}}.log",
    wildcard_constraints:
        explanation=pattern(plan.redrawing),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=of(plan.expectation_settings, "explanation"),
        inputs=of(plan.open_arguments, "explanation"),
        store=f"{RESULTS}/expectations/{{explanation}}.zarr",
        seed=study.seed,
        code=of(plan.code_of_expectations, "explanation"),
    shell:
        "preddiff open {params.inputs:q} --settings {params.settings:q} --seed {params.seed} "
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
        explanation=pattern(plan.redrawing),
        first=r"\d+",
        last=r"\d+",
    conda:
        "../../envs/preddiff.yaml"
    threads: of(plan.threads_of, "explanation")
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=of(plan.gpus_of, "explanation"),
        # A resource instead of a parameter, since it does not change results.
        batch_size=of(plan.batch_size_of, "explanation"),
    params:
        store=f"{RESULTS}/expectations/{{explanation}}.zarr",
        first=lambda w: int(w.first),
        last=lambda w: int(w.last),
    shell:
        "preddiff explain {params.store:q} --first {params.first} --last {params.last} "
        "--threads {threads} --batch-size {resources.batch_size} --marker {output:q} "
        "2>&1 | tee {log:q}"


rule open_maps:
    """Create the store of maps by a method without windows, or keep it if nothing changed."""
    input:
        data=of(plan.data_of, "explanation"),
        classifier=of(plan.classifier_file_of, "explanation"),
        predictions=of(plan.predictions_of, "explanation"),
        files=of(plan.method_files, "explanation"),
    output:
        f"{RESULTS}/relevance/{{explanation}}.opened",
    log:
        f"{RESULTS}/logs/open-{{explanation}}.log",
    wildcard_constraints:
        explanation=pattern(plan.mapped),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=of(plan.map_settings, "explanation"),
        inputs=of(plan.map_arguments, "explanation"),
        store=f"{RESULTS}/relevance/{{explanation}}.zarr",
        seed=study.seed,
        code=of(plan.code_of_maps, "explanation"),
    shell:
        "preddiff open-maps {params.inputs:q} --settings {params.settings:q} "
        "--seed {params.seed} --out {params.store:q} --marker {output:q} 2>&1 | tee {log:q}"


rule map:
    """Compute the missing maps of a shard's items."""
    input:
        f"{RESULTS}/relevance/{{explanation}}.opened",
    output:
        f"{RESULTS}/relevance/{{explanation}}.done/items-{{first}}-{{last}}.json",
    log:
        f"{RESULTS}/logs/map-{{explanation}}-{{first}}-{{last}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/map-{{explanation}}-{{first}}-{{last}}.tsv"
    wildcard_constraints:
        explanation=pattern(plan.mapped),
        first=r"\d+",
        last=r"\d+",
    conda:
        "../../envs/preddiff.yaml"
    threads: of(plan.threads_of, "explanation")
    resources:
        gpu=of(plan.gpus_of, "explanation"),
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        store=f"{RESULTS}/relevance/{{explanation}}.zarr",
        first=lambda w: int(w.first),
        last=lambda w: int(w.last),
    shell:
        "preddiff map {params.store:q} --first {params.first} --last {params.last} "
        "--threads {threads} --marker {output:q} 2>&1 | tee {log:q}"


# Too short for separate jobs on a cluster.
localrules:
    open_expectations,
    open_maps,
