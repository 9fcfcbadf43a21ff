"""`flowmm methods`: the compression methods and the rules that make them up."""

from flowmm_cli import options as o
from flowmm_cli import output


def methods(json: o.Json = False) -> None:
    """List the compression methods and the rules that make them up."""
    from flowmm import load_method, method_names

    found = [load_method(name) for name in method_names()]
    if json:
        output.put_json([method.model_dump(exclude={"text"}) for method in found])
        return
    columns = ("name", "score", "budget", "merge", "refit", "passes", "paper")
    rows = [
        (
            m.name,
            *map(str, (m.score, m.budget, m.merge)),
            "-" if m.refit is None else "yes",
            f"{m.passes:g}",
            m.paper or "-",
        )
        for m in found
    ]
    output.put_table(columns, rows, right=(5,))
