# Relevance, NIfTI files and tables.


rule relevance:
    """Compute evidence and relevance from expectations."""
    input:
        of(plan.shards_of, "explanation"),
    output:
        f"{RESULTS}/relevance/{{explanation}}.zarr/zarr.json",
    log:
        f"{RESULTS}/logs/relevance-{{explanation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/relevance-{{explanation}}.tsv"
    wildcard_constraints:
        explanation=pattern(plan.redrawing),
    conda:
        "../../envs/preddiff.yaml"
    threads: of(plan.threads_of, "explanation")
    resources:
        mem_mb=growing(4000),
        runtime=lambda w, attempt: attempt * plan.minutes_of_relevance(w.explanation),
    params:
        expectations=f"{RESULTS}/expectations/{{explanation}}.zarr",
        store=subpath(output[0], parent=True),
        code=of(plan.code_of_relevance, "explanation"),
    shell:
        "preddiff relevance {params.expectations:q} --out {params.store:q} --threads {threads} "
        "2>&1 | tee {log:q}"


rule nifti:
    """Write relevance as NIfTI files on the grid of the scans."""
    input:
        relevance=of(plan.relevance_of, "explanation"),
        data=of(plan.data_of, "explanation"),
    output:
        directory(f"{RESULTS}/relevance/{{explanation}}-nifti"),
    log:
        f"{RESULTS}/logs/nifti-{{explanation}}.log",
    conda:
        "../../envs/preddiff.yaml"
    params:
        store=f"{RESULTS}/relevance/{{explanation}}.zarr",
        data=subpath(input.data, parent=True),
        code=code_of("nifti"),
    shell:
        "preddiff nifti {params.store:q} --data {params.data:q} --out {output:q} "
        "2>&1 | tee {log:q}"


rule foretold:
    """List how much of each explanation's windows their surroundings foretell."""
    input:
        [plan.store("gaussians", name) for name in plan.gaussians],
    output:
        report(
            plan.table_of_foretold,
            caption="../report/foretold.rst",
            category="Tables",
            labels={"table": "what surroundings foretell", "of": study.study},
        ),
    log:
        f"{RESULTS}/logs/foretold.log",
    conda:
        "../../envs/preddiff.yaml"
    params:
        explanations=lambda w: plan.foretold_arguments(),
        code=code_of("foretold"),
    shell:
        "preddiff foretold {params.explanations:q} --out {output:q} 2>&1 | tee {log:q}"


rule localise:
    """Score how well maps find known lesions."""
    input:
        relevance=lambda w: plan.relevance_of_all(plan.localised(w.classifier)),
        classifier=of(plan.classifier_file, "classifier"),
        data=lambda w: plan.training_data_of(w.classifier)[0],
    output:
        table=f"{RESULTS}/tables/localisation-{{classifier}}.tsv",
        summary=report(
            f"{RESULTS}/tables/localisation-{{classifier}}-summary.tsv",
            caption="../report/localisation.rst",
            category="Tables",
            labels={"table": "localisation", "of": "{classifier}"},
        ),
    log:
        f"{RESULTS}/logs/localise-{{classifier}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/localise-{{classifier}}.tsv"
    wildcard_constraints:
        classifier=pattern(plan.localising),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        stores=lambda w: plan.relevance_stores(plan.localised(w.classifier)),
        classifier=subpath(input.classifier, parent=True),
        data=subpath(input.data, parent=True),
        code=code_of("localise"),
    shell:
        "preddiff localise {params.stores:q} --classifier {params.classifier:q} "
        "--data {params.data:q} --out {output.table:q} --summary {output.summary:q} "
        "2>&1 | tee {log:q}"


rule localise_images:
    """Score how well maps find annotated objects of images."""
    input:
        relevance=lambda w: plan.relevance_of_all(
            plan.explanations_of_objects(w.objects)
        ),
        data=of(plan.data_of_objects, "objects"),
    output:
        table=f"{RESULTS}/tables/localisation-{{objects}}.tsv",
        summary=report(
            f"{RESULTS}/tables/localisation-{{objects}}-summary.tsv",
            caption="../report/objects.rst",
            category="Tables",
            labels={"table": "localisation of objects", "of": "{objects}"},
        ),
    log:
        f"{RESULTS}/logs/localise-{{objects}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/localise-{{objects}}.tsv"
    wildcard_constraints:
        objects=pattern(plan.objects),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        stores=lambda w: plan.relevance_stores(plan.explanations_of_objects(w.objects)),
        data=subpath(input.data, parent=True),
        code=code_of("localise-images"),
    shell:
        "preddiff localise-images {params.stores:q} --data {params.data:q} --out {output.table:q} "
        "--summary {output.summary:q} 2>&1 | tee {log:q}"


