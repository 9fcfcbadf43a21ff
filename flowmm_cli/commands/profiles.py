"""`flowmm profiles`: list, show, check and describe model profiles."""

from typing import Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output

app = typer.Typer(help="List, show, check and describe model profiles.")
Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A profile's name, or a YAML file.")]


@app.command("list")
def list_(json: o.Json = False) -> None:
    """List the model profiles: yours and the shipped ones."""
    from flowmm import load_profile, profile_names

    found = [load_profile(name) for name in profile_names()]
    if json:
        output.put_json([profile.model_dump(mode="json", exclude={"text", "settings"}) for profile in found])
        return
    rows = [(p.name, p.model_type or "any", p.method, p.description) for p in found]
    output.put_table(("name", "model type", "method", "description"), rows)


@app.command()
def show(name: Name, json: o.Json = False) -> None:
    """Print a profile, with what it extends filled in."""
    from flowmm import load_profile

    profile = load_profile(name)
    if json:
        output.put_json(profile.model_dump(mode="json", exclude={"text", "settings"}))
    else:
        output.put(profile.text.rstrip("\n"))


@app.command()
def check(name: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A YAML file, or a name.")]) -> None:
    """Check a model profile, with all it extends and names, or a method; every problem with its line and column."""
    from flowmm import check_file

    output.put(f"{name}: a valid {check_file(name)}")


@app.command()
def schema(
    method: Annotated[bool, typer.Option("--method", help="Of methods instead; imports torch.")] = False,
) -> None:
    """Print the JSON Schema of model profiles, for editors that complete and check YAML."""
    import json

    from flowmm import method_schema, profile_schema

    output.put(json.dumps(method_schema() if method else profile_schema(), indent=2, ensure_ascii=False))
