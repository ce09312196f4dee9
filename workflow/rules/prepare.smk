# Data stores, from cohorts or images that are provided, simulated or downloaded.


rule phantom:
    """Simulate a cohort with known lesions."""
    output:
        f"{RESULTS}/cohorts/{{dataset}}/participants.tsv",
    log:
        f"{RESULTS}/logs/phantom-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/phantom-{{dataset}}.tsv"
    wildcard_constraints:
        dataset=pattern(plan.datasets_with_table_from("phantom")),
    conda:
        "../../envs/preddiff.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=of(plan.table_settings, "dataset"),
        folder=subpath(output[0], parent=True),
        seed=study.seed,
        code=code_of("phantom"),
    shell:
        "preddiff phantom --settings {params.settings:q} --seed {params.seed} --threads {threads} "
        "--out {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_oasis:
    """Download the OASIS cohort (needs internet access)."""
    output:
        f"{RESULTS}/cohorts/{{dataset}}/participants.tsv",
    log:
        f"{RESULTS}/logs/fetch-oasis-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fetch-oasis-{{dataset}}.tsv"
    wildcard_constraints:
        dataset=pattern(plan.datasets_with_table_from("fetch-oasis")),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=of(plan.table_settings, "dataset"),
        folder=subpath(output[0], parent=True),
        code=code_of("fetch-oasis"),
    shell:
        "preddiff fetch-oasis --settings {params.settings:q} --out {params.folder:q} "
        "2>&1 | tee {log:q}"


rule prepare:
    """Validate a cohort and write it as a Zarr store."""
    input:
        table=of(plan.table_of, "dataset"),
        volumes=of(plan.files_of, "dataset"),
    output:
        f"{RESULTS}/data/{{dataset}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/prepare-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare-{{dataset}}.tsv"
    wildcard_constraints:
        dataset=pattern(plan.datasets_made_by("prepare")),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=of(plan.preparation, "dataset"),
        store=subpath(output[0], parent=True),
        code=code_of("prepare"),
    shell:
        "preddiff prepare {input.table:q} --settings {params.settings:q} --out {params.store:q} "
        "2>&1 | tee {log:q}"


rule prepare_images:
    """Read image files and write them, resized and cropped, as a Zarr store."""
    input:
        of(plan.image_files, "data"),
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
        data=pattern(plan.image_stores),
    conda:
        "../../envs/preddiff.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        settings=of(plan.image_settings, "data"),
        store=subpath(output.store, parent=True),
        seed=study.seed,
        code=code_of("prepare-images"),
    shell:
        "preddiff prepare-images --settings {params.settings:q} --seed {params.seed} "
        "--threads {threads} --report {output.report:q} --out {params.store:q} "
        "2>&1 | tee {log:q}"


rule photographs:
    """Write photographs that come with Python packages, and a sheet of them."""
    output:
        f"{RESULTS}/photographs/{{dataset}}/photographs.tsv",
    log:
        f"{RESULTS}/logs/photographs-{{dataset}}.log",
    wildcard_constraints:
        dataset=pattern(plan.datasets_with_table_from("photographs")),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=of(plan.table_settings, "dataset"),
        folder=subpath(output[0], parent=True),
        code=code_of("photographs"),
    shell:
        "preddiff photographs --settings {params.settings:q} --out {params.folder:q} "
        "2>&1 | tee {log:q}"


rule prepare_digits:
    """Write scikit-learn's digits as a Zarr store."""
    output:
        f"{RESULTS}/data/{{dataset}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/prepare-{{dataset}}.log",
    wildcard_constraints:
        dataset=pattern(plan.datasets_made_by("prepare-digits")),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=of(plan.preparation, "dataset"),
        store=subpath(output[0], parent=True),
        seed=study.seed,
        code=code_of("prepare-digits"),
    shell:
        "preddiff prepare-digits --settings {params.settings:q} --seed {params.seed} "
        "--out {params.store:q} 2>&1 | tee {log:q}"


# Too short for separate jobs on a cluster.
localrules:
    fetch_oasis,
    photographs,
    prepare_digits,