rule deletion:
    """Compute deletion and insertion curves, in the order of each explanation."""
    input:
        relevance=lambda w: plan.relevance_of_all(
            plan.compared_explanations(w.deletion)
        ),
        classifier=lambda w: plan.classifier_file_of(
            plan.filling_explanation(w.deletion)
        ),
        data=lambda w: plan.data_of(plan.filling_explanation(w.deletion)),
        gaussian=lambda w: plan.gaussian_store(plan.filling_explanation(w.deletion))[0],
    output:
        table=f"{RESULTS}/tables/deletion-{{deletion}}.tsv",
        curves=f"{RESULTS}/tables/deletion-{{deletion}}-curves.tsv",
        summary=report(
            f"{RESULTS}/tables/deletion-{{deletion}}-summary.tsv",
            caption="../report/deletion.rst",
            category="Tables",
            labels={"table": "deletion and insertion", "of": "{deletion}"},
        ),
    log:
        f"{RESULTS}/logs/deletion-{{deletion}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/deletion-{{deletion}}.tsv"
    wildcard_constraints:
        deletion=pattern(plan.compared),
    conda:
        "../../envs/preddiff.yaml"
    threads: NETWORK_THREADS
    resources:
        gpu=1,
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        stores=lambda w: plan.relevance_stores(plan.compared_explanations(w.deletion)),
        classifier=subpath(input.classifier, parent=True),
        data=subpath(input.data, parent=True),
        gaussian=subpath(input.gaussian, parent=True),
        models=lambda w: plan.models_arguments(plan.compared[w.deletion]),
        k=lambda w: study.explanations[plan.filling_explanation(w.deletion)].window_side,
        orders=study.random_orders,
        seed=study.seed,
        code=of(plan.code_of_deletion, "deletion"),
    shell:
        "preddiff deletion {params.stores:q} --classifier {params.classifier:q} "
        "--data {params.data:q} --gaussian {params.gaussian:q} --k {params.k} "
        "{params.models:q} --random-orders {params.orders} --seed {params.seed} --threads {threads} "
        "--out {output.table:q} --summary {output.summary:q} --curves {output.curves:q} "
        "2>&1 | tee {log:q}"


rule concept_measures:
    """Measure an explanation network beside NMF and PCA, on held-out items."""
    input:
        classifier=of(plan.classifier_file, "classifier"),
        data=lambda w: plan.training_data_of(w.classifier),
    output:
        report(
            f"{RESULTS}/tables/concepts-{{classifier}}.tsv",
            caption="../report/concepts.rst",
            category="Tables",
            labels={"table": "concepts", "of": "{classifier}"},
        ),
    log:
        f"{RESULTS}/logs/concept-measures-{{classifier}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/concept-measures-{{classifier}}.tsv"
    wildcard_constraints:
        classifier=pattern(plan.explaining),
    conda:
        "../../envs/preddiff.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        classifier=subpath(input.classifier, parent=True),
        data=lambda w, input: str(Path(input.data[0]).parent),
        code=of(plan.code_of_concepts, "classifier"),
    shell:
        "preddiff concept-measures --data {params.data:q} --classifier {params.classifier:q} "
        "--threads {threads} --out {output:q} 2>&1 | tee {log:q}"


rule findings:
    """Say in sentences what was asked and what was found: the first page of the report."""
    input:
        plan.tables(),
    output:
        plan.findings,
    log:
        f"{RESULTS}/logs/findings.log",
    conda:
        "../../envs/preddiff.yaml"
    params:
        asked=[f"--asked={text}" for text in describe(study)],
        code=code_of("findings"),
    shell:
        "preddiff findings {input:q} {params.asked:q} --out {output:q} 2>&1 | tee {log:q}"


# Too short for separate jobs on a cluster.
localrules:
    foretold,
    localise,
    findings,
