# From a cohort, given or made, to a data store.


rule phantom:
    """Write a cohort whose truth is known."""
    output:
        f"{RESULTS}/cohorts/{{dataset}}/participants.tsv",
    log:
        f"{RESULTS}/logs/phantom-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/phantom-{{dataset}}.tsv"
    wildcard_constraints:
        dataset=pattern(cohorts_from("phantom")),
    conda:
        "../../envs/preddiff.yaml"
    threads: 4
    resources:
        mem_mb=more(4000),
        runtime=more(30),
    params:
        settings=lambda w: write_options(study.datasets[w.dataset].phantom),
        folder=subpath(output[0], parent=True),
        seed=study.seed,
        code=digest_code("preddiff.datasets.phantom"),
    shell:
        "preddiff phantom {params.settings} --seed {params.seed} --threads {threads} "
        "--out {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_oasis:
    """Fetch the OASIS cohort, which needs the internet."""
    output:
        f"{RESULTS}/cohorts/{{dataset}}/participants.tsv",
    log:
        f"{RESULTS}/logs/fetch-oasis-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch-oasis-{{dataset}}.tsv"
    wildcard_constraints:
        dataset=pattern(cohorts_from("oasis")),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=lambda w: write_options(study.datasets[w.dataset].oasis),
        folder=subpath(output[0], parent=True),
        code=digest_code("preddiff.datasets.oasis"),
    shell:
        "preddiff fetch-oasis {params.settings} --out {params.folder:q} 2>&1 | tee {log:q}"


rule prepare:
    """Validate a cohort and write it as a Zarr store."""
    input:
        table=table_of,
        volumes=volumes_of,
    output:
        f"{RESULTS}/data/{{dataset}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/prepare-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare-{{dataset}}.tsv"
    wildcard_constraints:
        dataset=pattern(of_type(study.datasets, Cohort)),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        settings=lambda w: write_options(study.datasets[w.dataset].part(Columns)),
        store=subpath(output[0], parent=True),
        code=digest_code("preddiff.stages.prepare"),
    shell:
        "preddiff prepare {input.table:q} {params.settings} --out {params.store:q} "
        "2>&1 | tee {log:q}"


rule prepare_images:
    """Read image files and write them, resized and cut, as a Zarr store."""
    input:
        lambda w: files_of(IMAGE_STORES[w.data][0]),
    output:
        store=f"{RESULTS}/data/{{data}}.zarr/zarr.json",
        report=report(
            f"{RESULTS}/tables/images-{{data}}.tsv",
            caption="../report/images.rst",
            category="Tables",
            labels={"table": "images converted or left out", "of": "{data}"},
        ),
    log:
        f"{RESULTS}/logs/prepare-{{data}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare-{{data}}.tsv"
    wildcard_constraints:
        data=pattern(IMAGE_STORES),
    conda:
        "../../envs/preddiff.yaml"
    threads: 4
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        settings=lambda w: write_options(study.datasets[IMAGE_STORES[w.data][0]]),
        geometry=lambda w: write_options(IMAGE_STORES[w.data][1]),
        store=subpath(output.store, parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.prepare_images"),
    shell:
        "preddiff prepare-images {params.settings} {params.geometry} --seed {params.seed} "
        "--threads {threads} --report {output.report:q} --out {params.store:q} "
        "2>&1 | tee {log:q}"


rule prepare_digits:
    """Write scikit-learn's digits as a Zarr store."""
    output:
        f"{RESULTS}/data/{{dataset}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/prepare-{{dataset}}.log",
    wildcard_constraints:
        dataset=pattern(of_type(study.datasets, Digits)),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=lambda w: write_options(study.datasets[w.dataset].digits),
        store=subpath(output[0], parent=True),
        seed=study.seed,
        code=digest_code("preddiff.stages.prepare_images"),
    shell:
        "preddiff prepare-digits {params.settings} --seed {params.seed} --out {params.store:q} "
        "2>&1 | tee {log:q}"


# Light: not worth a job of its own on a cluster.
localrules:
    fetch_oasis,
    prepare_digits,
