# Figures after the paper's.


rule figure:
    """Draw a figure of volumes."""
    input:
        relevance=lambda w: [
            store("relevance", name) for name in study.figures[w.figure].explanations
        ],
        classifier=lambda w: (
            f"{RESULTS}/classifiers/{classifier_of(w.figure)}/classifier.json"
        ),
        data=lambda w: training_data_of(classifier_of(w.figure)),
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
    log:
        f"{RESULTS}/logs/figure-{{figure}}.log",
    wildcard_constraints:
        figure=pattern(of_type(study.figures, Figure)),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=lambda w: write_options(study.figures[w.figure].part(FigureSettings)),
        stores=lambda w, input: [str(Path(path).parent) for path in input.relevance],
        classifier=subpath(input.classifier, parent=True),
        data=subpath(input.data, parent=True),
        code=digest_code("preddiff.stages.figures"),
    shell:
        "preddiff figure {params.stores:q} --classifier {params.classifier:q} "
        "--data {params.data:q} {params.settings} --out {output.png:q} 2>&1 | tee {log:q}"


rule image_figure:
    """Draw a figure of images."""
    input:
        relevance=lambda w: [
            store("relevance", name) for name in study.figures[w.figure].explanations
        ],
        data=lambda w: [data_of(name) for name in study.figures[w.figure].explanations],
        predictions=lambda w: [
            predictions_of(name) for name in study.figures[w.figure].explanations
        ],
    output:
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
    log:
        f"{RESULTS}/logs/figure-{{figure}}.log",
    wildcard_constraints:
        figure=pattern(of_type(study.figures, ImageFigure)),
    conda:
        "../../envs/preddiff.yaml"
    params:
        settings=lambda w: write_options(
            study.figures[w.figure].part(ImageFigureSettings)
        ),
        stores=lambda w, input: [str(Path(path).parent) for path in input.relevance],
        code=digest_code("preddiff.stages.image_figures"),
    shell:
        "preddiff image-figure {params.stores:q} {params.settings} --out {output.png:q} "
        "2>&1 | tee {log:q}"


# Light: not worth a job of its own on a cluster.
localrules:
    figure,
    image_figure,
