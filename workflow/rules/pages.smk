# Pages to explore: one file for the items of each data store.


rule page:
    """Write a page to explore the explanations of a dataset's items."""
    input:
        relevance=lambda w: plan.relevance_of_all(plan.pages[w.data]),
        files=of(plan.inputs_of_page, "data"),
    output:
        report(
            f"{RESULTS}/pages/{{data}}.html",
            caption="../report/page.rst",
            category="Pages",
            labels={"page": "{data}"},
        ),
    log:
        f"{RESULTS}/logs/page-{{data}}.log",
    wildcard_constraints:
        data=pattern(plan.pages),
    conda:
        "../../envs/preddiff.yaml"
    params:
        results=lambda w: RESULTS,
        explanations=lambda w: plan.pages[w.data],
        shown=study.page_items,
        code=code_of("view"),
        assets=digest_of_assets(),
    shell:
        "preddiff view {params.results:q} --data {wildcards.data:q} "
        "--explanations {params.explanations:q} --items {params.shown} --out {output:q} "
        "2>&1 | tee {log:q}"


# Too short for separate jobs on a cluster.
localrules:
    page,
