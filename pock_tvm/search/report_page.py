"""The report of a search: one HTML file, pictures as SVG inside, nothing from the network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pock_tvm.search.svg import Axis, Mark, bars, byte_axis, curves, scatter

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto} .note{color:#666}
"""


def report_page(summary: Mapping[str, Any]) -> str:
    """Return the page for what ``outcome_of`` put together."""
    unit = "accuracy" if summary["measure"] == "accuracy" else "nats"
    parts = [
        f"<h1>What to update of {escape(summary['model'])}</h1>",
        *_scheme(summary),
        "<h2>Proof</h2>",
        _proof_table(summary["proof"]),
        "<h2>Accuracy against bytes and time</h2>",
        _accuracy(summary["proof"], "planned_bytes", "weights, state and transients"),
        _accuracy(summary["proof"], "step_ms", "milliseconds of a step, one thread"),
        f"<h2>Contributions ({unit} gained over the head alone)</h2>",
        _bars(summary["contributions"]),
        _diverged(summary),
        "<h2>Cost against contribution</h2>",
        _costs(summary["contributions"]),
        "<h2>The search</h2>",
        *_search(summary["search"]),
        "<h2>Predicted and real order</h2>",
        _ranking(summary["ranking"]),
        "<h2>Cheaper estimators</h2>",
        _estimators(summary["estimators"]["spearman"]),
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<title>{escape(summary['model'])}: what to update</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _scheme(summary: Mapping[str, Any]) -> list[str]:
    best, full = summary["chosen"], summary["full"]
    share = best["transient_bytes"] / full["transient_bytes"]
    return [
        f"<p>Train <b>{escape(best['words'])}</b>.</p>",
        f"<p>That needs {best['total_bytes']:,} bytes, {best['transient_bytes']:,} of them "
        f"transient ({share:.0%} of the full update's), and {best['step_ms']:.3g} ms a step by "
        f"kernel times ({best['step_ms'] / full['step_ms']:.0%} of full), of which "
        f"{best['measured_share_of_ms']:.0%} were measured.</p>",
    ]


def _proof_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("scheme", "accuracy", "±", "transient bytes", "all bytes", "ms, predicted", "ms")
    body = [
        (
            row["name"],
            _percent(row["accuracy"]),
            _percent(row["deviation"]),
            f"{row['transient_bytes']:,}",
            f"{row['planned_bytes']:,}",
            f"{row['predicted_ms']:.3g}",
            "-" if row["step_ms"] is None else f"{row['step_ms']:.3g}",
        )
        for row in rows
    ]
    return _table(head, body) + "".join(
        f"<p class='note'>{escape(row['name'])}: {escape(row['words'])}</p>" for row in rows
    )


def _accuracy(rows: Sequence[Mapping[str, Any]], key: str, label: str) -> str:
    marks = [
        Mark(row[key], row["accuracy"], row["name"], row["deviation"] or 0.0)
        for row in rows
        if row[key] is not None and row["accuracy"] is not None
    ]
    x = byte_axis(label, [m.x for m in marks]) if key == "planned_bytes" else Axis(label)
    y = Axis("accuracy on test samples, %", 0.01)
    return scatter(marks, x, y, named=True, strong="searched 1", frontier=True)


def _bars(rows: Sequence[Mapping[str, Any]]) -> str:
    return bars([Mark(0.0, row["gain"], row["name"], row["error"]) for row in rows[1:]])


def _diverged(summary: Mapping[str, Any]) -> str:
    names = ", ".join(map(escape, summary["diverged"]))
    return f"<p class='note'>Runs that diverged: {names}</p>" if names else ""


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    base = rows[0]["total_bytes"]
    marks = [
        Mark(row["total_bytes"] - base, row["gain"], row["name"], row["error"]) for row in rows[1:]
    ]
    x = byte_axis("more than the head alone", [m.x for m in marks])
    return scatter(marks, x, Axis("gain"), frontier=True)


def _search(found: Mapping[str, Any]) -> list[str]:
    series = {
        name: [(samples, best) for samples, best in curve if best is not None]
        for name, curve in found["curves"].items()
    }
    rows = [
        (str(row["seed"]), _number(row["evolution"]), _number(row["random"]))
        for row in found["seeds"]
    ]
    others = ", ".join(
        f"{name} {_number(found[name])}" for name in ("greedy", "integer program") if name in found
    )
    return [
        curves(series, Axis("schemes looked at"), Axis("best sum of contributions")),
        f"<p>{found['schemes_planned']} schemes were planned in {found['rounds']} rounds. "
        f"Without chance: {others}.</p>",
        _table(("seed", "evolution", "random"), rows),
    ]


def _ranking(found: Mapping[str, Any]) -> str:
    marks = [
        Mark(row["predicted"], row["real"], row["words"], 0.0)
        for row in found["schemes"]
        if row["real"] is not None
    ]
    real = {"accuracy": "real accuracy", "loss": "real loss, its negative"}[found["measure"]]
    picture = scatter(marks, Axis("sum of contributions"), Axis(real))
    return f"{picture}<p>Spearman's ρ = {found['spearman']:.2f}</p>"


def _estimators(found: Mapping[str, float]) -> str:
    rows = [(name, f"{rho:.2f}") for name, rho in found.items()]
    return _table(("estimator", "Spearman's ρ with the measured gains"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
